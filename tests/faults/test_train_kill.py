"""Trainings whose workers, machines and drivers are lost: every step has the batch and the loss that it would have had.

Several Ray nodes on this machine: a head without cores, one node that decodes, and nodes that train, which are killed.
Drivers are processes of their own (train_driver.py), whose workers meet the troubles that a test lays in their way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

pytest.importorskip("ray")
from ray.cluster_utils import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1500)]
STEPS = 20
LONG = 500
"""Seconds within which anything happens on any machine; nothing waits for them to pass."""
DRIVER = Path(__file__).with_name("train_driver.py")
OF_RAY = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5"}


@dataclass(frozen=True)
class Place:
    """Where one training's run, job and troubles lie."""

    folder: Path
    address: str

    @property
    def run(self) -> RunFolder:
        return RunFolder.open(str(self.folder / "run"))

    def lay(self, *troubles: str) -> None:
        for name in troubles:
            (self.folder / name).touch()

    def happened(self, trouble: str) -> bool:
        return (self.folder / f"{trouble}.happened").exists()

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A driver, in a process group of its own as a shell would have it."""
        there = self.folder / "run"
        job = [str(there)] if there.is_dir() else [str(self.folder / "job.yaml"), "--run", str(there)]
        return subprocess.Popen(
            [sys.executable, str(DRIVER), str(self.folder), *job, *words],
            env=os.environ | OF_RAY | {"RAY_ADDRESS": self.address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def seen(self) -> dict[int, dict[int, set[str]]]:
        """Step -> slot -> the digests of what ranks held there, over all attempts."""
        found: dict[int, dict[int, set[str]]] = {}
        for path in (self.folder / "seen").iterdir():
            slots = found.setdefault(int(path.name.split("-")[0]), {})
            for slot, digest in json.loads(path.read_text()).items():
                slots.setdefault(int(slot), set()).add(digest)
        return found

    def seconds_until_held(self, step: int, *, after: float, rank: int | None = None) -> float:
        """From a moment until this step, or a later one, was held again."""
        times = [
            int(path.stem.split("-")[2]) / 1e9
            for path in (self.folder / "seen").iterdir()
            if int(path.name.split("-")[0]) >= step and rank in (None, int(path.name.split("-")[1]))
        ]
        return min(time for time in times if time > after) - after

    def struck_at(self, trouble: str) -> float:
        """When it happened, by the file system's clock."""
        return (self.folder / f"{trouble}.happened").stat().st_ctime

    def rows(self) -> list[dict[str, Any]]:
        return last_of_each_step(read_all_rows(self.run.folder("ledger")))

    def losses(self) -> list[float]:
        return [row["loss"] for row in self.rows()]

    def worlds(self) -> list[int]:
        """How many workers each start of the run had."""
        return [attempt["world_size"] for attempt in self.run.attempts()]


def ended(driver: subprocess.Popen[str], code: int = 0) -> str:
    """What a driver printed for people, or its result."""
    out, err = driver.communicate(timeout=LONG)
    assert driver.returncode == code, f"{out}\n{err[-5000:]}"
    return out if code == 0 else err


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("train-kill")
    make_shapes(folder / "videos", videos=12, size_px=32)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    head = {"num_cpus": 0, "object_store_memory": 160_000_000, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(num_cpus=1, labels={"ray-subcluster": "decode"}, object_store_memory=160_000_000)
    yield made
    made.shutdown()


@pytest.fixture
def trainers(cluster: Cluster) -> Iterator[Callable[[], Any]]:
    """Add a node for one worker; all are gone after the test."""
    made: list[Any] = []

    def add() -> Any:
        made.append(cluster.add_node(num_cpus=1, labels={"role": "train"}, object_store_memory=80_000_000))
        return made[-1]

    yield add
    for node in made:
        if node in cluster.worker_nodes:
            cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def place(lake: str, cluster: Cluster, tmp_path: Path) -> Callable[..., Place]:
    def made(name: str = "", **told: Any) -> Place:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "job.yaml").write_text(job_to_yaml(job_of(lake, **told), JOB_KINDS))
        return Place(folder, cluster.address)

    return made


def job_of(lake: str, **told: Any) -> TrainJob:
    values: dict[str, Any] = {
        "name": "faults",
        "recipe": Recipe(
            datasets=(DatasetSpec(lake=lake, split=None),),
            sampling=SamplingSpec(mode="random", frames=4, stride=2),
            frame=FrameSpec(height=16, width=16),
            batch_size=5,
            clips_per_visit=2,
        ),
        "seed": 3,
        "feed": FeedConfig(driver="ray", decode_subcluster="decode"),
        "steps": STEPS,
        "model": StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8), modulation_std=0.02),
        "optimiser": OptimiserConfig(warmup_steps=3),
        "precision": "fp32",
        "validation": ValidationConfig(every_steps=0),
        "checkpoint": CheckpointConfig(every_steps=5, asynchronous=False),  # at known steps, whatever the disk's speed
        "parallel": ParallelConfig(workers=2, labels={"role": "train"}),
        "limits": LimitsConfig(failures_without_progress=1),
    }
    return TrainJob(**(values | told))


def as_planned(place: Place, steps: int = STEPS, *, fault: Fault | None = None) -> None:
    """What any worker held of a step, in any attempt, is what the plain loop makes of it; and all of it was held."""
    spec = place.run.spec()
    planned = {
        batch.step: {slot: {slot_digest(batch, slot).hex()} for slot in range(5)}
        for batch in local_batches(spec, range(steps))
    }
    if fault is not None:
        found, expected = (
            [(step, slot, *held) for step, slots in all_.items() for slot, held in slots.items()]
            for all_ in (place.seen(), planned)
        )
        fault.same("clips", found=found, expected=expected)
    assert place.seen() == planned


@pytest.fixture(scope="module")
def undisturbed(lake: str, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of two workers whom nothing happens to."""
    nodes = [cluster.add_node(num_cpus=1, labels={"role": "train"}, object_store_memory=80_000_000) for _ in range(2)]
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "job.yaml").write_text(job_to_yaml(job_of(lake), JOB_KINDS))
    place = Place(folder, cluster.address)
    told = json.loads(ended(place.start()))
    assert (told["step"], told["attempts"]) == (STEPS, 1)
    as_planned(place)
    for node in nodes:
        cluster.remove_node(node, allow_graceful=False)
    return place.losses()


@pytest.mark.fault(
    cause="training workers are killed, twice, and then a machine with one",
    happens="all start again at the last checkpoint, the third time on another machine",
)
def test_workers_and_a_machine_that_are_killed_change_no_batch_and_no_loss(
    cluster: Cluster, trainers: Callable[[], Any], place: Callable[..., Place], undisturbed: list[float], fault: Fault
) -> None:
    nodes = {node.node_id: node for node in (trainers(), trainers(), trainers())}
    here = place(checkpoint=CheckpointConfig(every_steps=5))  # perhaps killed in the middle of one
    here.lay("6-1.kill", "11-0.kill", "17-1.hold")
    driver = here.start()
    until(lambda: here.happened("17-1.hold"), "step 17")
    removed_at = time.time()
    cluster.remove_node(nodes[(here.folder / "rank-1").read_text()], allow_graceful=False)
    told = json.loads(ended(driver))

    assert here.worlds() == [2, 2, 2, 2]
    assert (told["step"], told["attempts"]) == (STEPS, 4)
    as_planned(here, fault=fault)
    for step, rank, struck_at in (
        (6, 1, here.struck_at("6-1.kill")),
        (11, 0, here.struck_at("11-0.kill")),
        (17, 1, removed_at),
    ):
        fault.lost(here.seconds_until_held(step, after=struck_at, rank=rank))
    assert here.losses() == undisturbed


# Before any driver is killed: what a killed one asked of Ray's autoscaler stands for minutes, and elastic runs wait.
@pytest.mark.fault(
    cause="a training machine is announced to go, and goes",
    happens="a checkpoint is saved before; one worker goes on alone, until a new machine is taken in",
    long=True,
)
def test_a_machine_that_is_announced_to_go_is_left_with_a_checkpoint_and_a_new_one_is_taken_in(
    cluster: Cluster, trainers: Callable[[], Any], place: Callable[..., Place], undisturbed: list[float], fault: Fault
) -> None:
    nodes = {node.node_id: node for node in (trainers(), trainers())}
    here = place(
        checkpoint=CheckpointConfig(every_steps=1000),
        parallel=ParallelConfig(workers=(1, 2), labels={"role": "train"}, resize_seconds=2),
    )
    here.lay("7-0.until_notice", "8-1.hold", "14-0.until_two")
    driver = here.start()
    until(lambda: here.happened("7-0.until_notice"), "step 7")
    going = (here.folder / "rank-1").read_text()
    drain(cluster, going)
    saved = until(lambda: [event for event in here.run.events() if event["event"] == "saved"], "a checkpoint")
    assert [event["step"] for event in saved] == [8]
    removed_at = time.time()
    cluster.remove_node(nodes[going], allow_graceful=False)
    until((here.folder / "14-0.alone").exists, "step 14 of one worker alone")
    trainers()
    told = json.loads(ended(driver))

    assert told["step"] == STEPS
    assert here.worlds() == [2, 1, 2]
    assert [event["step"] for event in here.run.events() if event["event"] == "restored"] == [8, 8]
    as_planned(here, fault=fault)
    fault.lost(here.seconds_until_held(9, after=removed_at))
    assert here.losses() == pytest.approx(undisturbed, abs=1e-3)


def drain(cluster: Cluster, node_id: str) -> None:
    """What an autoscaler tells Ray of a machine that its cloud will take back."""
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    preemption = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int((time.time() + LONG) * 1000)
    accepted, why = GcsClient(address=cluster.address).drain_node(node_id, preemption, "taken back", deadline_ms)
    assert accepted, why


@pytest.mark.fault(
    cause="the driver of a training is killed, and then interrupted",
    happens="the next one goes on at the last checkpoint; an interrupted one saves first",
)
def test_a_driver_that_is_killed_or_interrupted_is_started_again(
    trainers: Callable[[], Any], place: Callable[..., Place], undisturbed: list[float], fault: Fault
) -> None:
    _, _, here = trainers(), trainers(), place()
    here.lay("6-0.hold", "12-0.until_wish")
    killed = here.start()
    until(lambda: here.happened("6-0.hold"), "step 6")
    killed_at = time.time()
    killed.kill()
    killed.communicate(timeout=LONG)

    interrupted = here.start()
    until(lambda: here.happened("12-0.until_wish"), "step 12")
    interrupted_at = time.time()
    os.killpg(interrupted.pid, signal.SIGINT)  # as a terminal sends it: to all processes of the group
    said = ended(interrupted, code=130)
    assert "stopped by SIGINT after step 12; the checkpoint of step 13 is saved" in said
    assert f"To go on: cineray train {here.run.uri}" in said

    told = json.loads(ended(here.start()))
    assert (told["step"], told["attempts"]) == (STEPS, 3)
    assert [event["step"] for event in here.run.events() if event["event"] == "restored"] == [5, 13]
    as_planned(here, fault=fault)
    fault.lost(here.seconds_until_held(6, after=killed_at, rank=0))
    fault.lost(here.seconds_until_held(13, after=interrupted_at))
    assert here.losses() == undisturbed


@pytest.mark.fault(
    cause="a rank hangs and another is killed; then no checkpoint can be written; then a loss is no number",
    happens="each ends the run with what to do, for another try would meet it again; the run stays whole",
    long=True,
)
def test_what_another_try_would_meet_again_ends_a_run_and_leaves_it_whole(
    trainers: Callable[[], Any], place: Callable[..., Place], fault: Fault
) -> None:
    limits = LimitsConfig(failures_without_progress=1, no_step_seconds=100)
    _, _, here = trainers(), trainers(), place(limits=limits)
    here.lay("3-0.impatient", "3-1.hang", "4-1.kill", "7-0.full", "12-1.poison")

    said = ended(here.start(), code=1)
    assert "failed 2 times in a row without getting beyond step 0 (limits.failures_without_progress=1)" in said
    assert here.worlds() == [2, 2]
    stacks = [Path(here.run.folder(f"stacks/attempt-00001-rank-{rank}.txt")).read_text() for rank in (0, 1)]
    assert "a_collective_that_never_returns" in stacks[1]
    assert "in _step" in stacks[0], "where the other one waited for it"

    said = ended(here.start(), code=1)
    assert "the checkpoint of step 10 could not be written" in said
    assert "File too large" in said
    assert here.worlds() == [2, 2, 2], "room does not come by trying again"

    said = ended(here.start(), code=1)
    assert here.worlds() == [2, 2, 2, 2], "nor does a loss"
    assert [event["step"] for event in here.run.events() if event["event"] == "restored"] == [5]
    assert "the loss of step 12 is nan" in said
    command = [sys.executable, "-m", "cineray", "batch", here.run.uri, "--step", "12", "--json"]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for number, clip in enumerate(shown["clips"]):
        assert (f"slot {number}: clip {clip['clip_id']}" in said) == (number >= 2), "those of rank 1"
    as_planned(here, steps=13, fault=fault)
    fault.lost(here.seconds_until_held(4, after=here.struck_at("3-1.hang"), rank=1))
    fault.lost(here.seconds_until_held(8, after=here.struck_at("7-0.full")))
