"""A look at a cluster from outside: its dashboard's address goes in; nodes, what is reserved, and who waits for whom
and why come out. Nothing is started on the cluster for it, so that it also answers when the cluster is full or stuck.

A thing that waits (a task, an actor, a placement group) waits for one of three: for a node that does not exist (no node
has its label, or so much of a resource), for a node that is full (then we name who holds it), or for other work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cineray.launch.clients import Cluster, Versions
from cineray.launch.observe.autoscaler_said import AutoscalerSaid, read_report, read_status

MOST_ROWS = 10_000
"""Ray's state API gives no more at once, and of more those whose ids come first: so it is asked state by state, for
what waits is not to be lost among what has ended."""
_SHOWN_HOLDERS = 4
_OF_RAY = ("node:", "bundle_group", "ray.io/")
_WAITING_ACTORS = ("PENDING_CREATION", "DEPENDENCIES_UNREADY", "RESTARTING")
_OTHER_WORK = "PENDING_ARGS_AVAIL"
_A_NODE = "PENDING_NODE_ASSIGNMENT"
_WAITING_GROUPS = ("PENDING", "PREPARED", "RESCHEDULING")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine, or pod."""

    id: str
    ip: str
    head: bool
    alive: bool
    labels: Mapping[str, str]
    resources: Mapping[str, float]
    detail: str = ""
    """Of a dead one, why."""

    @property
    def name(self) -> str:
        """As people point at it."""
        return f"{self.ip} ({self.id[:8]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Work that keeps a part of a node."""

    what: str
    node: str
    resources: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Work that has no place yet; `count` of it are alike. `why` is filled in by `look`."""

    what: str
    count: int
    resources: Mapping[str, float]
    labels: Mapping[str, str]
    why: str = ""
    never: bool = False
    """Will it wait for ever, if no other node comes?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A placement group: resources that are given all together or not at all."""

    id: str
    name: str
    state: str
    bundles: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """What there was to see."""

    address: str
    versions: Versions
    nodes: Sequence[Node]
    groups: Sequence[Group]
    holders: Sequence[Holder]
    wanted: Sequence[Wanted]
    asked_of_autoscaler: Sequence[tuple[Mapping[str, float], int]]
    """What the feed, Ray Data, Ray Train and users want to be there, met or not: (resources, how often)."""
    cut: Sequence[str] = ()
    """Of what there was more than Ray tells: a line for each."""
    coming: Sequence[str] = ()
    """Nodes that the autoscaler is making or starting, a line for each or for each kind."""

    def alive(self) -> list[Node]:
        """Those that work."""
        return [node for node in self.nodes if node.alive]

    def total(self) -> dict[str, float]:
        """Of all nodes alive."""
        total: Counter[str] = Counter()
        for node in self.alive():
            total.update(node.resources)
        return dict(total)


def look(cluster: Cluster) -> ClusterView:
    """A few questions to the dashboard."""
    nodes, cut = nodes_of(cluster), list[str]()
    groups = [_group(told) for told in _listed(cluster, "placement_groups", ("CREATED", *_WAITING_GROUPS), cut)]
    actors = _listed(cluster, "actors", ("ALIVE", *_WAITING_ACTORS), cut)
    tasks = _listed(cluster, "tasks", ("RUNNING", _A_NODE, _OTHER_WORK), cut)
    alive = [node for node in nodes if node.alive]
    holders = [*_of_groups(groups), *_of_actors(actors), *_of_tasks(tasks)]
    wanted = [explained(one, alive, holders) for one in (*_groups(groups), *_actors(actors), *_tasks(tasks))]
    said = autoscaler(cluster)
    return ClusterView(
        address=cluster.address,
        versions=cluster.versions(),
        nodes=nodes,
        groups=groups,
        holders=holders,
        wanted=wanted,
        asked_of_autoscaler=[(own_resources(shape), count) for shape, count in said.asked],
        cut=cut,
        coming=said.coming,
    )


def nodes_of(cluster: Cluster) -> list[Node]:
    """Its nodes, and nothing else: one question."""
    told = cluster.read(f"/api/v0/nodes?detail=1&limit={MOST_ROWS}")
    return [_node(one) for one in told["data"]["result"]["result"]]


def autoscaler(cluster: Cluster) -> AutoscalerSaid:
    """What it was asked for, and what it is about."""
    report = cluster.read("/api/cluster_status")["data"]["clusterStatus"]
    if report:
        return read_report(report)
    return read_status(str(cluster.read("/api/cluster_status?format=1")["data"]["clusterStatus"] or ""))


def explained(one: Wanted, nodes: Iterable[Node], holders: Sequence[Holder]) -> Wanted:
    """The same with why it waits."""
    if one.why:
        return one
    labelled = [node for node in nodes if all(_fits(node.labels, item) for item in one.labels.items())]
    why, never = "", True
    if not labelled:
        why = f"no node alive has the labels {_pairs(one.labels)}"
    else:
        large = [node for node in labelled if all(node.resources.get(n, 0) >= v for n, v in one.resources.items())]
        if not large:
            most = {n: max(node.resources.get(n, 0.0) for node in labelled) for n in one.resources}
            why = f"no node{' with its labels' if one.labels else ''} has so much; the most is {_pairs(most)}"
        else:
            why, never = f"{_count(len(large), 'node')} could take it and {_held(large, holders)}", False
    return Wanted(what=one.what, count=one.count, resources=one.resources, labels=one.labels, why=why, never=never)


def own_resources(told: Mapping[str, Any] | None) -> dict[str, float]:
    """What somebody asked for, without what Ray adds for itself and for its placement groups."""
    return {name: float(value) for name, value in (told or {}).items() if value and not _is_rays(name)}


def _is_rays(name: str) -> bool:
    return name.startswith(_OF_RAY) or "_group_" in name


def _held(nodes: Sequence[Node], holders: Sequence[Holder]) -> str:
    names = {node.id for node in nodes}
    held = Counter(f"{one.what} with {_pairs(one.resources)}" for one in holders if one.node in names)
    if not held:
        return "has room: Ray is about to start it, or the node is being drained or is out of memory"
    shown = [f"{count} x {what}" if count > 1 else what for what, count in held.most_common(_SHOWN_HOLDERS)]
    more = f", and {len(held) - _SHOWN_HOLDERS} more" if len(held) > _SHOWN_HOLDERS else ""
    return f"is held by {'; '.join(shown)}{more}"


def _fits(labels: Mapping[str, str], wanted: tuple[str, str]) -> bool:
    """Ray's selectors: `value`, `!value`, `in(a, b)`, `!in(a, b)`."""
    name, text = wanted
    no, text = text.startswith("!"), text.removeprefix("!")
    choice = [part.strip() for part in text[3:-1].split(",")] if text.startswith("in(") else [text]
    return (labels.get(name) in choice) != no


# ---- reading the state API -------------------------------------------------------------------------------------------


def _listed(cluster: Cluster, what: str, states: Iterable[str], cut: list[str]) -> list[dict[str, Any]]:
    """Those in these states; what is left out is added to `cut`."""
    rows: list[dict[str, Any]] = []
    for state in states:
        in_state = f"filter_keys=state&filter_predicates=%3D&filter_values={state}"
        told = cluster.read(f"/api/v0/{what}?detail=1&limit={MOST_ROWS}&{in_state}")["data"]["result"]
        found = told["result"]
        if told["num_filtered"] > len(found):
            cut.append(f"{len(found):,} of {told['num_filtered']:,} {what} that are {state}")
        rows += found
    return rows


def _node(told: Mapping[str, Any]) -> Node:
    return Node(
        id=str(told["node_id"]),
        ip=str(told["node_ip"]),
        head=bool(told["is_head_node"]),
        alive=told["state"] == "ALIVE",
        labels={str(name): str(value) for name, value in (told.get("labels") or {}).items()},
        resources={
            name: float(value)
            for name, value in (told.get("resources_total") or {}).items()
            if not name.startswith("node:")
        },
        detail=str(told.get("state_message") or ""),
    )


def _group(told: Mapping[str, Any]) -> Group:
    identity, name = str(told["placement_group_id"]), str(told.get("name") or "")
    return Group(id=identity, name=name, state=str(told["state"]), bundles=tuple(told.get("bundles") or ()))


def _groups(groups: Iterable[Group]) -> Iterable[Wanted]:
    """Each kind of bundle that has no node yet."""
    for group in groups:
        if group.state not in _WAITING_GROUPS:
            continue
        kinds: Counter[tuple[tuple[tuple[str, float], ...], tuple[tuple[str, str], ...]]] = Counter(
            (tuple(own_resources(b["unit_resources"]).items()), tuple((b.get("label_selector") or {}).items()))
            for b in group.bundles
            if not b.get("node_id")
        )
        for (resources, labels), count in kinds.items():
            what = f"placement group {group.name or group.id[:8]}"
            yield Wanted(what=what, count=count, resources=dict(resources), labels=dict(labels))


def _actors(actors: Iterable[Mapping[str, Any]]) -> Iterable[Wanted]:
    waiting = [one for one in actors if one["state"] in _WAITING_ACTORS and not one.get("placement_group_id")]
    for one in waiting:
        resources, labels = own_resources(one.get("required_resources")), dict(one.get("label_selector") or {})
        yield Wanted(what=f"actor {one['class_name']}", count=1, resources=resources, labels=labels)


def _tasks(tasks: Iterable[Mapping[str, Any]]) -> Iterable[Wanted]:
    """Alike by name and wish."""
    kinds: Counter[tuple[str, str, tuple[tuple[str, float], ...], tuple[tuple[str, str], ...]]] = Counter(
        (
            str(one["state"]),
            str(one["name"]),
            tuple(own_resources(one.get("required_resources")).items()),
            tuple((one.get("label_selector") or {}).items()),
        )
        for one in tasks
        if one["state"] in {_A_NODE, _OTHER_WORK} and one.get("type") != "ACTOR_TASK"
    )
    for (state, name, resources, labels), count in kinds.items():
        why = "waits for the results of other tasks" if state == _OTHER_WORK else ""
        yield Wanted(what=f"task {name}", count=count, resources=dict(resources), labels=dict(labels), why=why)


def _of_groups(groups: Iterable[Group]) -> Iterable[Holder]:
    for group in groups:
        for bundle in group.bundles:
            if group.state != "REMOVED" and bundle.get("node_id"):
                what = f"placement group {group.name or group.id[:8]}"
                yield Holder(what=what, node=bundle["node_id"], resources=own_resources(bundle["unit_resources"]))


def _of_actors(actors: Iterable[Mapping[str, Any]]) -> Iterable[Holder]:
    for one in actors:
        resources = own_resources(one.get("required_resources"))
        if one["state"] == "ALIVE" and resources and not one.get("placement_group_id"):
            yield Holder(what=f"actor {one['class_name']}", node=str(one.get("node_id")), resources=resources)


def _of_tasks(tasks: Iterable[Mapping[str, Any]]) -> Iterable[Holder]:
    for one in tasks:
        resources = own_resources(one.get("required_resources"))
        if one["state"] == "RUNNING" and resources and one.get("type") == "NORMAL_TASK":
            yield Holder(what=f"task {one['name']}", node=str(one.get("node_id")), resources=resources)


def _pairs(named: Mapping[str, Any]) -> str:
    """By name: Ray tells resources in no order."""
    told = [
        f"{name} {value:g}" if isinstance(value, int | float) else f"{name}={value}"
        for name, value in sorted(named.items())
    ]
    return ", ".join(told) or "nothing"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
