"""Questions are SQL filters over rows; a wrong one gets a short answer that helps."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from cineray.errors import UsageError
from cineray.lake import Lake, batches_of, media_row


@pytest.fixture
def asked(lake: Lake, commit: Any, other: Any) -> Lake:
    """300 videos with labels n0 to n299."""
    rows = [media_row(other(f"{n:04x}"), label=f"n{n}", columns={"n": n}) for n in range(300)]
    commit(lake, add={"media": batches_of("media", rows, rows_per_batch=64)})
    return lake


def test_a_filter_columns_and_a_limit(asked: Lake) -> None:
    found = asked.query("latest", "label LIKE 'n1_' AND codec = 'h264'", ["label", "num_frames"])
    assert found.to_pydict() == {"label": [f"n1{n}" for n in range(10)], "num_frames": [4] * 10}
    assert asked.query("latest", None, ["label"], 2).to_pydict() == {"label": ["n0", "n1"]}
    assert asked.query("latest", "label = 'none'", ["label"]).to_pydict() == {"label": []}
    assert asked.query("latest", None, ["label"], 0).num_rows == 0
    assert asked.query("latest", "label LIKE 'n1%'", ["label"], 100).num_rows == 100


def test_a_limit_below_zero_is_refused(asked: Lake) -> None:
    with pytest.raises(UsageError, match="limit is -1; wanted 0 or more"):
        asked.query(limit=-1)


def test_packed_frame_tables_are_left_out_unless_asked_for(asked: Lake) -> None:
    assert "frames" not in asked.query(limit=1).schema.names
    assert asked.query(columns=["frames"], limit=1).num_rows == 1


def test_counts_are_of_rows_that_were_read(asked: Lake) -> None:
    assert asked.count("latest", "media", "label IN ('n1', 'n2', 'x')") == 2
    assert (asked.count("latest"), asked.count("latest", "clips")) == (300, 0)


def test_a_table_that_a_version_lacks_is_empty_and_a_layer_is_named(asked: Lake) -> None:
    assert asked.read("latest", "places", columns=["uri"]).schema == pa.schema([("uri", pa.string())])
    with pytest.raises(UsageError, match="version 1 has no layers/depth; its layers are: none"):
        asked.read("latest", "layers/depth")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("lable = 'x'", "No field named lable"),
        ("label = ", "Expected: an expression, found: EOF"),
        ("label = 'x", "Unterminated string literal"),
        ("sizzle(label) = 2", "Invalid function 'sizzle'"),
        ("; DROP TABLE media", "cannot be used"),
    ],
)
def test_a_wrong_filter_says_what_is_wrong_and_which_columns_there_are(asked: Lake, wrong: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        asked.query("latest", wrong)
    told = str(raised.value)
    assert said in told
    assert "columns are video_id, state, reason" in told
    assert len(told.split("The table's columns", maxsplit=1)[0]) < 250
    assert "/rust/" not in told


def test_a_wrong_column_says_which_there_are(asked: Lake) -> None:
    with pytest.raises(UsageError, match="no column 'lable'; the table's columns are video_id, state"):
        asked.query("latest", None, ["lable"])
    with pytest.raises(UsageError, match="no column 'lable'; the table's columns are clip_id"):
        asked.query("latest", None, ["lable"], table="clips")  # of which this version has none


def test_an_old_version_answers_as_it_did(asked: Lake, commit: Any) -> None:
    commit(asked, remove={"media": "label <> 'n7'"})
    assert asked.query("latest", None, ["label"]).to_pydict() == {"label": ["n7"]}
    assert asked.count(1) == 300


def test_rows_come_in_batches_of_the_size_asked_for(asked: Lake) -> None:
    assert max(batch.num_rows for batch in asked.scan("latest", "media", ["video_id"], batch_size=50)) == 50
