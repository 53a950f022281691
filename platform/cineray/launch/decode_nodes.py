"""Where a cluster decodes: its nodes, or its description, go in; the part of it that a job's feed is to use comes out.

Decoding nodes carry the label `ray-subcluster`, nodes that train do not; a feed that is told nothing decodes on all of
them, beside the trainers. A pool that has shrunk to nothing shows no node, so the head of each cluster under `cluster/`
says in a label of its own what its decoding nodes will carry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cineray.errors import UsageError
from cineray.feed.job import SUBCLUSTER
from cineray.launch.clients import Cluster
from cineray.launch.cluster_files import read_cluster
from cineray.launch.cluster_view import Node, nodes_of

SAYS = "cineray-decode"
"""The head's label: the value of `ray-subcluster` on the nodes that decode, there or to come."""
_USUAL = "decode"


@dataclass(frozen=True, slots=True)
class DecodePart:
    """Which nodes decode; `why` says by what that is known. No value: all nodes do, and `why` may say what is odd."""

    value: str = ""
    why: str = ""


def decode_part_of(cluster: Cluster) -> DecodePart:
    """Of a cluster that is up."""
    return chosen(nodes_of(cluster))


def described_part(where: str) -> DecodePart:
    """Of a description: an overlay, or a file of `ray up`."""
    values = {pool.labels[SUBCLUSTER] for pool in read_cluster(where).pools() if pool.role == "decode"}
    if not values:
        raise UsageError(
            f"--cluster {where} has no pool with the label {SUBCLUSTER}; leave --cluster out, or label the nodes that "
            "decode"
        )
    return _one_of(values, f"pools of {where} carry {SUBCLUSTER}")


def chosen(nodes: Iterable[Node]) -> DecodePart:
    """What nodes alive tell."""
    alive = [node for node in nodes if node.alive]
    said = {node.labels[SAYS] for node in alive if node.head and node.labels.get(SAYS)}
    if said:
        return _one_of(said, f"the head's label {SAYS} says so")
    values = {node.labels[SUBCLUSTER] for node in alive if node.labels.get(SUBCLUSTER)}
    if not values:
        return DecodePart()
    if not any(SUBCLUSTER not in node.labels and _has_room(node) for node in alive):
        return DecodePart(why=f"all nodes that take work carry {SUBCLUSTER}, and none is left to train on")
    return _one_of(values, f"nodes of the cluster carry {SUBCLUSTER}")


def _one_of(values: set[str], why: str) -> DecodePart:
    if len(values) == 1 or _USUAL in values:
        value = _USUAL if _USUAL in values else min(values)
        return DecodePart(value, f"{why}={value}" if why.endswith(SUBCLUSTER) else why)
    return DecodePart(why=f"{why} with several values ({', '.join(sorted(values))}), and none of them is chosen")


def _has_room(node: Node) -> bool:
    return any(node.resources.get(name, 0) > 0 for name in ("CPU", "GPU"))
