"""Workers, nodes and drivers that are killed while batches come: the run goes on with the batches it would have had.

Everything is killed with SIGKILL, which nothing can catch. What is expected is what the plain loop makes undisturbed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cineray.batch import batch_digest
from cineray.feed import FeedSpec, TorchFeed, from_torch, local_batches
from cineray.records import Batch
from cineray.testing.fault_table import Fault

ray = pytest.importorskip("ray")
from cineray.feed.ray_feed import RayFeed, RayOptions  # noqa: E402
from cineray.feed.ray_shard import RayShard  # noqa: E402
from cineray.telemetry.ray_session import connected  # noqa: E402

pytestmark = [pytest.mark.slow]
STEPS = range(3, 31)


@pytest.fixture(scope="module")
def spec(slow_clips: Callable[..., FeedSpec], tmp_path_factory: pytest.TempPathFactory) -> FeedSpec:
    """A task takes long enough to be killed at work."""
    return slow_clips(tmp_path_factory.mktemp("feed-kill"), max_substituted_fraction=1.0)


@pytest.fixture(scope="module")
def expected(spec: FeedSpec) -> list[str]:
    return [batch_digest([batch]) for batch in local_batches(spec, STEPS)]


def of_both_ranks(options: RayOptions, at_step: Callable[[int], None], steps: range = STEPS) -> list[str]:
    """Two ranks as threads; `at_step` is called by rank 0 before it takes the batch of a step."""
    shards, results = RayFeed(options, steps, world=2).shards(), [[], []]  # type: ignore[var-annotated]

    def run(shard: RayShard, seen: list[Any]) -> None:
        try:
            for batch in shard.batches():
                seen.append(batch)
                if shard.rank == 0:
                    at_step(batch.step)
        except Exception as error:
            seen.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(shards, results, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=150)
    for result in results:
        if result and isinstance(result[-1], Exception):
            raise result[-1]
    pairs: Iterator[tuple[Batch, Batch]] = zip(*results, strict=True)
    return [batch_digest(pair) for pair in pairs]


def busy_workers(root: psutil.Process) -> list[psutil.Process]:
    """Ray's workers that are decoding at this moment."""
    found = []
    for child in root.children(recursive=True):
        try:
            if "make_row" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def kill_one(root: psutil.Process, killed: list[int], within_seconds: float = 20) -> None:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        for worker in busy_workers(root):
            worker.kill()
            killed.append(worker.pid)
            return
        time.sleep(0.002)


@pytest.mark.ray
@pytest.mark.fault(cause="decode workers are killed at work", happens="their tasks run again in other workers")
def test_decode_workers_that_are_killed_at_work_cost_no_batch(
    spec: FeedSpec, expected: list[str], fault: Fault
) -> None:
    killed: list[int] = []
    with connected(num_cpus=2, object_store_memory=160_000_000):
        # A small window, so that there is work left to be killed at.
        options = RayOptions(spec=spec, task_seconds=0, ahead_bytes=6 * 2 * 3 * 8 * 48 * 48 * 3)

        def at_step(step: int) -> None:
            fault.beat()
            if step in (9, 15, 21):
                kill_one(psutil.Process(), killed)
                fault.strikes()
            if step in (14, 20, 30):
                fault.over()

        found = of_both_ranks(options, at_step)
    assert len(killed) >= 2, "workers were killed while they decoded"
    fault.same("batches", found=found, expected=expected)
    assert found == expected


@pytest.mark.ray
@pytest.mark.fault(cause="a decode node is killed", happens="its tasks run again on the other one")
def test_a_decode_node_that_is_killed_costs_no_batch(
    spec: FeedSpec, expected: list[str], monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": 160_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    label = {"ray-subcluster": "decode"}
    try:
        nodes = [cluster.add_node(num_cpus=1, labels=label, object_store_memory=160_000_000) for _ in range(2)]
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)  # as in a Ray job
        with connected(num_cpus=2):
            done: list[int] = []

            def at_step(step: int) -> None:
                time.sleep(0.05)
                fault.beat()
                if step >= 11 and not done:
                    cluster.remove_node(nodes[1], allow_graceful=False)
                    fault.strikes()
                    done.append(step)

            options = RayOptions(spec=spec, decode_label=label, task_seconds=0, ahead_bytes=8 * 2 * 3 * 8 * 48 * 48 * 3)
            found = of_both_ranks(options, at_step)
            fault.over()
            alive = [node for node in ray.nodes() if node["Alive"]]
        fault.same("batches", found=found, expected=expected)
        assert (len(done), len(alive)) == (1, 2), "the head and one decode node are left"
        assert found == expected
    finally:
        cluster.shutdown()


def deadly_workers() -> None:
    """In each Ray worker: the decoder dies of one clip, in the worker and in its child process."""
    from cineray.feed import isolated, visits

    real = visits.decode_visit

    def dies(video: Any, place: Any, specs: Any, **options: Any) -> Any:
        if any(f"{one.clip_id}.{one.draw}" == os.environ["DEADLY"] for one in specs):
            os.kill(os.getpid(), signal.SIGSEGV)
        return real(video, place, specs, **options)

    visits.decode_visit = dies
    isolated.COMMAND = (sys.executable, os.environ["DEADLY_CHILD"])


@pytest.mark.ray
@pytest.mark.fault(
    cause="a clip crashes every decoder that opens it", happens="another stands in for it, in each run that follows too"
)
def test_a_clip_that_kills_decoders_is_replaced_and_stays_replaced(
    spec: FeedSpec, expected: list[str], tmp_path: Path, fault: Fault
) -> None:
    import dataclasses

    own = dataclasses.replace(spec, journal=str(tmp_path / "journal"))
    deadly = spec.open().plan.batch(8)[4]
    child = Path(__file__).parents[1] / "unit" / "feed" / "deadly_child.py"
    told = {"DEADLY": f"{deadly.clip_id}.{deadly.draw}", "DEADLY_CHILD": str(child)}
    steps = range(3, 15)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
    runtime_env = {"env_vars": told, "worker_process_setup_hook": deadly_workers}
    with connected(num_cpus=2, object_store_memory=160_000_000, runtime_env=runtime_env):
        of_both_ranks(RayOptions(spec=own), lambda _: None, range(3))  # so that workers are there
        began = time.monotonic()
        found = of_both_ranks(RayOptions(spec=own), lambda _: None, steps)
        took, began = time.monotonic() - began, time.monotonic()
        again_on_ray = of_both_ranks(RayOptions(spec=own), lambda _: None, steps)
        fault.lost(took, than=time.monotonic() - began)

    assert again_on_ray == found
    fault.same("batches", found=again_on_ray, expected=found)
    wrong = [step for step, a, b in zip(steps, found, expected, strict=False) if a != b]
    assert wrong == [8]
    again = list(local_batches(own, steps))
    assert [batch_digest([batch]) for batch in again] == found
    assert [(one.step, one.slot, one.reason) for one in again[5].substitutions] == [(8, 4, "decoder_crashed")]


DRIVER = """
import json, sys
from cineray.batch.digest import slot_digest
from cineray.feed import FeedSpec
from cineray.feed.ray_feed import RayOptions, ray_batches
from cineray.telemetry.ray_session import connected
from cineray.plan import Recipe
told = json.loads(sys.argv[1])
spec = FeedSpec(recipe=Recipe.model_validate(told["recipe"]), seed=told["seed"])
with connected(num_cpus=2, object_store_memory=160_000_000):
    for batch in ray_batches(RayOptions(spec=spec), range(told["start"], told["stop"])):
        from cineray.batch import batch_digest
        print(batch.step, batch_digest([batch]), file=sys.__stdout__, flush=True)
"""


def at_work(process: psutil.Process) -> bool:
    """Not Ray's agents, which take their time to notice that their node is gone."""
    return process.name() in ("raylet", "gcs_server") or process.name().startswith(("ray::MapBatches", "ray::IDLE"))


@pytest.mark.ray
@pytest.mark.fault(cause="the driver of a feed is killed", happens="its Ray ends with it; the next one goes on")
def test_a_driver_that_is_killed_leaves_nothing_and_the_next_one_goes_on(
    spec: FeedSpec, expected: list[str], fault: Fault
) -> None:
    seen: dict[int, str] = {}
    kills, left = [14], []  # type: ignore[var-annotated]
    while len(seen) < len(STEPS):
        start = STEPS.start + len(seen)
        told = {"recipe": spec.recipe.model_dump(mode="json"), "seed": spec.seed, "start": start, "stop": STEPS.stop}
        driver = subprocess.Popen([sys.executable, "-c", DRIVER, json.dumps(told)], stdout=subprocess.PIPE, text=True)
        assert driver.stdout is not None
        for line in driver.stdout:
            step, digest = line.split()
            seen[int(step)] = digest
            if not kills and not fault.seconds:
                fault.over()
            if kills and int(step) >= kills[0]:
                kills.pop()
                left = [c for c in psutil.Process(driver.pid).children(recursive=True) if at_work(c)]
                driver.kill()
                fault.strikes()
                break
        driver.stdout.close()
        driver.wait(timeout=60)
    fault.same("batches", found=seen.values(), expected=expected)
    assert [seen[step] for step in STEPS] == expected
    _, alive = psutil.wait_procs(left, timeout=30)
    assert left
    assert not alive


@pytest.mark.fault(cause="a PyTorch data worker is killed", happens="the loop ends; its saved state goes on")
def test_a_torch_worker_that_is_killed_ends_the_loop_and_the_state_goes_on(
    spec: FeedSpec, expected: list[str], fault: Fault
) -> None:
    loader = TorchFeed(spec, STEPS).loader(num_workers=2)
    seen: list[str] = []
    with pytest.raises(RuntimeError, match="DataLoader worker"):  # noqa: PT012 - the kill is part of the loop
        for batch in loader:
            seen.append(batch_digest([from_torch(batch)]))
            if len(seen) == 6:
                workers = [
                    c for c in psutil.Process().children(recursive=True) if "forkserver" in " ".join(c.cmdline())
                ]
                youngest = max(workers, key=lambda process: process.create_time())
                youngest.kill()
                fault.strikes()
    resumed = TorchFeed(spec, STEPS).loader(num_workers=1)
    resumed.load_state_dict(loader.state_dict())
    for batch in resumed:
        if not fault.seconds:
            fault.over()
        seen.append(batch_digest([from_torch(batch)]))
    fault.same("batches", found=seen, expected=expected)
    assert seen == expected
