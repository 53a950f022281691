"""A cluster's files as they would be applied: a path goes in, `ClusterFiles` comes out, of Kubernetes or of machines.

What both have in common is their pools: groups of equal nodes between a least and a most number. What a pool is for
follows from what its nodes offer, as Ray sees it: `decode` carries the label that the feed asks for, `train` does not.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cineray.errors import UsageError
from cineray.feed.job import SUBCLUSTER
from cineray.launch.cluster.kustomize import Document, build, read_documents


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Equal nodes that come and go together."""

    name: str
    role: Literal["head", "decode", "train"]
    cpus: int
    """That Ray may use on each."""
    gpus: int
    least: int
    most: int
    labels: Mapping[str, str]
    is_spot: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFiles:
    """What lies at `path`."""

    path: Path
    kind: Literal["kuberay", "vm"]
    documents: list[Document]
    """Of machines it is one."""

    def cluster(self) -> Document:
        """What describes the cluster: the spec of the RayCluster, also within a RayJob; of machines the whole file."""
        if self.kind == "vm":
            return self.documents[0]
        found = [one for one in self.documents if one.get("kind") in ("RayCluster", "RayJob")]
        if len(found) != 1:
            raise UsageError(f"{self.path} has {len(found)} RayClusters and RayJobs; wanted one")
        spec: Document = found[0].get("spec", {})
        return spec if found[0]["kind"] == "RayCluster" else spec.get("rayClusterSpec", {})

    def ray_job(self) -> Document | None:
        """The spec of the RayJob, if this is one."""
        found = [one["spec"] for one in self.documents if one.get("kind") == "RayJob"]
        return found[0] if found else None

    def pools(self) -> list[Pool]:
        """All pools, the head first."""
        return list(_vm_pools(self.cluster()) if self.kind == "vm" else _kuberay_pools(self.cluster()))

    def copied(self) -> ClusterFiles:
        """Documents of its own, to be changed."""
        return ClusterFiles(path=self.path, kind=self.kind, documents=copy.deepcopy(self.documents))

    def to_yaml(self) -> str:
        """As text."""
        import yaml

        text: str = yaml.safe_dump_all(self.documents, sort_keys=False, width=120)
        return text


def read_cluster(where: str) -> ClusterFiles:
    """What lies at a folder of an overlay, at a file of `ray up`, or at a file of rendered documents."""
    path = Path(where)
    if path.is_dir():
        return ClusterFiles(path=path, kind="kuberay", documents=build(path))
    if not path.is_file():
        raise UsageError(
            f"there is nothing at {where}; wanted an overlay (cluster/kuberay/overlays/gke), or a file of `ray up` "
            "(cluster/vm/aws.yaml)"
        )
    documents = read_documents(path)
    if any(not isinstance(one, dict) for one in documents) or not documents:
        raise UsageError(f"{where} describes no cluster: wanted mappings with `kind` or `cluster_name`")
    if "cluster_name" in documents[0]:
        return ClusterFiles(path=path, kind="vm", documents=documents)
    return ClusterFiles(path=path, kind="kuberay", documents=documents)


def _kuberay_pools(spec: Document) -> Iterator[Pool]:
    head = spec.get("headGroupSpec", {})
    cpus, gpus = ray_sizes(head)
    labels = head.get("labels", {})
    yield Pool(name="head", role="head", cpus=cpus, gpus=gpus, least=1, most=1, labels=labels, is_spot=False)
    for group in spec.get("workerGroupSpecs", []):
        cpus, gpus = ray_sizes(group)
        labels = group.get("labels", {})
        yield Pool(
            name=group.get("groupName", "?"),
            role="decode" if SUBCLUSTER in labels else "train",
            cpus=cpus,
            gpus=gpus,
            least=group.get("minReplicas", 0),
            most=group.get("maxReplicas", 0),
            labels=labels,
            is_spot=labels.get("ray.io/market-type") == "spot",
        )


def ray_sizes(group: Document) -> tuple[int, int]:
    """Cores and GPUs that Ray offers on a pod of this group: what its start parameters say, else the pod's limits."""
    told = group.get("rayStartParams", {})
    limits = next(iter(pod_containers(group)), {}).get("resources", {}).get("limits", {})
    cpus, gpus = told.get("num-cpus", limits.get("cpu", 0)), told.get("num-gpus", limits.get("nvidia.com/gpu", 0))
    try:
        return int(cpus), int(gpus)
    except ValueError:
        name = group.get("groupName", "the head")
        raise UsageError(f"{name} offers {cpus!r} cores and {gpus!r} GPUs; wanted whole numbers") from None


def pod_containers(group: Document) -> list[Document]:
    """The containers of a group's pods; Ray's is the first."""
    found: list[Document] = group.get("template", {}).get("spec", {}).get("containers", [])
    return found


def _vm_pools(told: Document) -> Iterator[Pool]:
    head = told.get("head_node_type")
    types = told.get("available_node_types", {})
    for name in sorted(types, key=lambda name: name != head):
        one = types[name]
        labels, sizes = one.get("labels", {}), one.get("resources", {})
        yield Pool(
            name=name,
            role="head" if name == head else "decode" if SUBCLUSTER in labels else "train",
            cpus=int(sizes.get("CPU", 0)),
            gpus=int(sizes.get("GPU", 0)),
            least=1 if name == head else one.get("min_workers", 0),
            most=1 if name == head else one.get("max_workers", told.get("max_workers", 0)),
            labels=labels,
            is_spot=is_spot(one.get("node_config", {})),
        )


def is_spot(node: Document) -> bool:
    """May the cloud take a machine of this kind away? AWS, GCP and Azure each say it in their way."""
    schedules = node.get("scheduling", [])
    schedules = [schedules] if isinstance(schedules, dict) else schedules
    return (
        node.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        or any(one.get("provisioningModel") == "SPOT" or one.get("preemptible") for one in schedules)
        or str(node.get("azure_arm_parameters", {}).get("priority", "")).lower() == "spot"
    )
