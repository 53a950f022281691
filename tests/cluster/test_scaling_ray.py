"""cluster/kuberay scaled for real: Ray's own autoscaler for KubeRay against an API server that checks what it writes.

Pods are nodes of Ray on this machine. The RayCluster is the overlay `kind`, with times and a memory that suit a test.
A driver that is no part of the cluster takes batches (`paced_driver.py`), faster or slower than one core makes them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cineray.batch import batch_digest
from cineray.feed import local_batches
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.launch.cluster_files import read_cluster
from cineray.launch.cluster_schemas import complaints, crd_schema
from cineray.testing import make_shapes
from cineray.testing.kube_api import Check, built_in_check
from cineray.testing.kube_cluster import KubeCluster

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(900)]

REPO = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("paced_driver.py")
MOST = 3
IDLE_SECONDS = 12
"""Longer than a busy machine takes for the first task of a node."""
WISHES_SECONDS = 50
"""In it the feed asks five times, and Ray Data looks twice how large the cluster is."""
PATIENCE = 240.0
"""Seconds; a busy machine takes half a minute for a node."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("scaling")
    make_shapes(folder / "videos", videos=12, size_px=384)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


@pytest.fixture(scope="module")
def check() -> Check:
    """KubeRay's own schema where its CRDs are at hand, else what of it an autoscaler touches."""
    folder = Path(os.environ.get("CINERAY_KUBERAY_CRDS", REPO.parent / "shared" / "kuberay-crds"))
    if not folder.is_dir():
        return built_in_check
    schema = crd_schema(str(folder), "RayCluster")
    return lambda document: [f"{one.where}: {one.what}" for one in complaints(document, schema, "RayCluster")]


@pytest.fixture(scope="module")
def kube(check: Check) -> Iterator[KubeCluster]:
    documents = {one["kind"]: one for one in read_cluster(str(REPO / "cluster/kuberay/overlays/kind")).documents}
    cluster = documents["RayCluster"]
    decode = cluster["spec"]["workerGroupSpecs"][0]
    assert decode["groupName"] == "decode"
    decode |= {"idleTimeoutSeconds": IDLE_SECONDS, "maxReplicas": MOST}
    decode["rayStartParams"]["object-store-memory"] = "100000000"
    with KubeCluster(cluster, documents["ConfigMap"]["data"], check=check) as running:
        yield running
        refused = [one for one in running.api.patches if one.refused]
        assert refused == [], "each change that the autoscaler made holds KubeRay's schema"


class Run:
    """A driver at work."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder, self.process = folder, process

    def pace(self, cores: float) -> None:
        """How many cores decoding shall keep busy; 0: as many as there are."""
        (self.folder / "pace.new").write_text(str(cores), encoding="utf-8")
        (self.folder / "pace.new").rename(self.folder / "pace")

    def steps(self) -> list[dict[str, Any]]:
        came = self.folder / "came.jsonl"
        return [json.loads(line) for line in came.read_text().splitlines()] if came.exists() else []

    def wait_for_step(self, step: int) -> None:
        self.until(lambda: len(self.steps()) > step, f"step {step}")

    def until(self, there: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not there():
            assert self.process.poll() is None, f"the driver ended: {(self.folder / 'log').read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"no {what} after {PATIENCE:g} s; {len(self.steps())} steps came"
            time.sleep(0.2)

    def end(self) -> None:
        (self.folder / "pace").write_text("end", encoding="utf-8")
        assert self.process.wait(timeout=PATIENCE) == 0, (self.folder / "log").read_text()[-3000:]


@contextmanager
def driver(kube: KubeCluster, lake: str, folder: Path, *, cores: float, label: str = "decode") -> Iterator[Run]:
    told = {"folder": str(folder), "lake": lake, "label": label}
    (folder / "pace").write_text(str(cores), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, DRIVER, json.dumps(told)],
            env=kube.head.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Run(folder, process)
    finally:
        process.kill()
        process.wait()


def as_addressed(run: Run, lake: str) -> None:
    """Every step once, in order, and each as the plain loop makes it (some are looked at)."""
    came = run.steps()
    assert [one["step"] for one in came] == list(range(len(came)))
    spec = driver_module().spec_of(lake)
    for at in range(0, len(came), max(1, len(came) // 12)):
        (batch,) = local_batches(spec, range(at, at + 1))
        assert came[at]["digest"] == batch_digest([batch]), f"step {at}"


def driver_module() -> Any:
    spec = importlib.util.spec_from_file_location("cineray_paced_driver", DRIVER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def doctor(kube: KubeCluster) -> dict[str, Any]:
    """What `cineray doctor --address` sees."""
    command = [sys.executable, "-m", "cineray", "doctor", "--address", kube.head.dashboard, "--json"]
    done = subprocess.run(command, env=kube.head.environment, capture_output=True, text=True, check=False)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_one_node_comes_for_a_trainer_that_one_node_can_feed_and_no_more(
    kube: KubeCluster, lake: str, tmp_path: Path
) -> None:
    with driver(kube, lake, tmp_path, cores=0.3) as run:
        run.wait_for_step(0)
        assert len(kube.pods("decode")) == 1, "from nothing"
        fed = kube.now()
        run.until(lambda: kube.now() - fed > WISHES_SECONDS, "end of some wishes")
        created = [one for one in kube.events if one.what == "created" and one.at >= fed]
        assert created == [], f"the trainer is the limit, and the pool grew: {created}; {kube.autoscaler_log(40)}"
        assert doctor(kube)["asked_of_autoscaler"] == []
        run.end()
        as_addressed(run, lake)


def test_the_pool_grows_while_trainers_wait_replaces_lost_nodes_and_shrinks_in_the_run(
    kube: KubeCluster, lake: str, tmp_path: Path
) -> None:
    with driver(kube, lake, tmp_path, cores=0.0) as run:
        run.until(lambda: len(ready(kube)) >= 2, "second node")
        taken, at = min(ready(kube)), kube.now()
        kube.take_away(taken)
        another = kube.wait_for("ready", "decode", PATIENCE, after=at)
        assert another.pod != taken
        run.wait_for_step(len(run.steps()) + 20)
        run.pace(0.2)
        slow = kube.now()
        left = kube.wait_for("deleted", "decode", PATIENCE, after=slow)
        assert run.process.poll() is None, "it shrinks while the run goes on"
        print(f"shrinks {left.at - slow:.1f} s after the trainer became slow")
        run.end()
        as_addressed(run, lake)
    run_ended = kube.now()
    deadline = time.monotonic() + PATIENCE
    while kube.pods("decode"):
        assert time.monotonic() < deadline, f"{kube.pods('decode')} are left; {kube.autoscaler_log()}"
        time.sleep(0.5)
    print(f"nothing is left {kube.now() - run_ended:.1f} s after the run")
    assert max(_replicas(kube)) <= MOST


def ready(kube: KubeCluster) -> set[str]:
    """The decode nodes that are there and in Ray's cluster."""
    return {one.pod for one in kube.events if one.what == "ready"} & set(kube.pods("decode"))


def _replicas(kube: KubeCluster) -> list[int]:
    """All numbers of decode nodes that the autoscaler has asked for."""
    path = "/spec/workerGroupSpecs/0/replicas"
    return [one["value"] for patch in kube.api.patches for one in patch.operations if one["path"] == path]


def test_a_feed_for_nodes_that_no_pool_has_is_told_by_name(kube: KubeCluster, lake: str, tmp_path: Path) -> None:
    created = sum(one.what == "created" for one in kube.events)
    with driver(kube, lake, tmp_path, cores=0.0, label="elsewhere") as run:
        run.until(lambda: bool(doctor(kube)["waiting"]), "task that waits")
        (waits, *_) = doctor(kube)["waiting"]
        assert waits["labels"] == {"ray-subcluster": "elsewhere"}
        assert waits["why"] == "no node alive has the labels ray-subcluster=elsewhere"
    assert sum(one.what == "created" for one in kube.events) == created
