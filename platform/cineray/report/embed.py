"""Pictures and videos within a page: files go in, `data:` URIs come out, until the page is as large as it may be.

What is asked for first is in the page first. What does not fit, is missing, or is not the kind of file that its name
says, is left out, counted, and told by the page. Names in a record are not trusted: they stay within its folder.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field

from cineray.errors import CinerayError, PlaceError
from cineray.storage import is_remote, join_uri, read_object

PAGE_BYTES = 24_000_000
"""What a page may hold of pictures and clips unless said otherwise: it still travels by mail, and a phone opens it."""

_STARTS: dict[str, tuple[str, tuple[bytes, ...], int]] = {
    "mp4": ("video/mp4", (b"ftyp",), 4),
    "webm": ("video/webm", (b"\x1aE\xdf\xa3",), 0),
    "webp": ("image/webp", (b"WEBP",), 8),
    "png": ("image/png", (b"\x89PNG\r\n\x1a\n",), 0),
    "gif": ("image/gif", (b"GIF87a", b"GIF89a"), 0),
    "jpg": ("image/jpeg", (b"\xff\xd8\xff",), 0),
    "jpeg": ("image/jpeg", (b"\xff\xd8\xff",), 0),
}
"""Extension -> type, what such a file begins with, and from which byte on. SVG is not here: it can hold scripts."""


@dataclass(slots=True)
class Embedder:
    """What one page has taken in, and what it had no room for."""

    limit_bytes: int = PAGE_BYTES
    used_bytes: int = 0
    taken: int = 0
    left_out: list[str] = field(default_factory=list)
    """A sentence for each."""

    def data(self, content: bytes, extension: str, name: str) -> str:
        """These bytes as a `data:` URI; empty when they are left out."""
        media_type, starts, at = _STARTS.get(extension.lower(), ("", (), 0))
        if not any(content[at : at + len(start)] == start for start in starts):
            return self._leave_out(name, f"it is no {extension or 'file of a known kind'}")
        size = -(-len(content) // 3) * 4
        if self.used_bytes + size > self.limit_bytes:
            return self._leave_out(name, f"no room for its {len(content):,} bytes")
        self.used_bytes += size
        self.taken += 1
        return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"

    def file(self, folder: str, name: str) -> str:
        """A file of a folder or prefix, by its name there; empty when it is left out."""
        try:
            uri = within(folder, name)
            content = read_object(uri, limit_bytes=max(self._room(), 1))
        except PlaceError as error:
            told = {"missing": "it is not there", "too_large": "no room for it"}
            return self._leave_out(name, told.get(error.reason, error.reason))
        except CinerayError as error:
            return self._leave_out(name, str(error))
        return self.data(content, name.rpartition(".")[2], name)

    def _room(self) -> int:
        return (self.limit_bytes - self.used_bytes) // 4 * 3

    def _leave_out(self, name: str, why: str) -> str:
        self.left_out.append(f"{name}: {why}")
        return ""


def within(folder: str, name: str) -> str:
    """The uri of a file below a folder; refused where the name leads out of it, links too."""
    parts = name.split("/")
    if not name or "://" in name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise CinerayError("its name leads out of the folder; wanted a path within it")
    uri = join_uri(folder, *parts)
    if not is_remote(uri) and not os.path.realpath(uri).startswith(os.path.realpath(folder) + os.sep):
        raise CinerayError("it is a link out of the folder")
    return uri
