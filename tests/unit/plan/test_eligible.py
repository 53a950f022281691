"""Which rows may be drawn: by length, seconds and bucket, from columns; and sets of rows that cost nothing if whole."""

from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cineray.plan import CatalogClip, DatasetSpec, Recipe, RowSet, Rule, facts_of, made_video
from cineray.plan.facts import ClipFacts
from cineray.plan.rowset import Part, Units
from cineray.records import IndexedVideo


def rule_of(sampling: dict[str, Any], buckets: list[dict[str, int]] | None = None, balance: str = "none") -> Rule:
    datasets = (DatasetSpec.model_validate({"balance": balance}),)
    if buckets is not None:
        values: dict[str, Any] = {"sampling": sampling, "frame": {}, "buckets": buckets}
    else:
        values = {"sampling": sampling, "frame": {"height": 64, "width": 64}}
    return Rule(Recipe.model_validate({"datasets": datasets, "batch_size": 2, **values}))


def whole(video: IndexedVideo, **said: Any) -> tuple[CatalogClip, IndexedVideo]:
    return CatalogClip(clip_id="c", video_id="v", start_pts=0, end_pts=video.frames.end_pts, **said), video


def sorted_rows(rule: Rule, videos: list[IndexedVideo]) -> list[list[int]]:
    found = rule.sort([facts_of(rule.sampler, [whole(video) for video in videos])])
    return [
        [int(row) for group in groups for row in group.rows.at(np.arange(len(group.rows)))] for groups in found.buckets
    ]


@pytest.mark.parametrize(
    ("sampling", "shortest"),
    [
        ({"mode": "random", "frames": 8}, 8),
        ({"mode": "uniform", "frames": 8}, 8),
        ({"mode": "stride", "frames": 8, "stride": 2}, 15),
        ({"mode": "fps", "frames": 8, "fps": 12.5}, 15),  # of 25 frames a second, like stride 2
        ({"mode": "fps", "frames": 8, "fps": 12}, 15),  # the last instant is at 7/12 s, while frame 14 is shown
        ({"mode": "fps", "frames": 8, "fps": 25}, 8),
        ({"mode": "random", "frames": 8, "min_seconds": 0.6}, 15),
        ({"mode": "random", "frames": 8, "short_videos": "pad"}, 1),
        ({"mode": "random", "frames": 8, "short_videos": "loop", "min_seconds": 0.3}, 8),
    ],
)
def test_a_clip_fits_from_exactly_the_length_that_it_needs(sampling: dict[str, Any], shortest: int) -> None:
    lengths = [1, 7, 8, 9, 14, 15, 16, 30]
    drawn = sorted_rows(rule_of(sampling), [made_video(length) for length in lengths])[0]
    assert [lengths[row] for row in drawn] == [length for length in lengths if length >= shortest]


def test_the_time_base_does_not_matter_only_the_time() -> None:
    """The same second in ticks of 1/25, 1001/30000 and 1/90000, and beyond what 64 bits can multiply."""
    bases = [Fraction(1, 25), Fraction(1001, 30_000), Fraction(1, 90_000), Fraction(1, 10**15)]
    videos = [made_video(25, ticks_per_frame=max(1, int(Fraction(1, 25) / base)), time_base=base) for base in bases]
    rule = rule_of({"mode": "fps", "fps": "30000/1001", "frames": 29})
    held = [int(n) for n in rule._samples(facts_of(rule.sampler, [whole(video) for video in videos]))]
    exact = [-(-(v.frames.end_pts * v.time_base * 30_000) // 1001) for v in videos]
    assert held == [int(n) for n in exact]


def test_each_clip_lies_in_the_bucket_of_most_frames_then_nearest_shape_then_size() -> None:
    buckets = [
        {"frames": 8, "height": 64, "width": 64},
        {"frames": 32, "height": 64, "width": 64},
        {"frames": 32, "height": 36, "width": 64},
        {"frames": 32, "height": 72, "width": 128},
        {"frames": 32, "height": 720, "width": 1280},
    ]
    videos = [
        made_video(10, width=64, height=64),  # too short for 32
        made_video(40, width=100, height=100),
        made_video(40, width=640, height=360),  # three buckets of its shape: the largest that need not be enlarged
        made_video(40, width=32, height=18),  # all need enlarging: the smallest
        made_video(40, width=360, height=640, rotation_degrees=90),  # upright it is wide
        made_video(7, width=64, height=64),  # too short for any
    ]
    assert sorted_rows(rule_of({}, buckets), videos) == [[0], [1], [3], [2, 4], []]
    assert sorted_rows(rule_of({"short_videos": "pad"}, buckets), videos) == [[0, 5], [1], [3], [2, 4], []]


def test_what_is_left_out_is_counted_by_reason() -> None:
    rule = rule_of({"frames": 8, "min_seconds": 1.0})
    empty = (CatalogClip(clip_id="c", video_id="v", start_pts=10**9, end_pts=10**9 + 1), made_video(30))
    rows = [whole(made_video(length)) for length in (3, 20, 25, 30)]
    found = rule.sort([facts_of(rule.sampler, [*rows, empty])])
    assert found.total == 5
    assert dict(found.left_out) == {"shorter than min_seconds": 2, "without a frame in its span": 1}
    assert len(found.buckets[0][0].rows) == 2


def test_facts_may_come_in_pieces() -> None:
    rule = rule_of({"frames": 8}, balance="label")
    rows = [whole(made_video(10 + n % 3), label="ab"[n % 2]) for n in range(10)]
    pieces = [facts_of(rule.sampler, rows[at : at + 3]) for at in range(0, 10, 3)]
    found = rule.sort(pieces)
    assert [(group.name, group.rows.at(np.arange(5)).tolist()) for group in found.buckets[0]] == [
        ("a", [0, 2, 4, 6, 8]),
        ("b", [1, 3, 5, 7, 9]),
    ]


def test_a_million_rows_that_all_fit_are_kept_as_a_span() -> None:
    count = 1_000_000
    column = np.full(count, 100, dtype=np.int64)
    one = np.ones(count, dtype=np.int64)
    facts = ClipFacts(
        room_frames=column,
        room_ticks=column,
        span_ticks=column,
        time_base_num=one,
        time_base_den=25 * one,
        display_width=column,
        display_height=column,
    )
    found = rule_of({"frames": 16}).sort([facts])
    rows = found.buckets[0][0].rows
    assert (len(rows), rows.listed) == (count, None)


@given(rows=st.sets(st.integers(0, 200)))
def test_a_set_of_rows_gives_them_back_in_order(rows: set[int]) -> None:
    ordered = sorted(rows)
    kept = RowSet.of(ordered)
    assert kept.at(np.arange(len(kept))).tolist() == ordered


def test_rows_that_are_a_span_are_kept_as_one_and_others_take_four_bytes() -> None:
    assert RowSet.of(range(7, 1_000, 3)).listed is None
    odd = RowSet.of([*range(1_000), 5_000])
    assert odd.listed is not None
    assert odd.listed.dtype == np.uint32
    assert sys.getsizeof(RowSet.span(0, 10**12)) < 200


def test_units_of_several_datasets_and_windows_are_one_line() -> None:
    units = Units([Part(0, RowSet.of([4, 9])), Part(2, RowSet.span(0, 3), np.array([2, 2, 3]))])
    assert len(units) == 5
    datasets, rows, windows = units.at(np.arange(5))
    assert list(zip(datasets.tolist(), rows.tolist(), windows.tolist(), strict=True)) == [
        (0, 4, 0),
        (0, 9, 0),
        (2, 0, 0),
        (2, 0, 1),
        (2, 2, 0),
    ]


def test_a_rules_key_changes_with_what_it_asks() -> None:
    rule = rule_of({"frames": 8})
    assert rule.key == rule_of({"frames": 8}).key
    keys = {rule.key, rule_of({"frames": 9}).key, rule_of({"frames": 8, "stride": 2}).key}
    assert len(keys | {rule_of({"frames": 8}, balance="label").key}) == 4


def test_a_clip_that_is_a_part_of_a_video_counts_only_its_own_frames() -> None:
    video = made_video(100)
    part = replace(whole(video)[0], start_pts=int(video.frames.pts[10]) + 1, end_pts=int(video.frames.pts[20]))
    rule = rule_of({"frames": 9})
    assert facts_of(rule.sampler, [(part, video)]).room_frames.tolist() == [9]
