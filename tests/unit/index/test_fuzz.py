"""Damaged files of every container give an index or a reason: never an exception, never a crash, and in time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from cineray.index import REASONS, IndexPool, Limits
from cineray.records import IndexedVideo, Place, Reject, VideoFile

SOURCES = (
    "b.mp4", "front.mp4", "fragmented.mp4", "edit_list.mp4", "h265.mp4", "av1.mp4",
    "b.mkv", "vp9.webm", "b.ts", "mpeg4_b.avi",
)  # fmt: skip
VARIANTS = 12


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Flip some bytes, zero a stretch, cut the end, remove a stretch, or damage only what lies where headers lie."""
    mutable = bytearray(data)
    n = len(data)
    match rng.randrange(6):
        case 0:
            for _ in range(rng.choice([1, 10, 100])):
                mutable[rng.randrange(n)] = rng.randrange(256)
        case 1:
            at = rng.randrange(n)
            mutable[at : at + rng.randrange(1, 500)] = bytes(min(rng.randrange(1, 500), n - at))
        case 2:
            del mutable[rng.randrange(n) :]
        case 3:
            at = rng.randrange(n)
            del mutable[at : at + rng.randrange(1, 300)]
        case 4:
            for _ in range(20):
                mutable[rng.randrange(min(n, 1500))] ^= 1 << rng.randrange(8)
        case 5:
            for _ in range(20):
                mutable[max(0, n - 1 - rng.randrange(1500))] = rng.choice([0, 1, 127, 128, 255])
    return bytes(mutable)


def test_damaged_files_give_an_index_or_a_reason(made: Callable[[str], Path], tmp_path: Path) -> None:
    rng, files = random.Random(20), []
    for name in SOURCES:
        data = made(name).read_bytes()
        for number in range(VARIANTS):
            path = tmp_path / f"{number}-{name}"
            path.write_bytes(damaged(data, rng))
            files.append(VideoFile(name=path.name, place=Place(uri=str(path))))
    with IndexPool(2, level="decode", limits=Limits(wall_seconds=20)) as pool:
        results = list(pool.map(files))
    reasons = Counter(result.reason for result in results if isinstance(result, Reject))
    assert reasons.keys() <= REASONS.keys()
    gone = [
        r for r in results if isinstance(r, Reject) and r.reason in ("decoder_crashed", "timed_out", "out_of_memory")
    ]
    assert gone == []
    assert sum(isinstance(result, IndexedVideo) for result in results) + reasons.total() == len(files)
    assert reasons.total() > len(files) / 3
