"""Where a run's time went, moment by moment: what `goodput` sums up over the whole life, in spans of it."""

from __future__ import annotations

from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest

from cineray.report.ledger_time import by_span, stretches
from cineray.train.goodput import CAUSES, account


def history(subjects: ModuleType) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A run that was killed at step 69, and went on 40 seconds later from step 60."""
    events = [{"attempt": attempt, **one} for attempt, told in subjects.events().items() for one in told]
    return events, subjects.ledger_rows()


def test_spans_add_up_to_the_runs_goodput(subjects: ModuleType) -> None:
    events, rows = history(subjects)
    whole = account(events, rows)["seconds"]

    found = dict.fromkeys(CAUSES, 0.0)
    for one in stretches(events, rows):
        for cause, seconds in one.seconds.items():
            found[cause] += seconds

    assert found == pytest.approx(whole)
    assert all(whole[cause] > 0 for cause in ("productive", "data", "compile", "lost_progress", "init", "idle"))


def test_stretches_follow_each_other_without_gaps(subjects: ModuleType) -> None:
    events, rows = history(subjects)
    life = list(stretches(events, rows))

    assert all(a.end == pytest.approx(b.start) for a, b in pairwise(life))
    assert sum(one.end - one.start for one in life) == pytest.approx(account(events, rows)["lifetime_s"])


def test_every_span_is_whole_and_the_idle_one_is_where_nobody_was_at_work(subjects: ModuleType) -> None:
    events, rows = history(subjects)
    ends, shares = by_span(list(stretches(events, rows)), spans=39)  # of 4 seconds each

    assert ends == pytest.approx([2.0 + 4.0 * n for n in range(39)])
    assert [sum(shares[cause][span] for cause in CAUSES) for span in range(39)] == pytest.approx([1.0] * 39)
    killed, again = 12.0 + 70 * 0.5 + 3.0, 115.0
    idle = [at for at, share in zip(ends, shares["idle"], strict=True) if share == pytest.approx(1.0)]
    assert idle == [at for at in ends if killed + 2 <= at <= again - 2]
    vain = [at for at, share in zip(ends, shares["lost_progress"], strict=True) if share > 0]
    assert vain == [at for at in ends if 12.0 + 60 * 0.5 + 3.0 - 2 < at < killed + 2]


def test_a_run_that_has_done_nothing_yet_has_no_spans() -> None:
    assert by_span([]) == ([], {})
    begun = [{"attempt": 1, "at": 5.0, "event": "begin"}]
    ends, shares = by_span(list(stretches(begun, [])), spans=4)
    assert sum(sum(values) for values in shares.values()) in (0.0, 4.0)
    assert len(ends) in (0, 4)
