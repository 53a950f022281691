"""A recipe names what curation measured: its plan has just those clips, and another identity when measures change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cineray.curate import CurateEngine, CurateJob, curate
from cineray.errors import UsageError
from cineray.feed import FeedSpec, LakeCatalog
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec

LEVELS = {"night": 10, "dusk": 60, "day": 200}
HERE = CurateEngine(engine="local", workers=1)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Callable[..., None]) -> str:
    """Three videos of a second, each of one grey; curated with their brightness, and nothing left out."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "source").mkdir()
    for name, level in LEVELS.items():
        color = f"color=0x{level:02x}{level:02x}{level:02x}:s=64x48:r=10:d=1"
        ffmpeg("-f", "lavfi", "-i", color, "-pix_fmt", "yuv420p", folder / "source" / f"{name}.mp4")
    place = str(folder / "lake")
    ingest(IngestConfig(source=str(folder / "source"), lake=place), EngineConfig(engine="local", workers=1))
    curated(place)
    return place


def curated(lake: str, **stages: Any) -> int:
    told = {"name": "test", "lake": lake, "stages": {"brightness": {}, **stages}, "cuts": {"at": "nowhere"}}
    job = CurateJob.model_validate(told | {"duplicates": None})
    return curate(job, HERE, author="tester").version.number


def plan_of(lake: str, where: str | None, version: str = "latest") -> Any:
    dataset = DatasetSpec(lake=lake, version=version, split=None, filter=where)
    recipe = Recipe(
        datasets=(dataset,), sampling=SamplingSpec(frames=4), frame=FrameSpec(height=32, width=32), batch_size=1
    )
    return FeedSpec(recipe=recipe, seed=0).pinned().open().plan


def drawn(lake: str, where: str | None) -> set[str]:
    """The names of the videos that two epochs show."""
    plan = plan_of(lake, where)
    places = Lake.open(lake).read("latest", "places", columns=["video_id", "name"]).to_pylist()
    names = {row["video_id"]: Path(row["name"]).stem for row in places}
    return {names[spec.video_id] for step in range(2 * plan.steps_per_epoch) for spec in plan.batch(step)}


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (None, {"night", "dusk", "day"}),
        ("brightness_mean > 30", {"dusk", "day"}),
        ("brightness_mean > 30 AND brightness_mean < 100 AND width = 64", {"dusk"}),
        ("brightness_mean > 100 OR num_frames > 10", {"day"}),
    ],
)
def test_a_plan_draws_just_the_videos_whose_measures_the_filter_names(
    lake: str, where: str | None, found: set[str]
) -> None:
    assert drawn(lake, where) == found


def test_a_measure_that_nobody_took_is_refused_in_words(lake: str) -> None:
    with pytest.raises(UsageError, match=r"dataset filter 'motion_speed > 0'.*measured were brightness_"):
        plan_of(lake, "motion_speed > 0")


def test_measures_are_part_of_a_plans_identity_only_where_its_filter_names_them(lake: str) -> None:
    before = {where: plan_of(lake, where).fingerprint for where in (None, "brightness_mean > 30")}
    old = Lake.open(lake).resolve("latest").number
    assert curated(lake, black={}) == old + 1
    assert plan_of(lake, None).fingerprint == before[None]
    assert plan_of(lake, "brightness_mean > 30").fingerprint != before["brightness_mean > 30"]
    assert plan_of(lake, "brightness_mean > 30", str(old)).fingerprint == before["brightness_mean > 30"]


def test_a_catalog_that_is_made_again_in_another_process_has_the_same_clips(lake: str) -> None:
    import pickle

    catalog = LakeCatalog(lake, "latest", split=None, filter="brightness_mean > 30")
    again = pickle.loads(pickle.dumps(catalog))
    assert (len(again), again.fingerprint) == (2, catalog.fingerprint)
