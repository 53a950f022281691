"""Which split a video gets: from its group alone, for ever, and never one that lets training see a test recording."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cineray.errors import SplitLeakage, TooManyRejects, UsageError
from cineray.ingest import IngestReport, SplitConfig, check_limit
from cineray.lake import Lake

Run = Callable[..., IngestReport]
Make = Callable[..., Path]
COLOURS = ["red", "green", "blue", "white", "black", "gray", "cyan", "magenta", "yellow", "orange", "navy", "teal"]
THIRDS = {"fractions": {"train": 0.34, "validation": 0.33, "test": 0.33}}


def split_of(report: IngestReport, lake: Path) -> dict[str, str]:
    opened = Lake.open(str(lake))
    names = {p["video_id"]: p["name"] for p in opened.read(report.version, "places").to_pylist()}
    return {names[c["video_id"]]: c["split"] for c in opened.read(report.version, "clips").to_pylist()}


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def test_videos_keep_their_split_when_more_arrive_and_when_the_fractions_change(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    for number, colour in enumerate(COLOURS[:6]):
        video(tmp_path / "v" / f"{number}.mp4", colour)
    before = split_of(run(tmp_path / "v", splits=THIRDS), lake)

    for number, colour in enumerate(COLOURS[6:], start=6):
        video(tmp_path / "v" / f"{number}.mp4", colour)
    after = split_of(run(tmp_path / "v", splits={"fractions": {"train": 1.0}, "change": True}), lake)

    assert len(set(before.values())) > 1, "thirds of six videos, and these six fall into more than one"
    assert before.items() <= after.items()
    assert {after[f"{n}.mp4"] for n in range(6, 12)} == {"train"}


def test_an_ingest_divides_as_the_lake_does_unless_it_is_told_otherwise(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    for number, colour in enumerate(COLOURS[:3]):
        video(tmp_path / "a" / f"cam1_{number}.mp4", colour)
    for number, colour in enumerate(COLOURS[3:]):
        video(tmp_path / "b" / f"cam1_{number}.mp4", colour)
    rule = {"group_by": r"path:(cam\d+)_", "fractions": {"train": 0.5, "test": 0.5}}
    first = run(tmp_path / "a", splits=rule)

    second = run(tmp_path / "b")

    assert len(set(split_of(second, lake).values())) == 1, "one recording, ingested in two goes, lies in one split"
    assert second.version.split_rule == first.version.split_rule
    with pytest.raises(UsageError, match=r"salt is 'cineray' and 'other' was asked for.*--change-split-rule"):
        run(tmp_path / "b", splits={"salt": "other"})


def test_parts_of_one_recording_share_a_split_by_a_regular_expression_on_the_name(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    for number, colour in enumerate(COLOURS):
        video(tmp_path / "v" / f"cam{number // 3}_part{number % 3}.mp4", colour)

    splits = split_of(run(tmp_path / "v", splits={"group_by": r"path:(cam\d+)_", **THIRDS}), lake)

    for camera in range(4):
        assert len({splits[f"cam{camera}_part{part}.mp4"] for part in range(3)}) == 1
    assert len(set(splits.values())) > 1


def test_parts_of_one_recording_share_a_split_by_a_column(run: Run, video: Make, tmp_path: Path, lake: Path) -> None:
    lines = ["file_name,recording"]
    for number, colour in enumerate(COLOURS):
        video(tmp_path / "v" / f"{number}.mp4", colour)
        lines.append(f"{number}.mp4,tape-{number % 4}")
    (tmp_path / "v" / "metadata.csv").write_text("\n".join(lines) + "\n")

    splits = split_of(run(tmp_path / "v", splits={"group_by": "column:recording", **THIRDS}), lake)

    for tape in range(4):
        assert len({splits[f"{n}.mp4"] for n in range(12) if n % 4 == tape}) == 1


def test_a_split_that_the_folders_give_holds(run: Run, video: Make, tmp_path: Path, lake: Path) -> None:
    video(tmp_path / "v" / "train" / "cat" / "a.mp4", "red")
    video(tmp_path / "v" / "val" / "cat" / "b.mp4", "blue")

    assert split_of(run(tmp_path / "v"), lake) == {"train/cat/a.mp4": "train", "val/cat/b.mp4": "validation"}


def test_the_same_bytes_in_train_and_test_are_refused_by_name_and_nothing_is_written(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    video(tmp_path / "v" / "train" / "a.mp4", "red")
    video(tmp_path / "v" / "test" / "z.mp4", "red")

    with pytest.raises(SplitLeakage, match=r"train/a\.mp4.*test/z\.mp4|test/z\.mp4.*train/a\.mp4"):
        run(tmp_path / "v")

    assert Lake.open(str(lake)).head() is None
    assert len(split_of(run(tmp_path / "v", splits={"given": "ignore"}), lake)) == 1


def test_a_copy_of_a_known_video_in_another_split_is_refused_in_a_later_ingest_too(
    run: Run, video: Make, tmp_path: Path, lake: Path
) -> None:
    video(tmp_path / "v" / "train" / "a.mp4", "red")
    run(tmp_path / "v")
    video(tmp_path / "v" / "test" / "z.mp4", "red")

    with pytest.raises(SplitLeakage, match=r"test/z\.mp4"):
        run(tmp_path / "v")

    head = Lake.open(str(lake)).head()
    assert head is not None
    assert head.number == 1


def test_a_recording_whose_parts_are_given_different_splits_is_refused_naming_the_group(
    run: Run, video: Make, tmp_path: Path
) -> None:
    video(tmp_path / "v" / "train" / "cam7_a.mp4", "red")
    video(tmp_path / "v" / "test" / "cam7_b.mp4", "blue")

    with pytest.raises(SplitLeakage, match="cam7"):
        run(tmp_path / "v", splits={"group_by": r"path:(cam\d+)_"})


def test_more_rejects_than_allowed_end_with_exit_code_3_and_the_good_ones_are_committed(
    run: Run, video: Make, tmp_path: Path
) -> None:
    video(tmp_path / "v" / "a.mp4")
    (tmp_path / "v" / "b.mp4").write_bytes(b"")

    report = run(tmp_path / "v", max_reject_fraction=0.4)

    assert report.videos == 1
    with pytest.raises(
        TooManyRejects, match=r"1 of 2 new videos \(50%\) were rejected; max_reject_fraction allows 40%"
    ):
        check_limit(report)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"fractions": {"train": 0.5}}, "sum to 1"),
        ({"group_by": "path:("}, "broken regular expression"),
        ({"group_by": "path:cam"}, "captures nothing"),
        ({"group_by": "folder"}, "must be `video`, `column:NAME` or `path:REGEX`"),
        ({"fraction": {}}, "did you mean `fractions`"),
        ({"salt": 3}, "salt got 3"),
    ],
)
def test_a_wrong_split_config_is_refused_before_anything_starts(given: dict[str, object], told: str) -> None:
    from cineray.config import check

    with pytest.raises(UsageError, match=told):
        check(SplitConfig, given)
