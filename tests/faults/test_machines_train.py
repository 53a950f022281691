"""Training machines that are taken back, and a head that dies: each step has the batch and the loss it would have had.

A head that remembers, one decode node and one training node on machines of their own (namespaces with addresses, disks
and shared memory; see cineray/testing/clusters/machines.py), started and kept as in cluster/vm, with the settings of
cluster/. Workers meet what a test lays in their way (train_driver.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cineray.batch.digest import slot_digest
from cineray.config import job_to_yaml
from cineray.feed import FeedConfig, local_batches
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models.configs import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.testing.clusters.machine_cluster import WATCH_LOG, MachineCluster, ray_settings
from cineray.testing.clusters.machines import Machine, Network, machines_missing
from cineray.testing.events import until
from cineray.testing.fault_table import Fault
from cineray.train.config import (
    CheckpointConfig,
    LimitsConfig,
    OptimiserConfig,
    ParallelConfig,
    TrainJob,
    ValidationConfig,
)
from cineray.train.job_kinds import JOB_KINDS
from cineray.train.ledger import last_of_each_step, read_all_rows
from cineray.train.run_folder import RunFolder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(machines_missing() is not None, reason=machines_missing() or ""),
]
STEPS, BATCH = 14, 4
LONG = 500
"""Seconds within which anything happens on any machine; nothing waits for them to pass."""
DRIVER = Path(__file__).with_name("train_driver.py")
SETTINGS = Path(__file__).parents[2] / "cluster" / "kuberay" / "base" / "ray-env.yaml"
ACCELERATOR = {"accelerator": 1}
"""Of which one machine has one; the trainer takes it."""
OF_RAY = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5"}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("machines-train")
    make_shapes(folder / "videos", videos=12, size_px=32)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


@pytest.fixture(scope="module")
def cluster() -> Iterator[MachineCluster]:
    with Network() as network, MachineCluster(network, settings=ray_settings(SETTINGS)) as made:
        decode = {"name": "decode", "labels": {"ray-subcluster": "decode"}}
        train = {"name": "train", "resources": ACCELERATOR, "watched": True}
        made.add_nodes(decode, train)
        yield made


@pytest.fixture
def train(cluster: MachineCluster) -> Iterator[Machine]:
    """The machine with the accelerator; it is there again after each test."""
    (machine,) = (one for one in cluster.network.machines if one.name == "train")
    yield machine
    if not machine.is_on:
        machine.boot()
        cluster.start_node(machine)


def job_of(lake: str) -> TrainJob:
    return TrainJob(
        name="faults",
        recipe=Recipe(
            datasets=(DatasetSpec(lake=lake, split=None),),
            sampling=SamplingSpec(mode="random", frames=4, stride=2),
            frame=FrameSpec(height=16, width=16),
            batch_size=BATCH,
            clips_per_visit=2,
        ),
        seed=3,
        feed=FeedConfig(driver="ray", decode_subcluster="decode"),
        steps=STEPS,
        model=StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8), modulation_std=0.02),
        optimiser=OptimiserConfig(warmup_steps=3),
        precision="fp32",
        validation=ValidationConfig(every_steps=0),
        checkpoint=CheckpointConfig(every_steps=5, asynchronous=False),
        parallel=ParallelConfig(workers=1),
        limits=LimitsConfig(failures_without_progress=1),
    )


class Training:
    """A run, and the driver that is at it now."""

    def __init__(self, folder: Path, lake: str, cluster: MachineCluster) -> None:
        self.folder, self._cluster = folder, cluster
        (folder / "job.yaml").write_text(job_to_yaml(job_of(lake), JOB_KINDS))
        (folder / "claims.json").write_text(json.dumps(ACCELERATOR))

    def start(self, machine: Machine) -> None:
        """On this machine; a second time it goes on with the run."""
        there = self.folder / "run"
        job = [str(there)] if there.is_dir() else [str(self.folder / "job.yaml"), "--run", str(there)]
        with (self.folder / "said").open("a") as said:
            self.driver = machine.popen(
                [sys.executable, str(DRIVER), str(self.folder), *job],
                env=self._cluster.environment | OF_RAY,
                stdout=subprocess.PIPE,
                stderr=said,
            )

    def lay(self, *troubles: str) -> None:
        for name in troubles:
            (self.folder / name).touch()

    def until(self, true: Callable[[], Any], what: str) -> Any:
        """Wait for an event that comes while the driver runs."""
        return until(lambda: self._runs() and true(), what, LONG)

    def until_met(self, trouble: str) -> None:
        self.until((self.folder / f"{trouble}.happened").exists, trouble)

    def _runs(self) -> bool:
        code = self.driver.poll()
        assert code is None, f"it ended with {code} before: {self._said()}"
        return True

    def _said(self) -> str:
        return (self.folder / "said").read_text()[-5000:]

    def ended(self) -> dict[str, Any]:
        """What a driver told at its good end."""
        out, _ = self.driver.communicate(timeout=LONG)
        assert self.driver.returncode == 0, f"{out}{self._said()}"
        told: dict[str, Any] = json.loads(out)
        return told

    @property
    def run(self) -> RunFolder:
        return RunFolder.open(str(self.folder / "run"))

    def events(self, kind: str) -> list[int]:
        """At which steps there was an event of this kind."""
        return [event["step"] for event in self.run.events() if event["event"] == kind]

    def losses(self) -> list[float]:
        return [row["loss"] for row in last_of_each_step(read_all_rows(self.run.folder("ledger")))]

    def held(self) -> list[tuple[int, float, dict[str, str]]]:
        """Step, time and digest by slot, of each time that the worker had a step's batch."""
        found = []
        for path in sorted((self.folder / "seen").iterdir()):
            step, _, at = path.stem.split("-")
            found.append((int(step), int(at) / 1e9, json.loads(path.read_text())))
        return found

    def judge(self, undisturbed: list[float], fault: Fault, *, struck_at: float) -> None:
        """Every step had its batch, in every attempt, and its loss; lost is the time until a batch came again."""
        fault.lost(min(at for _, at, _ in self.held() if at > struck_at) - struck_at)
        found = {(step, int(slot), digest) for step, _, slots in self.held() for slot, digest in slots.items()}
        planned = [
            (batch.step, slot, slot_digest(batch, slot).hex())
            for batch in local_batches(self.run.spec(), range(STEPS))
            for slot in range(BATCH)
        ]
        fault.same("clips", found=found, expected=planned)
        assert self.losses() == undisturbed


@pytest.fixture
def training(tmp_path: Path, lake: str, cluster: MachineCluster) -> Training:
    return Training(tmp_path, lake, cluster)


@pytest.fixture(scope="module")
def undisturbed(lake: str, cluster: MachineCluster, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of a run that nothing happens to."""
    calm = Training(tmp_path_factory.mktemp("undisturbed"), lake, cluster)
    calm.start(cluster.head)
    assert calm.ended()["step"] == STEPS
    return calm.losses()


@pytest.mark.fault(
    cause="the machine with the accelerator is taken back after a notice",
    happens="a checkpoint is saved before, and the run goes on with it when there is a machine again",
    long=True,
)
def test_a_training_machine_that_is_taken_back_costs_no_step(
    cluster: MachineCluster, train: Machine, training: Training, undisturbed: list[float], fault: Fault
) -> None:
    cluster.answer_metadata(train)
    training.lay("7-0.until_notice", "8-0.hold")
    training.start(cluster.head)
    training.until_met("7-0.until_notice")
    cluster.give_notice(train, seconds=LONG)
    training.until(lambda: training.events("saved")[-1:] == [8], "the checkpoint before it goes")
    assert '"event": "drained"' in train.outside(WATCH_LOG).read_text()
    struck_at = time.time()
    train.power_off()
    cluster.wait_for(train, alive=False)
    train.boot()
    cluster.start_node(train)
    told = training.ended()

    assert (told["step"], told["attempts"]) == (STEPS, 2)
    assert training.events("restored") == [8]
    training.judge(undisturbed, fault, struck_at=struck_at)


@pytest.mark.fault(
    cause="the head's machine dies, with a driver elsewhere, and comes back",
    happens="the head remembers its cluster; nodes, workers and driver go on where they were",
    long=True,
)
def test_a_head_that_dies_and_comes_back_finds_the_run_going_on(
    cluster: MachineCluster, train: Machine, training: Training, undisturbed: list[float], fault: Fault
) -> None:
    training.lay("7-0.hold")
    training.start(train)
    training.until_met("7-0.hold")
    nodes = [cluster.node_id(machine) for machine in cluster.network.machines if machine is not cluster.head]
    struck_at = time.time()
    cluster.head.power_off()
    cluster.head.boot()
    cluster.start_head()
    (training.folder / "7-0.go").touch()
    told = training.ended()

    assert (told["step"], told["attempts"]) == (STEPS, 1)
    assert training.events("restored") == []
    assert [cluster.node_id(machine) for machine in cluster.network.machines if machine is not cluster.head] == nodes
    training.judge(undisturbed, fault, struck_at=struck_at)


@pytest.mark.fault(
    cause="the head's machine dies, with the driver on it, and comes back",
    happens="the run that is sent again goes on at its last checkpoint",
    long=True,
)
def test_a_head_that_takes_its_driver_with_it_leaves_a_run_that_goes_on(
    cluster: MachineCluster, train: Machine, training: Training, undisturbed: list[float], fault: Fault
) -> None:
    training.lay("7-0.hold")
    training.start(cluster.head)
    training.until_met("7-0.hold")
    struck_at = time.time()
    cluster.head.power_off()
    training.driver.communicate(timeout=LONG)
    assert training.driver.returncode != 0
    cluster.head.boot()
    cluster.start_head()
    training.start(cluster.head)
    told = training.ended()

    assert (told["step"], told["attempts"]) == (STEPS, 2)
    assert training.events("restored") == [5]
    training.judge(undisturbed, fault, struck_at=struck_at)
