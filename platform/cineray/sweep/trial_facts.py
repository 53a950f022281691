"""One trial as the sweep's result tells it: its record goes in, plain values come out, which JSON can hold.

What is not known is None. A figure is a value with its interval, if it has one, and says where it was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cineray.errors import CinerayError
from cineray.sweep.config import SweepJob
from cineray.sweep.folder import SweepFolder
from cineray.sweep.objectives import OBJECTIVES, Objective
from cineray.sweep.spent import spent_by
from cineray.sweep.trial_record import TrialRecord

IN_SWEEP, ALONE = "in the sweep", "alone"
_COUNTED = ("seconds", "wall_seconds", "step", "clips", "cost")


def trial_facts(
    sweep: SweepFolder, job: SweepJob, record: TrialRecord, objectives: Sequence[Objective]
) -> dict[str, Any]:
    """All that is told of one trial, but for who won."""
    assert record.place is not None
    last, run, spent = record.last, record.place.run_uri(), spent_by(record.place)
    return {
        "number": record.number,
        "values": dict(record.values),
        "state": record.state or "running",
        "why": record.why,
        **{name: plain_number(last.get(name)) for name in _COUNTED},
        "objectives": figures_of(record, objectives),
        "figures": figures_alone(record, objectives),
        "verdict": str(last.get("verdict") or ""),
        "bound": str(last.get("bound") or ""),
        "data_wait_fraction": plain_number(last.get("data_wait_fraction")),
        "run": _within(sweep, run),
        "runs": [_within(sweep, record.place.run_uri(one["generation"])) for one in record.place.generations()],
        "curve": [_point(report, objectives) for report in record.reports],
        "spent_seconds": spent.seconds,
        "seconds_by_cause": spent.by_cause,
        "machines": list(spent.machines),
        "alone": dict(record.alone) or None,
        "samples": _samples(sweep, record),
        "rate_per_hour": plain_number(record.place.facts.get("rate_per_hour")),
        "budget_share": _budget_share(job, last),
    }


def figures_of(record: TrialRecord, objectives: Sequence[Objective]) -> dict[str, dict[str, Any]]:
    """Objective -> value, low, high, n, measured; without those that are not known. Of what was measured alone,
    `in_the_sweep` is what it was there, by which it compares with other trials, and `in_the_sweep_warm` the same after
    as many seconds of warm-up, by which it compares with itself alone."""
    alone, metrics = record.figures_alone(), record.evaluation.get("metrics", {})
    beside = record.figures_beside()
    found: dict[str, dict[str, Any]] = {}
    for objective in objectives:
        value = objective.value(record.last)
        evaluated = metrics.get(objective.name.removeprefix("evaluate/"), {})
        if objective.is_disturbed and objective.name in alone:
            found[objective.name] = {**_figure(alone[objective.name]), "measured": ALONE}
            found[objective.name]["in_the_sweep"] = plain_number(value)
            found[objective.name]["in_the_sweep_warm"] = plain_number(beside.get(objective.name, {}).get("value"))
        elif objective.is_known == "at the end" and evaluated.get("value") is not None:
            found[objective.name] = {**_figure(evaluated), "measured": IN_SWEEP}
        elif math.isfinite(value):
            found[objective.name] = {"value": value, "low": None, "high": None, "n": None, "measured": IN_SWEEP}
    return found


def figures_alone(record: TrialRecord, objectives: Sequence[Objective]) -> dict[str, dict[str, Any]]:
    """All that was measured alone, also what nobody chose by, in the same form."""
    also = {name: one for name, one in OBJECTIVES.items() if one.is_disturbed} | {one.name: one for one in objectives}
    found = figures_of(record, list(also.values()))
    return {name: one for name, one in found.items() if one["measured"] == ALONE}


def plain_number(value: Any) -> float | int | None:
    """JSON has no word for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _figure(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain_number(told.get(name)) for name in ("value", "low", "high", "n")}


def _point(report: Mapping[str, Any], objectives: Sequence[Objective]) -> dict[str, Any]:
    told = {name: plain_number(report.get(name)) for name in ("seconds", "step", "clips", "cost", "clips_per_s")}
    return told | {objective.name: plain_number(objective.value(report)) for objective in objectives}


def _budget_share(job: SweepJob, last: Mapping[str, Any]) -> float | None:
    """How much of its budget it had."""
    spent = plain_number(last.get(job.budget.key))
    return None if spent is None else spent / job.budget.amount


def _samples(sweep: SweepFolder, record: TrialRecord) -> list[dict[str, Any]]:
    """The clips that its evaluation shows."""
    place = record.evaluation.get("uri")
    if not place:
        return []
    from cineray.evaluate.evaluation import read_evaluation

    try:
        evaluation = read_evaluation(str(place))
    except CinerayError:
        return []  # damaged: the trial's figures stand without the clips
    shown = evaluation.facts.get("samples", []) if evaluation is not None else []
    return [
        {
            "file": _within(sweep, f"{place}/{one['file']}"),
            "name": one["name"],
            "label": one.get("label"),
            "caption": one.get("caption"),
        }
        for one in shown
    ]


def _within(sweep: SweepFolder, uri: str) -> str:
    """Relative to the sweep's folder, which may be copied elsewhere."""
    return uri.removeprefix(f"{sweep.uri}/")
