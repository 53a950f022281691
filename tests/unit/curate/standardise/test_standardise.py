"""A whole lake standardised: what the next version holds, and what becomes of what fails."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cineray.curate.standardise import SourceTimes, StandardiseReport
from cineray.curate.standardise.gather import gathered
from cineray.curate.standardise.run import check_limit
from cineray.decode import DecodeOptions, decode_visit
from cineray.errors import PlaceError, TooManyRejects
from cineray.ingest import EngineConfig, IngestConfig, annotate, ingest
from cineray.lake import Changes, Lake, batches_of, layer_row, place_from_row, video_from_row
from cineray.records import Clip, ClipSpec, Crop, FrameTable
from cineray.testing.stamped import read_stamp

Run = Callable[..., StandardiseReport]
Row = dict[str, Any]


def media(lake: Lake, version: int | str = "latest") -> dict[str, Row]:
    """Media rows by the name of the file that each video came from."""
    names = {row["video_id"]: Path(row["name"]).name for row in lake.read(version, "places").to_pylist()}
    return {names[row["video_id"]]: row for row in lake.read(version, "media").to_pylist()}


def way_back(lake: Lake, row: Row) -> SourceTimes:
    where = f"video_id = '{row['video_id']}'"
    (found,) = lake.read("latest", "layers/source_times", filter=where).to_pylist()
    return SourceTimes.from_json(found["value"])


def stamps(row: Row) -> list[int]:
    """The number that each frame carries, read from the shard."""
    video = video_from_row(row)
    crop = Crop(top=0, left=0, height=video.height, width=video.width, out_height=video.height, out_width=video.width)
    spec = ClipSpec(
        clip_id="all", video_id=video.video_id, dataset=0, clip_number=0, epoch=0, draw=0, crop=crop,
        frame_numbers=tuple(range(video.num_frames)), frame_pts=tuple(video.frames.pts.tolist()),
        time_base=video.time_base, frame_is_real=(True,) * video.num_frames,
    )  # fmt: skip
    place = place_from_row(row)
    (clip,) = decode_visit(video, place, [spec], options=DecodeOptions(keep_open=0))
    assert isinstance(clip, Clip), clip
    return [read_stamp(picture) for picture in clip.frames_THWC]


def test_every_frame_is_in_the_shards_and_its_time_in_the_source_is_known(lake: Lake, run: Run) -> None:
    report = run()
    assert (report.version.number, report.videos, report.rejected) == (2, 4, {})
    before, after = media(lake, 1), media(lake)
    assert after.keys() == before.keys() == {"even.mp4", "variable.mp4", "matroska.mkv", "told.mp4"}
    for name, row in after.items():
        source, back = video_from_row(before[name]), way_back(lake, row)
        assert row["uri"] in report.shards
        assert (row["codec"], min(row["width"], row["height"])) == ("h264", 48)
        assert back.video_id == source.video_id
        assert back.pts_T.tolist() == source.frames.pts.tolist()
        assert stamps(row) == list(range(source.num_frames))
    assert lake.verify("latest", media="hash").ok


def test_what_it_cost_and_what_was_lost_is_kept_for_each_video(lake: Lake, run: Run) -> None:
    report = run()
    before, after = media(lake, 1), media(lake)
    rows = {row["video_id"]: row for row in lake.read("latest", "layers/encoding").to_pylist()}
    for name, row in after.items():
        told = json.loads(rows[row["video_id"]]["value"])
        assert told["source_video_id"] == before[name]["video_id"]
        assert (told["bytes_before"], told["bytes_after"]) == (before[name]["size_bytes"], row["size_bytes"])
        assert 20 < told["worst_psnr_db"] <= told["psnr_db"] <= 100
    assert report.version.processing["kind"] == "standardise"
    again = run(encoding={"short_side": 32})
    rows = {row["video_id"]: row for row in lake.read("latest", "layers/encoding").to_pylist()}
    assert rows.keys() == {row["video_id"] for row in media(lake).values()}
    assert (again.videos, again.rejected) == (len(rows), {})
    assert {json.loads(row["value"])["source_video_id"] for row in rows.values()} == {
        row["video_id"] for row in after.values()
    }


def test_a_constant_rate_says_of_each_frame_what_it_was(lake: Lake, run: Run) -> None:
    run(encoding={"rate": "12"})
    row = media(lake)["variable.mp4"]
    video, back = video_from_row(row), way_back(lake, row)
    assert [at * video.time_base for at in video.frames.pts.tolist()] == [Fraction(n, 12) for n in range(11)]
    assert stamps(row) == back.frame_numbers_T.tolist() == [0, 2, 3, 4, 5, 5, 6, 7, 9, 9, 10]
    assert back.pts_T.tolist() == [0, 50, 75, 150, 175, 175, 300, 325, 400, 400, 500]


def test_captions_labels_columns_splits_and_groups_go_along(lake: Lake, run: Run) -> None:
    before = {row["video_id"]: row for row in lake.read(1, "clips").to_pylist()}
    run()
    told = media(lake)["told.mp4"]
    columns = json.loads(told["columns"])
    assert (told["captions"], told["label"], columns["camera"]) == (["bars that count"], "bars", 7)
    for clip in lake.read("latest", "clips").to_pylist():
        source = before[way_back(lake, clip).video_id]
        assert [clip[name] for name in ("split", "group_id", "label", "weight")] == [
            source[name] for name in ("split", "group_id", "label", "weight")
        ]
        assert clip["start_pts"] == 0


def commit_rows(lake: Lake, rows: dict[str, list[Row]]) -> None:
    lake.commit(
        lambda _: Changes(add={table: batches_of(table, some) for table, some in rows.items()}),
        author="test", command="", source="", processing={},
    )  # fmt: skip


def test_layers_move_to_the_new_clock_and_the_new_pixels(lake: Lake, run: Run) -> None:
    """On a video of 128x96 that becomes 64x48, and whose rate becomes 12 per second."""
    video = media(lake)["variable.mp4"]["video_id"]
    (clip,) = [row["clip_id"] for row in lake.read("latest", "clips").to_pylist() if row["video_id"] == video]
    box = json.dumps({"box": [10, 20, 30, 40], "label": "bar"})
    mask = json.dumps({"size": [96, 128], "counts": [0, 96 * 64, 96 * 64]})
    black = json.dumps({"black_spans": [[150, 300, None]], "black_fraction": 0.5})
    made = {
        "layers/captions": [layer_row(value="late", author="t", video_id=video, start_pts=150, end_pts=300)],
        "layers/boxes": [layer_row(value=box, author="t", video_id=video, frame=n) for n in (1, 4)],
        "layers/masks": [layer_row(value=mask, author="t", video_id=video, frame=0)],
        "layers/quality": [layer_row(value=black, author="t", video_id=video)],
        "layers/scores": [layer_row(value="0.5", author="t", clip_id=clip, start_pts=0, end_pts=526)],
    }
    commit_rows(lake, made)
    run(encoding={"rate": "12"})
    after = media(lake)["variable.mp4"]
    rows = {name: lake.read("latest", name).to_pylist() for name in made}
    tick = 600 * Fraction(after["time_base_num"], after["time_base_den"])
    (caption,) = rows["layers/captions"]
    assert (caption["start_pts"] * tick, caption["end_pts"] * tick) == (150, 300)
    assert [(row["frame"], json.loads(row["value"])["box"]) for row in rows["layers/boxes"]] == [(3, [5, 10, 15, 20])]
    (mask_row,) = rows["layers/masks"]
    assert json.loads(mask_row["value"]) == {"size": [48, 64], "counts": [0, 48 * 32, 48 * 32]}
    (quality,) = rows["layers/quality"]
    told = json.loads(quality["value"])
    assert [told["black_fraction"], [at * tick for at in told["black_spans"][0][:2]]] == [0.5, [150, 300]]
    (score,) = rows["layers/scores"]
    clips = {row["clip_id"]: row for row in lake.read("latest", "clips").to_pylist()}
    assert clips[score["clip_id"]]["video_id"] == after["video_id"]
    assert all(row["video_id"] == after["video_id"] for name in made for row in rows[name] if row["video_id"])


def test_a_set_of_duplicates_names_the_new_videos(lake: Lake, run: Run) -> None:
    ids = {name: row["video_id"] for name, row in media(lake).items()}
    value = json.dumps({"group": ids["even.mp4"], "kept": ids["even.mp4"]})
    rows = [layer_row(value=value, author="t", video_id=ids[name]) for name in ("even.mp4", "told.mp4")]
    commit_rows(lake, {"layers/duplicates": rows})
    run()
    new = {name: row["video_id"] for name, row in media(lake).items()}
    for row in lake.read("latest", "layers/duplicates").to_pylist():
        assert row["video_id"] in (new["even.mp4"], new["told.mp4"])
        assert json.loads(row["value"]) == {"group": new["even.mp4"], "kept": new["even.mp4"]}


def test_a_copy_that_was_left_out_names_the_new_id_of_the_one_that_is_kept(lake: Lake, run: Run) -> None:
    ids = {name: row["video_id"] for name, row in media(lake).items()}
    lake.commit(
        lambda _: Changes(remove={"clips": f"video_id = '{ids['told.mp4']}'"}),
        author="test", command="", source="", processing={},
    )  # fmt: skip
    told = {"group": ids["even.mp4"], "kept": ids["even.mp4"]}
    why = {"rule": "duplicate", "also": [], "figures": {}} | told
    of_copy = {"author": "t", "video_id": ids["told.mp4"]}
    commit_rows(
        lake,
        {
            "layers/duplicates": [layer_row(value=json.dumps(told), **of_copy)],
            "layers/curation": [layer_row(value=json.dumps(why), start_pts=0, end_pts=9, **of_copy)],
        },
    )
    run()
    new = media(lake)
    assert new["told.mp4"]["video_id"] == ids["told.mp4"]
    for name, before in (("layers/duplicates", told), ("layers/curation", why)):
        (row,) = lake.read("latest", name).to_pylist()
        assert row["video_id"] == ids["told.mp4"]
        assert json.loads(row["value"]) == before | {
            "group": new["even.mp4"]["video_id"],
            "kept": new["even.mp4"]["video_id"],
        }


def test_a_video_without_a_clip_is_left_alone(lake: Lake, run: Run) -> None:
    before = media(lake)["even.mp4"]
    lake.commit(
        lambda _: Changes(remove={"clips": f"video_id = '{before['video_id']}'"}),
        author="test", command="", source="", processing={},
    )  # fmt: skip
    report = run()
    assert (report.videos, report.without_clips, report.rejected) == (3, 1, {})
    assert media(lake)["even.mp4"] == before
    assert run().version.number == report.version.number


def test_masks_in_cocos_text_stay_text_and_are_smaller(lake: Lake, run: Run) -> None:
    import numpy as np
    from pycocotools import mask

    pixels_HW = np.zeros((96, 128), np.uint8, order="F")
    pixels_HW[20:60, 30:90] = 1
    told = mask.encode(pixels_HW)
    value = json.dumps({"size": told["size"], "counts": told["counts"].decode()})
    video = media(lake)["even.mp4"]["video_id"]
    commit_rows(lake, {"layers/masks": [layer_row(value=value, author="t", video_id=video, frame=3)]})
    run()
    (row,) = lake.read("latest", "layers/masks").to_pylist()
    small = json.loads(row["value"])
    got_HW = mask.decode({"size": small["size"], "counts": small["counts"].encode()})
    assert (got_HW.shape, row["frame"]) == ((48, 64), 3)
    assert np.argwhere(got_HW)[[0, -1]].tolist() == [[10, 15], [29, 44]]


def test_a_video_that_cannot_be_encoded_is_a_row_with_a_reason_and_the_others_go_on(
    lake: Lake, run: Run, footage: Path
) -> None:
    os.unlink(footage / "variable.mp4")
    (lost,) = [row["video_id"] for name, row in media(lake, 1).items() if name == "variable.mp4"]
    report = run()
    assert (report.videos, report.rejected) == (3, {"missing": 1})
    row = media(lake)["variable.mp4"]
    assert (row["state"], row["reason"], row["video_id"]) == ("rejected", "missing", lost)
    assert lost not in {clip["video_id"] for clip in lake.read("latest", "clips").to_pylist()}
    (left_out,) = lake.read("latest", "layers/curation").to_pylist()
    told = json.loads(left_out["value"])
    assert (left_out["video_id"], left_out["start_pts"], left_out["end_pts"]) == (lost, 0, 526)
    assert (told["rule"], told["reason"], told["split"]) == ("standardise", "missing", "test")
    with pytest.raises(TooManyRejects, match="1 of 4 videos were left out"):
        check_limit(report)


@pytest.mark.parametrize("standardised_before", [False, True])
def test_two_files_with_the_same_pictures_stay_once(
    lake: Lake, run: Run, footage: Path, tmp_path: Path, ffmpeg: Callable[..., None], standardised_before: bool
) -> None:
    if standardised_before:
        run()
    (tmp_path / "copied").mkdir()
    words = ["-c", "copy", "-metadata", "title=again", "-video_track_timescale", 600]
    ffmpeg("-i", footage / "even.mp4", *words, tmp_path / "copied" / "copy.mp4")
    ingest(IngestConfig(source=str(tmp_path / "copied"), lake=lake.uri), EngineConfig(engine="local", workers=1))
    report = run()
    assert (report.videos, report.rejected) == (0 if standardised_before else 4, {"same_pictures": 1})
    check_limit(report)  # a copy is no failure


def test_without_room_for_shards_on_their_way_to_a_store_nothing_is_begun(
    lake: Lake, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=4 * 5000 - 1))
    with pytest.raises(PlaceError, match=r"19,999 bytes free, .* s3://bucket/shards .*: 20,000 bytes; .* TMPDIR"):
        run(out="s3://bucket/shards", shard_bytes=5000)
    assert not list(Path(lake.uri).glob("staging/standardise-*"))
    assert run(shard_bytes=5000).videos == 4


def test_what_is_too_large_for_a_tar_is_left_out_with_that_reason(
    lake: Lake, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cineray.curate.standardise.encoder.MOST_BYTES", 100)
    report = run()
    assert (report.version.number, report.videos, report.rejected) == (2, 0, {"too_large": 4})


def test_frame_tables_are_held_of_no_video_once_it_is_dealt_out(
    lake: Lake, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = list[int]()

    def counted(*args: Any, **told: Any) -> Any:
        found = gathered(*args, **told)
        gc.collect()
        held.append(sum(type(one) is FrameTable for one in gc.get_objects()) - before)
        return found

    gc.collect()
    before = sum(type(one) is FrameTable for one in gc.get_objects())
    monkeypatch.setattr("cineray.curate.standardise.run.gathered", counted)
    assert run().videos == 4
    assert held == [0]


def test_a_bad_encoding_is_left_out(lake: Lake, run: Run) -> None:
    report = run(least_psnr_db=99.0, encoding={"crf": 51})
    assert set(report.rejected) == {"too_lossy"}


def test_annotations_can_be_added_after(lake: Lake, run: Run, tmp_path: Path) -> None:
    run()
    row = media(lake)["even.mp4"]
    rows = tmp_path / "events.jsonl"
    rows.write_text(json.dumps({"video_id": row["video_id"], "frame": 2, "value": {"label": "two"}}))
    assert annotate(lake, "events", rows, author="t", command="").number == 3


@pytest.mark.ray
def test_ray_makes_the_same_version(lake: Lake, run: Run, tmp_path: Path, footage: Path) -> None:
    from cineray.curate.standardise import StandardiseConfig, standardise

    other = str(tmp_path / "other")
    ingest(IngestConfig(source=str(footage), lake=other), EngineConfig(engine="local", workers=1))
    out = str(tmp_path / "shards")
    told = {"lake": other, "out": out, "encoding": {"short_side": 48}}
    by_ray = standardise(StandardiseConfig.model_validate(told), engine="ray", workers=1)
    assert run(out=out).version.fingerprint == by_ray.version.fingerprint
