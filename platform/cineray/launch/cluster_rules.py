"""What schemas cannot know of a cluster on Kubernetes, as rules: its files go in, `Problem`s come out.

Each rule is a function with one subject; its docstring is what it promises. A cluster that breaks none keeps decoding
off its head and its trainers, is noticed when it is cut, lets nobody in without the token, and says what it takes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cineray.feed.job import SUBCLUSTER
from cineray.launch.cluster_files import ClusterFiles, pod_containers
from cineray.launch.cluster_kustomize import Document, containers
from cineray.launch.cluster_schemas import Problem

NODE_ENV = (
    "RAY_grpc_client_keepalive_time_ms",
    "RAY_grpc_client_keepalive_timeout_ms",
    "RAY_health_check_period_ms",
    "RAY_health_check_failure_threshold",
)
"""What every Ray process must be told; without it a silent partition hangs the run for minutes."""
OPEN = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


def groups(files: ClusterFiles) -> Iterator[tuple[str, Document]]:
    """The head's group and those of the workers, by name."""
    spec = files.cluster()
    yield "head", spec.get("headGroupSpec", {})
    for group in spec.get("workerGroupSpecs", []):
        yield str(group.get("groupName", "?")), group


def images_are_pinned(files: ClusterFiles) -> Iterator[Problem]:
    """Every image has a tag that stays, or a digest."""
    for container in containers(files.documents):
        image = str(container.get("image", ""))
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and tag in ("", "latest"):
            yield Problem(f"container {container.get('name')}", f"image is {image!r}; wanted a tag other than latest")


def resources_are_stated(files: ClusterFiles) -> Iterator[Problem]:
    """Every container says what it takes of cores and memory, at least and at most; memory is the same for both."""
    for container in containers(files.documents):
        told = container.get("resources", {})
        name = f"container {container.get('name')}"
        for bound in ("requests", "limits"):
            for what in ("cpu", "memory"):
                if what not in told.get(bound, {}):
                    yield Problem(name, f"resources.{bound}.{what} is not stated")
        if told.get("requests", {}).get("memory") != told.get("limits", {}).get("memory"):
            yield Problem(name, "memory is requested and limited differently; the node would kill it when it is full")


def head_only_manages(files: ClusterFiles) -> Iterator[Problem]:
    """The head offers no cores: tasks that landed there would starve what manages the cluster."""
    for name, group in groups(files):
        told = group.get("rayStartParams", {}).get("num-cpus")
        if name == "head" and told != "0":
            yield Problem("head", f'rayStartParams.num-cpus is {told!r}; wanted "0"')


def pools_are_apart(files: ClusterFiles) -> Iterator[Problem]:
    """Nodes with GPUs carry no label ray-subcluster (Ray Train reserves only nodes without), those that decode do."""
    pools = files.pools()
    for pool in pools:
        if pool.gpus and SUBCLUSTER in pool.labels:
            yield Problem(pool.name, f"has GPUs and the label {SUBCLUSTER}: Ray Train could never reserve them")
        if pool.least > pool.most:
            yield Problem(pool.name, f"at least {pool.least} and at most {pool.most} nodes; the least is more")
        if pool.is_spot and pool.role != "decode":
            yield Problem(pool.name, "is spot; only decoding nodes may be taken away without a loss")
    if not any(pool.role == "decode" for pool in pools):
        yield Problem("cluster", f"no pool has the label {SUBCLUSTER}, so nothing would decode")


def nodes_notice_partitions(files: ClusterFiles) -> Iterator[Problem]:
    """Every Ray container is told how soon a cut connection and a dead node are noticed."""
    maps = {one["metadata"]["name"]: one.get("data", {}) for one in files.documents if one.get("kind") == "ConfigMap"}
    for name, group in groups(files):
        for container in pod_containers(group)[:1]:
            missing = [one for one in NODE_ENV if one not in environment(container, maps)]
            if missing:
                yield Problem(name, f"its Ray is not told {', '.join(missing)}")


def environment(container: Document, maps: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What a container's processes find in their environment, of config maps and of its own."""
    found: dict[str, Any] = {}
    for one in container.get("envFrom", []):
        found |= maps.get(one.get("configMapRef", {}).get("name"), {})
    return found | {one["name"]: one.get("value", one.get("valueFrom")) for one in container.get("env", [])}


def nobody_gets_in_without_the_token(files: ClusterFiles) -> Iterator[Problem]:
    """Ray asks for its token, its service has no address outside, and a policy closes all other ways in."""
    spec = files.cluster()
    mode = spec.get("authOptions", {}).get("mode")
    if mode != "token":
        yield Problem(
            "cluster",
            f"authOptions.mode is {mode!r}; wanted token: without it anybody who reaches the dashboard runs code",
        )
    service = spec.get("headGroupSpec", {}).get("serviceType", "ClusterIP")
    if service != "ClusterIP":
        yield Problem("head", f"serviceType is {service}; wanted ClusterIP, and `kubectl port-forward` as the way in")
    if spec.get("headGroupSpec", {}).get("enableIngress"):
        yield Problem("head", "enableIngress publishes the dashboard; leave it out")
    policies = [one for one in files.documents if one.get("kind") == "NetworkPolicy"]
    if not policies:
        yield Problem("cluster", "there is no NetworkPolicy; wanted one that lets only the cluster's own pods in")
    for name, group in groups(files):
        labels = group.get("template", {}).get("metadata", {}).get("labels", {})
        if policies and not any(_selects(one, labels) for one in policies):
            yield Problem(name, f"no NetworkPolicy selects its pods, which have the labels {dict(labels)}")
    for policy in policies:
        yield from _open_ways(policy)


def _selects(policy: Document, labels: Mapping[str, str]) -> bool:
    wanted = policy["spec"].get("podSelector", {}).get("matchLabels", {})
    return "Ingress" in policy["spec"].get("policyTypes", []) and wanted.items() <= labels.items()


def _open_ways(policy: Document) -> Iterator[Problem]:
    name = f"NetworkPolicy {policy['metadata']['name']}"
    for rule in policy["spec"].get("ingress", []):
        if not rule.get("from"):
            yield Problem(name, "an ingress rule has no `from`: it lets everybody in")
        for peer in rule.get("from", []):
            if "ipBlock" in peer and ipaddress.ip_network(peer["ipBlock"]["cidr"]) in OPEN:
                yield Problem(name, f"ingress from {peer['ipBlock']['cidr']}: open to the world")
            if (
                not peer.get("ipBlock")
                and not _picks(peer.get("podSelector"))
                and not _picks(peer.get("namespaceSelector"))
            ):
                yield Problem(name, "ingress from all pods: name those that may")


def _picks(selector: Document | None) -> bool:
    return bool(selector and (selector.get("matchLabels") or selector.get("matchExpressions")))


def pods_have_no_rights(files: ClusterFiles) -> Iterator[Problem]:
    """No pod is root, may become it, or shares its node's network, processes or files."""
    for pod in pods(files.documents):
        names = ", ".join(str(one.get("name")) for one in pod["containers"])
        if pod.get("securityContext", {}).get("runAsNonRoot") is not True:
            yield Problem(f"pod of {names}", "securityContext.runAsNonRoot is not true")
        shared = [one for one in ("hostNetwork", "hostPID", "hostIPC") if pod.get(one)]
        shared += [f"hostPath {one['name']}" for one in pod.get("volumes", []) if "hostPath" in one]
        if shared:
            yield Problem(f"pod of {names}", f"shares its node's {', '.join(shared)}")
        for container in pod["containers"]:
            told = container.get("securityContext", {})
            if told.get("allowPrivilegeEscalation") is not False or told.get("capabilities", {}).get("drop") != ["ALL"]:
                what = "wanted allowPrivilegeEscalation: false and capabilities.drop: [ALL]"
                yield Problem(f"container {container.get('name')}", what)


def pods(value: Any) -> Iterator[Document]:
    """Every pod's spec, wherever it stands."""
    if isinstance(value, dict):
        if isinstance(value.get("containers"), list):
            yield value
        for inner in value.values():
            yield from pods(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from pods(inner)


def nodes_are_looked_after(files: ClusterFiles) -> Iterator[Problem]:
    """Ray's containers have probes and shared memory, workers hear of their end, and the head's memory outlives it."""
    for name, group in groups(files):
        for container in pod_containers(group)[:1]:
            missing = [one for one in ("readinessProbe", "livenessProbe") if one not in container]
            if name != "head" and "preStop" not in container.get("lifecycle", {}):
                missing.append("lifecycle.preStop")
            if missing:
                yield Problem(name, f"its Ray has no {', '.join(missing)}")
            mounts = [one.get("mountPath") for one in container.get("volumeMounts", [])]
            if "/dev/shm" not in mounts:  # noqa: S108 - a mount, not a file of ours
                yield Problem(name, "no volume at /dev/shm: the object store would lie on disk")
    if "backend" not in files.cluster().get("gcsFaultToleranceOptions", {}):
        yield Problem("head", "gcsFaultToleranceOptions.backend is not set: a head that dies takes the cluster along")


def clusters_come_and_go(files: ClusterFiles) -> Iterator[Problem]:
    """A cluster scales by itself, or it is a job that a queue admits as a whole and that goes with its job."""
    spec, job = files.cluster(), files.ray_job()
    if spec.get("enableInTreeAutoscaling"):
        if spec.get("autoscalerOptions", {}).get("version") != "v2":
            yield Problem("cluster", "autoscalerOptions.version is not v2, and v1 does not know labels")
        if spec.get("autoscalerOptions", {}).get("idleTimeoutSeconds") is None:
            yield Problem("cluster", "autoscalerOptions.idleTimeoutSeconds is not set")
    elif job is None:
        yield Problem("cluster", "enableInTreeAutoscaling is off, and nothing takes the cluster down")
    if job is not None and not job.get("shutdownAfterJobFinishes"):
        yield Problem("job", "shutdownAfterJobFinishes is off: its cluster would stay")
    modes = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    if job is not None and job.get("submissionMode", modes[0]) not in modes:
        yield Problem("job", f"submissionMode is {job['submissionMode']!r}; wanted one of {', '.join(modes)}")


RULES: dict[str, Callable[[ClusterFiles], Iterator[Problem]]] = {
    "images": images_are_pinned,
    "resources": resources_are_stated,
    "head": head_only_manages,
    "pools": pools_are_apart,
    "partitions": nodes_notice_partitions,
    "locked": nobody_gets_in_without_the_token,
    "rights": pods_have_no_rights,
    "looked after": nodes_are_looked_after,
    "scaling": clusters_come_and_go,
}
"""All rules, by their subject."""
