"""What is left out, and why. The rows of all drafts and a job go in; for each draft a verdict, and a count by rule.

    unreadable -> too_short -> the job's rules, in their order -> duplicate
    the first that holds is the reason; the others that hold are told beside it

A rule is SQL, the language of `cineray lake query` and of a recipe's filter. Of duplicates the best copy among those of
which a clip is left stays, so duplicates come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cineray.curate.cache import Cache
from cineray.curate.clip_table import ClipTable
from cineray.curate.config import OWN_REASONS, CurateJob
from cineray.lake.measured import names_in
from cineray.lake.tables import matching

Flags = npt.NDArray[np.bool_]
UNREADABLE, TOO_SHORT, DUPLICATE = OWN_REASONS


@dataclass(frozen=True, slots=True, eq=False)
class Reason:
    """One reason for leaving drafts out: for which it holds, and what tells how much."""

    name: str
    told: str
    """The rule's expression, or a sentence."""
    holds: Flags
    figures: tuple[str, ...] = ()
    """The columns that the expression names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCount:
    """What one reason removes, in clips and in seconds."""

    name: str
    told: str
    alone: int
    """If it were the only one."""
    first: int
    """As the reason that a clip's row gives."""
    only: int
    """What no other reason removes: what would come back without it."""
    seconds: float
    """Of `first`."""


def reasons(table: ClipTable, job: CurateJob, cache: Cache) -> list[Reason]:
    """All reasons but duplicates, in the order in which they are asked."""
    unreadable = np.array([cache.reject(table.listed[draft.video]) is not None for draft in table.drafts], np.bool_)
    shortest = job.cuts.shortest_seconds
    seconds = _seconds(table)
    found = [
        Reason(UNREADABLE, "its footage cannot be decoded", unreadable),
        Reason(TOO_SHORT, f"clip_seconds < {shortest:g}", (seconds < shortest) & ~unreadable, ("clip_seconds",)),
    ]
    return found + [
        Reason(rule.name, rule.leave_out, holds, named_columns(rule.leave_out, table.rows.column_names))
        for rule, holds in zip(job.rules, _matching(table, job), strict=True)
    ]


def check_rules(table: ClipTable, job: CurateJob) -> None:
    """Raise where a rule cannot be asked of clips: it names what there is not, or compares text with numbers, or is no
    SQL. Columns and their kinds are declared, so the rows of a few videos tell it."""
    _matching(table, job)


def _matching(table: ClipTable, job: CurateJob) -> list[Flags]:
    if not table.drafts:
        return [np.zeros(0, np.bool_) for _ in job.rules]
    return matching(table.rows, [rule.leave_out for rule in job.rules])


def _seconds(table: ClipTable) -> npt.NDArray[np.float64]:
    return np.asarray(table.rows["clip_seconds"].to_numpy(), np.float64) if table.drafts else np.zeros(0)


def named_columns(expression: str, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that an expression names, in their order there, each once."""
    return tuple(name for name in names_in(expression) if name in set(columns))


def any_of(found: Sequence[Reason], drafts: int) -> Flags:
    """For which drafts any of the reasons holds."""
    held = np.zeros(drafts, np.bool_)
    for reason in found:
        held |= reason.holds
    return held


def counts(table: ClipTable, found: Sequence[Reason]) -> list[RuleCount]:
    """What each reason removes, alone and together with the others."""
    seconds = _seconds(table)
    times = sum((reason.holds.astype(np.int64) for reason in found), np.zeros(len(table.drafts), np.int64))
    before = np.zeros(len(table.drafts), np.bool_)
    told = []
    for reason in found:
        first = reason.holds & ~before
        before |= reason.holds
        told.append(
            RuleCount(
                name=reason.name,
                told=reason.told,
                alone=int(reason.holds.sum()),
                first=int(first.sum()),
                only=int((reason.holds & (times == 1)).sum()),
                seconds=float(seconds[first].sum()),
            )
        )
    return told


def verdict(table: ClipTable, found: Sequence[Reason], draft: int) -> dict[str, Any] | None:
    """Why this draft is left out, as its row says it; None where it stays."""
    holding = [reason for reason in found if reason.holds[draft]]
    if not holding:
        return None
    names = dict.fromkeys(name for reason in holding for name in reason.figures)
    return {
        "rule": holding[0].name,
        "because": holding[0].told,
        "also": [reason.name for reason in holding[1:]],
        "figures": {name: table.rows[name][draft].as_py() for name in names},
    }
