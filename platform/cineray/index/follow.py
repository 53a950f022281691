"""Which follower a container gets. A file's first bytes in; the follower that walks the rest of them out.

What following finds, and what it cannot:

    Matroska, WebM      every element up to the end that the file declares, or the end of the file
    FLV                 every tag, and the size and length of time that the metadata declare
    transport stream    every packet, and the counters that tell of packets that are gone
    program stream      every pack and packet

None of these but Matroska must say where it ends, so a recording that was cut between two of its packets is a shorter
recording, and stays. So does one that lost exactly 16 packets of a transport stream (the counter is back where it
was), and damage inside of one packet or block: only decoding finds that. The same holds for a fragmented MP4 that ends
between two fragments (`fragments.py` walks those).
"""

from __future__ import annotations

from cineray.index.follow_flv import FollowFlv
from cineray.index.follow_matroska import FollowMatroska
from cineray.index.follow_program import FollowProgram
from cineray.index.follow_transport import FollowTransport, packet_layout
from cineray.index.passing import Follower

BEGINS: dict[bytes, type[Follower]] = {
    b"\x1a\x45\xdf\xa3": FollowMatroska,
    b"FLV\x01": FollowFlv,
    b"\x00\x00\x01\xba": FollowProgram,
}


def follower_of(front: bytes, size_bytes: int) -> Follower | None:
    """The follower for a file that begins so; None where there is none for its container."""
    for begin, follower in BEGINS.items():
        if front.startswith(begin):
            return follower(size_bytes)
    layout = packet_layout(front)
    return None if layout is None else FollowTransport(size_bytes, layout)
