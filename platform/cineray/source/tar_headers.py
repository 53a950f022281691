"""One tar header block: 512 bytes in, the fields that matter to a reader out. Nothing is read, nothing is created.

    0      100         124   136          148    156 157       257      263          345      500  512
    | name | mode, ids | size | time      | sum  | t | link    | ustar  | owner ...  | prefix |    |

Knows the old (V7), POSIX (ustar, pax) and GNU layouts, numbers in octal and in base 256, and the pax records that
change what a member is called, how long it is, and whether it is sparse.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BLOCK_BYTES = 512
REGULAR_TYPES = frozenset(b"0\x007")
LONG_NAME, LONG_LINK, PAX, PAX_SOLARIS, PAX_GLOBAL, GNU_SPARSE = b"LKxXgS"
DIRECTORY = ord("5")
HARMLESS_TYPES = frozenset((DIRECTORY, ord("V"), ord("D"), ord("N")))
"""Folders, volume labels, folder dumps and old name tables: they hold no video."""
NO_DATA_TYPES = frozenset(b"123456V")
"""Whatever their size field says, no data follows these."""
TYPE_WORDS = {
    ord("1"): "a hard link",
    ord("2"): "a symbolic link",
    ord("3"): "a character device",
    ord("4"): "a block device",
    ord("6"): "a named pipe",
    ord("M"): "the continuation of a file from another volume",
}


class TarHeaderError(ValueError):
    """512 bytes are no tar header: a wrong checksum or a field that is not a number."""


@dataclass(frozen=True, slots=True)
class TarHeader:
    """What one header block says; `size` is the number of bytes stored after it."""

    name: str
    size: int
    type: int
    sparse_goes_on: bool
    """An old GNU sparse map that continues in blocks of its own."""


@dataclass(slots=True)
class PaxFields:
    """What extended headers said of the member that follows them."""

    path: str | None = None
    size: int | None = None
    sparse: bool = False


def padded(size: int) -> int:
    """A size rounded up to whole blocks, which is what it takes in the archive."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def parse_header(block: bytes) -> TarHeader:
    """Read one block; TarHeaderError if its checksum or its size field is wrong."""
    said = _number(block[148:156])
    counted = sum(block) - sum(block[148:156]) + 8 * 32  # the sum's own field counts as blanks
    if said != counted and said != counted - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
        raise TarHeaderError(f"its checksum is {counted}, and it says {said}")
    kind = block[156]
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:  # GNU's magic has blanks, and keeps other things in `prefix`
        name = f"{_text(block[345:500])}/{name}"
    if kind == 0 and name.endswith("/"):
        kind = DIRECTORY  # as tars before POSIX wrote folders
    return TarHeader(name, _number(block[124:136]), kind, kind == GNU_SPARSE and block[482] != 0)


def read_pax(data: bytes, fields: PaxFields) -> None:
    """Lay a pax header's records, `<length> <key>=<value>\\n` each, over the fields; others are passed over."""
    at = 0
    while at < len(data) and data[at] != 0:
        found = _PAX_LENGTH.match(data, at)
        end = at + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(data) or data[end - 1] != 0x0A:
            raise TarHeaderError(f"its pax record at byte {at} is malformed")
        key, mark, value = data[found.end() : end - 1].partition(b"=")
        if not mark:
            raise TarHeaderError(f"its pax record at byte {at} has no '='")
        _lay(key, value, fields)
        at = end


def name_in(data: bytes) -> str:
    """The name that a GNU long-name header carries."""
    return _text(data)


_PAX_LENGTH = re.compile(rb"([1-9][0-9]{0,9}) ")
_OCTAL = re.compile(rb"[0-7]*")
_DECIMAL = re.compile(rb"[0-9]{1,20}")


def _lay(key: bytes, value: bytes, fields: PaxFields) -> None:
    if key in (b"path", b"GNU.sparse.name"):
        if key == b"path" and fields.sparse and fields.path is not None:
            return  # a sparse member's `path` is made up by tar, its true name came before
        fields.path = value.decode("utf-8", "surrogateescape")
    elif key == b"size":
        if not _DECIMAL.fullmatch(value):
            raise TarHeaderError(f"its pax size is {value[:20]!r}")
        fields.size = int(value)
    fields.sparse = fields.sparse or key.startswith(b"GNU.sparse.")


def _number(field: bytes) -> int:
    """Octal text; or base 256 where the first bit is set, for numbers that eleven octal digits cannot hold."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.split(b"\0", 1)[0].strip()
    if not _OCTAL.fullmatch(text):
        raise TarHeaderError(f"it has {field!r} where a number should be")
    return int(text or b"0", 8)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
