"""One file of a latent store: named arrays in, the bytes of a safetensors file out, and back row by row.

    8 bytes   how long the header is
    header    {"<key>": {"dtype": "BF16", "shape": [8, 5, 16, 16], "data_offsets": [0, 20480]}, ...,
               "__metadata__": {"<key>": "<checksum>", ...}}
    data      the rows, one behind the other, in the order in which they were added

Any safetensors library reads such a file; ours reads single rows of it by ranges, without torch. numpy has no bfloat16:
such rows are their bits, as uint16.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import blake3
import numpy as np
import numpy.typing as npt

from cineray.errors import PlaceError
from cineray.storage import RangeReader

Row = npt.NDArray[Any]

DTYPES: dict[str, tuple[str, type]] = {"bf16": ("BF16", np.uint16), "fp32": ("F32", np.float32)}
"""Our name -> safetensors' name, and what numpy holds it as."""
_NUMPY = dict(DTYPES.values())
_FIRST_READ_BYTES = 256 << 10
"""Most headers are shorter: one request reads them."""


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Where a row lies within its file, and what it must hash to."""

    offset: int
    length: int
    shape: tuple[int, ...]
    dtype: str
    checksum: str

    def decode(self, data: bytes) -> Row | None:
        """The row of these bytes; None where they are not what was written."""
        if len(data) != self.length or checksum_of(data) != self.checksum:
            return None
        return np.frombuffer(data, np.dtype(_NUMPY[self.dtype]).newbyteorder("<")).reshape(self.shape)


def pack_shard(rows: Sequence[tuple[str, Row]], dtype: str) -> bytes:
    """The file of these rows."""
    name, numpy_type = DTYPES[dtype]
    header: dict[str, Any] = {}
    checksums, parts, at = {}, [], 0
    for key, row in rows:
        data = np.ascontiguousarray(row, np.dtype(numpy_type).newbyteorder("<")).tobytes()
        header[key] = {"dtype": name, "shape": list(row.shape), "data_offsets": [at, at + len(data)]}
        checksums[key] = checksum_of(data)
        parts.append(data)
        at += len(data)
    text = json.dumps(header | {"__metadata__": checksums}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def read_places(reader: RangeReader) -> dict[str, RowPlace]:
    """Where the rows of an open file lie."""
    first = reader.read_at(0, _FIRST_READ_BYTES)
    begin = 8 + int.from_bytes(first[:8], "little")
    text = first[8:begin] if begin <= len(first) else reader.read_at(8, begin - 8)
    try:
        header = json.loads(text)
        checksums = header.pop("__metadata__")
        return {key: _place(told, begin, checksums[key]) for key, told in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlaceError(
            f"a file of a latent store has no readable header ({error}); remove it: its rows are made again",
            reason="corrupt",
        ) from None


def read_rows(reader: RangeReader, places: Sequence[RowPlace], *, gap_bytes: int) -> list[Row | None]:
    """These rows of an open file; those that lie no further apart than `gap_bytes` come in one read."""
    order = sorted(range(len(places)), key=lambda number: places[number].offset)
    rows: list[Row | None] = [None] * len(places)
    for some in _runs(order, places, gap_bytes):
        start = places[some[0]].offset
        stop = max(places[number].offset + places[number].length for number in some)
        data = reader.read_at(start, stop - start)
        for number in some:
            place = places[number]
            rows[number] = place.decode(data[place.offset - start : place.offset - start + place.length])
    return rows


def checksum_of(data: bytes) -> str:
    """16 hex digits."""
    return blake3.blake3(data).hexdigest(length=8)


def _place(told: dict[str, Any], begin: int, checksum: str) -> RowPlace:
    start, stop = told["data_offsets"]
    return RowPlace(begin + start, stop - start, tuple(told["shape"]), told["dtype"], checksum)


def _runs(order: Iterable[int], places: Sequence[RowPlace], gap_bytes: int) -> list[list[int]]:
    runs: list[list[int]] = []
    end = 0
    for number in order:
        place = places[number]
        if runs and place.offset - end <= gap_bytes:
            runs[-1].append(number)
        else:
            runs.append([number])
        end = max(end, place.offset + place.length)
    return runs
