"""How many GPUs a worker gets where its job leaves that open: a cluster's GPUs and its nodes' labels go in, 0 or 1 out.

A pool of GPU nodes that has shrunk to nothing shows no GPU. A training that therefore asked for cores alone would make
Ray start one of those very nodes for its cores, and compute on them beside idle GPUs. So the head of each cluster under
`cluster/` says by a label that nodes with GPUs train, there or to come; a training then asks for them, and waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cineray.train.config import ParallelConfig

SAYS = "cineray-train"
"""The head's label."""
ON_GPUS = "gpu"
"""Its value where nodes with GPUs train."""


def gpus_of_worker(parallel: ParallelConfig, *, gpus: float, labels: Iterable[Mapping[str, str]]) -> int:
    """What the job says; else one where there is one for each, or where some node's labels say that they will come."""
    if parallel.gpus_per_worker is not None:
        return parallel.gpus_per_worker
    return int(gpus >= parallel.least_workers or any(one.get(SAYS) == ON_GPUS for one in labels))


def labels_alive(nodes: Iterable[Mapping[str, Any]]) -> list[Mapping[str, str]]:
    """Of Ray's list of nodes the labels of those that live."""
    return [node.get("Labels") or {} for node in nodes if node["Alive"]]
