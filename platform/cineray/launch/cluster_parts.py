"""Which part of a cluster does what: its nodes, or its description, go in; on which nodes a job is to decode, and
whether it is to train on GPUs, come out.

Decoding nodes carry the label `ray-subcluster`, nodes that train do not; a feed that is told nothing decodes on all of
them, beside the trainers. A pool that has shrunk to nothing shows no node and no GPU, so the head of each cluster under
`cluster/` says in labels of its own what its decoding nodes will carry, and that its training nodes will have GPUs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cineray.errors import UsageError
from cineray.feed.job import SAYS_DECODE, SUBCLUSTER
from cineray.launch.clients import Cluster
from cineray.launch.cluster.files import ClusterFiles, read_cluster
from cineray.launch.observe.view import Node, nodes_of
from cineray.train.accelerators import ON_GPUS
from cineray.train.accelerators import SAYS as SAYS_TRAIN

_USUAL = "decode"


@dataclass(frozen=True, slots=True)
class Part:
    """What to set in a job; `why` says by what that is known. No value: nothing, and `why` may say what is odd."""

    value: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Parts:
    """Of a cluster."""

    decode: Part = Part()
    """The part that decodes (`feed.decode_subcluster`); without a value all nodes do."""
    train: Part = Part()
    """GPUs of a trainer (`parallel.gpus_per_worker`); without a value the training decides by what is there then."""


def parts_of(cluster: Cluster) -> Parts:
    """Of a cluster that is up."""
    nodes = nodes_of(cluster)
    return Parts(decoding(nodes), training(nodes))


def described_parts(where: str) -> Parts:
    """Of a description: an overlay, or a file of `ray up`."""
    files = read_cluster(where)
    return Parts(_described_decoding(files, where), _described_training(files, where))


def decoding(nodes: Iterable[Node]) -> Part:
    """What nodes alive tell of it."""
    alive = [node for node in nodes if node.alive]
    said = {node.labels[SAYS_DECODE] for node in alive if node.head and node.labels.get(SAYS_DECODE)}
    if said:
        return _one_of(said, f"the head's label {SAYS_DECODE} says so")
    values = {node.labels[SUBCLUSTER] for node in alive if node.labels.get(SUBCLUSTER)}
    if not values:
        return Part()
    if not any(SUBCLUSTER not in node.labels and _has_room(node) for node in alive):
        return Part(why=f"all nodes that take work carry {SUBCLUSTER}, and none is left to train on")
    return _one_of(values, f"nodes of the cluster carry {SUBCLUSTER}")


def training(nodes: Iterable[Node]) -> Part:
    """What the head tells of it. Of GPUs that are there now the training knows by itself."""
    if any(node.alive and node.labels.get(SAYS_TRAIN) == ON_GPUS for node in nodes):
        return Part("1", f"the head's label {SAYS_TRAIN} says that nodes with GPUs train")
    return Part()


def _described_decoding(files: ClusterFiles, where: str) -> Part:
    values = {pool.labels[SUBCLUSTER] for pool in files.pools() if pool.role == "decode"}
    if not values:
        raise UsageError(
            f"--cluster {where} has no pool with the label {SUBCLUSTER}; leave --cluster out, or label the nodes that "
            "decode"
        )
    return _one_of(values, f"pools of {where} carry {SUBCLUSTER}")


def _described_training(files: ClusterFiles, where: str) -> Part:
    pools = [pool.name for pool in files.pools() if pool.role == "train" and pool.gpus]
    return Part("1", f"nodes of the pool {pools[0]} of {where} have GPUs") if pools else Part()


def _one_of(values: set[str], why: str) -> Part:
    if len(values) == 1 or _USUAL in values:
        value = _USUAL if _USUAL in values else min(values)
        return Part(value, f"{why}={value}" if why.endswith(SUBCLUSTER) else why)
    return Part(why=f"{why} with several values ({', '.join(sorted(values))}), and none of them is chosen")


def _has_room(node: Node) -> bool:
    return any(node.resources.get(name, 0) > 0 for name in ("CPU", "GPU"))
