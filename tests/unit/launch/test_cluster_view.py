"""Who waits for whom: worked out from what Ray's state API tells, and seen on a real Ray that is full on purpose."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cineray.cli.cluster_doctor import judged, tables_of
from cineray.launch.clients import Versions
from cineray.launch.observe import view as cluster_view
from cineray.launch.observe.view import ClusterView, Holder, Node, Wanted, explained, own_resources
from cineray.testing.clusters.ray_head import RayHead


def node(name: str, *, cpus: float = 4, head: bool = False, alive: bool = True, detail: str = "", **more: Any) -> Node:
    labels = more.pop("labels", {})
    resources = {"CPU": float(cpus), **more}
    return Node(id=name, ip="10.0.0.1", head=head, alive=alive, labels=labels, resources=resources, detail=detail)


def wanted(resources: dict[str, float], labels: dict[str, str] | None = None) -> Wanted:
    return Wanted(what="task make_row", count=2, resources=resources, labels=labels or {})


def why(one: Wanted, nodes: list[Node], holders: list[Holder] | None = None) -> tuple[str, bool]:
    found = explained(one, nodes, holders or [])
    return found.why, found.never


def test_what_no_node_could_ever_take_is_told_with_the_most_that_there_is() -> None:
    nodes = [node("a", cpus=2), node("b", cpus=8)]
    assert why(wanted({"GPU": 1.0}), nodes) == ("no node has so much; the most is GPU 0", True)
    assert why(wanted({"CPU": 16.0}), nodes) == ("no node has so much; the most is CPU 8", True)
    assert why(wanted({"CPU": 1.0}, {"pool": "decode"}), nodes) == ("no node alive has the labels pool=decode", True)


def test_of_a_full_node_those_who_hold_it_are_named_and_others_are_not() -> None:
    nodes = [node("a"), node("b", labels={"pool": "decode"})]
    worker = {"what": "actor RayTrainWorker", "resources": {"CPU": 2.0}}
    holders = [
        Holder(node="b", **worker),
        Holder(node="b", **worker),
        Holder(what="task hog", node="a", resources={"CPU": 4.0}),
    ]
    assert why(wanted({"CPU": 1.0}, {"pool": "decode"}), nodes, holders) == (
        "1 node could take it and is held by 2 x actor RayTrainWorker with CPU 2",
        False,
    )


@pytest.mark.parametrize(
    ("selector", "fits"),
    [("decode", True), ("!decode", False), ("in(train, decode)", True), ("!in(train, decode)", False), ("!x", True)],
)
def test_labels_are_chosen_as_ray_chooses_them(selector: str, fits: bool) -> None:
    _, never = why(wanted({"CPU": 1.0}, {"pool": selector}), [node("a", labels={"pool": "decode"})])
    assert never is not fits


def test_what_ray_adds_for_itself_is_not_what_somebody_asked_for() -> None:
    told = {"CPU_group_0_ab": 1.0, "CPU": 1.0, "bundle_group_ab": 0.001, "node:10.0.0.1": 0.001, "GPU": 0}
    assert own_resources(told) == {"CPU": 1.0}


def view(*nodes: Node, waiting: tuple[Wanted, ...] = (), asked: tuple[Any, ...] = ()) -> ClusterView:
    import ray

    here = Versions(ray.__version__, ".".join(map(str, sys.version_info[:3])))
    return ClusterView(
        address="http://head:8265",
        versions=here,
        nodes=nodes,
        groups=(),
        holders=(),
        wanted=waiting,
        asked_of_autoscaler=asked,
    )


HEAD = node("head", cpus=0, head=True)


def states(found: ClusterView) -> dict[str, str]:
    return {finding.part: finding.state for finding in judged(found)}


def test_a_cluster_as_it_should_be_has_nothing_to_say() -> None:
    good = view(HEAD, node("gpu", GPU=8.0), node("cpu", labels={"ray-subcluster": "decode"}))
    assert set(states(good).values()) == {"ok"}


def test_nodes_that_the_autoscaler_gave_back_are_no_loss() -> None:
    idle = "Terminated due to idle (no Ray activity): Termination of node that's idle for 7.8 seconds."
    shrunk = view(HEAD, node("a"), node("b", alive=False, detail=idle))
    assert states(shrunk)["nodes"] == "ok"
    (finding,) = [one for one in judged(shrunk) if one.part == "nodes"]
    assert finding.found == "2 alive with 4 CPU, 1 given back when idle"


def test_what_waits_for_a_node_that_is_on_its_way_is_no_fault() -> None:
    waits = explained(wanted({"CPU": 1.0}, {"pool": "decode"}), [HEAD], [])
    assert states(view(HEAD, waiting=(waits,)))["waiting"] == "broken"
    growing = dataclasses.replace(view(HEAD, waiting=(waits,)), coming=("decode, 1 launching",))
    assert states(growing)["waiting"] == "warning"
    (finding,) = [one for one in judged(growing) if one.part == "waiting"]
    assert finding.next_step.startswith("the autoscaler is at it (decode, 1 launching)")


@pytest.mark.parametrize(
    ("broken", "part", "state", "words"),
    [
        (view(node("head", head=True), node("a")), "head", "warning", "has 4 CPU for work"),
        (view(HEAD, node("gpu", GPU=8.0)), "decoding", "warning", "decoding takes the trainers' cores"),
        (
            view(HEAD, node("gpu", GPU=8.0, labels={"ray-subcluster": "train"})),
            "decoding",
            "broken",
            "Ray Train cannot reserve them",
        ),
        (view(HEAD, node("a"), node("b", alive=False, detail="preempted")), "nodes", "warning", "preempted"),
        (view(node("a", alive=False)), "nodes", "broken", "0 alive"),
        (
            view(HEAD, waiting=(explained(wanted({"GPU": 1.0}), [HEAD], []),)),
            "waiting",
            "broken",
            "2 x task make_row wants GPU 1: no node has so much",
        ),
        (
            view(HEAD, node("a"), asked=(({"CPU": 1.0}, 9),)),
            "asked of the autoscaler",
            "warning",
            "CPU 9; there are CPU 4",
        ),
    ],
)
def test_what_is_not_as_it_should_be_is_told_with_a_next_step(
    broken: ClusterView, part: str, state: str, words: str
) -> None:
    (finding,) = [one for one in judged(broken) if one.part == part]
    assert (finding.state, words in f"{finding.found} {finding.next_step}") == (state, True), finding
    assert finding.next_step
    assert tables_of(broken)


def test_a_cluster_of_another_ray_is_broken() -> None:
    import dataclasses

    other = dataclasses.replace(view(HEAD), versions=Versions("2.1.0", "3.11.7"))
    assert states(other)["versions"] == "broken"


def test_what_waits_is_found_among_any_number_of_what_has_ended_and_what_is_left_out_is_said() -> None:
    """A dashboard that tells two rows at once, by id: as Ray's tells ten thousand."""
    states = ["FINISHED"] * 5 + ["RUNNING"] * 3 + ["PENDING_NODE_ASSIGNMENT", "FINISHED"]
    tasks = [{"state": state, "name": f"row-{at}", "required_resources": {"CPU": 1}} for at, state in enumerate(states)]

    class Two:
        def read(self, endpoint: str) -> Any:
            assert endpoint.startswith("/api/v0/tasks?detail=1&limit=10000&filter_keys=state&filter_predicates=%3D&")
            found = [one for one in tasks if one["state"] == endpoint.rpartition("=")[2]]
            return {"data": {"result": {"result": found[:2], "num_filtered": len(found)}}}

    cluster: Any = Two()
    cut: list[str] = []
    rows = cluster_view._listed(cluster, "tasks", ("RUNNING", "PENDING_NODE_ASSIGNMENT"), cut)
    assert [row["name"] for row in rows] == ["row-5", "row-6", "row-8"]
    assert cut == ["2 of 3 tasks that are RUNNING"]
    (finding,) = [one for one in judged(dataclasses.replace(view(HEAD, node("a")), cut=cut)) if one.part == "looked at"]
    assert (finding.state, finding.found) == ("warning", "Ray tells only 2 of 3 tasks that are RUNNING")


# ---- a real one ------------------------------------------------------------------------------------------------------

FULL = """
import ray, time
from ray.util.placement_group import placement_group
ray.init(logging_level="ERROR", log_to_driver=False)
@ray.remote(num_cpus=2)
class Hog:
    def ready(self): return True
hog = Hog.options(label_selector={"pool": "decode"}).remote()
ray.get(hog.ready.remote())
wait = ray.remote(lambda *_: time.sleep(600))
kept = [
    *(wait.options(num_cpus=1, name="decode_clip", label_selector={"pool": "decode"}).remote() for _ in range(3)),
    wait.options(num_gpus=1, name="train_step").remote(),
    wait.options(label_selector={"pool": "nowhere"}, name="lost").remote(),
    placement_group([{"CPU": 64}] * 2, name="too-large"),
]
kept.append(wait.options(name="after_others", num_cpus=0).remote(kept[0]))
print("full", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def full() -> Iterator[RayHead]:
    with RayHead(cpus=0) as head:
        head.add_node(cpus=2, labels={"pool": "decode"})
        driver = subprocess.Popen([sys.executable, "-c", FULL], env=head.environment, stdout=-1, text=True)
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "full\n"
            yield head
        finally:
            driver.kill()
            driver.wait()


def doctor(head: RayHead, **environment: str) -> tuple[int, dict[str, Any], str]:
    command = [sys.executable, "-m", "cineray", "doctor", "--address", head.dashboard, "--json"]
    done = subprocess.run(
        command, env=head.environment | environment, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_on_a_real_cluster_that_is_full_each_one_that_waits_is_told_with_why(full: RayHead) -> None:
    expected = {
        "task decode_clip": (3, False, "1 node could take it and is held by actor Hog with CPU 2"),
        "task train_step": (1, True, "no node has so much; the most is CPU 2, GPU 0"),
        "task lost": (1, True, "no node alive has the labels pool=nowhere"),
        "placement group too-large": (2, True, "no node has so much; the most is CPU 2"),
        "task after_others": (1, False, "waits for the results of other tasks"),
    }
    deadline, found = time.monotonic() + 60, {}
    while time.monotonic() < deadline and found != expected:  # the state API hears of tasks a moment later
        code, facts, errors = doctor(full)
        assert code == 1, errors
        found = {one["what"]: (one["count"], one["never"], one["why"]) for one in facts["waiting"]}
    assert found == expected
    assert not facts["ready"]
    assert [bool(one["head"]) for one in facts["nodes"]].count(True) == 1
    assert {one["labels"].get("pool") for one in facts["nodes"]} == {None, "decode"}
    assert facts["ray"].startswith("2.")


@pytest.mark.ray
@pytest.mark.slow
def test_without_the_token_there_is_nothing_to_see(full: RayHead) -> None:
    code, facts, errors = doctor(full, RAY_AUTH_MODE="disabled")
    assert (code, facts) == (1, {})
    assert "RAY_AUTH_TOKEN_PATH" in errors
