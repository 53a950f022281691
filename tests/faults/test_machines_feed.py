"""Decode machines that vanish, are taken back, cut off, or full: the batches come as they would have.

A head and decode nodes on machines of their own (namespaces with addresses, disks and shared memory; see
cineray/testing/clusters/machines.py), started and kept as in cluster/vm, with the settings of cluster/. The driver is
on the head, where `cineray submit` puts it. What is expected is what the plain loop makes undisturbed.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cineray.batch import batch_digest
from cineray.feed import FeedSpec, local_batches
from cineray.testing.clusters.machine_cluster import WATCH_LOG, MachineCluster, ray_settings
from cineray.testing.clusters.machines import Machine, Network, machines_missing
from cineray.testing.events import until
from cineray.testing.fault_table import Fault

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(machines_missing() is not None, reason=machines_missing() or ""),
]
STEPS = range(3, 63)
HELD = 30
LONG = 400
"""Seconds within which a feed ends on any machine; nothing waits for them to pass."""
DRIVER = Path(__file__).with_name("feed_driver.py")
SETTINGS = Path(__file__).parents[2] / "cluster" / "kuberay" / "base" / "ray-env.yaml"
DECODE = {"labels": {"ray-subcluster": "decode"}, "cpus": 1, "watched": True}


@pytest.fixture(scope="module")
def spec(slow_clips: Callable[..., FeedSpec], tmp_path_factory: pytest.TempPathFactory) -> FeedSpec:
    return slow_clips(tmp_path_factory.mktemp("machines-feed"))


@pytest.fixture(scope="module")
def expected(spec: FeedSpec) -> list[str]:
    return [batch_digest([batch]) for batch in local_batches(spec, STEPS)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[MachineCluster]:
    with Network() as network, MachineCluster(network, settings=ray_settings(SETTINGS)) as made:
        made.add_nodes({"name": "steady", **DECODE}, {"name": "spot", **DECODE})
        yield made


@pytest.fixture
def spot(cluster: MachineCluster) -> Iterator[Machine]:
    """The machine that things happen to; it is well again after each test."""
    (machine,) = (one for one in cluster.network.machines if one.name == "spot")
    yield machine
    if not machine.is_on:
        machine.boot()
        cluster.start_node(machine)
    cluster.wait_for(machine, alive=True)


class Driver:
    """A feed that runs on the head."""

    def __init__(self, folder: Path, spec: FeedSpec, cluster: MachineCluster, *, hold: int | None = None) -> None:
        self.folder = folder
        if hold is not None:
            (folder / f"{hold}.hold").touch()
        # A small window, so that there is always something at work.
        options = {"task_seconds": 0, "ahead_bytes": 8 * 2 * 6 * 8 * 48 * 48 * 3}
        told = {"recipe": spec.recipe.model_dump(mode="json"), "seed": spec.seed, "options": options}
        (folder / "told.json").write_text(json.dumps({**told, "start": STEPS.start, "stop": STEPS.stop}))
        self._process = cluster.head.popen(
            [sys.executable, str(DRIVER), str(folder)],
            env=cluster.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._said: list[str] = []
        self._reader = threading.Thread(target=lambda: self._said.extend(self._process.stdout or ()), daemon=True)
        self._reader.start()

    def seen(self) -> list[tuple[int, str, float]]:
        """Step, digest and time of each batch so far."""
        path = self.folder / "seen"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(int(step), digest, float(at)) for step, digest, at in lines]

    def until(self, true: Callable[[], Any], what: str) -> Any:
        """Wait for an event that comes while the feed runs."""
        return until(lambda: self._runs() and true(), what)

    def until_work_at(self, machine: Machine) -> None:
        """Until batches have come for a while, and at this moment a worker of this machine decodes."""
        self.until(lambda: len(self.seen()) > 6 and at_work(machine), f"work at {machine.name}")

    def holds(self, step: int) -> None:
        """Until it waits to be told to go on."""
        self.until((self.folder / f"{step}.holds").exists, f"step {step}")

    def goes_on(self, step: int) -> None:
        (self.folder / f"{step}.go").touch()

    def _runs(self) -> bool:
        code = self._process.poll()
        assert code is None, f"it ended with {code} before: {''.join(self._said)}"
        return True

    def ended(self) -> None:
        """Wait for its good end."""
        code = self._process.wait(timeout=LONG)
        self._reader.join()
        assert code == 0, "".join(self._said)

    def pauses(self) -> list[tuple[float, float]]:
        """When each batch but the first came, and how long after the one before."""
        return [(after, after - before) for before, after in pairwise(at for _, _, at in self.seen())]


def at_work(machine: Machine) -> bool:
    """A worker there is decoding at this moment."""
    return any("make_row" in title for title in machine.titles())


Start = Callable[..., Driver]


@pytest.fixture
def start(tmp_path: Path, spec: FeedSpec, cluster: MachineCluster) -> Start:
    return lambda **told: Driver(tmp_path, spec, cluster, **told)


def judge(driver: Driver, expected: list[str], fault: Fault, *, struck_at: float) -> None:
    """Every batch came, in order, as it would have; lost is how much longer than usual the longest wait for one was."""
    driver.ended()
    usual = statistics.median(pause for at, pause in driver.pauses() if at <= struck_at)
    fault.lost(max(pause for at, pause in driver.pauses() if at > struck_at), than=usual)
    assert [step for step, _, _ in driver.seen()] == list(STEPS)
    found = [(step, digest) for step, digest, _ in driver.seen()]
    fault.same("batches", found=found, expected=zip(STEPS, expected, strict=True))


@pytest.mark.fault(
    cause="a spot decode machine is switched off without notice",
    happens="the head misses it, its tasks and the batches that lay on it are made again on others",
    long=True,
)
def test_a_decode_machine_that_vanishes_costs_no_batch(
    cluster: MachineCluster, spot: Machine, start: Start, expected: list[str], fault: Fault
) -> None:
    driver = start()
    driver.until_work_at(spot)
    struck_at = time.time()
    spot.power_off()
    judge(driver, expected, fault, struck_at=struck_at)
    assert cluster.nodes_of(spot) == [False]


@pytest.mark.fault(
    cause="a spot decode machine is taken back after a notice",
    happens="its watcher drains it, nothing new is begun there, and what lay on it is made again",
    long=True,
)
def test_a_decode_machine_that_is_taken_back_after_a_notice_costs_no_batch(
    cluster: MachineCluster, spot: Machine, start: Start, expected: list[str], fault: Fault
) -> None:
    cluster.answer_metadata(spot)
    driver = start(hold=HELD)
    driver.until_work_at(spot)
    cluster.give_notice(spot, seconds=LONG)
    driver.until(lambda: '"event": "drained"' in spot.outside(WATCH_LOG).read_text(), "the drain")
    driver.until(lambda: not at_work(spot), "the end of what was at work there")
    driver.holds(HELD)
    assert not at_work(spot), "nothing new was begun there"
    struck_at = time.time()
    spot.power_off()
    driver.goes_on(HELD)
    judge(driver, expected, fault, struck_at=struck_at)


@pytest.mark.fault(
    cause="a decode machine is cut off, and heard again",
    happens="its tasks are made again on others; once healed it is back as a new node, by its keeper",
    long=True,
)
def test_a_decode_machine_that_is_cut_off_costs_no_batch_and_comes_back(
    cluster: MachineCluster, spot: Machine, start: Start, expected: list[str], fault: Fault
) -> None:
    driver = start(hold=HELD)
    driver.until_work_at(spot)
    struck_at = time.time()
    spot.cut()
    cluster.wait_for(spot, alive=False)
    driver.holds(HELD)
    spot.heal()
    cluster.wait_for(spot, alive=True)
    driver.goes_on(HELD)
    driver.until(lambda: at_work(spot), "work at the machine that is back")
    judge(driver, expected, fault, struck_at=struck_at)
    assert sorted(cluster.nodes_of(spot))[-2:] == [False, True]


HOG = """
import numpy, ray
ray.init(logging_level="ERROR")
held = [ray.put(numpy.zeros(9_000_000, numpy.uint8)) for _ in range(10)]
print("full", flush=True)
input()
"""


@contextmanager
def store_filled(machine: Machine, cluster: MachineCluster) -> Iterator[None]:
    """By another program of the cluster, which holds more than fits into it: 90 MB."""
    with machine.popen(
        [sys.executable, "-c", HOG], env=cluster.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as hog:
        assert hog.stdout is not None
        assert hog.stdout.readline() == "full\n"
        yield
        hog.kill()


def spilled(machine: Machine) -> list[Path]:
    """What a machine's object store wrote to disk."""
    return list((machine.folder / "own/tmp/ray").glob("session_2*/ray_spilled_objects_*/*"))


@pytest.mark.fault(
    cause="another job fills a decode machine's object store",
    happens="the store writes to the machine's disk, and decoding goes on",
)
def test_an_object_store_that_others_fill_costs_no_batch(
    cluster: MachineCluster, spot: Machine, start: Start, expected: list[str], fault: Fault
) -> None:
    driver = start(hold=HELD)
    driver.until_work_at(spot)
    struck_at = time.time()
    with store_filled(spot, cluster):
        driver.holds(HELD)
        driver.goes_on(HELD)
        driver.until(lambda: at_work(spot), "work at a machine whose store is full")
        assert spilled(spot)
        judge(driver, expected, fault, struck_at=struck_at)


@contextmanager
def disk_filled(machine: Machine) -> Iterator[None]:
    """No byte more fits on it."""
    try:
        full = machine.run(["dd", "if=/dev/zero", "of=/tmp/ray/full", "bs=1M"], check=False)
        assert "No space left on device" in full.stderr
        yield
    finally:
        machine.run(["rm", "/tmp/ray/full"])


@pytest.mark.fault(
    cause="a decode machine's disk is full",
    happens="decoding goes on: what it makes fits into the object store's memory",
)
def test_a_full_disk_of_a_decode_machine_costs_no_batch(
    cluster: MachineCluster, spot: Machine, start: Start, expected: list[str], fault: Fault
) -> None:
    driver = start(hold=HELD)
    driver.until_work_at(spot)
    struck_at = time.time()
    with disk_filled(spot):
        driver.holds(HELD)
        driver.goes_on(HELD)
        driver.until(lambda: at_work(spot), "work at a machine whose disk is full")
        judge(driver, expected, fault, struck_at=struck_at)
