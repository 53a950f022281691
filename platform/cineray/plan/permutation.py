"""A shuffled order without a list: position in, number out, for any size up to 2**40 and any key.

`Permutation(n, key)` is a bijection of [0, n) that is evaluated at one position or at an array of them, in constant
memory and time. It is a Feistel network on a grid: the position is a cell (left, right) of the smallest nearly square
grid with at least n cells, each round shifts one coordinate, around its side, by a hash of the other; shifts are undone
by shifting back, so no two positions can meet. The few cells beyond n are walked over by going on until one below n is
reached. Integers of 64 bits only: the same order on every platform, in plain Python and in NumPy.

    n = 10          0 1 2 3          cells 10 and 11 lie beyond n: whoever
    4 rows of 3     4 5 6 7   ...    lands there goes through again
"""

from __future__ import annotations

import math
import struct

import blake3
import numpy as np
import numpy.typing as npt

from cineray.errors import UsageError

Ints = npt.NDArray[np.int64]

MAX_SIZE = 1 << 40
ROUNDS = 8
_MASK = (1 << 64) - 1
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def key_bytes(*parts: int | str) -> bytes:
    """One key out of several names and numbers; different parts never make the same key."""
    text = "\0".join(f"{type(part).__name__[0]}{part}" for part in parts)
    return blake3.blake3(text.encode()).digest()


class Permutation:
    """A keyed bijection of [0, n)."""

    __slots__ = ("_keys", "columns", "n", "rows")

    def __init__(self, n: int, key: bytes) -> None:
        if not 0 <= n <= MAX_SIZE:
            raise UsageError(f"a permutation of {n} numbers was asked for; wanted 0 to 2**40")
        self.n = n
        self.rows = math.isqrt(max(n, 1) - 1) + 1
        self.columns = max(1, -(-n // self.rows))
        digest = blake3.blake3(key).digest(length=8 * ROUNDS)
        self._keys: tuple[int, ...] = struct.unpack(f"<{ROUNDS}Q", digest)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, position: int) -> int:
        """The number at one position; a position outside [0, n) is an IndexError."""
        if not 0 <= position < self.n:
            raise IndexError(f"position {position} is outside a permutation of {self.n} numbers")
        while True:
            position = self._step(position)
            if position < self.n:
                return position

    def at(self, positions: npt.ArrayLike) -> Ints:
        """The numbers at many positions."""
        cells = np.array(positions, dtype=np.int64, ndmin=1)
        if cells.size and (int(cells.min()) < 0 or int(cells.max()) >= self.n):
            raise IndexError(f"a position is outside a permutation of {self.n} numbers")
        astray: npt.NDArray[np.intp] = np.arange(cells.size)
        while astray.size:
            stepped = self._step_many(cells[astray])
            cells[astray] = stepped
            astray = astray[stepped >= self.n]
        return cells

    def _step(self, cell: int) -> int:
        rows, columns = self.rows, self.columns
        left, right = divmod(cell, columns)
        keys = iter(self._keys)
        for key in keys:
            left = (left + (_hash(right ^ key) * rows >> 32)) % rows
            right = (right + (_hash(left ^ next(keys)) * columns >> 32)) % columns
        return left * columns + right

    def _step_many(self, cells: Ints) -> Ints:
        rows, columns = np.uint64(self.rows), np.uint64(self.columns)
        left, right = (side.astype(np.uint64) for side in np.divmod(cells, self.columns))
        keys = iter(self._keys)
        for key in keys:
            left = (left + (_hash_many(right ^ np.uint64(key)) * rows >> _32)) % rows
            right = (right + (_hash_many(left ^ np.uint64(next(keys))) * columns >> _32)) % columns
        return (left * columns + right).astype(np.int64)


def _hash(x: int) -> int:
    """The upper 32 bits of a 64-bit mix (the finaliser of SplitMix64)."""
    x = (x ^ x >> 30) * _MIX_1 & _MASK
    x = (x ^ x >> 27) * _MIX_2 & _MASK
    return (x ^ x >> 31) >> 32


_27, _30, _31, _32 = (np.uint64(bits) for bits in (27, 30, 31, 32))
_MIX_1_MANY, _MIX_2_MANY = np.uint64(_MIX_1), np.uint64(_MIX_2)


def _hash_many(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> _30)) * _MIX_1_MANY
    x = (x ^ (x >> _27)) * _MIX_2_MANY
    hashed: npt.NDArray[np.uint64] = (x ^ (x >> _31)) >> _32
    return hashed
