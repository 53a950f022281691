"""One of several processes of a test: `together.py FOLDER JSON`, with RANK and WORLD_SIZE in the environment.

The JSON lists what to do, one after the other: {"what": "curve", "kind": "ddp", "steps": 50}. What comes of it goes to
FOLDER/<rank>.json, as a list.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.tensor import DTensor

from cineray.train.config import BudgetConfig, OptimiserConfig, ParallelConfig, ValidationConfig
from cineray.train.diffusion_task import DiffusionTask
from cineray.train.learner import Learner
from cineray.train.loop import Loop, NoRecord, StepFacts
from cineray.train.parallel import World, local
from cineray.train.setup import make_learner
from cineray.train.stop import StopRequest
from cineray.train.validation import FlowValidation

_spec = importlib.util.spec_from_file_location("made", Path(__file__).with_name("made.py"))
assert _spec is not None
assert _spec.loader is not None
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


class Curve(NoRecord):
    """A recorder that keeps losses and lengths of gradients; its process waits so long for each batch, and its clock
    says that each step takes so long."""

    def __init__(self, waits: float = 0.0, takes: float = 0.0) -> None:
        self.facts: list[StepFacts] = []
        self.judged: list[int] = []
        self.waits, self.takes = waits, takes

    def waiting(self) -> float:
        return self.waits

    def training_seconds(self) -> float:
        return self.takes * len(self.facts)

    def stepped(self, facts: StepFacts, batch: Any) -> None:
        self.facts.append(facts)

    def validated(self, step: int, metrics: Any) -> None:
        self.judged.append(step)


def learnt(job: Any, world: World, **told: Any) -> tuple[Learner, Curve, Any]:
    fixed = lambda rank, size: made.made_batches(range(1), rank=rank, world=size, size=5)  # noqa: E731
    validation = FlowValidation(fixed, bins=2, world=world) if job.validation.every_steps else None
    task, curve = DiffusionTask(job, validation=validation), Curve(waits=10.0 + world.rank)
    learner = make_learner(job, task, world)
    size = told.pop("size", 5)
    batches = lambda steps: made.made_batches(steps, rank=world.rank, world=world.size, size=size)  # noqa: E731
    result = Loop(job, task, learner, batches, world=world, recorder=curve, **told).run()
    return learner, curve, result


def curve(world: World, *, kind: str, judged: bool = False, **fields: Any) -> dict[str, Any]:
    """A whole run: its losses, the lengths of its gradients, this process's clips, and where its weights lie. `judged`:
    the average of the weights is judged after every other step."""
    if judged:
        fields |= {"validation": ValidationConfig(every_steps=2, clips=5, bins=2)}
    shards = {"shard_size": 2} if kind == "hsdp" else {}
    parallel = ParallelConfig(kind=kind, workers=world.size, **shards)  # type: ignore[arg-type]
    learner, kept, _ = learnt(made.job_of(parallel=parallel, **fields), world)
    placed = {str(weight.placements) for weight in learner.model.parameters() if isinstance(weight, DTensor)}
    return {
        "losses": [facts.loss for facts in kept.facts],
        "norms": [facts.grad_norm for facts in kept.facts],
        "own_clips": len(kept.facts[0].losses),
        "placed": sorted(placed),
        "longest_wait": [kept.facts[0].longest_wait_s, kept.facts[0].longest_wait_rank],
    }


def shares(world: World, *, kind: str) -> dict[str, Any]:
    """A learner is made: was the model moved as a whole, and what does this process hold of its weights then?"""
    job = made.job_of(parallel=ParallelConfig(kind=kind, workers=world.size))  # type: ignore[arg-type]
    task, moved = DiffusionTask(job), []
    model = task.build()
    whole, named = sum(weight.nbytes for weight in model.parameters()), list(model.parameters())

    def moves(device: torch.device) -> Any:
        moved.append(str(device))
        return model

    model.to = moves  # type: ignore[assignment,method-assign]
    task.build = lambda: model  # type: ignore[method-assign]
    learner = make_learner(job, task, world)
    own = sum(local(weight).nbytes for weight in learner.model.parameters())
    held = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in named}
    return {"whole": whole, "own": own, "moved": moved, "still_held_whole": sum(held.values())}


class OnDisk:
    """The plainest keeper: torch's distributed checkpoint in one folder."""

    def __init__(self, where: str) -> None:
        self.where = Path(where)

    def latest(self) -> Any:
        found = self.where / "step"
        return SimpleNamespace(step=int(found.read_text()), metrics={}) if found.exists() else None

    def load(self, state: dict[str, Any], info: Any) -> None:
        dcp.load(state, checkpoint_id=self.where)

    def save(self, state: Any, step: int, metrics: Any = None, *, blocking: bool = False) -> float:
        dcp.save(state, checkpoint_id=self.where)
        (self.where / "step").write_text(str(step))
        return 0.0

    def poll(self) -> None: ...


def begun(world: World, *, kind: str, where: str, stop_after: int, steps: int) -> dict[str, Any]:
    """A run that goes on from what lies at `where`, and leaves there how far it came."""
    stop, size = StopRequest(), world.size

    def batches(todo: range) -> Any:
        for batch in made.made_batches(todo, rank=world.rank, world=size):
            if batch.step + 1 == stop_after:
                stop.wish("enough")
            yield batch

    job = made.job_of(parallel=ParallelConfig(kind=kind, workers=size), steps=steps)  # type: ignore[arg-type]
    task, curve = DiffusionTask(job), Curve()
    learner = make_learner(job, task, world)
    Loop(job, task, learner, batches, world=world, keeper=OnDisk(where), recorder=curve, stop=stop).run()
    average = learner.state()["ema"]["net.layers.0.attention.out.weight"]
    whole = average.full_tensor() if isinstance(average, DTensor) else average
    return {
        "steps": [facts.step for facts in curve.facts],
        "losses": [facts.loss for facts in curve.facts],
        "average": float(whole.double().norm()),
    }


def wishes(world: World) -> dict[str, Any]:
    """Only the last process is told to stop, after its third step."""
    stop = StopRequest()

    def batches(steps: range) -> Any:
        for batch in made.made_batches(steps, rank=world.rank, world=world.size):
            if world.rank == world.size - 1 and batch.step == 2:
                stop.wish("SIGTERM")
            yield batch

    job = made.job_of(steps=50)
    task = DiffusionTask(job)
    result = Loop(job, task, make_learner(job, task, world), batches, world=world, stop=stop).run()
    return {"next_step": result.next_step, "stopped": result.stopped}


def timed(world: World) -> dict[str, Any]:
    """A run of ten seconds, judged every three. The clocks of its processes disagree: the first says 1 s a step."""
    job = made.job_of(
        steps=1000,
        budget=BudgetConfig(seconds=10),
        optimiser=OptimiserConfig(kind="adamw", warmup_steps=3),
        validation=ValidationConfig(every_steps=0, every_seconds=3, clips=5, bins=2),
    )
    fixed = lambda rank, size: made.made_batches(range(1), rank=rank, world=size, size=5)  # noqa: E731
    batches = lambda steps: made.made_batches(steps, rank=world.rank, world=world.size)  # noqa: E731
    task = DiffusionTask(job, validation=FlowValidation(fixed, bins=2, world=world))
    clock = Curve(takes=1.0 + 50.0 * world.rank)
    result = Loop(job, task, make_learner(job, task, world), batches, world=world, recorder=clock).run()
    return {"next_step": result.next_step, "judged": clock.judged, "rates": [facts.lr for facts in clock.facts]}


KNOWN: dict[str, Callable[..., dict[str, Any]]] = {
    "curve": curve,
    "begun": begun,
    "shares": shares,
    "wishes": wishes,
    "timed": timed,
}


def main() -> None:
    folder, asked = sys.argv[1:]
    torch.set_num_threads(1)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    world = World.here(torch.device("cpu"))
    found = [KNOWN[one.pop("what")](world, **one) for one in json.loads(asked)]
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
