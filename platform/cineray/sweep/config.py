"""What a sweep was told: a base job, what may change, what counts, what each trial may spend. No torch, no Ray.

    SweepJob(
        name="sampling",
        base=train_job,
        space={"stride": Choice(field="recipe.sampling.stride", values=(1, 2, 4))},
        objectives=(ObjectiveSpec(name="skill"), ObjectiveSpec(name="clips_per_s")),
        budget=TrialBudget(seconds=600),
    )

Contradictions are refused here by the names of the fields; what only the base job and its data can tell (does the field
exist, is the value valid, are there clips) is checked by `space.check_space` before anything starts.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cineray.config import Config
from cineray.evaluate.config import EvaluateConfig
from cineray.plan import FrameSpec, Recipe, SamplingSpec
from cineray.sweep.parameters import Parameter, fields_of
from cineray.train.config import TrainJob

Unit = Literal["seconds", "cost", "clips", "steps"]
"""What a budget is counted in. Each is a key of every report of a trial."""


class ObjectiveSpec(Config):
    """Something that trials are chosen by."""

    name: str = Field(min_length=1)
    """`skill`, `noisiest_loss`, `clips_per_s`, `cost`, ...: a key of `objectives.OBJECTIVES`; or a metric of the
    validation (`validation/...`) or of the evaluation at the end (`evaluate/direction_accuracy`)."""
    goal: Literal["max", "min"] | None = None
    """None: as the objective is meant."""
    tolerance: float = Field(default=0.0, ge=0, lt=1)
    """`best` is chosen by the first objective; trials within this share of its best value count as equal, and the next
    objective decides between them."""


def report_key(unit: str) -> str:
    """What a unit is called in a trial's reports."""
    return "step" if unit == "steps" else unit


class TrialBudget(Config):
    """What each trial may spend, in one unit: so that a faster recipe gets more steps."""

    seconds: float | None = Field(default=None, gt=0)
    """Seconds of training: without start-up, checkpoints and judgements, with waiting for data."""
    cost: float | None = Field(default=None, gt=0)
    """Money, by `prices`: the same seconds, weighed with what the trial's machines cost."""
    clips: int | None = Field(default=None, ge=1)
    """Clips that it learns from."""
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps."""

    @model_validator(mode="after")
    def _one_unit(self) -> TrialBudget:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            told = " and ".join(given) or "nothing"
            raise ValueError(f"budget has {told}; wanted exactly one of seconds, cost, clips, steps")
        return self

    @property
    def unit(self) -> Unit:
        """Which of them is given."""
        units: tuple[Unit, ...] = ("seconds", "cost", "clips", "steps")
        return next(unit for unit in units if getattr(self, unit) is not None)

    @property
    def key(self) -> str:
        """What it is called in a trial's reports."""
        return report_key(self.unit)

    @property
    def amount(self) -> float:
        """How much of it."""
        return float(getattr(self, self.unit))


class SearchConfig(Config):
    """Who proposes values."""

    kind: Literal["grid", "random", "tpe", "nsga2"] = "tpe"
    """`grid`: every combination; `random`; `tpe`: Optuna's estimator, for one objective or several; `nsga2`: Optuna's
    genetic search, for several."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """With what the finished trials showed it decides every proposal."""
    startup_trials: int = Field(default=6, ge=1)
    """`tpe`: so many at random first. `nsga2`: the size of a generation."""


class Fifo(Config):
    """Every trial gets its whole budget."""

    kind: Literal["fifo"] = "fifo"


class _Comparing(Config):
    """Who compares trials while they train."""

    unit: Literal["budget", "seconds", "clips", "steps"] = "budget"
    """What trials are compared at; `budget`: in the budget's own unit."""
    longest: float | None = Field(default=None, gt=0)
    """The most that a trial can reach in `unit`; only for a unit that is not the budget's."""
    objective: str = ""
    """Compared by this one of the objectives; empty: the first that is known while training."""

    @model_validator(mode="after")
    def _with_an_end(self) -> _Comparing:
        if (self.unit == "budget") != (self.longest is None):
            told = "is given, which the budget says" if self.longest is not None else "is not given"
            raise ValueError(f"scheduler.unit is {self.unit} and scheduler.longest {told}; give both or neither")
        return self


class Asha(_Comparing):
    """Asynchronous successive halving: at each rung the worse part of the trials that got there ends."""

    kind: Literal["asha"] = "asha"
    first: float = Field(default=0.25, gt=0, lt=1)
    """The first rung, as a share of the whole."""
    reduction: float = Field(default=2.0, gt=1)
    """One in so many goes on; the next rung is so many times as far."""


class Median(_Comparing):
    """A trial ends when its best is worse than the median of the others' means at that time."""

    kind: Literal["median"] = "median"
    first: float = Field(default=0.25, gt=0, lt=1)
    """None ends before this share of the whole."""
    least_trials: int = Field(default=3, ge=2)
    """Nobody is compared with fewer."""


class Pbt(_Comparing):
    """Population-based training: worse trials go on from better ones' checkpoints, with values moved a little."""

    kind: Literal["pbt"] = "pbt"
    every: float = Field(default=0.25, gt=0, lt=1)
    """How often they are compared, as a share of the whole."""
    quantile: float = Field(default=0.25, gt=0, le=0.5)
    """The worst so many take over from the best so many."""
    resample: float = Field(default=0.25, ge=0, le=1)
    """The probability that a value is drawn anew and not moved."""
    explore: tuple[str, ...] = Field(min_length=1)
    """The parameters of the space that may change on the way: none that shapes the network."""


Scheduler = Annotated[Fifo | Asha | Median | Pbt, Field(discriminator="kind")]


class DataBoundConfig(Config):
    """Trials that mostly wait for data end early, and say so."""

    share: float | None = Field(default=None, gt=0, lt=1)
    """A trial ends when it waited for data for more than this share of its training; None: never."""
    after: float = Field(default=0.25, gt=0, lt=1)
    """Not before this share of its budget: the first steps always wait."""


class ShareConfig(Config):
    """What each trial gets of the cluster, so that trials side by side do not distort each other's figures."""

    decode_cpus: float | None = Field(default=None, gt=0)
    """Cores that decode for one trial; None: an even share of those that the trainers leave."""
    object_store_bytes: int | None = Field(default=None, ge=1)
    """What one trial may hold of decoded batches; None: an even share."""
    max_concurrent: int | None = Field(default=None, ge=1)
    """Trials at once; None: as many as fit."""


class JudgeConfig(Config):
    """What every trial is judged on, whatever it trains on: the same clips, asked for the same instants."""

    times: int = Field(default=4, ge=1)
    """Judgements per budget: the last one at its end, the others at about even parts of the way."""
    sampling: SamplingSpec | None = None
    """The instants that are asked for, in real time (`fps`); None: as the base job samples."""
    frame: FrameSpec | None = None
    """The pictures' size; None: as the base job has it."""
    clips: int | None = Field(default=None, ge=1)
    """How many; None: `validation.clips` of the base job."""
    recipe: Recipe | None = None
    """All of that in full. None: made of the base job, and written here in the sweep's record."""
    evaluate: EvaluateConfig | None = None
    """How finished trials are evaluated, for `evaluate/...` objectives and sample clips; None: not at all."""
    evaluate_cpus: float = Field(default=1.0, gt=0)
    """Cores that an evaluation gets."""
    evaluate_gpus: float = Field(default=0.0, ge=0)
    """GPUs that it gets."""


class NodePrice(Config):
    """A type of machine."""

    per_hour: float = Field(ge=0)
    """What one costs."""
    cpus: float = Field(gt=0)
    """Its cores."""
    gpus: float = Field(default=0.0, ge=0)
    """Its GPUs."""


class PricesConfig(Config):
    """What machines cost, by type."""

    currency: str = "USD"
    """Said beside every amount."""
    nodes: dict[str, NodePrice] = Field(min_length=1)
    """Name of the type -> its price and size."""
    train: str
    """The type that trains."""
    decode: str = ""
    """The type that decodes; empty: the one that trains."""

    @model_validator(mode="after")
    def _known(self) -> PricesConfig:
        for role, name in (("train", self.train), ("decode", self.decode or self.train)):
            if name not in self.nodes:
                raise ValueError(f"prices.{role} is {name!r}, which prices.nodes has not: {', '.join(self.nodes)}")
        return self


class FinalistsConfig(Config):
    """The best trials are measured again, each alone on the cluster: beside others throughput is not what it is."""

    most: int = Field(default=3, ge=0)
    """How many: of the Pareto set first, then those that come next; 0: none."""
    seconds: float = Field(default=30.0, gt=0)
    """How long each training is measured."""
    warmup_seconds: float = Field(default=15.0, ge=0)
    """How long it trains before that: while it compiles, and while its decoding processes start and fill the queues, it
    is slower than it will be. With few cores that takes longer."""
    repeats: int = Field(default=3, ge=1)
    """Trainings that each is measured in. By how much they differ the intervals are made: two leave them wide, and of
    one nobody can say it."""


class SweepJob(Config):
    """Many trainings, to choose one."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the sweep and its folder."""
    base: TrainJob
    """What all trials share. The budget says how long a trial is, and not its `steps`; so many have their latents made
    before, where trials end by the clock."""
    space: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")], Parameter] = Field(min_length=1)
    """Name of the parameter -> what it may be."""
    objectives: tuple[ObjectiveSpec, ...] = Field(min_length=1)
    """What trials are chosen by, the most important first."""
    budget: TrialBudget
    """What each trial may spend."""
    trials: int | None = Field(default=None, ge=1)
    """So many; there may be fewer combinations. None: of a grid all, else 16; which that is the sweep's record says. A
    grid that has more than it is given here is tried in part, which the result's notes say."""
    total_seconds: float | None = Field(default=None, gt=0)
    """No trial begins later than this after the sweep did; None: no limit. One that has begun gets its whole budget,
    and after the last one the finalists are measured."""
    search: SearchConfig = SearchConfig()
    """Who proposes."""
    scheduler: Scheduler = Fifo()
    """Who ends trials early."""
    data_bound: DataBoundConfig = DataBoundConfig()
    """Whether trials that wait for data end early."""
    share: ShareConfig = ShareConfig()
    """What each trial gets of the cluster."""
    judge: JudgeConfig = JudgeConfig()
    """What each trial is judged on."""
    prices: PricesConfig | None = None
    """What machines cost; without them there is no cost."""
    finalists: FinalistsConfig = FinalistsConfig()
    """Who is measured again."""
    failures: int = Field(default=2, ge=0)
    """So often a trial that failed by a machine is tried again, from its checkpoint."""
    retry_seconds: float = Field(default=30.0, ge=0)
    """How long such a trial waits first, and each further time twice as long: most outages pass."""
    keep: Literal["all", "finalists", "best"] = "finalists"
    """Whose checkpoints stay when the sweep is done."""
    quick: tuple[str, ...] = ()
    """What `cineray sweep --quick` lays over the job, as `--set` would."""
    sweeps: str = "sweeps"
    """The folder or object-store prefix that sweeps are made in."""

    @model_validator(mode="after")
    def _no_contradiction(self) -> SweepJob:
        names = [objective.name for objective in self.objectives]
        if len(set(names)) < len(names):
            raise ValueError(f"objectives are {', '.join(names)}; wanted each one once")
        self._check_space()
        self._check_scheduler()
        needs_prices = self.budget.unit == "cost" or any(name.startswith("cost") for name in names)
        if needs_prices and self.prices is None:
            raise ValueError("a cost is asked for, but prices is not given; say what the machines cost per hour")
        if self.search.kind == "nsga2" and len(names) < 2:
            raise ValueError("search.kind is nsga2, which needs several objectives; choose tpe, or add one")
        if any(name.startswith("evaluate/") for name in names) and self.judge.evaluate is None:
            raise ValueError("an objective is of the evaluation, but judge.evaluate is not given; set it ({} will do)")
        return self

    def _check_space(self) -> None:
        owner: dict[str, str] = {}
        for name, parameter in self.space.items():
            for field in sorted(fields_of(parameter)):
                if why := why_not_searched(field):
                    raise ValueError(f"space.{name} sets {field}; {why}")
                if other := next((kept for kept in owner if overlaps(kept, field)), None):
                    raise ValueError(
                        f"space.{name} sets {field} and space.{owner[other]} sets {other}, which is the same field or "
                        "a part of it; one parameter sets a field (variants set several together)"
                    )
            owner |= dict.fromkeys(fields_of(parameter), name)

    def _check_scheduler(self) -> None:
        scheduler = self.scheduler
        if isinstance(scheduler, Fifo):
            return
        names = [objective.name for objective in self.objectives]
        if scheduler.objective and scheduler.objective not in names:
            raise ValueError(f"scheduler.objective is {scheduler.objective}; wanted one of {', '.join(names)}")
        if isinstance(scheduler, Pbt):
            unknown = sorted(set(scheduler.explore) - set(self.space))
            if unknown:
                raise ValueError(f"scheduler.explore has {unknown[0]}, which is no parameter: {', '.join(self.space)}")
            shaping = [name for name in scheduler.explore if shapes_network(self.space[name])]
            if shaping:
                raise ValueError(
                    f"scheduler.explore has {shaping[0]}, which shapes the network: weights of another trial do not "
                    "fit into it. Leave it out; it keeps its value for the whole trial"
                )


NOT_SEARCHED: dict[str, str] = {
    "validation": "what trials are judged on is the same for all (judge)",
    "name": "trials are named by the sweep",
    "runs": "trials lie in the sweep's folder",
    "budget": "the budget is the same for all (budget)",
    "steps": "how long a trial is follows from the budget",
    "begin_from": "trials begin from nothing, or from each other (scheduler.kind=pbt)",
    "tracking": "who is told is the same for all",
    "feed.driver": "trials train under Ray",
    "recipe.datasets": "which videos there are is the same for all, or what judges one trial could train another; "
    "recipe.datasets.N.weight and recipe.datasets.N.balance may differ",
}
"""Field -> why a search may not change it, nor a part of it."""

_OF_A_DATASET = ("weight", "balance")
_OF_THE_NETWORK = ("model", "autoencoder", "classes", "text")


def why_not_searched(field: str) -> str:
    """Why a search may not change this field; empty: it may."""
    parts = field.split(".")
    if parts[:2] == ["recipe", "datasets"] and len(parts) == 4 and parts[3] in _OF_A_DATASET:
        return ""
    return next((why for fixed, why in NOT_SEARCHED.items() if overlaps(fixed, field)), "")


def overlaps(one: str, other: str) -> bool:
    """Is one field the other, or a part of it?"""
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def shapes_network(parameter: Parameter) -> bool:
    """Do weights that were learnt with one of its values not fit another?"""
    return any(field.split(".")[0] in _OF_THE_NETWORK for field in fields_of(parameter))


SWEEP_KINDS: dict[str, type[Config]] = {"sweep": SweepJob}
"""A sweep's sweep.yaml is written and read with these."""
