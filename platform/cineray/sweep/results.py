"""What came out of a sweep: its folder goes in; a table, the best job and one JSON object come to lie in it.

    trials.parquet       a row per trial: values, objectives with intervals, seconds, state
    best.yaml            the best trial as a job, `cineray train best.yaml`; of a population: the best one's last values
    sweep-result.json    all of it, for the report, for `--json` and for scripts

It can be made at any time, also of a sweep that has not ended, and again after it. Trials are compared at equal budget,
so only those that had the whole of it are in the Pareto set. Each figure says where it was measured: in the sweep, or
alone; two trials are compared by figures that were measured in the same way. `concurrent` says how many trials there
were side by side in the sweep.
"""

from __future__ import annotations

import io
import json
import math
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cineray.config import job_to_yaml
from cineray.storage import put_object
from cineray.sweep.comparisons import comparisons_of
from cineray.sweep.config import Pbt, SweepJob
from cineray.sweep.costs import bill_of
from cineray.sweep.folder import SweepFolder
from cineray.sweep.lineage import lineage_text, lineages, run_key, taken_over
from cineray.sweep.notes import notes_of
from cineray.sweep.objectives import Objective, objectives_of
from cineray.sweep.parameters import FloatRange, IntRange, Parameter
from cineray.sweep.pareto import Values, best_of, pareto_set, ranked
from cineray.sweep.search import Search
from cineray.sweep.spent import spent_by
from cineray.sweep.trial_facts import plain_number, trial_facts
from cineray.sweep.trial_job import best_job
from cineray.sweep.trial_record import TrialRecord, TrialRecords
from cineray.train.ending import planned_steps
from cineray.train.job_kinds import JOB_KINDS
from cineray.train.run_folder import RunFolder, is_run

RESULT, TABLE, BEST = "sweep-result.json", "trials.parquet", "best.yaml"


def write_results(sweep: SweepFolder) -> dict[str, Any]:
    """Put the three files there; returns what sweep-result.json says."""
    job, records = sweep.job(), TrialRecords(sweep).read()
    told = result_of(sweep, job, records)
    put_object(sweep.place(TABLE), table_bytes(told))
    if told["best"] is not None:
        best = next(record for record in records if record.number == told["best"])
        came_by = next(trial["lineage"] for trial in told["trials"] if trial["best"])
        put_object(sweep.place(BEST), best_text(job, best, came_by).encode())
    put_object(sweep.place(RESULT), json.dumps(told, indent=1, allow_nan=False).encode())
    return told


def result_of(sweep: SweepFolder, job: SweepJob, records: Sequence[TrialRecord]) -> dict[str, Any]:
    """What sweep-result.json says."""
    objectives = objectives_of(job)
    pareto, best = winners(records, objectives)
    trials = [trial_facts(sweep, job, record, objectives) for record in records]
    came_by = lineages(records) if isinstance(job.scheduler, Pbt) else {}
    for trial in trials:
        trial |= {"pareto": trial["number"] in pareto, "best": trial["number"] == best}
        trial |= {"lineage": came_by.get(trial["number"], [])}
    events = sweep.events()
    leaks = [event for event in events if event["event"] == "leaks"]
    not_alone = {event["trial"]: event["why"] for event in events if event["event"] == "alone failed"}
    concurrent = max((int(event["concurrent"]) for event in events if event["event"] == "capacity"), default=None)
    next_best = {*pareto, *finalists(records, objectives, job.finalists.most)}
    return {
        "format": 1,
        "sweep": sweep.uri,
        "name": sweep.name,
        "id": sweep.sweep_id,
        "made_at": time.time(),
        "wall_seconds": sweep.wall_seconds(),
        "objectives": [_objective(one) for one in objectives],
        "budget": {"unit": job.budget.unit, "amount": job.budget.amount},
        "search": job.search.model_dump(mode="json"),
        "scheduler": job.scheduler.model_dump(mode="json"),
        "parameters": [_parameter(name, parameter) for name, parameter in job.space.items()],
        "trials": trials,
        "pareto": pareto,
        "best": best,
        "best_job": BEST if best is not None else None,
        "concurrent": concurrent,
        "comparisons": comparisons_of(records, objectives, best=best, others=next_best),
        "notes": notes_of(job, trials, objectives, best_job=BEST, not_alone=not_alone, concurrent=concurrent),
        "importance": Search(job).importance(records),
        "prices": None if job.prices is None else job.prices.model_dump(mode="json"),
        "bill": bill_of(trials),
        "wasted": wasted(trials, seconds_of_replaced(records) if came_by else 0.0),
        "leaks": {name: value for name, value in leaks[-1].items() if name in _LEAKS} if leaks else {},
    }


_LEAKS = ("placement_groups", "actors", "store_bytes", "disk_bytes")


# ---- who won ---------------------------------------------------------------------------------------------------------


def winners(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> tuple[list[int], int | None]:
    """The Pareto set and the best one of it: by what trials are alone between those of which that was measured, else by
    what they were in the sweep. Where only some were measured alone, the best is one of these."""
    told = comparable(records, objectives)
    alone = {one.number: alone_values(one, objectives) for one in records if one.alone.get("figures")}
    pareto = pareto_set(told, objectives, again=alone)
    measured = {number: {**told[number], **alone[number]} for number in pareto if number in alone}
    return pareto, best_of(measured or {number: told[number] for number in pareto}, objectives)


def finalists(records: Sequence[TrialRecord], objectives: Sequence[Objective], most: int) -> list[int]:
    """Who is measured again: those that would be chosen first by what all trials were in the sweep; the Pareto set
    first, then the others, for by one objective that set is one trial, which could not lose. What was measured since
    changes nothing of that, so whoever asks again gets the same."""
    told = comparable(records, objectives)
    pareto = set(pareto_set(told, objectives))
    order = ranked(told, objectives)
    return sorted(order, key=lambda number: number not in pareto)[:most]


def comparable(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> dict[int, Values]:
    """Those that had the whole budget."""
    return {record.number: record.objectives(objectives) for record in records if record.has_whole_budget}


def alone_values(record: TrialRecord, objectives: Sequence[Objective]) -> dict[str, float]:
    """What others disturb in the sweep, measured without them."""
    figures = record.figures_alone()
    return {
        one.name: float(figures[one.name]["value"]) for one in objectives if one.is_disturbed and one.name in figures
    }


def best_text(job: SweepJob, best: TrialRecord, came_by: Sequence[Mapping[str, Any]]) -> str:
    """best.yaml: the job, and above it whose it is and whether it was trained like that (`came_by`: its lineage)."""
    assert best.place is not None
    run = best.place.run_uri()
    steps = planned_steps(RunFolder.open(run), best.place.job()) if is_run(run) else int(best.last["step"])
    comment = f"Of trial {best.number} of the sweep {best.place.uri.rpartition('/trials/')[0].rpartition('/')[2]}."
    if came_by:
        comment += (
            f" It came to its figures by {lineage_text(came_by)}. This job has the last of these values for all "
            "steps, from the start: nobody has trained that, and it may do better or worse."
        )
    lines = textwrap.wrap(comment, 110)
    job_text = job_to_yaml(best_job(job, best.values, steps=steps), JOB_KINDS)
    return "".join(f"# {line}\n" for line in lines) + job_text


# ---- what it took ----------------------------------------------------------------------------------------------------


def wasted(trials: Sequence[Mapping[str, Any]], replaced: float = 0.0) -> dict[str, float]:
    """Training seconds of trials that did not get to their end, by their own ledgers, and their share of all. A trial
    that was stopped early was not for nothing, but what it spent did not make a candidate. `replaced`: of members of a
    population that took over another's weights in place of their own."""

    def spent(*states: str) -> float:
        return math.fsum(_spent(trial) for trial in trials if trial["state"] in states)

    whole = math.fsum(map(_spent, trials))
    stopped, failed = spent("stopped", "data-bound"), spent("failed", "lost")
    share = (stopped + failed + replaced) / whole if whole else 0.0
    told = {"seconds_of_stopped": stopped, "seconds_of_failed": failed, "seconds_of_replaced": replaced}
    return told | {"share": share}


def _spent(trial: Mapping[str, Any]) -> float:
    """What it took itself; where its ledgers are gone, what it said last."""
    return float(trial["spent_seconds"] or trial["seconds"] or 0.0)


def seconds_of_replaced(records: Sequence[TrialRecord]) -> float:
    """Training seconds of runs that neither their own trial nor another went on from."""
    used = taken_over(records)
    found = 0.0
    for record in records:
        if record.place is None or not record.has_whole_budget:
            continue
        newest = record.place.run_uri()
        for name, seconds in spent_by(record.place).by_run.items():
            run = record.place.place(name)
            found += seconds if run != newest and run_key(run) not in used else 0.0
    return found


# ---- as plain values -------------------------------------------------------------------------------------------------


def _objective(objective: Objective) -> dict[str, Any]:
    return {name: getattr(objective, name) for name in ("name", "unit", "goal", "tolerance", "label")}


def _parameter(name: str, parameter: Parameter) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "kind": parameter.kind}
    if isinstance(parameter, FloatRange | IntRange):
        return told | {"field": parameter.field, "low": parameter.low, "high": parameter.high, "log": parameter.log}
    if parameter.kind == "variants":
        return told | {"values": list(parameter.variants)}
    return told | {"field": parameter.field, "values": list(parameter.values)}


def table_bytes(told: Mapping[str, Any]) -> bytes:
    """trials.parquet: one row per trial, one column per value, objective and figure."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_row(trial, told) for trial in told["trials"]]
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["number"]
    table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in columns})
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def _row(trial: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    flat = {name: trial[name] for name in _OF_A_ROW}
    for parameter in told["parameters"]:
        value = trial["values"].get(parameter["name"])
        flat[f"values/{parameter['name']}"] = value if _is_one_type(parameter) else json.dumps(value)
    for objective in told["objectives"]:
        figure = trial["objectives"].get(objective["name"], {})
        flat |= _parts(f"objectives/{objective['name']}", figure)
        flat[f"objectives/{objective['name']}/measured"] = figure.get("measured")
    for name, figure in trial["figures"].items():
        flat |= _parts(f"alone/{name}", figure)
    return flat


def _parts(name: str, figure: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}/{part}": plain_number(figure.get(part)) for part in ("value", "low", "high")}


def _is_one_type(parameter: Mapping[str, Any]) -> bool:
    """A column has one type; values that are of several are told as JSON."""
    values = parameter.get("values")
    if values is None:
        return True
    kinds = {type(value) for value in values}
    return kinds <= {int, float} or kinds in ({str}, {bool})


_OF_A_ROW = (
    *("number", "state", "why", "pareto", "best", "seconds", "wall_seconds", "step", "clips", "cost"),
    *("data_wait_fraction", "verdict", "run"),
)
