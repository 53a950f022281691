"""Fingerprints of tables. Rows go in; a number comes out that depends on the rows alone.

A table's fingerprint is the sum, modulo 2**256, of the BLAKE3 hash of each row's canonical JSON. A sum has no order,
so fragment layout and the history of commits leave no trace; added rows are added and removed rows subtracted, so a
commit pays for its own rows only. Columns that are null are left out of the JSON: a column added to a schema later
changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import blake3
import pyarrow as pa

from cineray.lake.schema import volatile_of

MODULUS = 1 << 256
EMPTY = 0


def row_digest(row: Mapping[str, Any], volatile: frozenset[str]) -> int:
    """One row as a number below 2**256."""
    told = {name: value for name, value in row.items() if value is not None and name not in volatile}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), default=_bytes)
    return int.from_bytes(blake3.blake3(text.encode()).digest(), "big")


def _bytes(value: object) -> str:
    if isinstance(value, bytes):
        return blake3.blake3(value).hexdigest()
    raise TypeError(f"no canonical JSON for a {type(value).__name__}")


def batch_digests(table: str, batch: pa.RecordBatch) -> list[int]:
    """The digests of a batch's rows, in its order."""
    volatile = volatile_of(table)
    return [row_digest(row, volatile) for row in batch.to_pylist()]


def add(fingerprint: int, digests: Iterable[int]) -> int:
    """The fingerprint with these rows added."""
    return (fingerprint + sum(digests)) % MODULUS


def remove(fingerprint: int, digests: Iterable[int]) -> int:
    """The fingerprint with these rows taken away."""
    return (fingerprint - sum(digests)) % MODULUS


def to_hex(fingerprint: int) -> str:
    """As manifests hold it: 64 hex digits."""
    return f"{fingerprint:064x}"


def from_hex(text: str) -> int:
    """The inverse of `to_hex`."""
    return int(text, 16)
