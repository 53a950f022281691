"""Filters of videos may name what was measured: rows of `layers/quality`, one JSON object per video and stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cineray.errors import UsageError
from cineray.lake import Changes, Lake, batches_of, layer_row
from cineray.lake.rows import reject_row
from cineray.lake.schema import MEDIA
from cineray.records import Reject

QUALITY = "layers/quality"


def media(name: str, height: int) -> dict[str, Any]:
    row = dict.fromkeys(MEDIA.names) | {"video_id": name, "state": "ready", "content_hash": name, "height": height}
    return row | {"codec": "h264", "captions": [], "audio": []}


def measured(video: str, stage: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    return layer_row(value=json.dumps(columns), author=f"{stage}@1-aa", video_id=video)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Four videos; `d` was measured by nobody. One more was rejected at ingest."""
    lake = Lake.create(str(tmp_path / "lake"))
    videos = [media("a", 240), media("b", 480), media("c", 720), media("d", 720)]
    rejected = reject_row(Reject(name="e.mp4", stage="index", reason="empty", detail="0 bytes"), source="somewhere")
    quality = [
        measured("a", "motion", {"motion_speed": 0.5, "motion_spans": [[0, 10, None]]}),
        measured("b", "motion", {"motion_speed": 0.1}),
        measured("c", "motion", {"motion_speed": 0.3, "said_language": None}),
        measured("a", "blur", {"blur_best": 0.2, "blur_kind": "soft"}),
        measured("b", "blur", {"blur_best": 0.9, "blur_kind": "it's AND motion_speed"}),
        measured("c", "blur", {"blur_best": None, "blur_kind": "soft"}),
        layer_row(value="not JSON, and says motion_speed", author="somebody", video_id="d"),
        layer_row(value=json.dumps({"motion_speed": 9.0}), author="motion@1-aa", clip_id="of one clip only"),
    ]
    tables = {"media": [*videos, rejected], QUALITY: quality}
    lake.commit(
        lambda _: Changes(add={name: batches_of(name, rows) for name, rows in tables.items()}),
        author="test", command="test", source="test", processing={},
    )  # fmt: skip
    return lake


def videos_of(lake: Lake, where: str | None) -> list[str]:
    return sorted(one for _, batch in lake.ready("latest", where) for one in batch["video_id"].to_pylist())


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (None, ["a", "b", "c", "d"]),
        ("height >= 480", ["b", "c", "d"]),
        ("motion_speed > 0.2", ["a", "c"]),
        ("motion_speed > 0.2 AND blur_best < 0.5", ["a"]),
        ("motion_speed > 0.2 AND height = 720", ["c"]),
        ("blur_best IS NULL", ["c", "d"]),
        ("NOT (motion_speed > 0.2)", ["b"]),
        ("blur_kind = 'it''s AND motion_speed'", ["b"]),
        ("codec = 'motion_speed'", []),
        ("motion_speed > 100", []),
        ("said_language = 'en'", []),
        ("said_language NOT IN ('en', 'de') OR motion_speed < 0.2", ["b"]),
        ("said_language > 3", []),
    ],
)
def test_a_filter_may_name_media_and_measures_and_an_unmeasured_video_is_null(
    lake: Lake, where: str | None, found: list[str]
) -> None:
    assert videos_of(lake, where) == found


def test_row_numbers_are_those_that_take_asks_for(lake: Lake) -> None:
    head = lake.resolve("latest")
    numbers = [int(n) for rows, _ in lake.ready(head, "motion_speed < 0.4") for n in rows]
    taken = lake.table("media").take(head.tables["media"].version, numbers, columns=["video_id"])
    assert sorted(taken["video_id"].to_pylist()) == ["b", "c"]


def test_a_query_shows_measures_by_name_beside_media(lake: Lake) -> None:
    found = lake.query("latest", "motion_speed > 0.2", ["video_id", "motion_speed", "height"])
    assert sorted(found.to_pylist(), key=lambda row: str(row["video_id"])) == [
        {"video_id": "a", "motion_speed": 0.5, "height": 240},
        {"video_id": "c", "motion_speed": 0.3, "height": 720},
    ]
    assert lake.query("latest", None, ["video_id", "blur_kind"], limit=2).num_rows == 2
    assert lake.query("latest", "motion_speed > 100").num_rows == 0


def test_a_word_that_is_no_column_is_refused_with_the_measures_that_there_are(lake: Lake) -> None:
    with pytest.raises(UsageError, match=r"motion_sped.*measured were blur_best, blur_kind, motion_speed"):
        videos_of(lake, "motion_sped > 0.2")
    with pytest.raises(UsageError, match=r"motion_speed >\).* cannot be used"):
        videos_of(lake, "motion_speed >")
    with pytest.raises(UsageError, match="'motion_spans' is a list of spans"):
        videos_of(lake, "motion_spans IS NOT NULL")


def test_two_rows_that_say_two_things_of_one_video_are_refused(lake: Lake) -> None:
    other = [measured("a", "rival", {"motion_speed": 0.6})]
    lake.commit(
        lambda _: Changes(add={QUALITY: batches_of(QUALITY, other)}),
        author="test", command="test", source="test", processing={},
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"say two things of 'motion_speed' of video a: 0.5 and 0.6"):
        videos_of(lake, "motion_speed > 0.2")
    assert videos_of(lake, "blur_best < 0.5") == ["a"], "what nobody disputes can be asked"


def test_without_measures_nothing_is_joined_and_errors_are_as_ever(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path / "plain"))
    lake.commit(
        lambda _: Changes(add={"media": batches_of("media", [media("a", 240)])}),
        author="test", command="test", source="test", processing={},
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"The table's columns are [^;]*$"):
        videos_of(lake, "motion_speed > 0.2")
    assert videos_of(lake, "height = 240") == ["a"]
