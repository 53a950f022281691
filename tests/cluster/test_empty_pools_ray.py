"""A training and a sweep come to a cluster whose pools have shrunk to nothing: they wait, and ask for GPUs, and for no
cores of the nodes that have them.

cluster/kuberay with Ray's own autoscaler; the RayCluster is the overlay `kind`, whose training pool has GPUs here. The
cloud has no node to give, so what is asked for stays to be seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.launch.cluster.files import read_cluster
from cineray.testing import make_shapes
from cineray.testing.clusters.kube_api import built_in_check
from cineray.testing.clusters.kube_cluster import KubeCluster
from cineray.testing.clusters.ray_head import end_group

pytestmark = [pytest.mark.ray, pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600)]

REPO = Path(__file__).resolve().parents[2]
TRAIN = """
kind: train
name: tiny
recipe:
  datasets: [{lake: LAKE, split: null}]
  sampling: {mode: fps, fps: "8", frames: 4}
  frame: {height: 16, width: 16}
  batch_size: 4
feed: {driver: ray, decode_subcluster: decode}
steps: 2
model: {kind: stdit, size: custom, width: 24, depth: 1, heads: 2, patch: [1, 8, 8]}
precision: fp32
validation: {every_steps: 0}
"""
SWEEP = """
kind: sweep
name: rates
base:
  name: tiny
  recipe:
    datasets: [{lake: LAKE, split: null}]
    sampling: {mode: fps, fps: "8", frames: 4}
    frame: {height: 16, width: 16}
    batch_size: 4
  feed: {driver: ray, decode_subcluster: decode}
  steps: 2
  model: {kind: stdit, size: custom, width: 24, depth: 1, heads: 2, patch: [1, 8, 8]}
  precision: fp32
  validation: {clips: 8, baseline_clips: 8}
space:
  lr: {kind: choice, field: optimiser.lr, values: [0.003, 0.000001]}
objectives: [{name: noisiest_loss}]
budget: {steps: 2}
search: {kind: grid}
"""
PATIENCE_SECONDS = 240.0


@pytest.fixture(scope="module")
def kube() -> Iterator[KubeCluster]:
    documents = {one["kind"]: one for one in read_cluster(str(REPO / "cluster/kuberay/overlays/kind")).documents}
    spec = documents["RayCluster"]["spec"]
    spec["headGroupSpec"]["labels"]["cineray-train"] = "gpu"
    (train,) = (group for group in spec["workerGroupSpecs"] if group["groupName"] == "train")
    train["rayStartParams"]["num-gpus"] = "1"
    described = documents["RayCluster"], documents["ConfigMap"]["data"]
    with KubeCluster(*described, check=built_in_check) as running, running.no_capacity():
        yield running


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("empty-pools")
    make_shapes(folder / "videos", videos=12)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


@contextmanager
def at_work(kube: KubeCluster, folder: Path, command: str, job: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of cineray's beside the cluster, whose job says nothing of GPUs; it is killed at the end."""
    (folder / "job.yaml").write_text(job)
    words = {"train": "--run", "sweep": "--sweep"}
    typed = [sys.executable, "-m", "cineray", command, str(folder / "job.yaml"), words[command], str(folder / "made")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*typed, "--address", kube.head.address],
            env=kube.head.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end_group(process)


def waiting(kube: KubeCluster) -> list[tuple[dict[str, float], dict[str, str]]]:
    """What `cineray doctor --address` says of it: resources, and on which nodes."""
    command = [sys.executable, "-m", "cineray", "doctor", "--address", kube.head.dashboard, "--json"]
    done = subprocess.run(command, env=kube.head.environment, capture_output=True, text=True, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)["waiting"]
    return [(one["resources"], one["labels"]) for one in found]


def asked_for(kube: KubeCluster) -> dict[str, int]:
    """Pools of which the autoscaler wants nodes, and how many."""
    groups = kube.api.cluster()["spec"]["workerGroupSpecs"]
    return {group["groupName"]: group["replicas"] for group in groups if group.get("replicas")}


TRAINER = ({"CPU": 1.0, "GPU": 1.0}, {"ray-subcluster": "!decode"})
A_CORE = ({"CPU": 1.0}, {"ray-subcluster": "decode"})


@pytest.mark.parametrize(
    ("command", "job", "wanted", "pools"),
    [
        ("train", TRAIN, [TRAINER], {"train": 1}),
        ("sweep", SWEEP, [TRAINER, A_CORE], {"decode": 1, "train": 1}),
    ],
    ids=["train", "sweep"],
)
def test_what_says_nothing_of_gpus_asks_for_them_and_waits_while_their_pool_is_empty(
    kube: KubeCluster,
    lake: str,
    tmp_path: Path,
    command: str,
    job: str,
    wanted: list[tuple[dict[str, float], dict[str, str]]],
    pools: dict[str, int],
) -> None:
    with at_work(kube, tmp_path, command, job.replace("LAKE", lake)) as process:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := waiting(kube)) != wanted or asked_for(kube) != pools:
            assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, f"{found}, {asked_for(kube)}; {kube.autoscaler_log()}"
