"""How many trials fit, and what each one gets: the same for all, so that their figures can be compared."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cineray.errors import CinerayError, UsageError
from cineray.evaluate import EvaluateConfig
from cineray.sweep import Choice, JudgeConfig, ShareConfig, SweepFolder, SweepJob, Variants
from cineray.sweep.capacity import (
    STORE_SHARE,
    Capacity,
    NoRoom,
    Share,
    Terms,
    ahead_demanded,
    capacity_by,
    capacity_of,
    most_needed,
)
from cineray.sweep.judging import definite
from cineray.sweep.machines import machines_of
from cineray.sweep.trial_job import trial_job
from cineray.train.resolve import training_spec

CLUSTER = {"CPU": 64.0, "GPU": 4.0, "object_store_memory": 40e9}


def fit(
    made: ModuleType, cluster: dict[str, float], *, one_machine: bool = False, base: Any = None, **told: Any
) -> Capacity:
    base = made.base_job() if base is None else base
    needs = most_needed([base], cluster)
    return capacity_of(made.sweep_job(base=base, **told), needs, cluster, one_machine=one_machine)


def test_trials_share_what_gpus_leave_of_the_cores(made: ModuleType) -> None:
    assert fit(made, CLUSTER) == Capacity(4, Share(15.0, 4_000_000_000), "GPU"), "16 cores each, one of them trains"


def test_a_stated_share_decides_how_many_fit(made: ModuleType) -> None:
    found = fit(made, CLUSTER, share=ShareConfig(decode_cpus=31, object_store_bytes=7))
    assert found == Capacity(2, Share(31, 7), "CPU")


def test_no_more_trials_at_once_than_wished(made: ModuleType) -> None:
    found = fit(made, CLUSTER, share=ShareConfig(max_concurrent=3))
    assert (found.concurrent, found.limited_by, found.share.decode_cpus) == (3, "share.max_concurrent", 20.0)


def test_the_hungriest_trial_decides(made: ModuleType) -> None:
    jobs = [made.base_job(parallel={"workers": workers}, recipe=made.base_job().recipe) for workers in (1, 2)]
    needs = most_needed(jobs, CLUSTER)
    assert (needs.train_cpus, needs.train_gpus) == (2.0, 2.0)
    assert capacity_of(made.sweep_job(), needs, CLUSTER, one_machine=False).concurrent == 2


def test_what_only_gpus_say_is_no_objective_of_trials_on_cores(made: ModuleType) -> None:
    """Whether trials get GPUs is decided by the cluster, where the job leaves it open."""
    told = {"objectives": [{"name": "skill"}, {"name": "mfu"}]}
    assert fit(made, CLUSTER, **told).concurrent == 4
    with pytest.raises(UsageError, match="objectives has mfu, which only trainings on GPUs say, and here trials train"):
        fit(made, {"CPU": 64.0}, **told)


def test_evaluations_have_their_own_part(made: ModuleType) -> None:
    judge = JudgeConfig(evaluate=EvaluateConfig(), evaluate_cpus=4, evaluate_gpus=1)
    found = fit(made, CLUSTER, judge=judge)
    assert (found.concurrent, found.share.decode_cpus) == (3, 19.0)


def test_on_one_machine_without_gpus_trials_go_one_at_a_time(made: ModuleType) -> None:
    here = {"CPU": 9.0, "object_store_memory": 1e9}
    found = fit(made, here, one_machine=True)
    assert (found.concurrent, found.share.decode_cpus, found.limited_by) == (1, 8.0, "one machine")
    cpus_of_a_cluster = fit(made, {"CPU": 8.0}, one_machine=False)
    assert cpus_of_a_cluster == Capacity(4, Share(1.0, None), "CPU")


def test_a_share_holds_a_decode_process_whatever_that_reserves(made: ModuleType) -> None:
    wide = fit(made, {"CPU": 10.0}, base=made.base_job(feed={"cpus_per_task": 4.0}))
    assert (wide.concurrent, wide.share.decode_cpus) == (2, 4.0), "5 cores each, one of them trains"
    half = fit(made, {"CPU": 6.0}, base=made.base_job(feed={"cpus_per_task": 0.5}), share=ShareConfig(decode_cpus=0.5))
    assert (half.concurrent, half.share.decode_cpus) == (4, 0.5)
    jobs = [made.base_job(feed=told) for told in ({"workers": 2}, {"cpus_per_task": 3.0})]
    both = capacity_of(made.sweep_job(), most_needed(jobs, {}), {"CPU": 8.0}, one_machine=False)
    assert (both.concurrent, both.share.decode_cpus) == (2, 3.0)


# ---- the object store ------------------------------------------------------------------------------------------------

WINDOW = 2 * 4 * 16 * 16 * 3
"""Two ranks share a step of 4 clips of 4 frames of 16 x 16."""
ROWS = 3 * 16 * WINDOW
"""Of tasks that take as many windows as may be: a row in each rank's hands, and one at work."""


def two_ranks(made: ModuleType, lake: str, **told: Any) -> SweepJob:
    """With the longest tasks."""
    told = {"task_seconds": 1000.0, **told}
    return definite(made.sweep_job(lake, base=made.base_job(lake, feed=told, parallel={"workers": 2})))


def with_store(job: SweepJob, trials: float, **cluster: float) -> Capacity:
    """On a cluster whose store has room for so many, and `cluster`."""
    cluster = {"CPU": 64.0, "object_store_memory": trials * ROWS / STORE_SHARE + 1, **cluster}
    return capacity_of(job, most_needed([job.base], cluster), cluster, one_machine=False)


def test_a_trial_needs_as_much_of_the_store_as_its_feed_will_demand(made: ModuleType, lake: str) -> None:
    """A task makes up to sixteen windows, so that is more than what a step's clips say."""
    found = with_store(two_ranks(made, lake), 3.5)
    assert (found.concurrent, found.limited_by) == (3, "object store")
    one_by_one = two_ranks(made, lake, task_seconds=0.0, prefetch_steps=10)
    assert ahead_demanded(one_by_one, enough=0) == (2 * 10 + 1) * WINDOW
    assert with_store(one_by_one, (2 * 10 + 1) / 48).concurrent == 1


@pytest.mark.ray
def test_the_feed_starts_with_the_smallest_share_and_with_no_byte_less(made: ModuleType, lake: str) -> None:
    pytest.importorskip("ray")
    from cineray.feed.ray_feed import RayFeed, ray_options

    job = two_ranks(made, lake)
    share = with_store(job, 1.0).share
    trial = trial_job(job, {"stride": 2}, share=share)
    assert trial.feed.ahead_bytes == ROWS
    feed = RayFeed(ray_options(training_spec(trial), trial.feed), range(4), world=2)
    feed.rows.check(ROWS, ranks=2)
    with pytest.raises(NoRoom, match=f"takes {ROWS:,} bytes .* and trials may have"):
        with_store(job, 0.99)
    less = replace(feed.options, ahead_bytes=ROWS - 1)
    with pytest.raises(UsageError, match=f"ahead_bytes is {ROWS - 1:,}; 2 ranks with 1 rows .* take {ROWS:,}"):
        RayFeed(less, range(4), world=2).dataset()


def test_trials_that_have_bytes_of_their_own_take_no_part_of_the_share(made: ModuleType, lake: str) -> None:
    job = two_ranks(made, lake)
    many = {"feed.prefetch_steps": 1000, "feed.ahead_bytes": 1 << 30}
    mixed = job.model_copy(update={"space": {"ahead": Variants(variants={"own": many, "shared": {}})}})
    assert ahead_demanded(mixed, enough=0) == ROWS
    own = job.model_copy(update={"space": {"ahead": Choice(field="feed.ahead_bytes", values=(1 << 30, 1 << 31))}})
    assert with_store(own, 0.5).limited_by == "CPU"
    assert with_store(job.model_copy(update={"share": ShareConfig(object_store_bytes=7)}), 0.5).limited_by == "CPU"


def test_a_plan_is_only_opened_where_it_could_take_more_than_there_is(made: ModuleType) -> None:
    """The lake of this job does not exist."""
    job = made.sweep_job(base=made.base_job(parallel={"workers": 2}, feed={"task_seconds": 1000.0}))
    assert ahead_demanded(job, enough=ROWS) == ROWS
    with pytest.raises(CinerayError, match="nowhere"):
        ahead_demanded(job, enough=ROWS - 1)


def test_machines_are_waited_for_where_the_store_has_shrunk_with_them(made: ModuleType, lake: str) -> None:
    """It comes with machines: there would be enough of it with so many cores that decode."""
    with pytest.raises(NoRoom) as new:
        with_store(two_ranks(made, lake), 0.25)
    assert new.value.decode_cpus == pytest.approx(4 * 64, abs=1)
    with pytest.raises(NoRoom) as begun:
        goes_on(made, CLUSTER | {"object_store_memory": 1e9})
    assert begun.value.decode_cpus == 4 * 64
    with pytest.raises(NoRoom) as cores:
        goes_on(made, CLUSTER | {"CPU": 8.0})
    assert cores.value.decode_cpus == 0, "of the store there is enough"
    with pytest.raises(NoRoom) as wrong:
        with_store(two_ranks(made, lake, prefetch_steps=10**7), 0.25)
    assert wrong.value.decode_cpus == 0, "it is the job that is wrong"


# ---- machines that are not alike -------------------------------------------------------------------------------------


def node(name: str = "other", *, alive: bool = True, labels: dict[str, str] | None = None, **told: float) -> Any:
    """As Ray lists it."""
    return {"NodeID": name, "Alive": alive, "Resources": told, "Labels": labels or {}}


def fit_on(made: ModuleType, nodes: list[Any], *, base: Any, **told: Any) -> Capacity:
    alive = [one["Resources"] for one in nodes if one["Alive"]]
    cluster = {name: sum(one.get(name, 0.0) for one in alive) for name in ("CPU", "GPU")}
    job, machines = made.sweep_job(base=base, **told), machines_of(nodes, "driver")
    needs = most_needed([base], cluster, machines)
    return capacity_of(job, needs, cluster, one_machine=False, machines=machines)


def test_what_decodes_apart_is_shared_apart(made: ModuleType) -> None:
    trainers = [node(CPU=96.0, GPU=8.0) for _ in range(2)]
    decoders = [node(labels={"ray-subcluster": "decode"}, CPU=48.0)]
    base = made.base_job(feed={"decode_subcluster": "decode"}, parallel={"workers": 4, "cpus_per_worker": 2})
    nodes = [*trainers, *decoders, node(alive=False, CPU=900.0)]
    found = fit_on(made, nodes, base=base)
    assert (found.concurrent, found.limited_by, found.share.decode_cpus) == (4, "GPU", 12.0), "no core of trainers"
    alike = fit_on(made, nodes, base=base.model_copy(update={"feed": made.base_job().feed}))
    assert (alike.concurrent, alike.share.decode_cpus) == (4, 52.0)


def test_machines_that_decode_apart_hold_no_trainers(made: ModuleType) -> None:
    nodes = [node(CPU=8.0), node(labels={"ray-subcluster": "decode"}, CPU=100.0)]
    base = made.base_job(feed={"decode_subcluster": "decode"}, parallel={"cpus_per_worker": 4})
    found = fit_on(made, nodes, base=base)
    assert (found.concurrent, found.limited_by, found.share.decode_cpus) == (2, "CPU to train", 50.0)


def test_machines_that_trainers_are_kept_off_hold_none(made: ModuleType) -> None:
    nodes = [node(labels={"role": "train"}, CPU=8.0), node(CPU=100.0)]
    found = fit_on(made, nodes, base=made.base_job(parallel={"cpus_per_worker": 4, "labels": {"role": "train"}}))
    assert (found.concurrent, found.limited_by, found.share.decode_cpus) == (2, "CPU to train", 50.0)
    rule = made.base_job(parallel={"cpus_per_worker": 4, "labels": {"role": "in(train,spare)"}})
    assert fit_on(made, nodes, base=rule).limited_by == "CPU", "what only Ray understands keeps nobody off"


def test_each_trial_takes_memory_of_the_drivers_machine(made: ModuleType) -> None:
    nodes = [node("driver", CPU=8.0, memory=8e9), *(node(CPU=124.0, memory=500e9) for _ in range(8))]
    found = fit_on(made, nodes, base=made.base_job())
    assert (found.concurrent, found.limited_by) == (16, "memory of the driver's machine")


def test_where_nothing_may_decode_it_is_said(made: ModuleType) -> None:
    base = made.base_job(feed={"decode_subcluster": "decode"}, parallel={"gpus_per_worker": 0})
    with pytest.raises(UsageError, match=r"may be \(base.feed.decode_subcluster\) 0\. Lower"):
        fit_on(made, [node(CPU=64.0), node(labels={"ray-subcluster": "other"}, CPU=64.0)], base=base)


def test_trials_are_not_trained_on_cores_where_the_head_says_that_gpus_come(made: ModuleType) -> None:
    nodes = [node("driver", labels={"cineray-train": "gpu"}, CPU=0.0), node(CPU=96.0)]
    wanted = r"takes 1 CPUs and 1 GPUs to train, .* has 96 CPUs and 0 GPUs.* Add machines with GPUs"
    with pytest.raises(UsageError, match=wanted):
        fit_on(made, nodes, base=made.base_job())
    assert fit_on(made, nodes, base=made.base_job(parallel={"gpus_per_worker": 0})).limited_by == "CPU"
    there = fit_on(made, [*nodes, node(CPU=96.0, GPU=8.0)], base=made.base_job())
    assert (there.concurrent, there.limited_by) == (8, "GPU")


def test_a_cluster_without_room_is_refused(made: ModuleType) -> None:
    with pytest.raises(UsageError, match="a trial takes 2 CPUs and 0 GPUs to train, and 2 CPUs to decode"):
        fit(made, {"CPU": 3.0}, base=made.base_job(parallel={"workers": 2, "gpus_per_worker": 0}))


# ---- a sweep that goes on, maybe elsewhere ---------------------------------------------------------------------------

BEGUN = Terms(Share(15.0, 4_000_000_000), 1.0)
"""As the cluster above gave it."""


def goes_on(made: ModuleType, cluster: dict[str, float], **told: Any) -> Capacity:
    needs = most_needed([made.base_job()], cluster)
    return capacity_by(BEGUN, made.sweep_job(**told), needs, cluster, one_machine=False)


def test_trials_on_another_cluster_get_the_share_that_those_before_them_had(made: ModuleType) -> None:
    assert goes_on(made, CLUSTER) == Capacity(4, BEGUN.share, "CPU"), "16 cores each; a fifth finds neither"
    larger = {"CPU": 256.0, "GPU": 8.0, "object_store_memory": 200e9}
    assert goes_on(made, larger) == Capacity(8, BEGUN.share, "GPU"), "more at once, none of them with more"
    smaller = {"CPU": 40.0, "GPU": 4.0, "object_store_memory": 40e9}
    assert goes_on(made, smaller) == Capacity(2, BEGUN.share, "CPU")
    little_memory = CLUSTER | {"object_store_memory": 9e9}
    assert goes_on(made, little_memory) == Capacity(2, BEGUN.share, "object store")


@pytest.mark.parametrize(
    ("cluster", "why"),
    [
        (
            {"CPU": 12.0, "GPU": 4.0, "object_store_memory": 40e9},
            r"the sweep's trials had 16 CPUs each, 15 of them to decode, 1 GPUs and 4 GB of the object store, and "
            r"beside evaluations this cluster has 12 CPUs and 4 GPUs, and 40 GB of it\..*begin a new sweep here",
        ),
        ({"CPU": 64.0}, r"the sweep's trials had 1 GPUs each, and here a trial gets 0\."),
    ],
)
def test_a_cluster_that_cannot_give_what_trials_had_is_refused(
    made: ModuleType, cluster: dict[str, float], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        goes_on(made, cluster)


@pytest.mark.ray
def test_a_sweep_keeps_its_first_share_wherever_it_goes_on(
    made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    from cineray.sweep import ray_sweep

    job = made.judged(made.sweep_job())
    sweep = SweepFolder.create(job, str(tmp_path / "sweep"))
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "driver"))
    found = []
    for cpus in (16.0, 64.0):
        monkeypatch.setattr(ray, "nodes", lambda cpus=cpus: [node("driver", CPU=cpus / 2), node(CPU=cpus / 2)])
        monkeypatch.setattr(ray, "cluster_resources", lambda cpus=cpus: {"CPU": cpus})
        found.append(ray_sweep._capacity(SweepFolder.open(sweep.uri), job))
    assert [one.share for one in found] == [Share(1.0, None)] * 2
    assert [one.concurrent for one in found] == [8, 32]
    told = json.loads((tmp_path / "sweep" / "share.json").read_text())
    assert told["cluster"] == {"CPU": 16.0, "GPU": 0.0, "object_store_memory": 0.0}
    assert sweep.keep_terms(BEGUN, CLUSTER) == Terms(Share(1.0, None), 0.0), "what lies there stays"


@pytest.mark.ray
def test_so_many_machines_are_asked_for_as_bring_a_store_that_is_large_enough(
    made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cores for a trial are there at once, and the store would be as small as before."""
    ray = pytest.importorskip("ray")
    from cineray.sweep import ray_sweep
    from cineray.train.stop import StopRequest

    sweep = SweepFolder.create(made.judged(made.sweep_job()), str(tmp_path / "sweep"))
    sweep.keep_terms(Terms(Share(2.0, 4_000_000_000), 0.0), {})
    store, asked = [1e9, 8e9], list[Any]()
    labels = {"cineray-decode": "decode"}
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "driver"))
    monkeypatch.setattr(ray, "nodes", lambda: [node("driver", CPU=4.0), node(labels=labels, CPU=4.0)])
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "object_store_memory": store.pop(0)})

    def held(rooms: list[Any], **_: Any) -> Any:
        asked.append(rooms)
        return nullcontext()

    monkeypatch.setattr(ray_sweep, "held", held)
    capacity = ray_sweep._Sweeping(sweep, sweep.begin_driver(), [], StopRequest()).capacity()
    assert (capacity.concurrent, capacity.share.decode_cpus, store) == (2, 2.0, [])
    cpus = [one.resources["CPU"] for room in asked[0] for one in room]
    assert cpus == [1.0] * 33, "one trains; four times the eight that decode"


def test_a_share_is_read_as_it_was_written() -> None:
    assert Share.from_dict(Share(2.5, 7).to_dict()) == Share(2.5, 7)
