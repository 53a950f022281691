"""A lake's version by clip number: stable, compact, the same wherever the lake lies."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cineray.errors import PlaceMissing, UsageError
from cineray.feed import LakeCatalog, open_catalogs, resolve
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Changes, Lake, batches_of, clip_row, layer_row
from cineray.plan import DatasetSpec, MemoryCatalog, Plan, Recipe, Rule, SamplingSpec
from cineray.records import IndexedVideo


def catalog_of(lake: Path, **options: Any) -> LakeCatalog:
    return LakeCatalog(str(lake), "latest", **{"split": None, **options})


def commit(lake: Path, **add: Iterator[pa.RecordBatch]) -> None:
    tables = {name.replace("__", "/"): rows for name, rows in add.items()}
    Lake.open(str(lake)).commit(
        lambda _: Changes(add=tables), author="test", command="test", source="test", processing={}
    )


def recipe_of(**sampling: Any) -> Recipe:
    return Recipe(sampling=SamplingSpec(**{"frames": 8, **sampling}), batch_size=4)


def in_memory(catalog: LakeCatalog) -> MemoryCatalog:
    """The same rows, with nothing known from columns."""
    return MemoryCatalog([(catalog.clip(n), catalog.video(n)) for n in range(len(catalog))])


def test_clips_are_numbered_in_the_order_of_their_ids(made_once: Path) -> None:
    catalog = catalog_of(made_once / "lake")
    ids = [catalog.clip(number).clip_id for number in range(len(catalog))]
    assert len(ids) == 24
    assert ids == sorted(ids)


def test_a_clip_is_its_row_and_its_video_is_the_indexed_video(made_once: Path) -> None:
    catalog = catalog_of(made_once / "lake")
    lake = Lake.open(str(made_once / "lake"))
    rows = {row["clip_id"]: row for row in lake.read("latest", "clips").to_pylist()}
    media = {row["video_id"]: row for row in lake.read("latest", "media").to_pylist()}
    for number in range(len(catalog)):
        clip, video = catalog.clip(number), catalog.video(number)
        row = rows[clip.clip_id]
        said = {name: getattr(clip, name) for name in ("video_id", "start_pts", "end_pts", "label")}
        assert said == {name: row[name] for name in said}
        assert video.video_id == clip.video_id
        assert (video.num_frames, video.width) == (media[clip.video_id]["num_frames"], 96)
        assert list(clip.captions) == media[clip.video_id]["captions"]


def test_a_split_and_a_filter_choose_clips(made_once: Path) -> None:
    lake = made_once / "lake"
    splits = Lake.open(str(lake)).resolve("latest").splits
    assert len(catalog_of(lake, split="train")) == splits["train"] < 24
    assert len(catalog_of(lake, filter="variable_rate")) == 6
    assert len(catalog_of(lake, filter="variable_rate AND num_frames > 1000")) == 0


def test_a_filter_that_is_no_sql_is_refused_by_its_text(made_once: Path) -> None:
    with pytest.raises(UsageError, match=r"dataset filter 'hight > 3'.*height"):
        catalog_of(made_once / "lake", filter="hight > 3")


def test_about_50_bytes_a_clip_stay_in_memory(made_once: Path) -> None:
    columns = catalog_of(made_once / "lake").columns
    assert columns.nbytes / len(columns) <= 60


def test_a_moved_lake_and_a_copy_in_another_process_have_the_same_fingerprint(made_once: Path, tmp_path: Path) -> None:
    catalog = catalog_of(made_once / "lake")
    shutil.copytree(made_once / "lake", tmp_path / "moved")
    assert catalog_of(tmp_path / "moved").fingerprint == catalog.fingerprint
    assert pickle.loads(pickle.dumps(catalog)).fingerprint == catalog.fingerprint


def test_another_split_filter_or_content_has_another_fingerprint(own_lake: Path) -> None:
    before = {catalog_of(own_lake).fingerprint}
    before.add(catalog_of(own_lake, split="train").fingerprint)
    before.add(catalog_of(own_lake, filter="variable_rate").fingerprint)
    commit(own_lake, layers__captions=some_captions(own_lake))
    before.add(catalog_of(own_lake).fingerprint)
    assert len(before) == 4


def some_captions(lake: Path) -> Iterator[pa.RecordBatch]:
    """For the first video: one caption of the whole, one of half of it; for its clip by name, one more."""
    clip = catalog_of(lake).clip(0)
    about = {"video_id": clip.video_id, "author": "test"}
    middle = (clip.start_pts + clip.end_pts) // 2
    rows = [
        layer_row(value="of the whole", **about),
        layer_row(value="of the first half", start_pts=clip.start_pts, end_pts=middle, **about),
        layer_row(value="of the clip", clip_id=clip.clip_id, author="test"),
    ]
    return batches_of("layers/captions", rows)


def test_captions_of_a_layer_count_where_they_speak_of_the_whole_clip(own_lake: Path) -> None:
    own = catalog_of(own_lake).clip(0).captions
    commit(own_lake, layers__captions=some_captions(own_lake))
    catalog = catalog_of(own_lake)
    assert catalog.clip(0).captions[: len(own)] == own
    assert set(catalog.clip(0).captions[len(own) :]) == {"of the whole", "of the clip"}
    assert len(catalog.clip(1).captions) == 1


@pytest.mark.parametrize(
    "sampling",
    [
        {"mode": "random", "stride": 2},
        {"mode": "fps", "fps": "8"},
        {"mode": "keyframes"},
        {"mode": "all_windows", "hop": 4},
        {"mode": "random", "stride": 6, "min_seconds": 1.5},
    ],
)
def test_what_may_be_drawn_is_the_same_from_columns_as_from_frame_tables(
    own_lake: Path, sampling: dict[str, Any]
) -> None:
    cut_in_half(own_lake)
    catalog = catalog_of(own_lake)
    assert len(catalog) == 26
    recipe = recipe_of(**sampling)
    plans = [Plan([some], recipe, 3) for some in (catalog, in_memory(catalog))]
    assert plans[0].clips_per_epoch == plans[1].clips_per_epoch
    for step in range(5):
        assert plans[0].batch(step) == plans[1].batch(step)


def cut_in_half(lake: Path) -> None:
    """Two clips more: the halves of one video."""
    clip = catalog_of(lake).clip(5)
    middle = (clip.start_pts + clip.end_pts) // 2
    spans = [(clip.start_pts, middle), (middle, clip.end_pts)]
    rows = [
        clip_row(
            video_id=clip.video_id, start_pts=start, end_pts=end, split=split_of(lake, clip.video_id), group_id="g"
        )
        for start, end in spans
    ]
    rows = [row | {"group_id": group_of(lake, clip.video_id)} for row in rows]
    commit(lake, clips=batches_of("clips", rows))


def split_of(lake: Path, video: str) -> str:
    return str(Lake.open(str(lake)).read("latest", "clips", filter=f"video_id = '{video}'")["split"][0])


def group_of(lake: Path, video: str) -> str:
    return str(Lake.open(str(lake)).read("latest", "clips", filter=f"video_id = '{video}'")["group_id"][0])


def test_scenes_come_from_their_layer_and_are_missed_by_name(own_lake: Path) -> None:
    with pytest.raises(UsageError, match="no layer `scenes`"):
        catalog_of(own_lake, scenes=True)
    number, video = next((n, video) for n in range(24) if (video := catalog_of(own_lake).video(n)).num_frames == 48)
    cuts = [int(video.frames.pts[at]) for at in (20, 10)]
    ends = {"end_pts": video.frames.end_pts, "video_id": video.video_id, "author": "test"}
    commit(
        own_lake, layers__scenes=batches_of("layers/scenes", [layer_row(value="{}", start_pts=c, **ends) for c in cuts])
    )
    catalog = catalog_of(own_lake, scenes=True)
    assert catalog.clip(number).cuts_pts == tuple(sorted(cuts))
    # 40 frames fit the whole video of 48, and none of its three scenes.
    rule = Rule(recipe_of(mode="scene", frames=40))
    left_out = catalog.eligible(rule).left_out
    assert left_out == in_memory(catalog).eligible(rule).left_out == {"too short for a clip": 6 + 1}


# ---- places ----------------------------------------------------------------------------------------------------------


def ingested(source: Path, lake: Path) -> Path:
    ingest(IngestConfig(source=str(source), lake=str(lake)), EngineConfig(engine="local"))
    return lake


def test_of_several_places_the_first_that_has_the_indexed_bytes_is_taken(
    tmp_path: Path, ffmpeg: Callable[..., None]
) -> None:
    first, second = tmp_path / "a" / "v.mp4", tmp_path / "b" / "v.mp4"
    first.parent.mkdir()
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48:rate=10", "-frames:v", 20, "-c:v", "libx264", first)
    shutil.copytree(first.parent, second.parent)
    lake = ingested(first.parent, tmp_path / "lake")
    ingested(second.parent, lake)
    assert catalog_of(lake).located(0)[1].uri == str(first)
    first.unlink()
    video, place = catalog_of(lake).located(0)
    assert place.uri == str(second)
    assert video.version_tag == f"{second.stat().st_size}-{second.stat().st_mtime_ns}"


def test_a_single_place_is_not_looked_at_and_none_is_an_error(own_lake: Path) -> None:
    catalog = catalog_of(own_lake)
    path = Path(catalog.located(0)[1].uri)
    path.unlink()
    assert catalog_of(own_lake).located(0)[1].uri == str(path)
    lake = Lake.open(str(own_lake))
    gone = Changes(remove={"places": f"video_id = '{catalog.clip(0).video_id}'"})
    lake.commit(lambda _: gone, author="test", command="test", source="test", processing={})
    with pytest.raises(PlaceMissing, match="has no place"):
        catalog_of(own_lake).located(0)


def test_a_remuxed_video_is_read_from_the_lake_wherever_the_lake_is_now(
    tmp_path: Path, ffmpeg: Callable[..., None]
) -> None:
    source = tmp_path / "source" / "v.avi"
    source.parent.mkdir()
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48:rate=10", "-frames:v", 20, "-c:v", "libx264", "-bf", 2, source)
    lake = ingested(source.parent, tmp_path / "lake")
    moved = tmp_path / "moved"
    lake.rename(moved)
    video, place = catalog_of(moved).located(0)
    assert place.uri == str(moved / "media" / f"{video.video_id}.mp4")
    assert (Path(place.uri).stat().st_size, video.version_tag) == (video.size_bytes, "")


# ---- many ------------------------------------------------------------------------------------------------------------


def test_what_comes_next_is_read_at_once(made_once: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = catalog_of(made_once / "lake")
    asked: list[int] = []
    take = catalog._media.take
    monkeypatch.setattr(catalog._media, "take", lambda v, n, **k: (asked.append(len(n)), take(v, n, **k))[1])
    catalog.prefetch([3, 1, 3, 2])
    videos: list[IndexedVideo] = [catalog.video(number) for number in (1, 2, 3)]
    assert (len(videos), asked) == (3, [3])


def test_a_version_is_pinned_when_a_recipe_is_resolved(made_once: Path) -> None:
    recipe = Recipe(datasets=(DatasetSpec(lake=str(made_once / "lake")),), batch_size=4)
    pinned = resolve(recipe)
    assert pinned.datasets[0].version == "1"
    assert [len(catalog) for catalog in open_catalogs(pinned)] == [
        Lake.open(str(made_once / "lake")).resolve(1).splits["train"]
    ]
