"""Is the best trial better than those that come next? Records go in; paired comparisons on the judged clips come out.

The best is held against each other member of the Pareto set and each other finalist, by each objective that follows
from the losses of clips. That the best was chosen by the same clips, out of all trials that were judged on them, and is
held against several by several objectives, is taken into account. What trials do per second has intervals of
its own (`measured.py`); metrics of an evaluation are compared by `cineray evaluate --against`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cineray.errors import CinerayError
from cineray.sweep.formulas import formula_of
from cineray.sweep.objectives import Objective
from cineray.sweep.paired import Pair, baseline_of, compared, corrected
from cineray.sweep.trial_record import TrialRecord
from cineray.train.clip_losses import ClipLosses, read_clip_losses

BY_CHANCE = 0.05

ONE_TRAINING = (
    "each trial is one training: a difference that is sure on these clips may still be that of two seeds, which only "
    "several trainings of each can tell apart"
)


def comparisons_of(
    records: Sequence[TrialRecord], objectives: Sequence[Objective], *, best: int | None, others: Collection[int]
) -> dict[str, Any]:
    """`pairs`: of each other trial and objective its figure less the best one's, with an interval, p, and p corrected
    for the choice of the best out of `trials`, all that were judged: those that were stopped could have been it. Empty
    without a best, or where no losses of clips are kept."""
    by_number = {record.number: record for record in records}
    if best is None:
        return {}
    judged = {number: found for number in {best, *others} if (found := _last_losses(by_number[number])) is not None}
    if best not in judged:
        return {}
    held = [
        (number, one, pair)
        for number in sorted(judged.keys() - {best})
        for one in objectives
        if (pair := _pair(by_number[best], by_number[number], judged, one)) is not None
    ]
    trials = sum(bool(record.reports) for record in records)
    objectives_of_pairs = len({one.name for _, one, _ in held})
    raised = corrected([pair for *_, pair in held], trials=trials, objectives=objectives_of_pairs)
    pairs = [
        {"trial": number, "objective": one.name, "better": _better(one, pair), **_told(pair)}
        | {"p_corrected": by_chance, "is_sure": by_chance <= BY_CHANCE}
        for (number, one, pair), by_chance in zip(held, raised, strict=True)
    ]
    told = {"best": best, "correction": "best of trials", "trials": trials, "objectives": objectives_of_pairs}
    return told | {"by_chance": BY_CHANCE, "note": ONE_TRAINING, "pairs": pairs}


def _last_losses(record: TrialRecord) -> ClipLosses | None:
    """Of the judgement that its figures are of."""
    if record.place is None:
        return None
    try:
        found = read_clip_losses(record.place.run_uri())
    except CinerayError:
        return None  # damaged: its figures stand without a comparison
    return found if found is not None and found.step == record.last.get("step") else None


def _pair(best: TrialRecord, other: TrialRecord, judged: Mapping[int, ClipLosses], objective: Objective) -> Pair | None:
    a, b = judged[best.number], judged[other.number]
    formula = formula_of(objective.key, a.bins)
    if formula is None:
        return None
    baselines = [baseline_of(formula, objective.key, record.last) for record in (best, other)]
    return compared(a, b, formula, baselines=(baselines[0], baselines[1]))


def _better(objective: Objective, pair: Pair) -> str:
    """Whom the difference speaks for, sure or not."""
    if pair.difference == 0:
        return ""
    return "other" if (pair.difference > 0) == (objective.goal == "max") else "best"


def _told(pair: Pair) -> dict[str, Any]:
    return {name: getattr(pair, name) for name in ("difference", "low", "high", "p", "clips")}
