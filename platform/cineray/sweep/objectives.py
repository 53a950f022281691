"""What trials are chosen by: an objective's name goes in; out comes what it is, which way is good, and how it is read.

    skill, noisiest_loss, loss, wrong_over_right            of the validation, while a trial trains
    clips_per_s, frames_per_s, gpu_stall, data_wait, mfu, goodput        of the ledger, while it trains
    cost, cost_per_million_clips, seconds, wall_seconds     of prices and clocks, while it trains
    validation/<figure>, evaluate/<metric>                  anything else that a training or an evaluation says

A report is what a trial says at each judgement, as flat keys (`Report`). Figures that neighbours on the cluster disturb
are marked: finalists are measured again for them, alone.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cineray.errors import UsageError
from cineray.sweep.config import ObjectiveSpec, SweepJob
from cineray.sweep.formulas import figures_in_words, formulas_of

Goal = Literal["max", "min"]

Report = Mapping[str, Any]
"""`trial`, `generation`, `step`, `seconds` (of training), `clips`, `frames`, `wall_seconds`, `cost`, `clips_per_s`,
`frames_per_s`, `data_wait_fraction`, `gpu_stall_fraction`, `mfu`, `goodput`, `verdict`, `validation/...`, and at the
end `evaluate/...`. What is not known is NaN, None or absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One way to be good."""

    name: str
    label: str
    """For people."""
    unit: str
    goal: Goal
    key: str
    """Of a report. `skill` is the one over the best linear denoiser, `noisiest_loss` the validation's headline."""
    is_known: Literal["while training", "at the end"] = "while training"
    is_disturbed: bool = False
    """By other trials on the same cluster: alone it may be another."""
    needs_gpu: bool = False
    adds_up: bool = False
    """The longer a training, the more of it there is: of one that ended early it says little."""
    of: Callable[[Report], float] | None = None
    """How it follows from a report, where it is no key of it."""
    tolerance: float = 0.0
    """Trials within this share of the best value count as equal."""

    @property
    def is_timed(self) -> bool:
        """Does it follow from how long something took?"""
        return self.is_disturbed or self.name in ("goodput", "cost", "seconds", "wall_seconds")

    def value(self, report: Report) -> float:
        """NaN where it is not known."""
        return self.of(report) if self.of is not None else number(report.get(self.key))

    def is_better(self, one: float, other: float) -> bool:
        """What is not known is never better."""
        if math.isnan(one):
            return False
        return math.isnan(other) or (one > other if self.goal == "max" else one < other)


def number(value: Any) -> float:
    """NaN for what is none."""
    return float("nan") if value is None or isinstance(value, bool | str) else float(value)


def per_million_clips(report: Report) -> float:
    """Money for a million clips at the pace so far."""
    clips = number(report.get("clips"))
    return number(report.get("cost")) / clips * 1e6 if clips > 0 else math.nan


def _of(name: str, label: str, unit: str, goal: Goal, key: str = "", **more: Any) -> Objective:
    return Objective(name=name, label=label, unit=unit, goal=goal, key=key or name, **more)


_ALL = (
    _of("skill", "skill", "share", "max", "validation/skill_linear"),
    _of("noisiest_loss", "noisiest loss", "", "min", "validation/headline"),
    _of("loss", "validation loss", "", "min", "validation/loss"),
    _of("wrong_over_right", "wrong over right loss", "", "max", "validation/wrong_over_right"),
    _of("clips_per_s", "clips per second", "clips/s", "max", is_disturbed=True),
    _of("frames_per_s", "frames per second", "frames/s", "max", is_disturbed=True),
    _of("data_wait", "waiting for data", "share", "min", "data_wait_fraction", is_disturbed=True),
    _of("gpu_stall", "GPU stall", "share", "min", "gpu_stall_fraction", is_disturbed=True, needs_gpu=True),
    _of("mfu", "MFU", "share", "max", is_disturbed=True, needs_gpu=True),
    _of("goodput", "goodput", "share", "max"),
    _of("cost", "cost to train", "money", "min", adds_up=True),
    _of("cost_per_million_clips", "cost of a million clips", "money", "min", is_disturbed=True, of=per_million_clips),
    _of("seconds", "training seconds", "s", "min", adds_up=True),
    _of("wall_seconds", "seconds from begin to end", "s", "min", adds_up=True),
)

OBJECTIVES: dict[str, Objective] = {objective.name: objective for objective in _ALL}
"""Those with a name of their own."""


def objectives_of(job: SweepJob) -> tuple[Objective, ...]:
    """Those of a sweep, the most important first; refused by name where there is no such thing."""
    return tuple(objective_of(spec, job) for spec in job.objectives)


def objective_of(spec: ObjectiveSpec, job: SweepJob) -> Objective:
    """What a job's objective means."""
    found = OBJECTIVES.get(spec.name) or _of_validation(spec, job) or _of_evaluation(spec, job)
    if found is None:
        raise UsageError(
            f"there is no objective {spec.name!r}; there are {', '.join(OBJECTIVES)}, validation/<figure> and "
            "evaluate/<metric>"
        )
    unit = job.prices.currency if found.unit == "money" and job.prices is not None else found.unit
    told = {"goal": spec.goal or found.goal, "unit": unit, "tolerance": spec.tolerance}
    by_pace = found.name in ("seconds", "cost") and job.budget.unit in ("steps", "clips")
    return replace(found, is_disturbed=found.is_disturbed or by_pace, **told)  # type: ignore[arg-type]


def _of_validation(spec: ObjectiveSpec, job: SweepJob) -> Objective | None:
    group, _, figure = spec.name.partition("/")
    if group != "validation" or not figure:
        return None
    bins = job.base.validation.bins
    known = formulas_of(bins)
    if figure not in known:
        meant = difflib.get_close_matches(figure, known, 1)
        raise UsageError(
            f"objective {spec.name}: the validation has no figure {figure}"
            + (f"; did you mean validation/{meant[0]}?" if meant else ";")
            + f" There are {figures_in_words(bins)}"
        )
    goal: Goal = "max" if known[figure].more_is_better else "min"
    return Objective(name=spec.name, label=figure.replace("_", " "), unit="", goal=goal, key=spec.name)


def _of_evaluation(spec: ObjectiveSpec, job: SweepJob) -> Objective | None:
    group, _, name = spec.name.partition("/")
    if group != "evaluate" or not name:
        return None
    from cineray.evaluate.registry import METRICS

    if name not in METRICS:
        raise UsageError(f"objective {spec.name}: there is no metric {name}; there are: {', '.join(METRICS)}")
    metric, asked = METRICS[name], job.judge.evaluate
    if asked is not None and asked.metrics != "all" and name not in asked.metrics:
        raise UsageError(f"objective {spec.name}: judge.evaluate.metrics has not {name}; add it")
    if metric.better == "like real" and spec.goal is None:
        raise UsageError(
            f"objective {spec.name}: {name} is good when it is as that of real clips, so neither more nor less is "
            "better; say what is wanted (goal), or choose another"
        )
    goal: Goal = "max" if metric.better == "higher" else "min"
    label = name.replace("_", " ")
    return Objective(name=spec.name, label=label, unit=metric.unit, goal=goal, key=spec.name, is_known="at the end")


def check_gpus(job: SweepJob, train_gpus: float) -> None:
    """Refuse what is only known of GPUs where trials train without any; `train_gpus`: those of a trial."""
    wanted = [one.name for one in objectives_of(job) if one.needs_gpu]
    if wanted and not train_gpus:
        raise UsageError(
            f"objectives has {', '.join(wanted)}, which only trainings on GPUs say, and here trials train without any, "
            "so no trial could be chosen; leave it out, or sweep on machines with GPUs (--address)"
        )


def compared_while_training(job: SweepJob) -> Objective:
    """What a scheduler compares trials by."""
    wanted = getattr(job.scheduler, "objective", "")
    known = [one for one in objectives_of(job) if one.is_known == "while training" and wanted in ("", one.name)]
    if not known:
        raise UsageError(
            f"scheduler.kind is {job.scheduler.kind}, which compares trials while they train, and "
            f"{wanted or 'every objective'} is only known at the end; add one such as noisiest_loss, or choose fifo"
        )
    return known[0]


def final_values(objectives: Sequence[Objective], report: Report) -> dict[str, float]:
    """Objective -> value, NaN where it is not known."""
    return {objective.name: objective.value(report) for objective in objectives}
