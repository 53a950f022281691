"""Fragmented MP4: the boxes that describe each fragment. A header in; `Unfit` when they contradict themselves.

    moof( mfhd: number   traf( tfhd: track   tfdt: begins at   trun: samples with their lengths of time ) ... )

FFmpeg skips a box that it does not understand, with all samples in it. So every moof must hold whole boxes, and where
a fragment is gone (the number jumps and so does the time) the file lost it. A jump of only one of them is a writer's
habit: some count by twos, and a live recording may pause.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cineray.index.boxes import Box, Header, children, find, is_name
from cineray.index.reasons import Unfit

_TRUN_FIELDS = (0x100, 0x200, 0x400, 0x800)  # a sample's duration, size, flags, composition offset: four bytes each
_LONGEST_GAP = 2  # fragments' ends are guessed by some writers, but not wrong by more than a sample or two


@dataclass(slots=True)
class _End:
    """Where a track's last fragment ends, in its own ticks."""

    number: int
    time: int
    sample_ticks: int


def check_fragments(header: Header) -> None:
    """Raise `Unfit` when a fragment is damaged or missing."""
    ends: dict[int, _End] = {}
    usual = {
        struct.unpack_from(">I", box, 12)[0]: struct.unpack_from(">I", box, 20)[0]
        for box in find(header.moov, b"mvex", b"trex")
        if len(box) >= 24
    }
    for box in header.boxes:
        if box.kind == b"moof":
            try:
                _check(header.bytes_of(box), box, usual, ends)
            except struct.error as error:
                raise _broken(box) from error


def _check(moof: bytes, at: Box, usual: dict[int, int], ends: dict[int, _End]) -> None:
    _refuse_holes(moof, at)
    number = next((struct.unpack_from(">I", box, 12)[0] for box in find(moof, b"mfhd")), None)
    tracks = list(find(moof, b"traf"))
    if number is None or not tracks:
        raise _broken(at)
    for traf in tracks:
        _refuse_holes(traf, at)
        _follow(traf, at, number, usual, ends)


def _refuse_holes(box: bytes | memoryview, at: Box) -> None:
    """The children must be named, and fill their parent to its last byte."""
    end = 8
    for child in children(box):
        if not is_name(child.kind):
            raise _broken(at)
        end = child.end
    if end != len(box):
        raise _broken(at)


def _follow(traf: memoryview, at: Box, number: int, usual: dict[int, int], ends: dict[int, _End]) -> None:
    """One track's part of a fragment: it begins where the one before ended, or its number follows."""
    tfhd = next(find(traf, b"tfhd"), None)
    if tfhd is None:
        raise _broken(at)
    flags, track = struct.unpack_from(">II", tfhd, 8)
    flags &= 0xFFFFFF
    field = 16 + (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
    sample_ticks = struct.unpack_from(">I", tfhd, field)[0] if flags & 8 else usual.get(track, 0)
    lengths = [_length(run, sample_ticks) for run in find(traf, b"trun")]
    tfdt, before = next(find(traf, b"tfdt"), None), ends.get(track)
    if tfdt is None:
        ends.pop(track, None)
        return
    time = struct.unpack_from(">Q" if tfdt[8] == 1 else ">I", tfdt, 12)[0]
    if before and number > before.number + 1 and time > before.time + _LONGEST_GAP * before.sample_ticks:
        raise Unfit(
            "corrupt",
            f"fragment {before.number} is followed by fragment {number} (at byte {at.start}), which begins "
            f"{time - before.time} ticks later than the other ends: those between were lost; copy the file again",
        )
    longest = max([ticks for _, ticks in lengths], default=sample_ticks)
    ends[track] = _End(number, time + sum(total for total, _ in lengths), longest)


def _length(trun: memoryview, sample_ticks: int) -> tuple[int, int]:
    """How long a run of samples lasts, and the longest of them."""
    flags, samples = struct.unpack_from(">II", trun, 8)
    flags &= 0xFFFFFF
    row = 4 * sum(1 for field in _TRUN_FIELDS if flags & field)
    start = 16 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
    if start + row * samples > len(trun):
        raise struct.error("the run declares more samples than it describes")
    if not flags & 0x100:
        return samples * sample_ticks, sample_ticks
    ticks = [struct.unpack_from(">I", trun, start + row * i)[0] for i in range(samples)]
    return sum(ticks), max(ticks, default=sample_ticks)


def _broken(at: Box) -> Unfit:
    return Unfit(
        "corrupt",
        f"the fragment at byte {at.start} has a damaged header, so its frames cannot be found; copy the file again",
    )
