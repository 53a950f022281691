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
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.tensor import DTensor

from cineray.train.config import ParallelConfig
from cineray.train.diffusion_task import DiffusionTask
from cineray.train.learner import Learner
from cineray.train.loop import Loop, StepFacts
from cineray.train.parallel import World
from cineray.train.setup import make_learner
from cineray.train.stop import StopRequest

_spec = importlib.util.spec_from_file_location("made", Path(__file__).with_name("made.py"))
assert _spec is not None
assert _spec.loader is not None
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


class Curve:
    """A recorder that keeps losses and lengths of gradients."""

    def __init__(self) -> None:
        self.facts: list[StepFacts] = []

    def phase(self, name: str) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    def add(self, name: str, seconds: float) -> None: ...

    def stepped(self, facts: StepFacts, batch: Any) -> None:
        self.facts.append(facts)

    def validated(self, step: int, metrics: Any) -> None: ...


def learnt(job: Any, world: World, **told: Any) -> tuple[Learner, Curve, Any]:
    task, curve = DiffusionTask(job), Curve()
    learner = make_learner(job, task, world)
    size = told.pop("size", 5)
    batches = lambda steps: made.made_batches(steps, rank=world.rank, world=world.size, size=size)  # noqa: E731
    result = Loop(job, task, learner, batches, world=world, recorder=curve, **told).run()
    return learner, curve, result


def curve(world: World, *, kind: str, **fields: Any) -> dict[str, Any]:
    """A whole run: its losses, the lengths of its gradients, this process's clips, and where its weights lie."""
    shards = {"shard_size": 2} if kind == "hsdp" else {}
    parallel = ParallelConfig(kind=kind, workers=world.size, **shards)  # type: ignore[arg-type]
    learner, kept, _ = learnt(made.job_of(parallel=parallel, **fields), world)
    placed = {str(weight.placements) for weight in learner.model.parameters() if isinstance(weight, DTensor)}
    return {
        "losses": [facts.loss for facts in kept.facts],
        "norms": [facts.grad_norm for facts in kept.facts],
        "own_clips": len(kept.facts[0].losses),
        "placed": sorted(placed),
    }


class OnDisk:
    """The plainest keeper: torch's distributed checkpoint in one folder."""

    def __init__(self, where: str) -> None:
        self.where = Path(where)

    def latest(self) -> Any:
        found = self.where / "step"
        return type("Saved", (), {"step": int(found.read_text())}) if found.exists() else None

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


KNOWN: dict[str, Callable[..., dict[str, Any]]] = {"curve": curve, "begun": begun, "wishes": wishes}


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
