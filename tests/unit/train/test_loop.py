"""The loop: where it begins, when it judges and saves, how it ends, and what it says of each step."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import signal
from collections.abc import Mapping
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from cineray.errors import FeedOrderError, TooManySubstitutions
from cineray.records import Substitution
from cineray.train.config import CheckpointConfig, OptimiserConfig, ValidationConfig
from cineray.train.diffusion_task import DiffusionTask
from cineray.train.loop import Loop, NoRecord, StepFacts, TrainResult
from cineray.train.parallel import World
from cineray.train.setup import make_learner
from cineray.train.stop import StopRequest, stopping_by_signals


class Shelf:
    """Checkpoints in memory."""

    def __init__(self) -> None:
        self.saved: dict[int, dict[str, Any]] = {}
        self.metrics: dict[int, dict[str, float]] = {}

    def latest(self) -> Any:
        step = max(self.saved, default=0)
        return SimpleNamespace(step=step, metrics=self.metrics[step]) if step else None

    def load(self, state: dict[str, Any], info: Any) -> None:
        state.clear()
        state.update(copy.deepcopy(self.saved[info.step]))

    def save(
        self, state: Mapping[str, Any], step: int, metrics: Mapping[str, float] | None = None, *, blocking: bool = False
    ) -> float:
        self.saved[step] = copy.deepcopy(dict(state))
        self.metrics[step] = dict(metrics or {})
        return 0.0

    def poll(self) -> None: ...


class Diary(NoRecord):
    def __init__(self) -> None:
        self.facts: list[StepFacts] = []
        self.phases: list[str] = []
        self.judged: list[tuple[int, dict[str, float]]] = []

    @contextmanager
    def phase(self, name: str) -> Any:
        self.phases.append(name)
        yield

    def stepped(self, facts: StepFacts, batch: Any) -> None:
        self.facts.append(facts)

    def validated(self, step: int, metrics: Mapping[str, float]) -> None:
        self.judged.append((step, dict(metrics)))


class Judge:
    """A validation that tells which weights it saw."""

    def measure(self, task: DiffusionTask, model: torch.nn.Module, step: int) -> dict[str, float]:
        return {"seen": float(next(model.parameters()).sum()), "training": float(model.training)}


@pytest.fixture
def run(made: ModuleType) -> Any:
    def start(job: Any, *, batches: Any = None, **told: Any) -> tuple[TrainResult, Loop]:
        task = DiffusionTask(job, validation=told.pop("validation", None))
        loop = Loop(job, task, make_learner(job, task, World()), batches or made.made_batches, world=World(), **told)
        return loop.run(), loop

    return start


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(made: ModuleType, run: Any) -> None:
    whole, parts, shelf = Diary(), Diary(), Shelf()
    job = made.job_of(steps=12, micro_batch=2, checkpoint=CheckpointConfig(every_steps=5))
    _, undisturbed = run(job, recorder=whole)
    stop = StopRequest()

    def until_seven(steps: range) -> Any:
        for batch in made.made_batches(steps):
            if batch.step == 7:
                stop.wish("enough")
            yield batch

    first, _ = run(job, recorder=parts, keeper=shelf, stop=stop, batches=until_seven)
    assert (first.next_step, first.stopped) == (8, "enough")
    assert sorted(shelf.saved) == [5, 8]
    del shelf.saved[8]  # as after a kill: it has to go back to step 5
    second, _ = run(job, recorder=parts, keeper=shelf)
    assert (second.first_step, second.next_step, second.stopped) == (5, 12, "")
    steps = [facts.step for facts in parts.facts]
    assert steps == [*range(8), *range(5, 12)]
    assert [facts.loss for facts in parts.facts[8:]] == [facts.loss for facts in whole.facts[5:]]
    assert [facts.loss for facts in parts.facts[:8]] == [facts.loss for facts in whole.facts[:8]]
    for kept in ("model", "ema"):
        weights = undisturbed.learner.state()[kept]
        assert all(torch.equal(value, shelf.saved[12][kept][name]) for name, value in weights.items())


def test_a_run_that_is_done_does_nothing_more(made: ModuleType, run: Any) -> None:
    shelf = Shelf()
    job = made.job_of(steps=2)
    run(job, keeper=shelf)
    again, _ = run(job, keeper=shelf, batches=lambda steps: iter(()))
    assert (again.first_step, again.next_step, sorted(shelf.saved)) == (2, 2, [2])


def test_it_judges_the_average_at_its_times_and_at_the_end_and_trains_on_unharmed(made: ModuleType, run: Any) -> None:
    diary, shelf, undisturbed = Diary(), Shelf(), Diary()
    fields = {"steps": 7, "checkpoint": CheckpointConfig(every_steps=4)}
    job = made.job_of(validation=ValidationConfig(every_steps=3), **fields)
    result, loop = run(job, recorder=diary, keeper=shelf, validation=Judge())
    assert [step for step, _ in diary.judged] == [3, 6, 7]
    assert "seen" not in shelf.metrics[4], "those weights were not judged"
    assert result.metrics == diary.judged[-1][1]
    assert {metrics["training"] for _, metrics in diary.judged} == {0.0}
    name = next(name for name, _ in loop.learner.model.named_parameters())
    assert result.metrics["seen"] == float(shelf.saved[7]["ema"][name].sum())
    assert result.metrics["seen"] != float(shelf.saved[7]["model"][name].sum())
    assert shelf.metrics[7]["seen"] == result.metrics["seen"]
    run(made.job_of(**fields), recorder=undisturbed)
    assert [facts.loss for facts in diary.facts] == [facts.loss for facts in undisturbed.facts]


def test_what_was_judged_by_the_metric_that_ranks_is_saved_too(made: ModuleType, run: Any) -> None:
    rule, shelf = CheckpointConfig(every_steps=None, best_metric="seen"), Shelf()
    run(
        made.job_of(steps=5, validation=ValidationConfig(every_steps=2), checkpoint=rule),
        keeper=shelf,
        validation=Judge(),
    )
    assert sorted(shelf.saved) == [2, 4, 5]
    assert all("seen" in shelf.metrics[step] for step in (2, 4, 5))


def test_how_the_optimiser_is_set_is_the_jobs_to_say_when_a_run_goes_on(made: ModuleType, run: Any) -> None:
    shelf = Shelf()
    first = {"kind": "adamw", "weight_decay": 0.1, "betas": (0.9, 0.95)}
    run(made.job_of(steps=1, optimiser=OptimiserConfig(**first)), keeper=shelf)
    again = OptimiserConfig(**first | {"weight_decay": 0.5, "betas": (0.8, 0.9)})
    _, loop = run(made.job_of(steps=2, optimiser=again), keeper=shelf)
    groups = [group for optimiser in loop.learner.optimisers for group in optimiser.param_groups]
    assert max(group["weight_decay"] for group in groups) == 0.5
    assert {tuple(group["betas"]) for group in groups} == {(0.8, 0.9)}


def test_phases_come_in_turn_and_never_within_each_other(made: ModuleType, run: Any) -> None:
    diary = Diary()
    run(
        made.job_of(steps=2, validation=ValidationConfig(every_steps=1), checkpoint=CheckpointConfig(every_steps=1)),
        recorder=diary,
        keeper=Shelf(),
        validation=Judge(),
    )
    step = ["data_wait", "compute", "validation", "checkpoint"]
    assert diary.phases == step + step


def test_a_step_says_what_was_learnt_and_from_how_much(made: ModuleType, run: Any) -> None:
    diary = Diary()
    _, loop = run(made.job_of(steps=1), recorder=diary, batches=lambda steps: made.made_batches(steps, padded=1))
    (facts,) = diary.facts
    assert (facts.step, facts.epoch, facts.clips, facts.frames, facts.frames_decoded) == (0, 0, 5, 15, 20)
    assert facts.tokens == 5 * 4 * 2 * 2
    assert facts.forward_flops == 5 * loop.learner.model.net.forward_flops((3, 4, 16, 16))
    assert facts.padding_fraction == pytest.approx(0.25)
    assert len(facts.losses) == 5
    assert facts.loss == pytest.approx(sum(facts.losses) / 5)
    assert facts.grad_norm > 0
    assert facts.lr == pytest.approx(2e-3 / 2)  # a run of one step is all warm-up


def test_a_feed_that_ends_early_or_leaves_out_a_step_ends_the_run(made: ModuleType, run: Any) -> None:
    with pytest.raises(FeedOrderError, match="step 2 was due and the feed had no further one"):
        run(made.job_of(steps=5), batches=lambda steps: made.made_batches(range(2)))
    with pytest.raises(FeedOrderError, match="step 1 was due and the feed had step 2"):
        run(made.job_of(steps=5), batches=lambda steps: made.made_batches(range(0, 5, 2)))


def test_nothing_is_saved_after_a_step_that_the_recorder_refuses(made: ModuleType, run: Any) -> None:
    class Refuses(NoRecord):
        def stepped(self, facts: StepFacts, batch: Any) -> None:
            if not math.isfinite(facts.loss):
                raise ArithmeticError(facts.step)

    def broken(steps: range) -> Any:
        for batch in made.made_batches(steps):
            if batch.step == 3:
                batch.seconds_BT[2] = math.nan
            yield batch

    shelf = Shelf()
    with pytest.raises(ArithmeticError, match="3"):
        run(
            made.job_of(steps=6, checkpoint=CheckpointConfig(every_steps=2)),
            recorder=Refuses(),
            keeper=shelf,
            batches=broken,
        )
    assert sorted(shelf.saved) == [2]


def test_too_many_substitutes_end_the_run(made: ModuleType, run: Any) -> None:
    """One in five of each step is replaced; one in a hundred may be."""

    def replaced(steps: range) -> Any:
        for batch in made.made_batches(steps):
            stands_in = Substitution(
                step=batch.step, slot=0, wanted_clip_id="a", used_clip_id="b", reason="truncated", detail="ends early"
            )
            yield dataclasses.replace(batch, substitutions=(stands_in,))

    recipe = made.job_of().recipe.model_copy(update={"max_substituted_fraction": 0.01})
    diary = Diary()
    with pytest.raises(TooManySubstitutions, match=r"6 of 30 clips .* allows 5 in 100 steps"):
        run(made.job_of(steps=50, recipe=recipe), recorder=diary, batches=replaced)
    assert len(diary.facts) == 6


def test_a_wish_for_a_checkpoint_is_granted_once(made: ModuleType, run: Any) -> None:
    stop, shelf = StopRequest(), Shelf()

    def wishing(steps: range) -> Any:
        for batch in made.made_batches(steps):
            if batch.step == 1:
                stop.wish_checkpoint()
            yield batch

    run(made.job_of(steps=5), stop=stop, keeper=shelf, batches=wishing)
    assert sorted(shelf.saved) == [2, 5]


def test_time_alone_can_make_a_checkpoint_due(made: ModuleType, run: Any) -> None:
    shelf = Shelf()
    run(made.job_of(steps=3, checkpoint=CheckpointConfig(every_steps=None, every_seconds=1e-6)), keeper=shelf)
    assert sorted(shelf.saved) == [1, 2, 3]


def test_a_first_signal_is_a_wish_and_a_second_one_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stopping_by_signals(StopRequest()) as request:
        os.kill(os.getpid(), signal.SIGINT)
        assert request.reason == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_first_batch_says_mean_and_spread_once_in_a_runs_life(made: ModuleType, run: Any) -> None:
    shelf = Shelf()
    _, loop = run(made.job_of(steps=2), keeper=shelf)
    frames = torch.from_numpy(made.made_batch(0).frames_BTHWC).double() / 127.5 - 1
    model = loop.learner.model
    assert torch.allclose(model.data_mean_C.double(), frames.mean((0, 1, 2, 3)), atol=1e-6)
    assert torch.allclose(model.data_sd_C.double(), frames.std((0, 1, 2, 3), correction=0), atol=1e-6)
    _, resumed = run(made.job_of(steps=4), keeper=shelf, batches=lambda steps: made.made_batches(steps, seed=9))
    assert torch.equal(resumed.learner.model.data_mean_C, model.data_mean_C)


def test_a_short_run_learns_something(made: ModuleType, run: Any) -> None:
    from cineray.train.validation import FlowValidation

    judge = FlowValidation(lambda rank, world: made.made_batches(range(3), size=16, seed=9), bins=4, world=World())
    diary = Diary()
    run(
        made.job_of(steps=120, validation=ValidationConfig(every_steps=10)),
        recorder=diary,
        validation=judge,
        batches=lambda steps: made.made_batches(steps, size=8),
    )
    first, last = diary.judged[0][1], diary.judged[-1][1]
    assert last["validation/headline"] < 0.9 * first["validation/headline"]
    assert last["validation/loss"] < 0.6 * first["validation/loss"]
