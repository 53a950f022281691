"""Damaged files go through ingest and curation: none ends the run, and each comes out once, taken or with a reason."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cineray.curate import CurateEngine, CurateJob, CurateReport, curate
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.testing.encode import encode_h264


def damaged(whole: bytes, seed: int) -> dict[str, bytes]:
    """Cut short; a part in the middle never written; a byte in a hundred not what it was."""
    chance, count = random.Random(seed), len(whole)
    flipped = bytearray(whole)
    for at in chance.sample(range(count), count // 100):
        flipped[at] ^= 1 << chance.randrange(8)
    middle = bytearray(whole)
    middle[count // 3 : 2 * count // 3] = bytes(2 * count // 3 - count // 3)
    return {"whole": whole, "cut": whole[: count // 2], "zeros": bytes(middle), "flipped": bytes(flipped)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three films of noise that slides, each whole and in three damaged copies."""
    folder = tmp_path / "source"
    folder.mkdir()
    for seed in range(3):
        plain = np.kron(np.random.default_rng(seed).integers(20, 236, (10, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        film = tmp_path / "film.mp4"
        encode_h264(
            film,
            [plain[:64, n : n + 64] for n in range(36)],
            [25 * n for n in range(36)],
            size_px=64,
            gop=12,
            b_frames=2,
        )
        for kind, data in damaged(film.read_bytes(), seed).items():
            (folder / f"{seed}-{kind}.mp4").write_bytes(data)
    return folder


@pytest.mark.parametrize("level", ["header", "packets"])
def test_each_damaged_file_comes_out_once(source: Path, tmp_path: Path, level: str) -> None:
    """With a look at headers alone, it is curation that meets the damage."""
    lake = Lake.create(str(tmp_path / "lake"))
    place = EngineConfig(engine="local", workers=1)
    ingest(IngestConfig(source=str(source), lake=lake.uri, level=level, max_reject_fraction=1.0), place)
    told = {"name": "test", "lake": lake.uri, "stages": {"black": {}, "scenes": {}}, "duplicates": None}
    report = curate(CurateJob.model_validate(told), CurateEngine(engine="local", workers=1), author="tester")
    came_out = fates(lake, report)
    assert Counter(name for name, _ in came_out) == dict.fromkeys((path.name for path in source.iterdir()), 1)
    fate = dict(came_out)
    assert {fate[f"{seed}-whole.mp4"] for seed in range(3)} == {"clip"}
    assert all(fate[f"{seed}-{kind}.mp4"] != "clip" for seed in range(3) for kind in ("cut", "zeros"))


def fates(lake: Lake, report: CurateReport) -> list[tuple[str, str]]:
    """Of each file: `clip`, or the reason for which it has none."""
    version = report.version
    names = {row["video_id"]: row["name"] for row in lake.read(version, "places").to_pylist()}
    media = lake.read(version, "media", columns=["video_id", "state", "reason"]).to_pylist()
    found = [(names[row["video_id"]], row["reason"]) for row in media if row["state"] == "rejected"]
    found += [(names[video], "clip") for video in set(lake.read(version, "clips")["video_id"].to_pylist())]
    left_out = lake.read(version, "layers/curation").to_pylist() if "layers/curation" in version.tables else []
    return found + [(names[row["video_id"]], json.loads(row["value"])["reason"]) for row in left_out]
