"""Two recipes beside each other: made videos through both, and what is said of decode, resize and sampling."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cineray.errors import UsageError
from cineray.evaluate import PipelineConfig, check_pipelines
from cineray.evaluate.pipeline_clips import Shown
from cineray.evaluate.pipeline_files import write_check
from cineray.evaluate.pipeline_measures import bends, measure_clip, pixel_difference
from cineray.feed import FeedSpec
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.records import ClipSpec, Crop
from cineray.testing import MadeVideo, make_shapes

CONFIG = PipelineConfig(clips=6, shown=2)
EVEN = SamplingSpec(mode="fps", fps="8", frames=6)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[MadeVideo]:
    """Eight videos of two seconds at 8 frames a second, none of variable rate."""
    folder = tmp_path_factory.mktemp("pipeline") / "videos"
    return make_shapes(folder, videos=8, frames=16, rate=8, size_px=64, variable_rate_every=0)


@pytest.fixture(scope="module")
def lake(videos: list[MadeVideo]) -> str:
    return lake_of(videos[0].path.parents[1])


def lake_of(folder: Path) -> str:
    uri = str(folder.with_name(folder.name + "-lake"))
    ingest(IngestConfig(source=str(folder), lake=uri), EngineConfig(engine="local"))
    return uri


def way(lake: str, *, sampling: SamplingSpec = EVEN, frame: FrameSpec | None = None, **dataset: Any) -> FeedSpec:
    recipe = Recipe(
        datasets=(DatasetSpec(lake=lake, **({"split": None} | dataset)),),
        sampling=sampling,
        frame=frame or FrameSpec(height=32, width=32),
        batch_size=4,
    )
    return FeedSpec(recipe=recipe).pinned()


def found(facts: dict[str, Any], part: str, severity: str) -> list[str]:
    return [one["text"] for one in facts["findings"] if (one["part"], one["severity"]) == (part, severity)]


# ---- what changed, and what nobody asked for -------------------------------------------------------------------------


def test_a_recipe_and_itself_make_the_same_clips(lake: str) -> None:
    facts, out = check_pipelines(way(lake), way(lake), CONFIG)
    assert facts["verdict"] == "The same clips, pixel for pixel and instant for instant."
    assert (facts["clips"], facts["differ_in"], facts["red_flag"]) == (6, [], False)
    assert all(np.array_equal(pair.ways["a"].frames_THWC, pair.ways["b"].frames_THWC) for pair in out.pairs)


def test_another_size_is_a_change_and_no_red_flag(lake: str) -> None:
    facts, _ = check_pipelines(way(lake), way(lake, frame=FrameSpec(height=16, width=16)), CONFIG)
    assert facts["differ_in"] == ["resize"]
    assert found(facts, "resize", "change")[0] == "pictures of 32x32 became 16x16"
    assert facts["pixels"]["resize"]["resized"]
    assert 0 < facts["pixels"]["resize"]["levels"] < 2, "the same picture, smaller"
    assert facts["verdict"].startswith("What changed is what the recipes say: pictures of 32x32 became 16x16")
    assert not facts["red_flag"]


def test_pictures_that_only_one_recipe_bends_are_a_red_flag(lake: str) -> None:
    straight, bent = FrameSpec(height=32, width=64), FrameSpec(height=32, width=64, aspect="stretch")
    facts, _ = check_pipelines(way(lake, frame=straight), way(lake, frame=bent), CONFIG)
    assert found(facts, "resize", "red flag") == [
        "in B pictures are bent: up to 2.00 times as wide as high, where the other keeps shapes"
    ]
    assert facts["verdict"].startswith("A pipeline red flag, not a model mystery: resize: in B pictures are bent")


def test_more_frames_a_second_than_the_video_has_repeat_and_stutter(lake: str) -> None:
    """12 of 8: every third frame comes twice."""
    facts, _ = check_pipelines(way(lake), way(lake, sampling=SamplingSpec(mode="fps", fps="12", frames=6)), CONFIG)
    assert facts["differ_in"] == ["sampling"]
    flags = found(facts, "sampling", "red flag")
    assert any(flag.startswith("frames repeat: ") and flag.endswith(" in B, 0 in A") for flag in flags)
    assert any(flag.startswith("frames come too early or late, so motion stutters") for flag in flags)
    measures = {row["name"]: row for row in facts["measures"]}
    assert measures["repeated"]["b"] == pytest.approx(1 / 3, abs=0.1)
    assert found(facts, "sampling", "change") == ["frames are 0.08333 s apart instead of 0.125 s"]


def test_fewer_frames_a_second_are_what_the_recipe_says(lake: str) -> None:
    """What moves further from frame to frame changes pixels in another way: no flicker, and no red flag."""
    often, seldom = (SamplingSpec(mode="fps", fps=fps, frames=4, start="first") for fps in ("8", "2"))
    facts, _ = check_pipelines(way(lake, sampling=often), way(lake, sampling=seldom), CONFIG)
    assert not facts["red_flag"], facts["findings"]
    assert "frames are 0.5 s apart instead of 0.125 s" in facts["verdict"]


def test_short_videos_that_begin_again_jump(lake: str) -> None:
    """20 frames of a video that has 16: in a looped clip the shape is back where it was, from one frame to the next."""
    ends, loops = (SamplingSpec(mode="fps", fps="8", frames=20, short_videos=short) for short in ("pad", "loop"))
    facts, _ = check_pipelines(way(lake, sampling=ends), way(lake, sampling=loops), CONFIG)
    flags = found(facts, "sampling", "red flag")
    assert any(flag.startswith("the picture jumps: ") for flag in flags), flags
    assert any(flag.startswith("instants are asked for unevenly") for flag in flags), flags


def test_files_that_were_made_again_in_other_colours_are_found_out(
    videos: list[MadeVideo], lake: str, ffmpeg: Callable[..., None], tmp_path: Path
) -> None:
    """The same names, other bytes: matched by name, and brighter by about a tenth of 255."""
    for video in videos:
        copy = tmp_path / "brighter" / video.path.parent.name / video.path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        ffmpeg("-i", video.path, "-vf", "eq=brightness=0.1", "-c:v", "libx264", "-crf", 4, copy)
    facts, _ = check_pipelines(way(lake), way(lake_of(tmp_path / "brighter")), CONFIG)
    assert (facts["matched_by"], facts["differ_in"]) == ("video name", ["decode"])
    assert all(15 < channel < 40 for channel in facts["pixels"]["decode"]["shift_rgb"])
    [flag] = found(facts, "decode", "red flag")
    assert "as a shift of colour" in flag
    assert "another colour matrix or range" in flag


def test_chance_is_the_same_on_both_sides(lake: str) -> None:
    """Where a clip begins is drawn by its row's number, and three rows less give the others other numbers."""
    anywhere = SamplingSpec(mode="fps", fps="8", frames=6, start="random")
    fewer = way(lake, sampling=anywhere, filter="label > 'down-right'")
    facts, out = check_pipelines(way(lake, sampling=anywhere), fewer, CONFIG)
    assert len(out.pairs) == 5
    assert all(np.array_equal(pair.ways["a"].asked_T, pair.ways["b"].asked_T) for pair in out.pairs)
    assert found(facts, "decode", "same") == ["every pixel agrees (the same videos)"]
    assert len({float(pair.ways["a"].asked_T[0]) for pair in out.pairs}) > 1, "they do begin at different places"


def test_clips_that_one_recipe_lacks_are_counted(lake: str, videos: list[MadeVideo]) -> None:
    facts, _ = check_pipelines(way(lake), way(lake, filter="label < 'l'"), PipelineConfig(clips=8))
    kept = sum(video.direction < "l" for video in videos)
    assert (facts["clips"], len(facts["without_partner"])) == (kept, 8 - kept)
    assert found(facts, "clips", "change") == [f"{8 - kept} clips of A are not in B's data"]


def test_clips_that_are_too_short_for_one_recipe_are_counted(lake: str) -> None:
    long = SamplingSpec(mode="fps", fps="8", frames=400)
    with pytest.raises(UsageError, match="too short"):
        check_pipelines(way(lake), way(lake, sampling=long), CONFIG)


# ---- measures --------------------------------------------------------------------------------------------------------


def shown(levels: list[int], *, asked: list[float], begins: list[float] | None = None) -> Shown:
    """Frames of one level each, at these times; `begins`: those of the frames that are shown instead."""
    frames_THWC = np.array(levels, np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 4, 4, 3), np.uint8)
    spec = ClipSpec(
        clip_id="made",
        video_id="made",
        dataset=0,
        clip_number=0,
        epoch=0,
        draw=0,
        frame_numbers=tuple(range(len(levels))),
        frame_pts=tuple(range(len(levels))),
        time_base=Fraction(1),
        frame_is_real=(True,) * len(levels),
        crop=Crop(top=0, left=0, height=4, width=8, out_height=4, out_width=4),
    )
    numbers = np.unique(np.array(begins if begins is not None else asked), return_inverse=True)[1]
    return Shown(spec, frames_THWC, np.array(asked), np.array(begins if begins is not None else asked), numbers)


def test_even_motion_has_no_jitter_no_jump_and_no_flicker() -> None:
    told = measure_clip(shown([0, 10, 20, 30], asked=[0, 0.5, 1.0, 1.5]))
    assert told == {
        "spacing_seconds": 0.5,
        "unevenness": 0.0,
        "jitter": 0.0,
        "repeated": 0.0,
        "motion_levels": 10.0,
        "discontinuity": 1.0,
        "flicker": 0.0,
        "sharpness": 0.0,
    }


def test_frames_that_come_late_and_twice_are_jitter() -> None:
    told = measure_clip(shown([0, 0, 20, 30], asked=[0, 1, 2, 3], begins=[0, 0, 2, 3]))
    assert told["unevenness"] == 0.0, "asked for evenly"
    assert told["jitter"] == pytest.approx(np.std([-1, 1, 0]))
    assert told["repeated"] == pytest.approx(1 / 3)


def test_a_jump_stands_out_from_the_usual_change() -> None:
    assert measure_clip(shown([0, 10, 20, 120, 130], asked=[0, 1, 2, 3, 4]))["discontinuity"] == 10.0


def test_what_goes_back_and_forth_flickers() -> None:
    assert measure_clip(shown([0, 10, 0, 10], asked=[0, 1, 2, 3]))["flicker"] == 2.0


def test_a_still_clip_has_no_jump_to_speak_of() -> None:
    told = measure_clip(shown([7, 7, 7], asked=[0, 1, 2]))
    assert told["motion_levels"] == 0.0
    assert np.isnan(told["discontinuity"])


def test_pixels_that_are_off_everywhere_are_a_shift() -> None:
    one, other = shown([0, 10], asked=[0, 1]), shown([5, 15], asked=[0, 1])
    told = pixel_difference(one, other)
    assert (told.levels, told.shift_rgb, told.same_frames) == (5.0, (5.0, 5.0, 5.0), 0.0)
    assert pixel_difference(one, one).same_frames == 1.0


def test_a_crop_that_is_squeezed_bends_the_picture() -> None:
    assert bends(shown([0], asked=[0])) == 0.5, "8 columns became 4, 4 rows stayed 4"


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_check_is_written_with_clips_side_by_side(lake: str, tmp_path: Path) -> None:
    slower = SamplingSpec(mode="fps", fps="4", frames=4)
    facts, out = check_pipelines(way(lake), way(lake, sampling=slower, frame=FrameSpec(height=16, width=24)), CONFIG)
    told = write_check(tmp_path / "out", facts, out.pairs, 2)
    assert told == json.loads((tmp_path / "out" / "pipeline.json").read_text())
    assert [one["file"] for one in told["samples"]] == ["clips/0000.mp4", "clips/0001.mp4"]
    assert all((tmp_path / "out" / one["file"]).stat().st_size > 100 for one in told["samples"])
    with Image.open(tmp_path / "out" / told["contact_sheet"]) as sheet:
        assert sheet.width > 400
