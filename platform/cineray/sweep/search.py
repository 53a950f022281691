"""Who proposes values: what is known of all trials goes in, the next trial's values come out.

    search = Search(job)
    search.propose(number=7, trials=records)     ->  Proposal(values={"stride": 2, "lr": 0.0031}, facts={...})

A function of the job, the number and the records, and of nothing else: a driver that is started again proposes what the
one before it would have. So Optuna keeps no study of its own; it is shown the trials as they lie in the sweep's folder,
each time anew. What has been tried is not proposed again: the same values would only give the same trial.

    done                  by its figures
    stopped, data-bound   by how good it was when it ended, as if it had gone on like that to its end
    failed                as worse than all of these: values that cannot be trained are not looked for again
    lost                  not at all: a machine says nothing of values
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cineray.errors import UsageError
from cineray.sweep.config import Pbt, SweepJob
from cineray.sweep.objectives import Objective, number, objectives_of
from cineray.sweep.parameters import FloatRange, IntRange, Parameter, Variants
from cineray.sweep.space import combination, grid_size, is_finite
from cineray.sweep.trial_record import TrialRecord

if TYPE_CHECKING:
    import optuna

MOST_ASKED = 32
"""Times that the search may propose what was tried before, until one that was not is drawn by lot."""

FEWEST_TRIALS = 5
"""Fewer say nothing of what is important."""

TRIALS = 16
"""Of a search that is not told how many."""

MOST_UNTOLD = 256
"""A grid of more combinations is not tried as a whole unless somebody says so: it was hardly meant."""


def trials_of(job: SweepJob) -> int:
    """How many trials a sweep is told to make; where it is told nothing, all combinations of a grid."""
    if job.trials is not None:
        return job.trials
    if job.search.kind != "grid":
        return TRIALS
    size = grid_size(job.space)
    if size > MOST_UNTOLD:
        raise UsageError(
            f"the grid has {size:,} combinations, and nothing says how many of them to try; set trials to as many as "
            f"are wanted ({size} for all, fewer for a part of them by lot), or search with search.kind=tpe"
        )
    return size


@dataclass(frozen=True, slots=True)
class Proposal:
    """The next trial."""

    values: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    """What the search will want to know of it later; kept in the trial's record."""


class Search:
    """Of one sweep."""

    def __init__(self, job: SweepJob) -> None:
        self._job = job
        self._space: Mapping[str, Parameter] = job.space
        self._objectives = objectives_of(job)
        self._told = trials_of(job)
        # A population has as many members as it is told to, whether their values differ or not.
        self._may_repeat = isinstance(job.scheduler, Pbt)

    @property
    def total(self) -> int:
        """How many trials there will be, at most."""
        if self._may_repeat or not (self._job.search.kind == "grid" or is_finite(self._space)):
            return self._told
        return min(self._told, grid_size(self._space))

    def propose(self, number: int, trials: Sequence[TrialRecord]) -> Proposal | None:
        """Values for the trial of that number; None when there is nothing left to try."""
        if number >= self.total:
            return None
        if self._job.search.kind == "grid":
            return Proposal(self._of_grid(number))
        tried = set() if self._may_repeat else {_key(trial.values) for trial in trials}
        return self._of_optuna(number, trials, tried)

    def importance(self, trials: Sequence[TrialRecord]) -> dict[str, dict[str, float]]:
        """Objective -> parameter -> its share in what decides whether a trial is in the better half (Optuna's
        PED-ANOVA); an objective of which too few trials say anything is left out."""
        found = {}
        for objective in self._objectives:
            shares = self._importance(objective, trials)
            if shares:
                found[objective.name] = shares
        return found

    # ---- a grid ------------------------------------------------------------------------------------------------------

    def _of_grid(self, number: int) -> dict[str, Any]:
        """In order; where there are not trials enough for all of it, a part of it by lot."""
        size = grid_size(self._space)
        if self.total == size:
            return combination(self._space, number)
        drawn = _lot(self._job.search.seed).sample(range(size), min(size, self.total))
        return combination(self._space, drawn[number % size])

    # ---- Optuna ------------------------------------------------------------------------------------------------------

    def _of_optuna(self, number: int, trials: Sequence[TrialRecord], tried: set[str]) -> Proposal:
        study = self._study(self._objectives, self._sampler(number), trials)
        distributions = {name: _distribution(parameter) for name, parameter in self._space.items()}
        for _ in range(MOST_ASKED):
            asked = study.ask(distributions)
            values = {name: _value(self._space[name], asked.params[name]) for name in self._space}
            if _key(values) not in tried:
                return Proposal(values, dict(study.trials[asked.number].system_attrs))
            study.tell(asked, state=_states().FAIL)
        return Proposal(self._untried(number, tried))

    def _untried(self, number: int, tried: set[str]) -> dict[str, Any]:
        """By lot; there is one, or `total` would have been reached."""
        size = grid_size(self._space)
        start = _lot(_seed(self._job.search.seed, number)).randrange(size)
        every = (combination(self._space, (start + further) % size) for further in range(size))
        return next(values for values in every if _key(values) not in tried)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        search = self._job.search
        seed = _seed(search.seed, number)
        if search.kind == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if search.kind == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(2, search.startup_trials))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Trials that still train count as bad ones, so that those beside them are not the same.
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.startup_trials, constant_liar=True)

    def _study(
        self,
        objectives: Sequence[Objective],
        sampler: optuna.samplers.BaseSampler | None,
        trials: Sequence[TrialRecord],
    ) -> optuna.Study:
        """Every trial as Optuna knows trials."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        ways = {"max": optuna.study.StudyDirection.MAXIMIZE, "min": optuna.study.StudyDirection.MINIMIZE}
        study = optuna.create_study(directions=[ways[objective.goal] for objective in objectives], sampler=sampler)
        reached = {trial.number: self._reached(trial, objectives) for trial in trials}
        worst = _worst(objectives, [reached[one.number] for one in trials if one.state in _COUNTED])
        for trial in sorted(trials, key=lambda one: one.number):
            state, values = self._told_of(trial, reached[trial.number], worst)
            course = self._course(trial, objectives) if len(objectives) == 1 and trial.state != "failed" else {}
            study.add_trial(self._shown(trial, state, values, course))
        return study

    def _told_of(
        self, trial: TrialRecord, reached: Sequence[float], worst: Sequence[float]
    ) -> tuple[Any, Sequence[float] | None]:
        """The state by Optuna's names, and the values that go with it."""
        states = _states()
        if not trial.is_over:
            return states.RUNNING, None
        # As long as no trial came to anything, none is worse than another, and the search goes on by chance.
        if trial.state == "lost" or not _are_known(worst):
            return states.FAIL, None
        if trial.has_whole_budget:
            return (states.COMPLETE, reached) if _are_known(reached) else (states.FAIL, None)
        if len(worst) == 1:
            # Of those it puts last who came least far: whoever could not be trained has no course at all.
            return states.PRUNED, None
        # With several objectives Optuna knows no stopped trials, only values; what is not known is as bad as can be.
        known = [math.isfinite(value) and trial.state != "failed" for value in reached]
        return states.COMPLETE, [reached[at] if known[at] else worst[at] for at in range(len(worst))]

    def _reached(self, trial: TrialRecord, objectives: Sequence[Objective]) -> list[float]:
        """Its figures at its end. What adds up over a training is little where that ended early, which is nothing good:
        it counts as it would have been after the whole budget."""
        values, budget = trial.objectives(objectives), self._job.budget
        share = 1.0 if trial.has_whole_budget else number(trial.last.get(budget.key)) / budget.amount
        whole = 1 / share if share > 0 else math.nan
        return [values[one.name] * whole if one.adds_up else values[one.name] for one in objectives]

    def _shown(
        self, trial: TrialRecord, state: Any, values: Sequence[float] | None, course: Mapping[int, float]
    ) -> optuna.trial.FrozenTrial:
        import optuna

        return optuna.trial.create_trial(
            state=state,
            values=values,
            params={name: _shown_value(self._space[name], trial.values[name]) for name in self._space},
            distributions={name: _distribution(parameter) for name, parameter in self._space.items()},
            system_attrs=dict(trial.search),
            intermediate_values=dict(course),
        )

    def _course(self, trial: TrialRecord, objectives: Sequence[Objective]) -> dict[int, float]:
        """A single objective over the judgements: how far a stopped trial had come, and how good it was there."""
        course = ((at, objectives[0].value(report)) for at, report in enumerate(trial.reports))
        return {at: value for at, value in course if math.isfinite(value)}

    def _importance(self, objective: Objective, trials: Sequence[TrialRecord]) -> dict[str, float]:
        import optuna

        whole = [trial for trial in trials if trial.has_whole_budget]
        study = self._study([objective], None, whole)
        told = [trial.values[0] for trial in study.get_trials(states=(_states().COMPLETE,))]
        if len(told) < FEWEST_TRIALS or len(set(told)) < 2:
            return {}
        # By default Optuna asks for the best tenth, which of a sweep's few dozen trials is one or two.
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        return {name: round(float(shares.get(name, 0.0)), 6) for name in self._space}


_COUNTED = ("done", "stopped", "data-bound")
"""What such a trial had come to says something of its values."""


def _worst(objectives: Sequence[Objective], reached: Sequence[Sequence[float]]) -> list[float]:
    """By objective the worst that any trial came to; NaN where nobody came to anything."""
    found = []
    for at, objective in enumerate(objectives):
        known = [values[at] for values in reached if math.isfinite(values[at])]
        found.append((min(known) if objective.goal == "max" else max(known)) if known else math.nan)
    return found


def _are_known(values: Sequence[float]) -> bool:
    return all(map(math.isfinite, values))


def _states() -> Any:
    import optuna

    return optuna.trial.TrialState


def _distribution(parameter: Parameter) -> optuna.distributions.BaseDistribution:
    import optuna

    if isinstance(parameter, FloatRange):
        return optuna.distributions.FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    if isinstance(parameter, IntRange):
        return optuna.distributions.IntDistribution(
            parameter.low, parameter.high, log=parameter.log, step=parameter.step
        )
    if isinstance(parameter, Variants):
        return optuna.distributions.CategoricalDistribution(tuple(parameter.variants))
    # Values may be lists; Optuna takes them by their text.
    return optuna.distributions.CategoricalDistribution(tuple(map(json.dumps, parameter.values)))


def _shown_value(parameter: Parameter, value: Any) -> Any:
    """As Optuna has it; a population may have left the range that a search draws from."""
    if isinstance(parameter, FloatRange | IntRange):
        return min(max(value, parameter.low), parameter.high)
    return value if isinstance(parameter, Variants) else json.dumps(value)


def _value(parameter: Parameter, shown: Any) -> Any:
    return shown if isinstance(parameter, FloatRange | IntRange | Variants) else json.loads(shown)


def _key(values: Mapping[str, Any]) -> str:
    """The same values, the same text."""
    return json.dumps(dict(values), sort_keys=True)


def _lot(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  # what is tried is no secret


def _seed(seed: int, number: int) -> int:
    """Another one for every proposal."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=4).digest(), "big")
