"""Sweeps whose trials are ended or killed, and whose driver is: nothing of them stays in Ray, and the sweep goes on.

Every trial here is a whole training under Ray Train, nested in an actor of Tune's, on a Ray that outlives its drivers:
what they left behind would still be there. A driver is a process of its own, `cineray sweep`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cineray.config import job_to_yaml
from cineray.diffusion import DiffusionConfig
from cineray.feed import FeedConfig
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models.configs import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.sweep import (
    SWEEP_KINDS,
    Choice,
    DataBoundConfig,
    FinalistsConfig,
    JudgeConfig,
    ObjectiveSpec,
    SearchConfig,
    SweepFolder,
    SweepJob,
    TrialBudget,
)
from cineray.testing import make_shapes
from cineray.testing.events import until
from cineray.testing.fault_table import Fault
from cineray.train import OptimiserConfig, RunFolder, TrainJob, ValidationConfig
from cineray.train.checkpoint_manifest import steps_in
from cineray.train.ledger import read_all_rows

pytest.importorskip("ray")
import ray
from ray._private.state import state as global_state
from ray.cluster_utils import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1200)]
LONG = 500
"""Seconds within which anything happens on any machine; nothing waits for them to pass."""
CPUS = 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray that this process looks into, too."""
    head = {"num_cpus": CPUS, "object_store_memory": 200_000_000, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=made.address, log_to_driver=False)
    yield made.address
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sweep-kill")
    make_shapes(folder / "videos", videos=12, size_px=32)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


def sweep_job(lake: str, *rates: float, steps: int, **told: Any) -> SweepJob:
    """A trial for each learning rate, of so many steps of some milliseconds, judged three times."""
    base = TrainJob(
        name="base",
        recipe=Recipe(
            datasets=(DatasetSpec(lake=lake, split=None),),
            sampling=SamplingSpec(mode="stride", frames=4),
            frame=FrameSpec(height=16, width=16),
            batch_size=4,
        ),
        feed=FeedConfig(driver="ray"),
        steps=steps,
        classes="data",
        model=StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8)),
        diffusion=DiffusionConfig(least_noise=0.2),
        optimiser=OptimiserConfig(warmup_steps=2),
        precision="fp32",
        validation=ValidationConfig(clips=8, bins=4, held_out=0.2, baseline_clips=0),
    )
    values: dict[str, Any] = {
        "name": "kill",
        "base": base,
        "space": {"lr": Choice(field="optimiser.lr", values=rates)},
        "objectives": (ObjectiveSpec(name="noisiest_loss"),),
        "budget": TrialBudget(steps=steps),
        "judge": JudgeConfig(times=3),
        "retry_seconds": 0,
        "search": SearchConfig(kind="grid"),
        "finalists": FinalistsConfig(most=1, seconds=1, warmup_seconds=0.2, repeats=1),
    }
    return SweepJob(**(values | told))


def start(job: str, folder: Path, address: str) -> subprocess.Popen[str]:
    """A driver."""
    words = ["sweep", job, *(["--sweep", str(folder)] if job != str(folder) else []), "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "cineray", *words],
        env=os.environ | {"RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def trial_actors() -> list[int]:
    """The processes of Tune's actors that live."""
    actors = global_state.actor_table(None).values()
    return [one["Pid"] for one in actors if "Trainable" in one["ActorClassName"] and one["State"] == "ALIVE"]


def nothing_is_held() -> bool:
    """No placement group, no core."""
    groups = global_state.placement_group_table().values()
    return all(group["state"] == "REMOVED" for group in groups) and ray.available_resources().get("CPU") == CPUS


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    return [one for one in SweepFolder.open(str(folder)).events() if one["event"] == name]


def reports(folder: Path, number: int) -> list[dict[str, Any]]:
    sweep = SweepFolder.open(str(folder))
    return sweep.trial(number).reports() if len(sweep.trials()) > number else []


@pytest.mark.fault(
    cause="a trial of a sweep is killed, and then the sweep's driver",
    happens="the trial is tried again; the next driver goes on with it, and Ray keeps nothing of the first",
    long=True,
)
def test_a_killed_trial_is_tried_again_and_a_killed_driver_gone_on_with(
    cluster: str, lake: str, tmp_path: Path, fault: Fault
) -> None:
    folder, job = tmp_path / "sweep", tmp_path / "job.yaml"
    job.write_text(job_to_yaml(sweep_job(lake, 1e-3, 2e-3, steps=150), SWEEP_KINDS))
    driver = start(str(job), folder, cluster)
    until(lambda: (folder / "sweep.json").exists() and reports(folder, 0), "the first judgement of trial 0")

    (pid,) = trial_actors()
    fault.strikes()
    os.kill(pid, signal.SIGKILL)
    (retry,) = until(lambda: events(folder, "retry"), "another try of trial 0")
    assert retry["trial"] == 0
    until(lambda: [pid] != trial_actors() and trial_actors(), "its actor")
    fault.over()
    fault.strikes()
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate(timeout=LONG)
    until(nothing_is_held, "Ray to free what the killed driver's trials held")

    driver = start(str(folder), folder, cluster)
    until(trial_actors, "the trial's next actor")
    fault.over()
    out, err = driver.communicate(timeout=LONG)
    assert driver.returncode == 0, err[-5000:]
    result = json.loads(out)
    assert [(trial["number"], trial["state"], trial["step"]) for trial in result["trials"]] == [
        (0, "done", 150),
        (1, "done", 150),
    ]
    assert [trial["number"] for trial in result["trials"] if trial["alone"]] == [result["best"]]
    assert result["leaks"] == {"placement_groups": 0, "actors": 0, "store_bytes": 0, "disk_bytes": 0}
    until(nothing_is_held, "the cores of the last trial")
    assert not (folder / "tune").exists()
    asked = [(event["driver"], event["trial"]) for event in events(folder, "asked")]
    assert asked == [(1, 0), (2, 0), (2, 1)]
    run = RunFolder.open(SweepFolder.open(str(folder)).trial(0).run_uri())
    rows = list(read_all_rows(run.folder("ledger")))
    attempts = {row["attempt"] for row in rows}
    assert len(attempts) >= 2
    fault.same("steps", found={row["step"] for row in rows}, expected=range(150))
    begun_at = {attempt: min(row["step"] for row in rows if row["attempt"] == attempt) for attempt in attempts}
    assert begun_at[1] == 0
    assert all(step >= 50 for attempt, step in begun_at.items() if attempt > 1), "from the checkpoint of a judgement"


@pytest.mark.fault(
    cause="a trial of a sweep is ended early, in the middle of its training",
    happens="it saves and ends in order; Ray has all of its cores again",
)
def test_a_trial_that_is_ended_early_leaves_nothing_behind(
    cluster: str, lake: str, tmp_path: Path, fault: Fault
) -> None:
    from cineray.sweep.ray_sweep import run_sweep

    told = {"judge": JudgeConfig(times=3000), "data_bound": DataBoundConfig(share=1e-9, after=1e-4), "keep": "all"}
    job = sweep_job(lake, 1e-3, steps=30_000, **told)
    result = run_sweep(job, uri=str(tmp_path / "sweep"), address=cluster)
    (trial,) = result["trials"]
    assert (trial["state"], result["best"]) == ("data-bound", None)
    assert "which is more than data_bound.share=0%" in trial["why"]
    assert result["leaks"] == {"placement_groups": 0, "actors": 0, "store_bytes": 0, "disk_bytes": 0}
    with fault.hit():
        until(nothing_is_held, "its cores")
    run = RunFolder.open(str(tmp_path / "sweep" / trial["run"]))
    assert [event["reason"] for event in run.events() if event["event"] == "end"] == ["interrupted"], "in order"
    steps = [row["step"] for row in read_all_rows(run.folder("ledger"))]
    fault.same("steps", found=steps, expected=range(max(steps) + 1))
    assert max(steps) < 20_000
    assert 1 <= len(steps_in(run.folder("checkpoints"))) <= 4, "it saved, and on the way tidied up after itself"


@pytest.mark.fault(
    cause="a trial's own values make its loss no number, in the middle of its training",
    happens="it is marked and not tried again; Ray has all of its cores again, and the next trial trains",
)
def test_a_trial_that_fails_by_its_values_is_marked_and_leaves_nothing_behind(
    cluster: str, lake: str, tmp_path: Path, fault: Fault
) -> None:
    """Its workers train until the loss is no number; the other trial has the whole cluster after it."""
    from cineray.sweep.ray_sweep import run_sweep

    uri = str(tmp_path / "sweep")
    result = run_sweep(
        sweep_job(lake, 1e30, 1e-3, steps=60, finalists=FinalistsConfig(most=0)), uri=uri, address=cluster
    )
    states = {trial["values"]["lr"]: trial["state"] for trial in result["trials"]}
    assert states == {1e30: "failed", 1e-3: "done"}
    (failed,) = [trial for trial in result["trials"] if trial["state"] == "failed"]
    run = RunFolder.open(f"{uri}/{failed['run']}")
    assert list(read_all_rows(run.folder("ledger"))), "it did train"
    assert "loss" in failed["why"]
    assert len(events(tmp_path / "sweep", "retry")) == 0, "another machine would not help"
    assert result["leaks"] == {"placement_groups": 0, "actors": 0, "store_bytes": 0, "disk_bytes": 0}
    with fault.hit():
        until(nothing_is_held, "its cores")
    done = RunFolder.open(f"{uri}/trials/0001/run")
    fault.same("steps", found=[row["step"] for row in read_all_rows(done.folder("ledger"))], expected=range(60))
