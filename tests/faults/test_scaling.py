"""Decode pools that grow while trainers wait, lose nodes, and shrink: the batches come as they would have.

cluster/kuberay scaled for real: Ray's own autoscaler for KubeRay against an API server that checks what it writes. Pods
are nodes of Ray on this machine. The RayCluster is the overlay `kind`, with times and a memory that suit a test. A
driver that is no part of the cluster takes batches (paced_driver.py), faster or slower than one core makes them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cineray.batch import batch_digest
from cineray.feed import FeedSpec, local_batches
from cineray.launch.cluster.files import read_cluster
from cineray.launch.cluster.schemas import complaints, crd_schema
from cineray.testing.clusters.kube_api import Check, built_in_check
from cineray.testing.clusters.kube_cluster import KubeCluster
from cineray.testing.clusters.ray_head import LEASH, end_group
from cineray.testing.events import until
from cineray.testing.fault_table import Fault

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
def spec(slow_clips: Callable[..., FeedSpec], tmp_path_factory: pytest.TempPathFactory) -> FeedSpec:
    """12 clips a step, out of 12 videos: a task takes some tenths of a second."""
    return slow_clips(tmp_path_factory.mktemp("scaling"), videos=12, batch_size=12, max_substituted_fraction=1.0)


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

    def came(self) -> list[dict[str, Any]]:
        """Step, digest and time of each batch so far."""
        path = self.folder / "came.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def wait_for_step(self, step: int) -> None:
        self.until(lambda: len(self.came()) > step, f"step {step}")

    def until(self, there: Callable[[], bool], what: str) -> None:
        """Wait for an event that comes while the driver runs."""
        until(lambda: self._runs() and there(), what, PATIENCE)

    def _runs(self) -> bool:
        assert self.process.poll() is None, f"the driver ended: {self.said()}"
        return True

    def end(self) -> None:
        (self.folder / "pace").write_text("end", encoding="utf-8")
        assert self.process.wait(timeout=PATIENCE) == 0, self.said()

    def said(self) -> str:
        return (self.folder / "log").read_text()[-3000:]


@contextmanager
def driver(kube: KubeCluster, spec: FeedSpec, folder: Path, *, cores: float) -> Iterator[Run]:
    told = {"recipe": spec.recipe.model_dump(mode="json"), "seed": spec.seed}
    (folder / "told.json").write_text(json.dumps(told))
    (folder / "pace").write_text(str(cores), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*LEASH, sys.executable, str(DRIVER), str(folder)],
            env=kube.head.environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Run(folder, process)
    finally:
        end_group(process)


def judge(run: Run, spec: FeedSpec, fault: Fault) -> None:
    """Every step came once, in order, and each as the plain loop makes it (some are looked at)."""
    came = run.came()
    assert [one["step"] for one in came] == list(range(len(came)))
    fault.same("steps", found=[one["step"] for one in came], expected=range(len(came)))
    looked_at = range(0, len(came), max(1, len(came) // 12))
    made = [batch_digest(list(local_batches(spec, range(step, step + 1)))) for step in looked_at]
    fault.same("batches made again", found=[came[step]["digest"] for step in looked_at], expected=made)


def doctor(kube: KubeCluster) -> dict[str, Any]:
    """What `cineray doctor --address` sees."""
    command = [sys.executable, "-m", "cineray", "doctor", "--address", kube.head.dashboard, "--json"]
    done = subprocess.run(command, env=kube.head.environment, capture_output=True, text=True, check=False)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def ready(kube: KubeCluster) -> set[str]:
    """The decode nodes that are there and in Ray's cluster."""
    return {one.pod for one in kube.events if one.what == "ready"} & set(kube.pods("decode"))


def wait_until_none_is_left(kube: KubeCluster) -> None:
    until(lambda: not kube.pods("decode"), "the end of the last decode node", PATIENCE)


@pytest.mark.fault(
    cause="one decode node keeps up with the trainer, and the cloud has none for a while",
    happens="`cineray doctor` says for which labels batches wait; then one node comes, and no second is asked for",
    long=True,
)
def test_one_node_comes_for_a_trainer_that_one_node_can_feed_and_no_more(
    kube: KubeCluster, spec: FeedSpec, tmp_path: Path, fault: Fault
) -> None:
    wait_until_none_is_left(kube)
    with driver(kube, spec, tmp_path, cores=0.3) as run:
        with kube.no_capacity():
            told = [({"ray-subcluster": "decode"}, "no node alive has the labels ray-subcluster=decode")]
            run.until(
                lambda: [(one["labels"], one["why"]) for one in doctor(kube)["waiting"]] == told,
                "wait for a node that decodes, and for nothing else",
            )
        with fault.hit():
            run.wait_for_step(0)
        assert len(kube.pods("decode")) == 1, "from nothing"
        fed = kube.now()
        run.until(lambda: kube.now() - fed > WISHES_SECONDS, "end of some wishes")
        created = [one for one in kube.events if one.what == "created" and one.at >= fed]
        assert created == [], f"the trainer is the limit, and the pool grew: {created}; {kube.autoscaler_log(40)}"
        assert doctor(kube)["asked_of_autoscaler"] == []
        run.end()
        judge(run, spec, fault)
    wait_until_none_is_left(kube)


@pytest.mark.fault(
    cause="trainers wait for a single decode node, and later do not",
    happens="the pool grows; and shrinks again while the run goes on",
    long=True,
)
def test_the_pool_grows_while_trainers_wait_and_shrinks_in_the_run(
    kube: KubeCluster, spec: FeedSpec, tmp_path: Path, fault: Fault
) -> None:
    with driver(kube, spec, tmp_path, cores=0.0) as run:
        run.wait_for_step(0)
        with fault.hit():
            run.until(lambda: len(ready(kube)) >= 2, "second node")
        run.pace(0.2)
        kube.wait_for("deleted", "decode", PATIENCE, after=kube.now())
        had = len(run.came())
        run.wait_for_step(had)
        run.end()
        judge(run, spec, fault)
    assert max(_asked_for(kube)) <= MOST


@pytest.mark.fault(
    cause="a spot node of a pool that scales is gone without notice",
    happens="its tasks run again on the others, and the autoscaler makes another node",
    long=True,
)
def test_a_spot_node_that_is_lost_is_replaced(kube: KubeCluster, spec: FeedSpec, tmp_path: Path, fault: Fault) -> None:
    with driver(kube, spec, tmp_path, cores=0.0) as run:
        run.until(lambda: len(ready(kube)) >= 2, "second node")
        run.wait_for_step(len(run.came()) + 20)
        taken, at, struck_at = min(ready(kube)), kube.now(), time.time()
        kube.take_away(taken)
        assert kube.wait_for("ready", "decode", PATIENCE, after=at).pod != taken
        run.wait_for_step(len(run.came()) + 20)
        run.end()
        pauses = [(after["at"], after["at"] - before["at"]) for before, after in pairwise(run.came())]
        usual = statistics.median(pause for when, pause in pauses if when <= struck_at)
        fault.lost(max(pause for when, pause in pauses if when > struck_at), than=usual)
        judge(run, spec, fault)


def _asked_for(kube: KubeCluster) -> list[int]:
    """All numbers of decode nodes that the autoscaler has asked for."""
    path = "/spec/workerGroupSpecs/0/replicas"
    return [one["value"] for patch in kube.api.patches for one in patch.operations if one["path"] == path]
