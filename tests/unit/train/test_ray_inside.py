"""Trainings under Ray that somebody else's actor starts, as a sweep's trials do: in a thread of it, told to stop by it.

One embedded Ray for all; the actor only starts, listens and stops, so it takes no cores.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cineray.diffusion import DiffusionConfig
from cineray.feed import FeedConfig
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models.configs import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.testing.events import until
from cineray.train.checkpoint_manifest import steps_in
from cineray.train.config import CheckpointConfig, OptimiserConfig, ParallelConfig, TrainJob, ValidationConfig
from cineray.train.run_folder import RunFolder

ray = pytest.importorskip("ray")
from cineray.telemetry.ray_session import connected  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.slow]
LONG = 120
"""Seconds within which anything happens on any machine; nothing waits for them to pass."""


@pytest.fixture(scope="module", autouse=True)
def embedded() -> Iterator[None]:
    with connected(num_cpus=3, object_store_memory=200 << 20):
        yield


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("ray-inside")
    make_shapes(folder / "videos", videos=8, frames=24, size_px=48)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


def job_of(lake: str, **told: Any) -> TrainJob:
    values: dict[str, Any] = {
        "name": "inside",
        "recipe": Recipe(
            datasets=(DatasetSpec(lake=lake, split=None),),
            sampling=SamplingSpec(mode="fps", fps="8", frames=4),
            frame=FrameSpec(height=16, width=16),
            batch_size=4,
        ),
        "feed": FeedConfig(driver="ray", workers=1),
        "steps": 1_000_000,
        "model": StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8)),
        "diffusion": DiffusionConfig(least_noise=0.2),
        "optimiser": OptimiserConfig(warmup_steps=2),
        "parallel": ParallelConfig(gpus_per_worker=0),
        "precision": "fp32",
        "validation": ValidationConfig(every_steps=1, clips=2, bins=2, held_out=0.2, baseline_clips=0),
        "checkpoint": CheckpointConfig(every_steps=None, keep_best=0),
    }
    return TrainJob(**(values | told))


def trial_in_an_actor() -> Any:
    """An actor with the run in a thread of its own; what its sinks hear can be asked for meanwhile."""

    class Trial:
        def __init__(self, job: TrainJob, uri: str) -> None:
            from cineray.train import ray_train
            from cineray.train.stop import StopRequest

            self.stop, self.judged, self.ended = StopRequest(), [], ""
            self._start, self._told = lambda **told: ray_train.run_on_ray(job, uri=uri, **told), None
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

        def _run(self) -> None:
            trial = self

            class Sink:
                def row(self, row: Any) -> None: ...

                def judged(self, step: int, metrics: Any) -> None:
                    trial.judged.append((step, dict(metrics)))

                def close(self, summary: Any) -> None: ...

            try:
                self._told = self._start(sinks=[Sink()], stop=self.stop)
            except BaseException as error:
                self.ended = f"{type(error).__name__}: {error}"

        def heard(self) -> list[Any]:
            return list(self.judged)

        def wish(self, reason: str) -> None:
            self.stop.wish(reason)

        def result(self) -> tuple[Any, str] | None:
            return None if self._thread.is_alive() else (self._told, self.ended)

    return ray.remote(num_cpus=0)(Trial)


def groups_left() -> list[str]:
    return [one["state"] for one in ray.util.placement_group_table().values() if one["state"] != "REMOVED"]


def test_every_judgement_is_heard_once_and_in_order_with_its_seconds(lake: str, tmp_path: Path) -> None:
    trial = trial_in_an_actor().remote(job_of(lake, steps=25), str(tmp_path / "run"))
    told, ended = until(lambda: ray.get(trial.result.remote()), "the end")
    assert (ended, told["step"]) == ("", 25)
    judged = ray.get(trial.heard.remote())
    assert [step for step, _ in judged] == list(range(1, 26))
    seconds = [metrics["training_seconds"] for _, metrics in judged]
    assert seconds == sorted(seconds)
    assert seconds[-1] == told["training_seconds"]
    noted = [one for one in RunFolder.open(told["run"]).events() if one["event"] == "validated"]
    assert [(one["step"], one["metrics"] | {"training_seconds": one["training_seconds"]}) for one in noted] == judged
    ray.kill(trial)
    assert until(lambda: not groups_left(), "the workers' room") is True


def test_a_thread_of_an_actor_is_told_to_stop_and_ends_with_a_checkpoint(lake: str, tmp_path: Path) -> None:
    trial = trial_in_an_actor().remote(job_of(lake), str(tmp_path / "run"))
    until(lambda: ray.get(trial.heard.remote()), "a judgement")
    ray.get(trial.wish.remote("the scheduler"))
    told, ended = until(lambda: ray.get(trial.result.remote()), "the end")
    assert told is None
    assert ended.startswith("Interrupted: stopped by the scheduler after step")
    (step,) = steps_in(str(tmp_path / "run" / "checkpoints"))
    assert f"the checkpoint of step {step} is saved" in ended
    assert until(lambda: not groups_left(), "the workers' room") is True, "while the actor lives"
    ray.kill(trial)


def test_a_run_that_waits_for_room_can_be_stopped_and_waits_no_more(lake: str, tmp_path: Path) -> None:
    nowhere = ParallelConfig(gpus_per_worker=0, labels={"place": "nowhere"})
    trial = trial_in_an_actor().remote(job_of(lake, parallel=nowhere), str(tmp_path / "run"))
    until(groups_left, "the request for room")
    ray.get(trial.wish.remote("the scheduler"))
    _, ended = until(lambda: ray.get(trial.result.remote()), "the end")
    assert ended.startswith("Interrupted: stopped by the scheduler while no worker was at work")
    assert until(lambda: not groups_left(), "the request to be taken back") is True, "while the actor lives"
    ray.kill(trial)
