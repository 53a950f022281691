"""What names mean: which files are videos, which folder is a split, and how a strange name is kept safe and unique.

Enter names as they lie on disk, in a tar or in a table (undecodable bytes as surrogates, Python's `surrogateescape`);
leave names that any UTF-8 store and any terminal can hold, from which the true name can be had back.
"""

from __future__ import annotations

import posixpath
import re
from array import array
from hashlib import blake2b

# fmt: off
VIDEO_EXTENSIONS = frozenset((
    "mp4", "m4v", "mov", "qt", "mkv", "webm", "avi", "ts", "m2ts", "mts", "mpg", "mpeg", "m2v",
    "vob", "flv", "f4v", "wmv", "asf", "3gp", "3g2", "ogv", "mxf", "y4m", "ivf",
))
# fmt: on
SIDECAR_KINDS = frozenset(("txt", "json", "cls", "srt", "vtt", "wav"))

_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}

# Fixed by hand and not by unicodedata, whose tables grow with Python versions: a name must not change when Python does.
# C0 and C1 controls, the backslash itself, zero width and direction marks, line separators, the BOM, surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\\\\\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(?:\\|x[0-9a-f]{2}|u[0-9a-f]{4})")


def extension(path: str) -> str:
    """The last extension in lower case without its dot; empty for `video`, `.hidden` and `folder.d/video`."""
    return posixpath.splitext(path)[1][1:].lower()


def is_video(path: str) -> bool:
    """Whether the name says that this is a video."""
    return extension(path) in VIDEO_EXTENSIONS


def is_hidden(path: str) -> bool:
    """Whether any part of a relative path begins with a dot; `./a` is not hidden."""
    return any(part.startswith(".") and part not in (".", "..") for part in path.split("/"))


def split_of(word: str) -> str | None:
    """`train`, `validation` or `test` for the words that Hugging Face knows for them, else None."""
    return _SPLITS.get(word.lower())


def printable_name(name: str) -> str:
    r"""The name with what a terminal or a UTF-8 store cannot hold written as an escape; `true_name` reverses it.

    a<newline>b   ->  a\x0ab       a control character
    a<byte 0xff>  ->  a\xff        a byte that is not UTF-8
    a<U+202E>b    ->  a\u202eb     a mark that turns the text around
    a\b           ->  a\\b
    """
    return _UNSAFE.sub(lambda found: _escape(found[0]), name)


def printable_text(text: str) -> str:
    """As `printable_name`, for sentences that need not be reversed: a backslash stays one."""
    return _UNSAFE.sub(lambda found: found[0] if found[0] == "\\" else _escape(found[0]), text)


def true_name(printable: str) -> str:
    """The name that `printable_name` was given."""
    return _ESCAPED.sub(lambda found: _unescape(found[0]), printable)


def utf8_text(text: str) -> str:
    """Any text made storable: lone surrogates become escapes, the rest (line breaks too) stays as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(_escape(char) if "\ud800" <= char <= "\udfff" else char for char in text)
    return text


def _escape(char: str) -> str:
    code = ord(char)
    if char == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape's stand-in for a raw byte
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def _unescape(escape: str) -> str:
    if escape == "\\\\":
        return "\\"
    code = int(escape[2:], 16)
    return chr(code + 0xDC00) if escape[1] == "x" and code >= 0x80 else chr(code)


def _slot_key(name: str) -> int:
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1  # 0 marks an empty slot


class UniqueNames:
    """Tells repeated names apart in 11 to 22 bytes a name, so that a million names do not fill the memory.

    It remembers 64-bit hashes in one growing open-addressed table. Two different names with one hash would only
    cost the second an unneeded suffix, and always the same one, since the hash does not depend on the process.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 1024))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: str) -> bool:
        slots, mask, key = self._slots, len(self._slots) - 1, _slot_key(name)
        at = key & mask
        while slots[at]:
            if slots[at] == key:
                return True
            at = (at + 1) & mask
        return False

    def claim(self, name: str, suffix: str) -> str:
        """The name itself the first time it is seen; afterwards the name with the suffix, repeated until it is new."""
        while not self.add(name):
            name += suffix
        return name

    def add(self, name: str) -> bool:
        """Remember a name; whether it is new."""
        if self._count * 4 >= len(self._slots) * 3:
            self._grow()
        return self._insert(_slot_key(name))

    def _insert(self, key: int) -> bool:
        slots, mask = self._slots, len(self._slots) - 1
        at = key & mask
        while slots[at]:
            if slots[at] == key:
                return False
            at = (at + 1) & mask
        slots[at] = key
        self._count += 1
        return True

    def _grow(self) -> None:
        old, self._count = self._slots, 0
        self._slots = array("Q", bytes(16 * len(old)))
        for key in old:
            if key:
                self._insert(key)
