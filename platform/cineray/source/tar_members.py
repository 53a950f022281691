"""The members of a tar, found by hopping from header to header: a ranged reader in, names with byte ranges out.

No data is read or unpacked, and no list is kept: memory is the same for ten members and for a million. On a remote
shard one small request finds a video and the little files behind it, another the next video.

        | header | video ............................ | header | json | header | video ....
          read     hopped over                           one read finds these three
          <------>                                     <------------------------->

An archive may be made to harm, so links, devices, sparse files, names that lead out, and headers that claim gigabytes
come out as a `TarProblem` each, and the walk goes on behind them. Where the archive itself is cut or damaged the walk
ends with a problem that names the byte; everything whole before it has been given out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cineray.source import tar_headers as headers
from cineray.source.tar_headers import BLOCK_BYTES, PaxFields, TarHeader, TarHeaderError, padded
from cineray.storage import RangeReader

MAX_EXTENDED_BYTES = 1 << 20
MAX_NAME_CHARS = 8192
_SMALLEST_READ_BYTES = 16 << 10
_LARGEST_READ_BYTES = 1 << 20
_PADDING_BYTES = 64 << 10
_ZEROS = bytes(BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class TarMember:
    """A regular file in the archive: its bytes are [offset, offset + size) of the archive."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class TarProblem:
    """A member that is not given out; or, without a name, the point where the archive cannot be read on."""

    name: str
    offset: int
    reason: str
    detail: str


def walk_members(reader: RangeReader) -> Iterator[TarMember | TarProblem]:
    """Every regular member in the archive's order, and a problem for each thing that is none."""
    return _Walk(reader).members()


class HeaderWindow:
    """Reads headers through a window that doubles while headers lie close together and shrinks after a hop."""

    def __init__(self, reader: RangeReader) -> None:
        self._reader = reader
        self._start, self._data, self._span = 0, b"", _SMALLEST_READ_BYTES

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, fewer only at the archive's end."""
        skip = offset - self._start
        if skip < 0 or skip + length > len(self._data):
            self._move(offset, length)
            skip = 0
        return self._data[skip : skip + length]

    def _move(self, offset: int, length: int) -> None:
        close_by = 0 <= offset - self._start - len(self._data) <= self._span or (
            self._start <= offset < self._start + len(self._data)
        )
        self._span = min(2 * self._span, _LARGEST_READ_BYTES) if close_by and self._data else _SMALLEST_READ_BYTES
        self._data = self._reader.read_at(offset, max(length, self._span))
        self._start = offset


class _StopError(Exception):
    """The archive cannot be read on from here."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class _Walk:
    """The state of one walk: where we are, and what extended headers said of the next member."""

    def __init__(self, reader: RangeReader) -> None:
        self._window = HeaderWindow(reader)
        self._total = reader.size_bytes
        self._at = 0
        self._extended = PaxFields()
        self._spoilt = ""

    def members(self) -> Iterator[TarMember | TarProblem]:
        try:
            while (header := self._next_header()) is not None:
                found = self._take(header)
                if found is not None:
                    yield found
        except _StopError as stop:
            yield TarProblem("", self._at, stop.reason, stop.detail)

    def _next_header(self) -> TarHeader | None:
        """The header here, or None at the mark of zeros that ends an archive."""
        block = self._window.read(self._at, BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            raise _StopError("truncated", f"it ends at byte {self._total:,} without tar's end mark; its end is missing")
        if block == _ZEROS:
            self._check_tail()
            return None
        try:
            return headers.parse_header(block)
        except TarHeaderError as error:
            raise _StopError("corrupt", f"no tar header at byte {self._at:,}: {error}") from error

    def _check_tail(self) -> None:
        """Behind the end mark only padding may lie: joined archives would be read as the first one alone."""
        tail = self._window.read(self._at, min(self._total - self._at, _PADDING_BYTES))
        if tail.strip(b"\0"):
            raise _StopError("corrupt", f"more data follows tar's end mark at byte {self._at:,}; are two tars joined?")

    def _take(self, header: TarHeader) -> TarMember | TarProblem | None:
        """Handle one header and step behind its data."""
        started, data_at = self._at, self._at + BLOCK_BYTES
        if header.type in (headers.LONG_NAME, headers.LONG_LINK, headers.PAX, headers.PAX_SOLARIS, headers.PAX_GLOBAL):
            self._step_behind(data_at, header.size, "a header's own data")
            return self._read_extended(header, data_at)
        extended, spoilt = self._extended, self._spoilt
        self._extended, self._spoilt = PaxFields(), ""
        name = header.name if extended.path is None else extended.path
        size = header.size if extended.size is None else extended.size
        if header.sparse_goes_on:
            data_at = self._behind_sparse_map(data_at)
        self._step_behind(data_at, 0 if header.type in headers.NO_DATA_TYPES else size, f"the member {name[:200]!r}")
        if header.type in headers.HARMLESS_TYPES:
            return None
        sparse = extended.sparse or header.type == headers.GNU_SPARSE
        problem = _problem(header, name, spoilt, sparse=sparse)
        return TarProblem(name, started, *problem) if problem else TarMember(name, data_at, size)

    def _step_behind(self, data_at: int, size: int, what: str) -> None:
        if data_at + size > self._total:
            raise _StopError(
                "truncated",
                f"it has {self._total:,} bytes, and {what} from byte {self._at:,} should end at {data_at + size:,}",
            )
        self._at = min(data_at + padded(size), self._total)

    def _read_extended(self, header: TarHeader, data_at: int) -> TarProblem | None:
        """What a long-name or pax header says of the next member; one that claims too much spoils that member."""
        if header.type == headers.LONG_LINK:
            return None
        if header.size > MAX_EXTENDED_BYTES:
            self._spoilt = f"has a header of {header.size:,} bytes; at most {MAX_EXTENDED_BYTES:,} are read"
            return None
        data = self._window.read(data_at, header.size)
        try:
            if header.type == headers.LONG_NAME:
                self._extended.path = headers.name_in(data)
            elif header.type != headers.PAX_GLOBAL:
                headers.read_pax(data, self._extended)
            elif (said := _global_fields(data)) is not None:
                return TarProblem("", data_at, "hostile_member", f"a global header sets the {said} of all members")
        except TarHeaderError as error:
            self._spoilt = f"has an extended header that cannot be read: {error}"
        return None

    def _behind_sparse_map(self, at: int) -> int:
        """Old GNU sparse maps go on in blocks whose byte 504 says whether another follows."""
        while True:
            block = self._window.read(at, BLOCK_BYTES)
            at += BLOCK_BYTES
            if len(block) < BLOCK_BYTES:
                raise _StopError("truncated", f"it ends inside the sparse map of the member at byte {self._at:,}")
            if block[504] == 0:
                return at


def _problem(header: TarHeader, name: str, spoilt: str, *, sparse: bool) -> tuple[str, str] | None:
    """Why a member that is not harmless is not given out: (reason, detail), or None for a plain regular file."""
    if sparse:
        return "sparse_member", "is a sparse file, whose bytes do not lie in one piece; tar it without --sparse"
    hostile = ""
    if header.type not in headers.REGULAR_TYPES:
        what = headers.TYPE_WORDS.get(header.type, f"of the unknown type {chr(header.type)!r}")
        hostile = f"is {what}; only regular files in a shard are read"
    elif spoilt:
        hostile = spoilt
    elif len(name) > MAX_NAME_CHARS:
        hostile = f"has a name of {len(name):,} characters; at most {MAX_NAME_CHARS:,} are taken"
    elif name.startswith("/") or ".." in name.split("/"):
        hostile = "has a name that leads out of the shard; only relative names without '..' are taken"
    return ("hostile_member", hostile) if hostile else None


def _global_fields(data: bytes) -> str | None:
    """What a global header would change for every member, where that matters; comments and times do not."""
    fields = PaxFields()
    headers.read_pax(data, fields)
    said = {"path": fields.path is not None, "size": fields.size is not None, "sparseness": fields.sparse}
    return next((word for word, holds in said.items() if holds), None)
