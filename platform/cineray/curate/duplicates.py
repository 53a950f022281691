"""Which videos show the same: signatures go in, sets of two and more leave; nobody is compared with everybody.

    each period of each video -> TABLES keys of BITS bits: on which side of so many fixed planes its picture lies
    same key in one table     -> met: compared by that one period, and if alike by all (`likeness.py`)
    alike                     -> one set; and whoever is alike to one of a set belongs to it

Copies have many periods, and each has TABLES chances to get the same key; strangers meet by chance about once in
2 ** BITS. Where very many meet under one key (a test card, a common title), each is compared with the next few only: a
chain of copies is still one set. So the work grows with the number of videos, not with its square. Sets depend on what
is in them and on nothing else: not on order, workers or chance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cineray.curate.likeness import ALIKE, Alike, likeness
from cineray.curate.signatures import MIRROR_D, Signature
from cineray.records import Scalar

Reals = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

TABLES, BITS = 12, 24
NEIGHBOURS = 16
"""With how many of those that have its key each period is compared at most."""
_LEAST_STRENGTH = 4.0
"""Grey levels: a fainter picture (black, fog) has the same few keys as all others of its kind, and gets none."""
_LEAST_MET = 0.6
"""Correlation of the two pictures that met; copies have more, most strangers far less."""
_CHUNK = 1 << 16


def duplicate_sets(signatures: Mapping[str, str], alike: Alike = ALIKE) -> list[tuple[str, ...]]:
    """Sets of at least two video ids that show the same; members sorted, sets sorted."""
    ids = sorted(signatures)
    known = [Signature.from_text(signatures[name]) for name in ids]
    parent = list(range(len(ids)))
    for one, other, mirrored in candidates(known):
        first, second = root(parent, one), root(parent, other)
        if first != second and alike.holds(likeness(known[one], known[other], alike, mirrored=(mirrored,))):
            parent[max(first, second)] = min(first, second)
    members: dict[int, list[str]] = {}
    for number, name in enumerate(ids):
        members.setdefault(root(parent, number), []).append(name)
    return sorted(tuple(names) for names in members.values() if len(names) > 1)


def best_copy(members: Sequence[str], quality: Mapping[str, Mapping[str, Scalar]]) -> str:
    """Which copy to keep: no mark in a corner before one, then more picture inside the borders, then more of it in
    time, then less blur, then more bytes; the first by name of those that are equal in all. What is not known counts
    as worst."""

    def rank(name: str) -> tuple[float, ...]:
        told = quality.get(name, {})
        pixels = _number(told, "width") * _number(told, "height") * (1 - _number(told, "borders_fraction"))
        blur = _number(told, "blur", 1.0)
        marks, lasts = _number(told, "overlay_corners"), _number(told, "duration_seconds")
        return -float(marks > 0), pixels, lasts, -blur, _number(told, "size_bytes")

    return max(sorted(members), key=rank)


def _number(told: Mapping[str, Scalar], column: str, otherwise: float = 0.0) -> float:
    value = told.get(column)
    return float(value) if isinstance(value, int | float) else otherwise


def root(parent: list[int], number: int) -> int:
    """The set that a number is in, named by its least member; the way there is made shorter."""
    while parent[number] != number:
        parent[number] = parent[parent[number]]
        number = parent[number]
    return number


# ---- who meets whom --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Periods:
    """The pictures of all periods of all videos that have something in them, one under another."""

    unit_PD: npt.NDArray[np.float16]
    """Each of length 1: contrast and brightness are gone."""
    owner_P: npt.NDArray[np.int32]
    """Which video."""


def candidates(signatures: Sequence[Signature]) -> list[tuple[int, int, bool]]:
    """Pairs of numbers of videos that met, the smaller first, and whether one had to be mirrored; sorted."""
    periods = periods_of(signatures)
    planes = planes_of(periods.unit_PD.shape[1])
    met = [np.zeros(0, dtype=np.int64)]
    for table in range(TABLES):
        plain = keys_of(periods.unit_PD, planes[table])
        turned = keys_of(periods.unit_PD, planes[table] * MIRROR_D[:, None])
        for one, other, sign in met_under(plain, turned, periods.owner_P):
            met.append(_close(periods, one, other, sign, len(signatures)))
    pairs, count = np.unique(np.concatenate(met)), max(len(signatures), 1)
    first, second = np.divmod(pairs // 2, count)
    return list(zip(first.tolist(), second.tolist(), (pairs % 2 == 1).tolist(), strict=True))


def periods_of(signatures: Sequence[Signature]) -> Periods:
    """Half a kilobyte a video and ten seconds: what all comparisons of one period are made of."""
    units, owners = [], []
    for number, signature in enumerate(signatures):
        look_KD = signature.look_KD.astype(np.float32)
        strength_K = np.linalg.norm(look_KD, axis=1)
        clear_K = strength_K * signature.scale >= _LEAST_STRENGTH
        units.append((look_KD[clear_K] / strength_K[clear_K, None]).astype(np.float16))
        owners.append(np.full(int(clear_K.sum()), number, dtype=np.int32))
    if not units:
        return Periods(unit_PD=np.zeros((0, len(MIRROR_D)), np.float16), owner_P=np.zeros(0, np.int32))
    return Periods(unit_PD=np.concatenate(units), owner_P=np.concatenate(owners))


def planes_of(dimensions: int) -> Reals:
    """(TABLES, D, BITS) of +1 and -1, the same on every machine and in every version of NumPy: bits of a hash."""
    count = TABLES * dimensions * BITS
    drawn = hashlib.shake_128(b"cineray duplicates 1").digest((count + 7) // 8)
    bits = np.unpackbits(np.frombuffer(drawn, np.uint8))[:count].astype(np.float32)
    return (2 * bits - 1).reshape(TABLES, dimensions, BITS)


def keys_of(unit_PD: npt.NDArray[np.float16], plane_DB: Reals) -> Ints:
    """On which side of each plane: one whole number of BITS bits."""
    places = 1 << np.arange(BITS, dtype=np.int64)
    parts = [
        ((unit_PD[at : at + _CHUNK].astype(np.float32) @ plane_DB) > 0) @ places
        for at in range(0, len(unit_PD), _CHUNK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def met_under(plain_P: Ints, turned_P: Ints, owner_P: npt.NDArray[np.int32]) -> Iterator[tuple[Ints, Ints, bool]]:
    """Periods with the same key, and periods whose mirrored key another has; each with its next NEIGHBOURS."""
    order = np.lexsort((owner_P, plain_P))
    # Of a video that stands still all periods have one key: the first stands for them.
    key, owner = plain_P[order], owner_P[order]
    new = np.concatenate([[True], (key[1:] != key[:-1]) | (owner[1:] != owner[:-1])]) if len(key) else key.astype(bool)
    order, key = order[new], key[new]
    for step in range(1, NEIGHBOURS + 1):
        same = np.flatnonzero(key[step:] == key[:-step])
        if not len(same):
            break
        yield order[same], order[same + step], False
    first = np.searchsorted(key, turned_P[order], side="left")
    past = np.searchsorted(key, turned_P[order], side="right")
    for step in range(NEIGHBOURS):
        there = np.flatnonzero(first + step < past)
        if not len(there):
            break
        yield order[there], order[first[there] + step], True


def _close(periods: Periods, one: Ints, other: Ints, mirrored: bool, count: int) -> Ints:
    """Of those that met: the pairs of different videos whose two pictures agree, one number each, odd if mirrored."""
    apart = periods.owner_P[one] != periods.owner_P[other]
    one, other = one[apart], other[apart]
    sign = MIRROR_D.astype(np.float32) if mirrored else np.ones(len(MIRROR_D), np.float32)
    found = []
    for at in range(0, len(one), _CHUNK):
        first, second = one[at : at + _CHUNK], other[at : at + _CHUNK]
        agree = np.einsum(
            "pd,pd,d->p", periods.unit_PD[first].astype(np.float32), periods.unit_PD[second].astype(np.float32), sign
        )
        close = agree >= _LEAST_MET
        a, b = periods.owner_P[first[close]].astype(np.int64), periods.owner_P[second[close]].astype(np.int64)
        found.append(np.unique((np.minimum(a, b) * count + np.maximum(a, b)) * 2 + mirrored))
    return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)
