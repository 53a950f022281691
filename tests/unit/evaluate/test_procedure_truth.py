"""What lakes say of clips: layers of truth in, facts and combinations out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cineray.errors import CinerayError
from cineray.evaluate.truth import combination, facts_of
from cineray.feed import FeedSpec
from cineray.ingest import EngineConfig, IngestConfig, annotate, ingest
from cineray.lake import Lake
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.records import ClipSpec
from cineray.testing import make_shapes


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Three videos; the lake knows what two of them show."""
    folder = tmp_path_factory.mktemp("truth")
    made = make_shapes(folder / "videos", videos=3, frames=12, size_px=32)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    _annotate(folder, "truth", [(video.path, {"direction": video.direction}) for video in made[:2]])
    _annotate(folder, "notes", [(made[0].path, "a video that somebody liked")])
    return Lake.open(str(folder / "lake"))


def _annotate(folder: Path, layer: str, told: Sequence[tuple[Path, Any]]) -> None:
    rows = folder / f"{layer}.jsonl"
    rows.write_text("".join(json.dumps({"uri": str(path), "value": value}) + "\n" for path, value in told))
    annotate(Lake.open(str(folder / "lake")), layer, rows, author="a test", command="")


def asked(lake: Lake) -> tuple[Recipe, list[ClipSpec]]:
    recipe = Recipe(
        datasets=(DatasetSpec(lake=lake.uri, split=None),),
        sampling=SamplingSpec(frames=2),
        frame=FrameSpec(height=16, width=16),
        batch_size=3,
    )
    specs = FeedSpec(recipe=recipe).open().plan.batch(0)
    return recipe, sorted(specs, key=lambda spec: spec.label or "")


def test_each_clip_has_what_the_lake_says_of_its_video(lake: Lake) -> None:
    recipe, specs = asked(lake)
    assert [spec.label for spec in specs] == ["down", "down-right", "right"]
    assert facts_of(recipe, specs, "truth") == [{}, {"direction": "down-right"}, {"direction": "right"}]


def test_a_lake_without_the_layer_says_nothing(lake: Lake) -> None:
    recipe, specs = asked(lake)
    assert facts_of(recipe, specs, "elsewhere") == [{}, {}, {}]


def test_what_is_true_of_a_video_is_not_true_of_its_mirror_image(lake: Lake) -> None:
    recipe, specs = asked(lake)
    mirrored = [replace(spec, crop=replace(spec.crop, flip=True)) for spec in specs]
    assert facts_of(recipe, mirrored, "truth") == [{}, {}, {}]


def test_a_layer_of_words_is_no_layer_of_facts(lake: Lake) -> None:
    recipe, specs = asked(lake)
    with pytest.raises(CinerayError, match="layers/notes says 'a video that somebody liked'"):
        facts_of(recipe, specs, "notes")


def test_a_combination_needs_all_of_its_facts() -> None:
    facts = {"shape": "disk", "colour": "red", "direction": "up"}
    assert combination(facts, ("colour", "direction")) == ("red", "up")
    assert combination(facts, ("colour", "size")) is None
