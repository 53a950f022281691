"""A table's fingerprint is that of its rows: no order, no history, no time."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cineray.lake import batches_of, clip_row, digest, media_row, place_row
from cineray.records import IndexedVideo, Place, VideoFile

CLIP = st.builds(
    clip_row,
    video_id=st.text("ab", min_size=1, max_size=3),
    start_pts=st.integers(-5, 5),
    end_pts=st.integers(6, 9),
    split=st.sampled_from(["train", "test", None]),
    group_id=st.text(max_size=3),
    weight=st.floats(allow_nan=False),
)


def fingerprint(rows: list[dict[str, Any]], rows_per_batch: int = 3) -> int:
    """Of these rows as one table."""
    total = digest.EMPTY
    for batch in batches_of("clips", rows, rows_per_batch=rows_per_batch):
        total = digest.add(total, digest.batch_digests("clips", batch))
    return total


@given(rows=st.lists(CLIP, max_size=8), seed=st.integers(0, 9), size=st.integers(1, 5))
def test_neither_order_nor_batches_change_it(rows: list[dict[str, Any]], seed: int, size: int) -> None:
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert fingerprint(shuffled, size) == fingerprint(rows)


@given(kept=st.lists(CLIP, max_size=5), gone=st.lists(CLIP, max_size=5))
def test_rows_that_came_and_went_leave_no_trace(kept: list[dict[str, Any]], gone: list[dict[str, Any]]) -> None:
    digests = [value for batch in batches_of("clips", gone) for value in digest.batch_digests("clips", batch)]
    assert digest.remove(fingerprint(kept + gone), digests) == fingerprint(kept)


@given(rows=st.lists(CLIP, min_size=1, max_size=5), change=st.sampled_from(["split", "label", "end_pts", "weight"]))
def test_another_value_in_one_row_changes_it(rows: list[dict[str, Any]], change: str) -> None:
    new = {"split": "other", "label": "other", "end_pts": 77, "weight": -1234.5}[change]
    assert fingerprint([{**rows[0], change: new}, *rows[1:]]) != fingerprint(rows)


def test_a_row_twice_is_not_the_row_once() -> None:
    row = clip_row(video_id="v", start_pts=0, end_pts=1, split=None, group_id="g")
    assert len({fingerprint([]), fingerprint([row]), fingerprint([row, row])}) == 3


def test_what_a_fact_cost_and_when_it_was_learnt_is_not_the_fact(video: IndexedVideo) -> None:
    row = media_row(video)
    same = {"bytes_read": 5, "requests": 9, "version_tag": "new"}
    assert digest.row_digest({**row, **same}, digest.volatile_of("media")) == digest.row_digest(
        row, digest.volatile_of("media")
    )
    other = {**row, "frames": row["frames"][:-1] + b"x"}
    assert digest.row_digest(other, digest.volatile_of("media")) != digest.row_digest(row, digest.volatile_of("media"))


def test_a_place_touched_without_a_change_is_the_same_place() -> None:
    rows = [
        place_row(VideoFile(name="a", place=Place(uri="/a"), version_tag=tag), video_id="v", source="/")
        for tag in ("5-1", "5-2")
    ]
    first, second = (digest.row_digest(row, digest.volatile_of("places")) for row in rows)
    assert first == second


def test_it_is_pinned_because_lakes_outlive_programs() -> None:
    row = clip_row(video_id="v", start_pts=0, end_pts=90, split="train", group_id="g")
    assert digest.to_hex(fingerprint([row])) == "6cccac8767e4a4f72685c4b90c0980efc7418deab48b9b067246d91450b57a9f"
    assert digest.from_hex(digest.to_hex(7)) == 7
