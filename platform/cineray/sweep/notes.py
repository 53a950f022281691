"""What a reader of a sweep's result should know before believing it: trials as the result tells them go in, sentences
come out. None where all is as it should be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cineray.sweep.config import SweepJob
from cineray.sweep.lineage import lineage_text
from cineray.sweep.made_before import encoded_before
from cineray.sweep.objectives import Objective
from cineray.sweep.search import trials_of
from cineray.sweep.space import grid_size
from cineray.sweep.trial_facts import ALONE, IN_SWEEP

UNEVEN = 0.1
"""More or less of a budget than this is told."""

Trials = Sequence[Mapping[str, Any]]


def notes_of(
    job: SweepJob,
    trials: Trials,
    objectives: Sequence[Objective],
    *,
    best_job: str,
    not_alone: Mapping[int, str] | None = None,
    concurrent: int | None = None,
) -> list[str]:
    """All of them. `best_job`: the file that has the best trial's job. `not_alone`: trial -> why it could not be
    measured alone. `concurrent`: how many trials there were side by side, where that is known."""
    return [
        *partial_grid(job),
        *unknown(trials, objectives),
        *uneven(trials),
        *unlike_machines(trials),
        *unlike_figures(trials, objectives, concurrent),
        *never_alone(objectives, concurrent),
        *changed_on_the_way(trials, objectives),
        *unmeasured(trials, not_alone or {}),
        *lost(trials),
        *encoded_before(job, trials),
        *nothing_chosen(job, trials),
        *many_runs(trials, best_job),
    ]


def partial_grid(job: SweepJob) -> list[str]:
    """Are there combinations of a grid that nobody tries?"""
    if job.search.kind != "grid" or (told := trials_of(job)) >= (size := grid_size(job.space)):
        return []
    return [
        f"the grid has {size} combinations, and trials is {told}: so many were drawn by lot, and nothing is known of "
        f"the other {size - told}. A sweep with trials={size} tries all"
    ]


def unknown(trials: Trials, objectives: Sequence[Objective]) -> list[str]:
    """A sentence for each objective by which trials that had their budget could not be chosen."""
    done, told = [one for one in trials if one["state"] == "done"], []
    for objective in objectives:
        without = [one["number"] for one in done if one["objectives"].get(objective.name, {}).get("value") is None]
        if without:
            told.append(
                f"{objective.label} is not known of {len(without)} of {len(done)} trials that had the whole budget "
                f"({', '.join(map(str, without))}), so they were not chosen from; rates need some more steps than "
                "warm up, MFU and stalls a GPU, motion metrics clips that move"
            )
    return told


def uneven(trials: Trials) -> list[str]:
    """Were budgets as equal as they should be? By which step seconds are over is fixed before they are, and a machine
    may become slower or faster after that."""
    shares = {one["number"]: one["budget_share"] for one in trials if one["state"] == "done" and one["budget_share"]}
    off = [f"{number} ({share:.0%})" for number, share in shares.items() if abs(share - 1) > UNEVEN]
    if not off:
        return []
    return [
        f"budgets are not quite equal: of theirs spent trials {', '.join(off)}; the pace changed after the last step "
        "was fixed. Let nothing else run on these machines, or give a budget in steps or clips"
    ]


def unlike_machines(trials: Trials) -> list[str]:
    """Did trials that are compared train on different machines? In the same seconds those do not do the same."""
    kinds: dict[str, list[int]] = {}
    for one in trials:
        if one["state"] == "done" and one["machines"]:
            kinds.setdefault(" and ".join(sorted(one["machines"])), []).append(one["number"])
    if len(kinds) < 2:
        return []
    told = "; ".join(f"{kind}: {_numbered(numbers)}" for kind, numbers in kinds.items())
    return [
        f"trials that had the whole budget trained on different machines ({told}): figures by the clock compare only "
        "within a machine, and so does quality at equal seconds"
    ]


def unlike_figures(trials: Trials, objectives: Sequence[Objective], concurrent: int | None) -> list[str]:
    """Are figures of an objective shown that were measured in different ways?"""
    told = []
    for objective in (one for one in objectives if one.is_disturbed):
        figures = {
            one["number"]: one["objectives"].get(objective.name, {}).get("measured")
            for one in trials
            if one["state"] == "done"
        }
        ways = {way: [number for number, known in figures.items() if known == way] for way in (ALONE, IN_SWEEP)}
        if ways[ALONE] and ways[IN_SWEEP]:
            told.append(
                f"{objective.label} of {_numbered(ways[ALONE])} was measured alone, of {_numbered(ways[IN_SWEEP])} in "
                f"the sweep, {beside(concurrent)}: two trials are compared alone where both were measured so, else by "
                "what they were in the sweep. finalists.most says how many are measured alone"
            )
    return told


def beside(concurrent: int | None) -> str:
    """How figures in the sweep differ from those alone."""
    return "one trial at a time, with their first seconds" if concurrent == 1 else "beside others"


def never_alone(objectives: Sequence[Objective], concurrent: int | None) -> list[str]:
    """A sentence for each objective by the clock that is not measured again, and cannot be."""
    counted = {
        "goodput": "what it took to start, to be restored and to wait",
        "wall_seconds": "starts, judgements, checkpoints and what waited",
    }
    others = "" if concurrent == 1 else ", beside other trials"
    return [
        f"{one.label} is as it was in the sweep{others}, and is not measured alone: it counts {counted[one.name]}. To "
        "choose by the pace of training, take clips_per_s"
        for one in objectives
        if one.name in counted
    ]


def changed_on_the_way(trials: Trials, objectives: Sequence[Objective]) -> list[str]:
    """Are there members of a population whose pace alone says nothing of what all their clips took?"""
    labels = [one.label for one in objectives if one.is_disturbed and one.name in ("seconds", "cost")]
    numbers = [one["number"] for one in trials if (one["alone"] or {}).get("figures") and len(one["runs"]) > 1]
    if not labels or not numbers:
        return []
    verb = "is" if len(labels) == 1 else "are"
    return [
        f"{' and '.join(labels)} of {_numbered(numbers)} {verb} as in the sweep: their values changed on the way, and "
        "alone only the last ones were measured"
    ]


def unmeasured(trials: Trials, not_alone: Mapping[int, str]) -> list[str]:
    """A sentence for each finalist that could not be measured alone, and was not since."""
    without = [one["number"] for one in trials if not (one["alone"] or {}).get("figures")]
    return [f"trial {n} could not be measured alone: {not_alone[n]}" for n in without if n in not_alone]


def lost(trials: Trials) -> list[str]:
    """What can still be had of those that machines failed?"""
    numbers = [one["number"] for one in trials if one["state"] == "lost"]
    if not numbers:
        return []
    return [f"machines failed {_numbered(numbers)} too often; `cineray sweep` with this sweep's folder tries again"]


def nothing_chosen(job: SweepJob, trials: Trials) -> list[str]:
    """All trials are over and none was chosen: what becomes of their weights?"""
    if job.keep == "all" or not trials or any(one["best"] or one["state"] == "running" for one in trials):
        return []
    return [f"no trial was chosen, so all that are done keep their checkpoints, though keep is {job.keep}"]


def many_runs(trials: Trials, best_job: str) -> list[str]:
    """The best one is of a population: what is best.yaml then?"""
    best = next((one for one in trials if one["best"] and one["lineage"]), None)
    if best is None:
        return []
    return [
        f"trial {best['number']} is of a population, and its values changed on the way: "
        f"{lineage_text(best['lineage'])}. "
        f"{best_job} has its last values for all steps, from the start, which nobody has trained: it may do better or "
        f"worse. The trial's own weights are in {best['run']}"
    ]


def _numbered(numbers: Sequence[int]) -> str:
    return f"{'trial' if len(numbers) == 1 else 'trials'} {', '.join(map(str, numbers))}"
