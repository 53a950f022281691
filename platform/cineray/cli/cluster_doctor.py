"""`cineray doctor --address ADDR`: is this cluster ready, and when it hangs, who waits for whom?

A look at the cluster goes in (launch/observe/view.py), findings come out: the same lines as for a machine, each with
its next step, and below them the nodes and what waits.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from cineray.cli.doctor import Finding
from cineray.cli.output import bytes_text, facts_table, plain
from cineray.errors import UsageError

if TYPE_CHECKING:
    from cineray.launch.observe.view import ClusterView, Node

DECODE_LABEL = ("ray-subcluster", "decode")
"""Nodes that decode have it and nodes that train have not: only so does Ray Data leave the trainers' cores alone."""
_MOST_DEAD = 3
_OF_IDLE = "Terminated due to idle"
"""So Ray says why a node is no more that the autoscaler has ended."""
_BYTES = ("memory", "object_store_memory")


def looked_at(address: str) -> ClusterView:
    """The cluster now."""
    from cineray.launch.clients import open_cluster
    from cineray.launch.observe.view import look

    return look(open_cluster(address))


def judged(view: ClusterView) -> list[Finding]:
    """What is well and what is not."""
    return [_versions(view), _nodes(view), _head(view), _decoders(view), *_waiting(view), *_cut(view), _asked(view)]


def facts_of(view: ClusterView, findings: list[Finding]) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "ready": all(finding.state != "broken" for finding in findings),
        "findings": [asdict(finding) for finding in findings],
        "address": view.address,
        "ray": view.versions.ray,
        "python": view.versions.python,
        "nodes": [asdict(node) for node in view.nodes],
        "placement_groups": [asdict(group) for group in view.groups],
        "waiting": [asdict(one) for one in view.wanted],
        "asked_of_autoscaler": [
            {"resources": dict(shape), "count": count} for shape, count in view.asked_of_autoscaler
        ],
        "coming": list(view.coming),
    }


def tables_of(view: ClusterView) -> list[Table]:
    """The nodes, and what waits, for people."""
    nodes = Table(title="\nnodes", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in ("node", "state", "resources", "labels"):
        nodes.add_column(column, overflow="fold")
    for node in view.nodes:
        state = ("head" if node.head else "alive") if node.alive else "dead"
        nodes.add_row(plain(node.name), state, plain(_resources(node)), plain(_labels(node)))
    if not view.wanted:
        return [nodes, facts_table({"waiting": "nobody"})]
    waiting = Table(title="\nwho waits", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in ("what", "count", "wants", "why"):
        waiting.add_column(column, overflow="fold")
    for one in view.wanted:
        wants = {**one.resources, **one.labels}
        waiting.add_row(plain(one.what), str(one.count), plain(wants), plain(one.why))
    return [nodes, waiting]


def _cut(view: ClusterView) -> list[Finding]:
    if not view.cut:
        return []
    found = f"Ray tells only {'; '.join(view.cut)}"
    return [Finding("looked at", "warning", found, "the rest may wait for other things than what is said here")]


def _versions(view: ClusterView) -> Finding:
    from cineray.launch.clients import check_versions

    found = f"Ray {view.versions.ray}, Python {view.versions.python}"
    try:
        check_versions(view.versions)
    except UsageError as error:
        problem, _, next_step = str(error).rpartition(". ")
        return Finding("versions", "broken", problem, next_step)
    return Finding("versions", "ok", found)


def _nodes(view: ClusterView) -> Finding:
    alive, ended = view.alive(), [node for node in view.nodes if not node.alive]
    dead = [node for node in ended if not node.detail.startswith(_OF_IDLE)]
    total = view.total()
    sizes = ", ".join(f"{total[name]:g} {name}" for name in ("CPU", "GPU") if name in total)
    found = f"{len(alive)} alive with {sizes or 'no CPU'}"
    if len(ended) > len(dead):
        found += f", {len(ended) - len(dead)} given back when idle"
    if not dead:
        return Finding("nodes", "ok", found)
    told = "; ".join(f"{node.name}: {node.detail or 'no reason known'}" for node in dead[-_MOST_DEAD:])
    state = "warning" if alive else "broken"
    return Finding("nodes", state, f"{found}, {len(dead)} dead: {told}", "a run goes on without them; see their logs")


def _head(view: ClusterView) -> Finding:
    heads = [node for node in view.alive() if node.head]
    if not heads:
        return Finding("head", "broken", "no node says that it is the head", "look at the head's own log")
    cores = heads[0].resources.get("CPU", 0.0)
    if cores and len(view.alive()) > 1:
        step = "start it with --num-cpus=0: work that fills it up takes the whole cluster down"
        return Finding("head", "warning", f"{heads[0].name} has {cores:g} CPU for work", step)
    return Finding("head", "ok", heads[0].name)


def _decoders(view: ClusterView) -> Finding:
    name, value = DECODE_LABEL
    gpus = [node for node in view.alive() if node.resources.get("GPU", 0)]
    decode = [node for node in view.alive() if node.labels.get(name) == value]
    found = f"{len(gpus)} nodes with GPUs, {len(decode)} with the label {name}={value}"
    if any(name in node.labels for node in gpus):
        step = f"take the label {name} from nodes with GPUs: Ray Train cannot reserve them while they have one"
        return Finding("decoding", "broken", found, step)
    if gpus and not decode:
        step = f"label CPU nodes {name}={value} and set feed.decode_subcluster: else decoding takes the trainers' cores"
        return Finding("decoding", "warning", found, step)
    return Finding("decoding", "ok", found)


def _waiting(view: ClusterView) -> list[Finding]:
    found = []
    for one in view.wanted:
        many = f"{one.count} x {one.what}" if one.count > 1 else one.what
        wants = plain({**one.resources, **one.labels})
        step = "add such a node, raise the pool's maximum, or ask for less" if one.never else ""
        if one.never and view.coming:
            step = f"the autoscaler is at it ({'; '.join(view.coming)}); if that is not such a node: {step}"
        state = "broken" if one.never and not view.coming else "warning"
        found.append(Finding("waiting", state, f"{many} wants {wants}: {one.why}", step))
    return found or [Finding("waiting", "ok", "nobody waits for a place")]


def _asked(view: ClusterView) -> Finding:
    asked: dict[str, float] = {}
    for shape, count in view.asked_of_autoscaler:
        for name, amount in shape.items():
            asked[name] = asked.get(name, 0.0) + count * amount
    total = view.total()
    short = {name: amount for name, amount in asked.items() if amount > total.get(name, 0.0)}
    if not short:
        return Finding("asked of the autoscaler", "ok", plain(asked) if asked else "nothing")
    there = {name: total.get(name, 0.0) for name in short}
    step = (
        f"on their way: {'; '.join(view.coming)}"
        if view.coming
        else "no node is on its way: pools are full, or nothing scales them"
    )
    return Finding("asked of the autoscaler", "warning", f"{plain(short)}; there are {plain(there)}", step)


def _resources(node: Node) -> dict[str, str]:
    return {name: bytes_text(int(value)) if name in _BYTES else f"{value:g}" for name, value in node.resources.items()}


def _labels(node: Node) -> dict[str, str]:
    return {name: value for name, value in node.labels.items() if name != "ray.io/node-id"}
