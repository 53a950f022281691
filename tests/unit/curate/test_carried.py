"""Captions stay with what they were said of, whatever becomes of clips; videos without pictures get a reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cineray.curate import CurateEngine, CurateJob, CurateReport, curate
from cineray.curate.explain import explain
from cineray.feed import LakeCatalog
from cineray.index import index_video
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Changes, Lake, batches_of, clip_row, layer_row, media_row
from cineray.records import FrameTable, IndexedVideo, Place, VideoFile

HALVES = {"shortest_seconds": 0.1, "longest_seconds": 0.5, "at": "nowhere"}
WHOLE = {"at": "nowhere"}


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Callable[..., None]) -> Path:
    """Two videos of a second, `light` with a caption in a file beside it."""
    folder = tmp_path_factory.mktemp("carried")
    (folder / "source").mkdir()
    for name, tone in (("light", "white"), ("dark", "0x202020")):
        color = f"color={tone}:s=64x48:r=20:d=1"
        ffmpeg("-f", "lavfi", "-i", color, "-pix_fmt", "yuv420p", folder / "source" / f"{name}.mp4")
    (folder / "source" / "light.txt").write_text("a white wall")
    ingested_from(folder / "source", str(folder / "lake"))
    return folder


def ingested_from(source: Path, lake: str, **told: Any) -> None:
    config = IngestConfig(source=str(source), lake=lake, max_reject_fraction=1.0, **told)
    ingest(config, EngineConfig(engine="local", workers=1))


@pytest.fixture
def lake(ingested: Path, tmp_path: Path) -> Lake:
    return Lake.open(str(shutil.copytree(ingested / "lake", tmp_path / "lake")))


def run(lake: Lake, cuts: dict[str, Any], **told: Any) -> CurateReport:
    base = {"name": "test", "lake": lake.uri, "stages": {"brightness": {}}, "cuts": cuts, "duplicates": None}
    return curate(CurateJob.model_validate(base | told), CurateEngine(engine="local", workers=1), author="tester")


def captions_of(lake: Lake) -> dict[tuple[str, float, float], tuple[str, ...]]:
    """What is said of each clip: by name, and by the part of the video that it is."""
    catalog = LakeCatalog(lake.uri, "latest", split=None)
    places = lake.read("latest", "places", columns=["video_id", "name"]).to_pylist()
    names = {row["video_id"]: Path(row["name"]).stem for row in places}
    found = {}
    for number in range(len(catalog)):
        clip, frames = catalog.clip(number), catalog.video(number).frames
        part = [
            (pts - frames.start_pts) / (frames.end_pts - frames.start_pts) for pts in (clip.start_pts, clip.end_pts)
        ]
        found[names[clip.video_id], *part] = clip.captions
    return found


def clip_of(lake: Lake, name: str, begin: float = 0.0) -> str:
    told = explain(lake, lake.resolve("latest"), f"{name}.mp4")
    return next(clip["clip_id"] for clip in told["clips"] if clip["start_seconds"] == begin)


def say(lake: Lake, clip_id: str, caption: str) -> None:
    rows = [layer_row(value=caption, author="annotator", clip_id=clip_id)]
    lake.commit(
        lambda _: Changes(add={"layers/captions": batches_of("layers/captions", rows)}),
        author="annotator", command="test", source="test", processing={},
    )  # fmt: skip


def test_a_caption_of_a_clip_holds_for_the_scenes_that_it_is_cut_into(lake: Lake) -> None:
    say(lake, clip_of(lake, "light"), "plaster, near")
    run(lake, HALVES)
    light, dark = ("a white wall", "plaster, near"), ()
    assert captions_of(lake) == {
        ("light", 0, 0.5): light, ("light", 0.5, 1): light, ("dark", 0, 0.5): dark, ("dark", 0.5, 1): dark,
    }  # fmt: skip


def test_a_caption_of_one_scene_is_not_given_to_others_and_comes_back_with_its_clip(lake: Lake) -> None:
    run(lake, HALVES)
    say(lake, clip_of(lake, "dark", 0.5), "the end of the night")
    gone = [{"name": "later", "leave_out": "clip_seconds < 9 AND brightness_mean < 100"}]
    run(lake, HALVES, rules=gone)
    assert {name for name, _, _ in captions_of(lake)} == {"light"}
    run(lake, WHOLE)
    assert captions_of(lake)["dark", 0, 1] == (), "it is of a half and not of the whole"
    run(lake, HALVES)
    found = captions_of(lake)
    assert (found["dark", 0, 0.5], found["dark", 0.5, 1]) == ((), ("the end of the night",))
    assert run(lake, HALVES).version.number == lake.resolve("latest").number
    say(lake, clip_of(lake, "dark", 0.5), "the end of the night")
    run(lake, WHOLE)
    rows = lake.read("latest", "layers/captions").to_pylist()
    assert [row["value"] for row in rows] == ["the end of the night"], "said twice of one span is said once"


def test_a_video_without_a_frame_in_the_index_is_left_out_with_a_reason(lake: Lake, ingested: Path) -> None:
    """As a remote file may be whose header names no frame."""
    path = ingested / "source" / "light.mp4"
    video = index_video(VideoFile(name="x", place=Place(uri=str(path))))
    assert isinstance(video, IndexedVideo)
    none = video.frames.pts[:0]
    columns = dict.fromkeys(("pts", "duration", "decode_order", "key", "disposable", "position", "size_bytes"), none)
    bare = replace(video, video_id="bare", content_hash="bare", frames=FrameTable(**columns))
    rows = {
        "media": [media_row(bare, place=Place(uri=str(path)))],
        "clips": [clip_row(video_id="bare", start_pts=0, end_pts=0, split="train", group_id="tape 7")],
    }
    lake.commit(
        lambda _: Changes(add={name: batches_of(name, some) for name, some in rows.items()}),
        author="test", command="test", source="test", processing={},
    )  # fmt: skip
    report = run(lake, HALVES)
    assert [(one["video"], one["reason"]) for one in report.unreadable_named] == [("bare", "no_frames")]
    told = explain(lake, report.version, "bare")
    assert told["became"] == "left out: unreadable"
    assert "ingest it again with --level packets" in told["left_out"][0]["because"]
    assert told["left_out"][0]["group_id"] == "tape 7"
    assert run(lake, HALVES).version.number == report.version.number


def test_files_that_hold_no_video_are_told_at_ingest_and_a_lake_of_nothing_else_is_curated(
    tmp_path: Path, ffmpeg: Callable[..., None]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", source / "sound.mp4")
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=1", "-movflags", "+faststart", tmp_path / "whole.mp4")
    data = (tmp_path / "whole.mp4").read_bytes()
    (source / "header.mp4").write_bytes(data[: data.index(b"mdat") + 4])
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=1", "-frames:v", 0, source / "none.mkv")
    lake = str(tmp_path / "lake")
    ingested_from(source, lake)
    opened = Lake.open(lake)
    reasons = {Path(row["uri"]).name: row["reason"] for row in opened.read("latest", "media").to_pylist()}
    assert reasons == {"sound.mp4": "no_video_stream", "header.mp4": "truncated", "none.mkv": "truncated"}
    report = run(opened, HALVES)
    assert (report.videos, report.clips, report.version.number) == (0, 0, 1)
    assert json.loads(json.dumps(report.to_dict()))["unreadable"] == []
    sound = explain(opened, report.version, "sound.mp4")
    assert sound["became"] == "rejected at ingest: no_video_stream"
