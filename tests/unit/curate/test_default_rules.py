"""The rules of the default job: each leaves out footage that is made for it, keeps its counterpart, and of a long video
leaves out the scene concerned and no other."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from scipy.ndimage import gaussian_filter, shift

from cineray.curate import CurateJob
from cineray.curate.clip_table import column_kinds, own_columns, schema_of
from cineray.curate.clips import Draft
from cineray.curate.footage import Footage
from cineray.curate.stage import Columns, scalars_of
from cineray.lake.tables import matching

Pictures = npt.NDArray[np.float64]
SECOND = 24
UNASKED = frozenset({"scenes", "signatures"})
"""Stages of which the columns are named by no rule."""


@cache
def default_job() -> CurateJob:
    job: CurateJob = runpy.run_path(str(Path(__file__).resolve().parents[3] / "jobs" / "curate_default.py"))["job"]()
    return job


def left_out(footage: Footage, clips: Mapping[str, tuple[int, int]] | None = None) -> dict[str, set[str]]:
    """Which rules hold for each of these clips (from pts to pts), or for the whole."""
    job = default_job()
    measured: list[Columns] = [stage(footage) for stage in job.built_stages() if stage.name not in UNASKED]
    spans = {name: value for one in measured for name, value in one.items() if isinstance(value, list)}
    of_video = scalars_of(measured) | {"num_frames": footage.video.num_frames}
    named = clips or {"whole": (int(footage.pts_T[0]), footage.end_pts)}
    drafts = [Draft(0, start, end, 1, "cut") for start, end in named.values()]
    rows = [of_video | own_columns(draft, footage.video.time_base, spans) for draft in drafts]
    kinds = {"num_frames": int} | {name: kind for part in column_kinds(job) for name, kind in part.items()}
    table = pa.Table.from_pylist(rows, schema=schema_of(kinds))
    holds = matching(table, [rule.leave_out for rule in job.rules])
    return {
        name: {rule.name for rule, flags in zip(job.rules, holds, strict=True) if flags[at]}
        for at, name in enumerate(named)
    }


def pan(picture: Pictures, frames: int = 2 * SECOND) -> Pictures:
    """The camera turns, a pixel a frame."""
    return np.stack([shift(picture, (0, at), order=1, mode="grid-wrap") for at in range(frames)])


def held(picture: Pictures, frames: int = 2 * SECOND) -> Pictures:
    return np.repeat(picture[None], frames, axis=0)


def with_strobe(pictures: Pictures, first: int) -> Pictures:
    """Six flashes of a frame each within the second that begins there."""
    lit = pictures * 0.6
    lit[first : first + SECOND : 4] += 80
    return lit


def with_bars(pictures: Pictures) -> Pictures:
    """Lines across the whole picture, above and below, that stay while all else moves."""
    laid = pictures.copy()
    for at in (6, 12, 22, 130):
        laid[:, at : at + 3], laid[:, at + 3 : at + 5] = 235, 15
    return laid


def with_logo(pictures: Pictures) -> Pictures:
    laid = pictures.copy()
    laid[:, 6:16, 8:28:4] = 235
    return laid


def with_lamp(pictures: Pictures) -> Pictures:
    lit = pictures.copy()
    lit[:, 40:80, 60:100] += 80
    return lit


Draw = Callable[[Callable[..., Any]], tuple[Pictures, Sequence[int] | None]]
GAP = [*range(60), *range(108, 168)]
"""24 frames a second, with one pause of two seconds."""


def slides() -> list[int]:
    """A hundred pictures of one to three seconds each."""
    return [int(pts) for pts in np.cumsum(np.random.default_rng(1).integers(24, 72, 100))]


def wandering() -> list[int]:
    """A screen recorded when it changes: 10 to 40 ticks apart, of 600 a second, and two pauses."""
    steps = np.random.default_rng(2).integers(10, 41, 119)
    steps[[40, 80]] = 1200
    return [0, *(int(pts) for pts in np.cumsum(steps))]


MADE: dict[str, tuple[Draw, Draw]] = {
    "black": (
        lambda draw: (np.concatenate([held(np.full((144, 256), 4.0)), pan(draw(1), SECOND)]), None),
        lambda draw: (np.concatenate([held(np.full((144, 256), 4.0), SECOND // 2), pan(draw(1))]), None),
    ),
    "frozen": (
        lambda draw: (np.concatenate([pan(draw(1), SECOND // 4), held(draw(1))]), None),
        lambda draw: (np.concatenate([pan(draw(1)), held(draw(1), SECOND)]), None),
    ),
    "dim_or_flat": (lambda draw: (pan(draw(1) / 16), None), lambda draw: (with_lamp(pan(draw(1) / 8)), None)),
    "blurred": (
        lambda draw: (pan(gaussian_filter(np.where(draw(1) > 128, 220.0, 40.0), 8)), None),
        lambda draw: (pan(gaussian_filter(np.where(draw(1) > 128, 220.0, 40.0), 1)), None),
    ),
    "flashing": (
        lambda draw: (with_strobe(pan(draw(1)), 12), None),
        lambda draw: (np.concatenate([pan(draw(1)) * 0.6, pan(draw(1), 1) + 60, pan(draw(1)) * 0.6]), None),
    ),
    "overlaid": (
        lambda draw: (with_bars(pan(draw(1))), None),
        lambda draw: (with_logo(pan(draw(1))), None),
    ),
    "broken_timing": (lambda draw: (pan(draw(1), 120), GAP), lambda draw: (pan(draw(1), 120), range(120))),
    "no_motion": (
        lambda draw: (held(draw(1)) + np.linspace(0, 40, 2 * SECOND)[:, None, None], None),
        lambda draw: (pan(draw(1)), None),
    ),
}
"""For each rule: what it is for, and what is near to that."""


@pytest.mark.parametrize("rule", MADE)
def test_each_rule_leaves_out_what_is_made_for_it_and_keeps_its_counterpart(
    film: Any, landscape: Any, rule: str
) -> None:
    for draw, wanted in zip(MADE[rule], (True, False), strict=True):
        pictures, pts = draw(landscape)
        found = left_out(film(pictures, pts=pts))["whole"]
        assert (rule in found) is wanted, f"left out by {found or 'none'}"


def test_every_rule_of_the_default_job_is_tried() -> None:
    assert set(MADE) == {rule.name for rule in default_job().rules}


@pytest.mark.parametrize(("pts", "ticks"), [(slides(), 24), (wandering(), 600)])
def test_a_rate_that_varies_by_right_is_no_broken_timing(film: Any, landscape: Any, pts: list[int], ticks: int) -> None:
    pictures = np.resize(pan(landscape(1), SECOND), (len(pts), 144, 256))
    found = left_out(film(pictures, pts=pts, time_base=Fraction(1, ticks)))["whole"]
    assert "broken_timing" not in found


@pytest.mark.parametrize(
    ("rule", "spoilt"),
    [
        ("black", np.zeros_like),
        ("dim_or_flat", lambda pictures: pictures / 16),
        ("flashing", lambda pictures: with_strobe(pictures, SECOND)),
        ("frozen", lambda pictures: held(pictures[0], len(pictures))),
        ("no_motion", lambda pictures: held(pictures[0], len(pictures))),
    ],
)
def test_a_long_video_loses_the_scene_of_its_bad_second_and_no_other(
    film: Any, landscape: Any, rule: str, spoilt: Callable[[Pictures], Pictures]
) -> None:
    """Two minutes at 24 frames a second, in scenes of ten seconds; three seconds, a scene of their own, are bad."""
    small = pan(landscape(1), 10 * SECOND).reshape(-1, 36, 4, 64, 4).mean(axis=(2, 4))
    pictures = np.tile(small, (12, 1, 1)).astype(np.uint8)
    first, past = 60 * SECOND, 63 * SECOND
    pictures[first:past] = np.clip(spoilt(small[: past - first]), 0, 255)
    clips = {f"{start // SECOND} s": (start, start + 10 * SECOND) for start in range(0, 120 * SECOND, 10 * SECOND)}
    clips["60 s"] = (past, first + 10 * SECOND)
    found = left_out(film(pictures), {**clips, "bad": (first, past)})
    assert rule in found.pop("bad")
    assert {name: rules for name, rules in found.items() if rules} == {}


def test_a_long_video_loses_the_scene_of_its_gap_and_no_other(film: Any, landscape: Any) -> None:
    small = pan(landscape(1), 10 * SECOND).reshape(-1, 36, 4, 64, 4).mean(axis=(2, 4))
    pictures = np.tile(small, (12, 1, 1))
    pts = np.arange(2880)
    pts[1300:] += 3 * SECOND
    scenes = {"before": (0, 1200), "with the gap": (1200, 1512), "after": (1512, 2952)}
    assert left_out(film(pictures, pts=pts), scenes) == {
        "before": set(),
        "with the gap": {"broken_timing"},
        "after": set(),
    }
