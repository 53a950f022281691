"""A sweep that a report can be of, made here: twelve trials of sampling, learning rate and batch size, with clips.

Its truth is simple, so that every plot can be judged by eye: `stride 2` learns most, larger batches are faster, reading
with `stride 4` waits for data; trials 8 and 9 were stopped early, 10 was bound by data, 11 has a config that cannot be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

BUDGET_SECONDS = 600.0
STATES = {8: "stopped", 9: "stopped", 10: "data-bound", 11: "failed", 5: "lost"}
PARETO, BEST = (1, 4, 6, 7), 4
SAMPLING = ("stride 1", "stride 2", "stride 4")
OBJECTIVES = [
    {"name": "skill", "unit": "fraction", "goal": "max", "tolerance": 0.02, "label": "skill"},
    {"name": "clips_per_s", "unit": "clips/s", "goal": "max", "tolerance": 0.05, "label": "clips per second"},
    {"name": "cost", "unit": "EUR", "goal": "min", "tolerance": 0.0, "label": "cost to train"},
]
PARAMETERS = [
    {"name": "sampling", "kind": "variants", "values": list(SAMPLING)},
    {"name": "learning_rate", "kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
    {"name": "batch_size", "kind": "choice", "values": [8, 16, 32]},
]


def skill(number: int, seconds: float) -> float:
    """What a trial has learnt after some seconds: more by stride 2 and a middle learning rate."""
    reached = 0.72 - 0.16 * abs(number % 3 - 1) - 0.03 * abs(math.log10(rate(number)) + 2.9)
    return reached * (1 - math.exp(-seconds / 150))


def rate(number: int) -> float:
    """The learning rate of a trial."""
    return round(10 ** (-4 + 2 * ((number * 5) % 12) / 11), 6)


def speed(number: int) -> float:
    """Its clips per second, alone."""
    return 90.0 + 40 * (number // 3 % 3) - 12 * (number % 3)


def figure(value: float, about: float | None) -> dict[str, Any]:
    """An objective's value, maybe with an interval."""
    ends = (
        {"low": None, "high": None, "n": None}
        if about is None
        else {"low": value - about, "high": value + about, "n": 64}
    )
    return {"value": value, **ends, "measured": "in the sweep"}


def curve(number: int, seconds: float) -> list[dict[str, float]]:
    """Eight looks at it while it trained."""
    looks = []
    for at in (seconds * (look + 1) / 8 for look in range(8)):
        clips = at * speed(number)
        looks.append(
            {
                "seconds": at,
                "step": round(clips / 16),
                "clips": round(clips),
                "cost": at / 3600 * 2.4 * (1 + number % 2),
            }
            | {"clips_per_s": 0.9 * speed(number), "skill": skill(number, at)}
        )
    return looks


def trial(number: int, samples: list[dict[str, str]], why: str) -> dict[str, Any]:
    """One trial as the sweep's record has it."""
    state = STATES.get(number, "done")
    seconds = {"done": BUDGET_SECONDS, "stopped": 150.0, "data-bound": 75.0, "lost": 210.0, "failed": 0.0}[state]
    looks = curve(number, seconds) if seconds else []
    waited = 0.42 if state == "data-bound" else 0.02 + 0.09 * (number % 3)
    alone = number in PARETO
    reached = {name: looks[-1][name] for name in ("skill", "clips_per_s", "cost")} if looks else {}
    objectives = {name: figure(value, 0.02 if name == "skill" else None) for name, value in reached.items()}
    if alone:  # faster than beside others
        objectives["clips_per_s"] = figure(speed(number), 4.0) | {
            "measured": "alone",
            "in_the_sweep": looks[-1]["clips_per_s"],
        }
    figures = {"clips_per_s": objectives["clips_per_s"]} if alone else {}
    if alone:
        figures["data_wait"] = figure(0.9 * waited, 0.01) | {"measured": "alone", "in_the_sweep": waited}
    causes = {"productive": seconds * (0.9 - waited), "data": seconds * waited, "evaluation": seconds * 0.05}
    causes |= {"init": 14.0, "checkpoint_save": seconds * 0.01, "lost_progress": 90.0 if state == "lost" else 0.0}
    return {
        **{"number": number, "state": state, "why": why, "seconds": seconds, "wall_seconds": seconds + 21},
        "values": {
            "sampling": SAMPLING[number % 3],
            "learning_rate": rate(number),
            "batch_size": (8, 16, 32)[number // 3 % 3],
        },
        **{"step": looks[-1]["step"] if looks else 0, "clips": looks[-1]["clips"] if looks else 0},
        **{"cost": looks[-1]["cost"] if looks else None, "objectives": objectives, "data_wait_fraction": waited},
        "figures": figures,
        "verdict": "bound by data: 42 % of each step waits"
        if state == "data-bound"
        else "bound by compute" * bool(looks),
        "bound": ("data" if state == "data-bound" else "compute") if looks else "",
        **{
            "run": f"trials/{number:04d}/run",
            "runs": ["run"] * (1 + (number == 3)),
            "curve": looks,
            "seconds_by_cause": causes if looks else {},
        },
        "alone": {"seconds": 30.0, "repeats": 3} if alone else None,
        "budget_share": seconds / BUDGET_SECONDS,
        **{"samples": samples, "pareto": alone, "best": number == BEST},
    }


def comparisons() -> dict[str, Any]:
    """The Pareto set against the best, clip by clip: trial 1 is as good by chance, the others are surely worse."""
    pairs = []
    for number in (one for one in PARETO if one != BEST):
        apart = skill(number, BUDGET_SECONDS) - skill(BEST, BUDGET_SECONDS)
        is_sure = number != 1
        told = {"difference": apart, "low": apart - 0.015, "high": apart + 0.015, "clips": 16}
        told["better"] = "best" if apart < 0 else "other"
        by_chance = 0.0002 if is_sure else 0.41
        told |= {"p": by_chance, "p_corrected": min(1.0, 3 * by_chance) if is_sure else by_chance, "is_sure": is_sure}
        pairs.append({"trial": number, "objective": "skill", **told})
    note = "each trial is one training: a difference that is sure on these clips may still be that of two seeds"
    told = {"best": BEST, "correction": "best of trials", "trials": 12, "objectives": 1}
    return told | {"by_chance": 0.05, "note": note, "pairs": pairs}


def reason(number: int, hostile: str) -> str:
    """Why a trial ended as it did."""
    told = {
        "stopped": "asha: in the worse half after 150 s",
        "lost": "its machine was lost, 3 times",
        "failed": hostile,
    }
    told["data-bound"] = "42 % of its time waited for data, more than 40 % after 60 s"
    return told.get(STATES.get(number, "done"), "its 600 s are over")


def make_sweep(folder: Path, *, hostile: str, clip: Callable[..., None]) -> Path:
    """A sweep's folder as `cineray sweep` leaves it; `clip(path, number)` makes a video."""
    trials = []
    for number in range(12):
        samples = []
        for prompt in range(3 if number in PARETO else 0):
            file = f"trials/{number:04d}/run/evaluations/step-00000040/clips/{prompt:04d}.mp4"
            clip(folder / file, number + prompt)
            words = {"label": "right", "caption": hostile if prompt == 1 else "a red dot moves to the right"}
            samples.append({"file": file, "name": f"prompt-{prompt:04d}", **words})
        trials.append(trial(number, samples, reason(number, hostile)))
    told = {
        **{"format": 1, "sweep": str(folder), "name": "sampling", "id": "sampling-1a2b3c4d", "wall_seconds": 7980.0},
        **{"made_at": 1_795_255_200.0, "objectives": OBJECTIVES, "parameters": PARAMETERS},
        "budget": {"unit": "seconds", "amount": BUDGET_SECONDS},
        "prices": {"currency": "EUR", "nodes": {"a": {"per_hour": 2.4, "cpus": 16}}, "train": "a"},
        **{"bill": {"training": 5.26, "whole": 6.1}, "notes": []},
        "search": {"kind": "tpe", "seed": 0, "startup_trials": 6},
        "scheduler": {"kind": "asha", "unit": "seconds", "grace": 150.0, "reduction_factor": 2},
        **{"trials": trials, "pareto": list(PARETO), "best": BEST, "best_job": "best.yaml"},
        "importance": {
            "skill": {"sampling": 0.71, "learning_rate": 0.27, "batch_size": 0.02},
            "clips_per_s": {"batch_size": 0.83, "sampling": 0.15, "learning_rate": 0.02},
        },
        **{"concurrent": 3, "comparisons": comparisons()},
        "wasted": {"seconds_of_stopped": 375.0, "seconds_of_failed": 210.0, "share": 0.118},
        "leaks": {"placement_groups": 0, "actors": 0, "store_bytes": 0},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps({"format": 1, "id": told["id"], "name": told["name"]}))
    (folder / "sweep-result.json").write_text(json.dumps(told))
    return folder
