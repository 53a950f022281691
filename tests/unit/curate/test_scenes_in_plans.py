"""Cuts that curation finds hold where clips are drawn: by the plan's mode `scene`, and after standardising."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cineray.curate import CurateEngine, CurateJob, curate
from cineray.curate.standardise import StandardiseConfig, standardise
from cineray.feed import FeedSpec
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing.encode import encode_h264

TICKS = 25
"""Of 1/600 s: 24 frames a second."""
CUTS_OF = {"two": (24,), "three": (18, 40)}
FRAMES = {"two": 48, "three": 60}


def scene(seed: int, frames: int) -> Any:
    """A plain of soft noise that slides by a pixel a frame."""
    coarse = np.random.default_rng(seed).integers(20, 236, (10, 16, 3))
    plain = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
    return [plain[:64, at : at + 64] for at in range(frames)]


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """Two videos, of two scenes and of three; curated and not divided: one clip each, and a layer of cuts."""
    for number, (name, cuts) in enumerate(CUTS_OF.items()):
        edges = [0, *cuts, FRAMES[name]]
        shots = [scene(10 * number + at, b - a) for at, (a, b) in enumerate(pairwise(edges))]
        path = tmp_path / "source" / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        pictures = [picture for shot in shots for picture in shot]
        encode_h264(path, pictures, [TICKS * n for n in range(len(pictures))], size_px=64, gop=12, b_frames=2)
    place = str(tmp_path / "lake")
    ingest(IngestConfig(source=str(tmp_path / "source"), lake=place), EngineConfig(engine="local", workers=1))
    told = {"name": "t", "lake": place, "stages": {"scenes": {}}, "cuts": {"at": "nowhere"}, "duplicates": None}
    curate(CurateJob.model_validate(told), CurateEngine(engine="local", workers=1), author="t", command="t")
    return place


def crossings(lake: str, mode: str) -> tuple[int, int]:
    """Of the clips of 40 steps: how many show frames of two scenes, and how many there are."""
    recipe = Recipe(
        datasets=(DatasetSpec(lake=lake, split=None),),
        sampling=SamplingSpec(mode=mode, frames=8, stride=1),
        frame=FrameSpec(height=64, width=64),
        batch_size=2,
    )
    opened = Lake.open(lake)
    names = {
        row["video_id"]: Path(row["name"]).stem
        for row in opened.read("latest", "places", columns=["video_id", "name"]).to_pylist()
    }
    plan = FeedSpec(recipe=recipe, seed=5).open().plan
    clips = [clip for step in range(40) for clip in plan.batch(step)]
    crossed = 0
    for clip in clips:
        frames_at_24 = np.array(clip.frame_pts) * clip.time_base * 24
        cuts = np.array(CUTS_OF[names[clip.video_id]])
        crossed += len({int((cuts <= at).sum()) for at in frames_at_24}) > 1
    return crossed, len(clips)


def test_mode_scene_never_crosses_a_cut_that_curation_found(lake: str) -> None:
    crossed, clips = crossings(lake, "random")
    assert (crossed > 10, clips) == (True, 80), "else there would be nothing to avoid"
    assert crossings(lake, "scene") == (0, 80)


def test_nor_after_standardising_on_another_clock(lake: str) -> None:
    """12 frames a second: cuts lie on its frames, because they lie on even ones."""
    encoding = {"rate": "12", "short_side": 48}
    report = standardise(StandardiseConfig.model_validate({"lake": lake, "encoding": encoding}), workers=1)
    assert report.videos == 2
    assert crossings(lake, "random")[0] > 10
    assert crossings(lake, "scene") == (0, 80)
