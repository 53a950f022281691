"""Pools that fit a job: a cluster's files and what the job needs go in, the files with other sizes come out.

With autoscaling only the most that a pool may have is set, and the least stays. What cannot scale (a RayJob that a
queue admits as a whole) gets exactly that size. Of several decoding pools of machines each may grow to all that is
needed, for any of them may be sold out; the cluster's own limit holds them together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cineray.config import Config
from cineray.errors import UsageError
from cineray.feed.job import SUBCLUSTER
from cineray.launch.cluster.files import ClusterFiles, Pool
from cineray.train.config import LearningJob

if TYPE_CHECKING:
    from cineray.launch.cluster.size import DecodeNeed


def fitted(files: ClusterFiles, need: DecodeNeed, job: Config) -> ClusterFiles:
    """The same cluster with the most nodes that the job can use."""
    files = files.copied()
    train = nodes_to_train(files, need, job)
    for pool in files.pools():
        if pool.role == "decode":
            _resize(files, pool, math.ceil(need.cores / max(pool.cpus, 1)))
        elif pool.role == "train":
            _resize(files, pool, train)
    if files.kind == "vm":
        told = files.cluster()
        decode = max(math.ceil(need.cores / max(pool.cpus, 1)) for pool in files.pools() if pool.role == "decode")
        told["max_workers"] = train + decode
    return files


def nodes_to_train(files: ClusterFiles, need: DecodeNeed, job: Config) -> int:
    """Nodes of the training pool that hold the job's workers."""
    pool = training_pool(files)
    cpus = job.parallel.cpus_per_worker if isinstance(job, LearningJob) else 0
    by_cpus = math.floor(pool.cpus / cpus) if cpus else need.gpus
    each = min(pool.gpus, by_cpus) if pool.gpus else by_cpus
    if each < 1:
        raise UsageError(
            f"a worker takes {cpus:g} cores (parallel.cpus_per_worker) and a node of the pool {pool.name} offers "
            f"{pool.cpus}; lower it, or give the pool larger nodes"
        )
    return math.ceil(need.gpus / each)


def training_pool(files: ClusterFiles) -> Pool:
    """The pool that trains."""
    found = [pool for pool in files.pools() if pool.role == "train"]
    if not found:
        raise UsageError(f"{files.path} has no pool to train on: all its pools carry the label {SUBCLUSTER}")
    return found[0]


def shortages(files: ClusterFiles, need: DecodeNeed, job: Config) -> list[tuple[str, str]]:
    """What a job needs and this cluster cannot give, as (where, what)."""
    found = []
    cores = most_cores(files)
    if cores < need.cores:
        found.append(
            (
                "decode",
                f"the decoding pools have at most {cores} cores; {need.gpus} GPUs need {need.cores} "
                f"({need.cores_per_gpu:.1f} for each, with {need.headroom:g} times for room); `cineray cluster render` "
                "makes them large enough",
            )
        )
    pool, nodes = training_pool(files), nodes_to_train(files, need, job)
    if pool.most < nodes:
        found.append((pool.name, f"at most {pool.most} nodes; {need.gpus} workers need {nodes}"))
    return found


def most_cores(files: ClusterFiles) -> int:
    """Decoding cores when all that may come has come. Machines have a limit for all pools together as well."""
    decode = [pool for pool in files.pools() if pool.role == "decode"]
    cores = sum(pool.cpus * pool.most for pool in decode)
    if files.kind == "kuberay" or not decode:
        return cores
    nodes = int(files.cluster().get("max_workers", 0)) - training_pool(files).most
    return min(cores, max(nodes, 0) * min(pool.cpus for pool in decode))


def _resize(files: ClusterFiles, pool: Pool, nodes: int) -> None:
    told = files.cluster()
    if files.kind == "vm":
        one = told["available_node_types"][pool.name]
        one["max_workers"] = nodes
        one["min_workers"] = min(one.get("min_workers", 0), nodes)
        return
    (group,) = (one for one in told["workerGroupSpecs"] if one["groupName"] == pool.name)
    group["maxReplicas"] = nodes
    least = min(group.get("minReplicas", 0), nodes) if told.get("enableInTreeAutoscaling") else nodes
    group["minReplicas"] = least
    group["replicas"] = max(least, min(group.get("replicas", 0), nodes))
