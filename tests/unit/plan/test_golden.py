"""Pinned plans, one per sampling mode and one of everything at once: what recorded runs were trained on.

A plan is a promise over years: `cineray batch RUN --step N` shows what a run saw, and a resumed run goes on with the
batches that it would have had. If a test here fails, the code makes other batches from the same data, recipe and seed.
"""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from cineray.plan import PLAN_FORMAT, SAMPLERS, CatalogClip, MemoryCatalog, Plan, Recipe, made_video
from cineray.records import ClipSpec, IndexedVideo

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
WARNING = """
{name} is not the plan that it was. Whoever resumes a run, or looks at an old one, would get other batches.
If this was not meant, undo it. If it was: raise PLAN_FORMAT in cineray/plan/identity.py, so that checkpoints and caches
of the old format are refused instead of misread, say so in CHANGELOG.md, and write the plans anew:
    CINERAY_WRITE_GOLDEN=1 python -m pytest tests/unit/plan/test_golden.py
"""

SMALL: dict[str, Any] = {"batch_size": 4, "frame": {"height": 32, "width": 48}}
RECIPES: dict[str, dict[str, Any]] = {
    "uniform": {**SMALL, "sampling": {"mode": "uniform", "frames": 4, "jitter": 0.5}},
    "random": {**SMALL, "sampling": {"mode": "random", "frames": 4, "stride": 2}},
    "stride": {**SMALL, "sampling": {"mode": "stride", "frames": 4, "stride": 3, "jitter": 1.0}},
    "fps": {**SMALL, "sampling": {"mode": "fps", "frames": 4, "fps": "24000/1001", "short_videos": "loop"}},
    "keyframes": {**SMALL, "sampling": {"mode": "keyframes", "frames": 4, "fps": 6}},
    "scene": {**SMALL, "sampling": {"mode": "scene", "frames": 4, "stride": 2}},
    "all_windows": {**SMALL, "sampling": {"mode": "all_windows", "frames": 8, "hop": 6, "short_videos": "pad"}},
    "everything": {
        "datasets": [{"weight": 0.75}, {"weight": 0.25, "balance": "label", "split": None}],
        "sampling": {"mode": "random", "fps": 10, "jitter": 0.5, "short_videos": "pad"},
        "frame": {"crop": "random", "flip": 0.5},
        "buckets": [{"frames": 4, "height": 32, "width": 32}, {"frames": 12, "height": 32, "width": 56}],
        "token_budget": 500,
        "token_shape": [2, 8, 8],
        "clips_per_visit": 2,
        "captions": "random",
    },
}


def catalog(labels: str) -> MemoryCatalog:
    """Seven clips of videos of different timing and shape."""
    uneven = [0, 512, 600, 2_000, 2_100, 2_200, 5_000, 5_512, 6_024, 9_000, 9_100, 12_000]
    videos = [
        made_video(120, gop=12, width=640, height=360, name="a"),
        made_video(90, ticks_per_frame=1001, time_base=Fraction(1, 30_000), gop=30, width=240, height=320, name="b"),
        made_video(0, pts=uneven, gop=5, rotation_degrees=90, name="c"),
        made_video(50, width=720, height=576, sample_aspect_ratio=Fraction(16, 11), gop=25, name="d"),
        made_video(3, name="e"),
    ]
    rows = [(row_of(video, labels[number % len(labels)]), video) for number, video in enumerate(videos)]
    rows += [(row_of(videos[0], labels[0], first=30, stop=75), videos[0])]
    rows += [(row_of(videos[3], labels[-1], first=7, stop=40), videos[3])]
    return MemoryCatalog(rows)


def row_of(video: IndexedVideo, label: str, first: int = 0, stop: int | None = None) -> CatalogClip:
    pts, name = video.frames.pts, video.video_id
    return CatalogClip(
        clip_id=f"{name}{first}",
        video_id=name,
        start_pts=int(pts[first]),
        end_pts=video.frames.end_pts if stop is None else int(pts[stop]),
        label=label,
        captions=(f"{name} one", f"{name} two"),
        cuts_pts=(int(pts[len(pts) // 2]),),
    )


def told(spec: ClipSpec) -> str:
    """One clip on one line, so that a difference can be read."""
    crop, real = spec.crop, "".join("x" if real else "." for real in spec.frame_is_real)
    box = (
        f"{crop.width}x{crop.height}+{crop.left}+{crop.top}>{crop.out_width}x{crop.out_height}{' mirrored' * crop.flip}"
    )
    where = f"{spec.dataset}/{spec.clip_number} {spec.clip_id} epoch {spec.epoch} draw {spec.draw}"
    numbers, times = ("-".join(map(str, values)) for values in (spec.frame_numbers, spec.frame_pts))
    return f"{where}: frames {numbers} at {times} {real}, {box}, {spec.label}, {spec.caption}"


@pytest.mark.parametrize("name", RECIPES)
def test_the_plan_is_the_pinned_one(name: str) -> None:
    recipe = Recipe.model_validate(RECIPES[name])
    catalogs = [catalog("uv"), catalog("xyz")][: len(recipe.datasets)]
    plan = Plan(catalogs, recipe, seed=2026)
    steps = {str(step): [told(spec) for spec in plan.batch(step)] for step in [*range(5), 1_000, 10**9]}
    stand_in = told(plan.substitute(plan.batch(0)[0], 0))
    made = {
        "plan_format": PLAN_FORMAT,
        "fingerprint": plan.fingerprint,
        "steps_per_epoch": plan.steps_per_epoch,
        "steps": steps,
        "first_substitute": stand_in,
    }
    path = GOLDEN / f"plan_{name}.json"
    if os.environ.get("CINERAY_WRITE_GOLDEN"):
        path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    assert made == json.loads(path.read_text(encoding="utf-8")), WARNING.format(name=name)


def test_every_mode_has_a_pinned_plan() -> None:
    assert {recipe["sampling"]["mode"] for recipe in RECIPES.values()} == set(SAMPLERS)
    assert {path.name for path in GOLDEN.glob("plan_*.json")} == {f"plan_{name}.json" for name in RECIPES}
