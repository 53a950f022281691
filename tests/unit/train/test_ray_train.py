"""Training under Ray, without a cluster: what the link judges, when it saves before a machine goes, what it refuses."""

from __future__ import annotations

import logging
import math
import pickle
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cineray.errors import CinerayError, FeedStalled, PlaceError, UsageError
from cineray.train.checkpoint_write import CheckpointFailed
from cineray.train.config import ParallelConfig
from cineray.train.nan_stop import LossNotFinite
from cineray.train.parallel import World
from cineray.train.run_folder import RunSuperseded

ray = pytest.importorskip("ray")
from cineray.feed import FeedConfig, FeedSpec  # noqa: E402
from cineray.feed.ray_options import ray_options  # noqa: E402
from cineray.train import ray_room, ray_train  # noqa: E402
from cineray.train.ray_control import Losses  # noqa: E402
from cineray.train.ray_link import LinkState, is_final  # noqa: E402


def test_failures_in_a_row_without_a_step_more_are_counted() -> None:
    link = LinkState(most_failures=1)
    assert link.begin(0) is None
    assert link.lost("rank 1: killed") is None
    assert link.begin(0) is None, "one is put up with"
    assert link.lost("") is None
    assert link.begin(10) is None, "it got further in between, so the count begins anew"
    assert link.lost("") is None
    assert link.begin(10) is None
    assert link.lost("rank 0: the node died") is None, "whether it got further shows when workers begin"
    gone_on = link.begin(10)
    assert str(gone_on) == (
        "the run failed 2 times in a row without getting beyond step 10 (limits.failures_without_progress=1); "
        "the last time: rank 0: the node died"
    )
    assert link.begin(20) is gone_on, "what is final stays so"


def test_workers_that_never_begin_are_not_started_for_ever() -> None:
    link = LinkState(most_failures=2)
    told = [link.lost("rank 0: no module named cineray") for _ in range(3)]
    assert told[:2] == [None, None]
    assert "failed 3 times in a row" in str(told[2])
    assert "no module named cineray" in str(told[2])


def test_of_all_ranks_errors_the_one_that_names_the_clips_is_told() -> None:
    link = LinkState(most_failures=1)
    link.failed("rank 0", LossNotFinite("another process names them"))
    link.failed("rank 1", LossNotFinite("clip 7", clips=1))
    link.failed("rank 2", LossNotFinite("another process names them"))
    assert str(link.lost("")) == "clip 7"


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (UsageError("a wrong field"), True),
        (LossNotFinite("nan"), True),
        (RunSuperseded("started again"), True),
        (CheckpointFailed("the disk is full", no_room=True), True),
        (CheckpointFailed("the store did not answer"), False),
        (PlaceError("the store did not answer"), False),
        (FeedStalled("no batch"), False),
        (RuntimeError("connection closed by peer"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_only_what_another_try_would_meet_again_is_final(error: Exception, final: bool) -> None:
    assert is_final(error) == final
    assert is_final(pickle.loads(pickle.dumps(error))) == final, "as it comes out of another process"


def test_before_a_machine_goes_it_is_saved_after_half_of_the_time_that_is_left_again_and_again() -> None:
    now, times = 1000.0, []
    while now < math.inf:
        now = ray_train.next_save(now, deadline=1120.0)
        times.append(now)
    assert times == [1060.0, 1090.0, 1105.0, 1112.5, 1116.25, math.inf]
    assert ray_train.next_save(1000.0, deadline=0.0) == math.inf, "of an unknown deadline once, at the notice"


def test_a_notice_is_a_wish_for_a_checkpoint_once_until_half_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    notices: list[Any] = [None]
    monkeypatch.setattr(ray_train, "_preemption_notice", lambda: notices[-1])
    stop = ray_train._Stop()
    assert not stop.take_checkpoint_wish()
    now = time.time()
    notices.append(ray.train.PreemptionInfo(deadline_ms=int(1000 * (now + 100)), preempted_node_to_ranks={"a": [0]}))
    assert [stop.take_checkpoint_wish() for _ in range(3)] == [True, False, False]
    monkeypatch.setattr(time, "time", lambda: now + 60)
    assert [stop.take_checkpoint_wish() for _ in range(3)] == [True, False, False]
    notices.append(ray.train.PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"a": [0], "b": [1]}))
    assert [stop.take_checkpoint_wish() for _ in range(3)] == [True, False, False], "another machine goes too"


def test_what_a_job_says_of_its_feed_reaches_the_feed_under_ray_train(made: ModuleType) -> None:
    feed = FeedConfig(
        driver="ray", workers=3, cpus_per_task=0.5, prefetch_steps=7, task_seconds=2.5, ahead_bytes=1 << 30
    )

    class Run:
        def spec(self) -> FeedSpec:
            return FeedSpec(recipe=made.job_of().recipe, seed=3)

    job = made.job_of(feed=feed, parallel=ParallelConfig(gpus_per_worker=0))
    options = ray_train._options(job, Run(), 0)  # type: ignore[arg-type]
    assert options == ray_options(Run().spec(), feed)
    assert (options.workers, options.prefetch_steps, options.ahead_bytes) == (3, 7, 1 << 30)


def test_trainers_that_would_take_every_core_are_refused(made: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    ray_room.check_room(made.job_of(parallel=ParallelConfig(workers=3)), 0)
    with pytest.raises(UsageError, match="4 workers of 1 CPUs each need 4 CPUs and decoding at least 1 more; the clu"):
        ray_room.check_room(made.job_of(parallel=ParallelConfig(workers=4)), 0)
    elastic = ParallelConfig(workers=(1, 4))
    with pytest.raises(UsageError, match="or name those that decode by feed"):
        ray_room.check_room(made.job_of(parallel=elastic), 0)
    ray_room.check_room(made.job_of(parallel=elastic, feed=FeedConfig(decode_subcluster="decode")), 0)
    ray_room.check_room(made.job_of(parallel=ParallelConfig(workers=4)), 1)  # nodes with GPUs come, with their cores


GPUS_COME = {"cineray-train": "gpu", "pool": "head"}


@pytest.mark.parametrize(
    ("parallel", "gpus", "labels", "expected"),
    [
        ({}, 0, {}, 0),
        ({}, 1, {}, 1),
        ({"workers": 4}, 3, {}, 0),
        ({}, 0, GPUS_COME, 1),
        ({"workers": 4}, 3, GPUS_COME, 1),
        ({"workers": (2, 8)}, 3, {}, 1),
        ({"gpus_per_worker": 0}, 8, GPUS_COME, 0),
        ({"gpus_per_worker": 1}, 0, {}, 1),
    ],
)
def test_a_run_is_on_gpus_where_there_are_enough_or_the_head_says_that_they_come(
    monkeypatch: pytest.MonkeyPatch, parallel: dict[str, Any], gpus: float, labels: dict[str, str], expected: int
) -> None:
    gone = {"Alive": False, "Labels": GPUS_COME}
    monkeypatch.setattr(ray, "nodes", lambda: [gone, {"Alive": True, "Labels": labels}, {"Alive": True}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": gpus})
    assert ray_room.gpus_on_ray(ParallelConfig(**parallel)) == expected


def test_that_a_cluster_trains_on_cores_is_said_unless_the_job_says_it(
    made: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    monkeypatch.setattr(logging.getLogger("cineray"), "propagate", True)  # a command run before sends it elsewhere
    job = made.job_of(parallel=ParallelConfig())
    ray_room.tell_of_cores(job, 1, is_cluster=True)
    ray_room.tell_of_cores(job, 0, is_cluster=False)
    ray_room.tell_of_cores(made.job_of(parallel=ParallelConfig(gpus_per_worker=0)), 0, is_cluster=True)
    assert caplog.messages == []
    ray_room.tell_of_cores(job, 0, is_cluster=True)
    (said,) = caplog.messages
    assert said.startswith("trains on cores: the cluster has 0 GPUs for 1 workers now, and no node with the label cin")
    assert "To wait for GPUs: parallel.gpus_per_worker=1" in said


def test_a_run_that_a_worker_cannot_see_is_said_to_be_on_one_machine_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no run at .* rank 1 on .* has not: a run on several machines must"):
        ray_train._opened(str(tmp_path / "elsewhere"), World(rank=1, size=2))


def test_errors_of_workers_that_died_are_told_and_preemptions_are_not_counted() -> None:
    class Link:
        def __init__(self) -> None:
            self.told: list[str] = []

        def lost(self, text: str) -> CinerayError | None:
            self.told.append(text)
            return CinerayError("enough") if len(self.told) == 3 else None

    from ray.exceptions import ActorDiedError

    link = Link()
    losses = Losses(link)  # type: ignore[arg-type]
    taken = ActorDiedError()
    taken._preempted = True
    losses.after_exception(None, {0: RuntimeError("connection closed"), 1: taken})
    assert link.told == []
    losses.after_exception(None, {0: RuntimeError("its rank has told the link itself")})
    losses.after_exception(None, {1: ActorDiedError()})
    assert link.told[0] == ""
    assert link.told[1].startswith("rank 1: The actor died")
    with pytest.raises(CinerayError, match="enough"):
        losses.after_exception(None, {1: ActorDiedError()})
