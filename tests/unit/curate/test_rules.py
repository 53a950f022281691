"""What rules and cuts say of clips, without a video: tables in, counts, edges and spans out."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cineray.curate.clip_table import ClipTable
from cineray.curate.clips import Draft, drafts_of
from cineray.curate.config import CutsConfig
from cineray.curate.edges import distances, edge_of, thresholds
from cineray.curate.rules import Reason, counts, named_columns, verdict
from cineray.curate.stage import Span, columns_from_json, columns_to_json
from cineray.curate.videos import Listed
from cineray.errors import UsageError
from cineray.lake.tables import matching
from cineray.records import FrameTable


def frames_at(*pts: int) -> FrameTable:
    """Frames that begin at these instants; the last lasts as long as the one before it."""
    times, count = np.array(pts), len(pts)
    steps = np.diff(times)
    flags = np.ones(count, np.bool_)
    return FrameTable(
        pts=times,
        duration=np.append(steps, steps[-1]),
        decode_order=np.arange(count),
        key=flags,
        disposable=~flags,
        position=np.full(count, -1),
        size_bytes=np.ones(count),
    )


def spans(table: FrameTable, scenes: list[Span], **cuts: Any) -> list[tuple[int, int, int, Any]]:
    told = CutsConfig(shortest_seconds=0, **cuts)
    found = drafts_of(0, table, Fraction(1, 10), scenes, told)
    return [(draft.start_pts, draft.end_pts, draft.frames, draft.begins) for draft in found]


def test_without_scenes_the_whole_video_is_one_clip() -> None:
    assert spans(frames_at(5, 6, 7, 9), []) == [(5, 11, 4, "start")]


def test_each_scene_is_a_clip_and_all_frames_are_in_one() -> None:
    scenes = [Span(0, 3, "start"), Span(3, 6, "cut")]
    assert spans(frames_at(0, 1, 2, 3, 4, 5), scenes) == [(0, 3, 3, "start"), (3, 6, 3, "cut")]


def test_a_long_scene_is_divided_into_parts_of_whole_frames_that_are_short_enough() -> None:
    assert spans(frames_at(*range(10)), [], longest_seconds=0.4) == [
        (0, 3, 3, "start"),
        (3, 6, 3, "divided"),
        (6, 10, 4, "divided"),
    ]


def test_parts_are_measured_in_time_and_not_in_frames() -> None:
    """Half of the frames take a tenth of the time; a part of one frame that is itself too long stays whole."""
    parts = spans(frames_at(0, 1, 2, 3, 13, 23, 33), [], longest_seconds=1.0)
    assert [stop - start for start, stop, _, _ in parts][-3:] == [10, 10, 10]
    assert parts[0][0] == 0
    assert all(before[1] == after[0] for before, after in pairwise(parts))


def test_lance_itself_says_for_which_rows_a_filter_is_true() -> None:
    rows = pa.table({"a": [1.0, None, 3.0], "name": ["x", "y", None]})
    found = matching(rows, ["a > 0", "a < 2 OR name = 'y'", "name IS NULL", "false"])
    assert [held.tolist() for held in found] == [
        [True, False, True],
        [True, True, False],
        [False, False, True],
        [False, False, False],
    ]


@pytest.mark.parametrize("wrong", ["b > 1", "a >", "a > 'x' AND"])
def test_a_filter_that_cannot_be_used_is_refused_with_the_columns(wrong: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be used: .*The columns are a, name"):
        matching(pa.table({"a": [1.0], "name": ["x"]}), [wrong])


def table_of(**columns: list[Any]) -> ClipTable:
    """A draft per row, each of its own video."""
    count = len(next(iter(columns.values())))
    return ClipTable(
        listed=tuple(Listed(n, f"video-{n}", "") for n in range(count)),
        drafts=tuple(Draft(n, 0, 10, 10, "start") for n in range(count)),
        rows=pa.table({"clip_seconds": [1.0] * count, **columns}),
        signatures={},
        quality={},
    )


def reason(name: str, holds: list[int], told: str = "", figures: tuple[str, ...] = ()) -> Reason:
    return Reason(name, told, np.array(holds, np.bool_), figures)


def test_each_rule_is_counted_alone_together_and_for_what_only_it_removes() -> None:
    table = table_of(a=[1, 2, 3, 4])
    counted = counts(table, [reason("x", [1, 1, 0, 0]), reason("y", [0, 1, 1, 0]), reason("z", [0, 0, 0, 0])])
    assert [(rule.name, rule.alone, rule.first, rule.only, rule.seconds) for rule in counted] == [
        ("x", 2, 2, 1, 2.0),
        ("y", 2, 1, 1, 1.0),
        ("z", 0, 0, 0, 0.0),
    ]


def test_the_first_rule_that_holds_is_the_reason_and_the_others_are_told() -> None:
    table = table_of(a=[1, 2], b=["u", None])
    found = [reason("x", [0, 1], "a > 1", ("a",)), reason("y", [0, 1], "b IS NULL", ("b",))]
    assert verdict(table, found, 0) is None
    assert verdict(table, found, 1) == {
        "rule": "x",
        "because": "a > 1",
        "also": ["y"],
        "figures": {"a": 2, "b": None},
    }


def test_the_columns_of_an_expression_are_named_and_words_in_quotes_are_not() -> None:
    assert named_columns("width < 3 AND label = 'height' OR width > abs(b)", ["b", "height", "width"]) == ("width", "b")


def test_the_edge_of_a_rule_is_where_it_turns() -> None:
    values = [0.0, 0.45, 0.55, 0.9, None, 0.49]
    table = table_of(dark=values)
    edge = edge_of(table, reason("x", [0, 0, 1, 1, 0, 0], "dark > 0.5"), 2)
    assert (edge.left_out, edge.kept) == ((2, 3), (5, 1))


def test_of_several_comparisons_the_nearest_counts_in_units_of_its_columns_spread() -> None:
    rows = pa.table({"a": [0.0, 10.0], "b": [0.0, 1000.0], "name": ["x", "y"]})
    assert distances(rows, "a > 1 AND b < 900 AND name = 3").tolist() == pytest.approx([0.2, 0.2])
    assert np.isnan(distances(rows, "name LIKE 'x%'")).all()


@pytest.mark.parametrize(
    ("rule", "turns"),
    [
        ("x > .5 AND y<=-1e-2", [("x", 0.5), ("y", -0.01)]),
        ("0.5 < x OR 3.=y", [("x", 0.5), ("y", 3.0)]),
        ("x BETWEEN -1 AND 2 AND NOT y > 4", [("x", -1.0), ("x", 2.0), ("y", 4.0)]),
        ("x not between 1 and 2", [("x", 1.0), ("x", 2.0)]),
        ("(x NOT IN (1, -2)) OR y IN ('a', 'b')", [("x", 1.0), ("x", -2.0)]),
        ("gaps * 50 < num AND drift < 0.05", [("drift", 0.05)]),
        ("x + y > 3 OR 2 < y - 1 OR x > 3 * y OR 4 < abs(y) OR x - 1 > -2", []),
        ("name = 'x > 3' OR name LIKE '%5%' OR x IS NULL", []),
    ],
)
def test_where_a_rule_turns(rule: str, turns: list[tuple[str, float]]) -> None:
    assert thresholds(rule) == turns


def test_a_rule_without_an_edge_says_so() -> None:
    table = table_of(dark=[0.1, 0.9], name=["x", "y"])
    assert edge_of(table, reason("x", [0, 1], "dark > 0.5"), 2).is_known
    unsorted = edge_of(table, reason("x", [1, 1], "name IS NOT NULL"), 2)
    assert (unsorted.left_out, unsorted.kept, unsorted.is_known) == ((0, 1), (), False)


def test_columns_are_kept_as_text_and_come_back() -> None:
    columns = {"black_fraction": 0.5, "black_spans": [Span(0, 5, "black"), Span(7, 9)], "name": None, "ok": True}
    assert columns_from_json(columns_to_json(columns)) == columns


def test_a_column_that_is_not_a_number_for_json_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        columns_to_json({"loudness": float("nan")})
