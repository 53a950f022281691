"""How many decoding cores a training needs, and pools that are as large as that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cineray.errors import UsageError
from cineray.feed import FeedConfig
from cineray.launch.cluster.files import read_cluster
from cineray.launch.cluster.fit import fitted, most_cores, nodes_to_train, shortages
from cineray.launch.cluster.size import DecodeNeed, gpu_seconds_of
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.train import ParallelConfig, TrainJob

CLUSTER = Path(__file__).resolve().parents[3] / "cluster"
GKE, KUEUE = CLUSTER / "kuberay" / "overlays" / "gke", CLUSTER / "kuberay" / "overlays" / "kueue"


def need(cpu_seconds: float, gpu_seconds: float, gpus: int, headroom: float = 1.0) -> DecodeNeed:
    return DecodeNeed(
        gpus=gpus,
        decode_cpu_seconds_per_step=cpu_seconds,
        gpu_seconds_per_step=gpu_seconds,
        measured="a test",
        headroom=headroom,
    )


def job(workers: int = 8, cpus: float = 1.0) -> TrainJob:
    return TrainJob(
        name="j",
        recipe=Recipe(
            datasets=(DatasetSpec(lake="s3://b/lake"),),
            sampling=SamplingSpec(mode="fps", fps="8", frames=8),
            frame=FrameSpec(height=32, width=32),
            batch_size=64,
        ),
        steps=10,
        feed=FeedConfig(decode_subcluster="decode"),
        parallel=ParallelConfig(workers=workers, cpus_per_worker=cpus),
    )


def row(step: int, **more: Any) -> dict[str, Any]:
    """A step of 1.0 s on two GPUs, of which it waits 0.4 s."""
    told = {"step": step, "attempt": 1, "bucket": "8x32x32", "step_s": 1.0, "data_wait_s": 0.4, "gpu_stall_s": None}
    return told | {"longest_wait_s": 0.4, "checkpoint_s": 0.0, "validation_s": 0.0, "world_size": 2} | more


def test_cores_per_gpu_is_decoding_over_computing_and_no_number_of_gpus_changes_it() -> None:
    assert need(12, 4, gpus=1).cores_per_gpu == need(12, 4, gpus=64).cores_per_gpu == 3
    assert [need(12, 4, gpus=gpus, headroom=1.25).cores for gpus in (1, 8, 64)] == [4, 30, 240]


def test_a_step_counts_without_its_waiting_and_by_all_its_gpus() -> None:
    rows = [row(step) for step in range(10)]
    assert gpu_seconds_of(rows, where="r") == pytest.approx(2 * 0.6)


def test_first_steps_checkpoints_and_validation_do_not_count() -> None:
    slow = [row(0, step_s=90.0), row(1, step_s=30.0)]
    saved = [row(step, step_s=6.0, checkpoint_s=2.0, validation_s=3.0) for step in range(2, 9)]
    assert gpu_seconds_of(slow + saved, where="r") == pytest.approx(2 * 0.6)


def test_a_run_of_few_steps_is_refused() -> None:
    with pytest.raises(UsageError, match="the run r has 2 steps to measure by; wanted 5 after the first 2"):
        gpu_seconds_of([row(step) for step in range(4)], where="r")


def most(path: Path, files: Any = None) -> dict[str, tuple[int, int]]:
    pools = (files or read_cluster(str(path))).pools()
    return {pool.name: (pool.least, pool.most) for pool in pools if pool.role != "head"}


def test_pools_of_pods_get_the_most_that_the_job_can_use() -> None:
    files = fitted(read_cluster(str(GKE)), need(30, 1, gpus=16), job(workers=16))
    assert most(GKE, files) == {"decode": (0, 32), "gpu": (0, 2)}  # 480 cores on nodes of 15
    assert most(GKE) == {"decode": (0, 16), "gpu": (0, 2)}, "the file's own stay"


def test_a_job_that_a_queue_admits_as_a_whole_gets_exactly_its_size() -> None:
    files = fitted(read_cluster(str(KUEUE)), need(30, 1, gpus=16), job(workers=16))
    assert most(KUEUE, files) == {"decode": (32, 32), "gpu": (2, 2)}
    assert [one["replicas"] for one in files.cluster()["workerGroupSpecs"]] == [32, 2]


def test_any_spot_type_of_machines_may_do_all_and_the_cluster_has_one_limit() -> None:
    path = CLUSTER / "vm" / "aws.yaml"
    files = fitted(read_cluster(str(path)), need(30, 1, gpus=8), job())
    assert {name: size for name, (_, size) in most(path, files).items()} == {
        "decode-spot-c6id": 16,
        "decode-spot-m6id": 16,
        "decode-spot-r6id": 16,
        "decode-fallback": 16,
        "gpu": 1,
    }
    assert files.cluster()["max_workers"] == 17
    assert most_cores(files) == 16 * 15


def test_workers_that_take_more_cores_take_more_nodes() -> None:
    files = read_cluster(str(GKE))  # 8 GPUs and 16 cores on a node
    assert nodes_to_train(files, need(1, 1, gpus=16), job(cpus=2)) == 2
    assert nodes_to_train(files, need(1, 1, gpus=16), job(cpus=4)) == 4
    with pytest.raises(UsageError, match=r"takes 20 cores .* of the pool gpu offers 16"):
        nodes_to_train(files, need(1, 1, gpus=16), job(cpus=20))


def test_what_a_job_needs_and_the_cluster_has_not_is_told() -> None:
    told = shortages(read_cluster(str(GKE)), need(30, 1, gpus=32), job(workers=32))
    assert told == [
        (
            "decode",
            "the decoding pools have at most 240 cores; 32 GPUs need 960 (30.0 for each, with 1 times for room); "
            "`cineray cluster render` makes them large enough",
        ),
        ("gpu", "at most 2 nodes; 32 workers need 4"),
    ]


def test_what_was_fitted_is_large_enough() -> None:
    for path in (GKE, KUEUE, *sorted(CLUSTER.glob("vm/*.yaml"))):
        what = need(30, 1, gpus=32), job(workers=32)
        assert shortages(fitted(read_cluster(str(path)), *what), *what) == []
