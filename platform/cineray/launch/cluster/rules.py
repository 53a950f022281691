"""What schemas cannot know of a cluster on Kubernetes, as rules: its files go in, `Problem`s come out.

Each rule is a function with one subject; its docstring is what it promises. A cluster that breaks none keeps decoding
off its head and its trainers, is noticed when it is cut, lets nobody in without the token, and says what it takes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cineray.errors import UsageError
from cineray.feed.job import SUBCLUSTER
from cineray.launch.cluster.files import ClusterFiles, pod_containers
from cineray.launch.cluster.job import command_of, makes_no_run, relative_words
from cineray.launch.cluster.kustomize import Document, containers
from cineray.launch.cluster.schemas import Problem
from cineray.train.accelerators import ON_GPUS, SAYS

NODE_ENV = (
    "RAY_grpc_client_keepalive_time_ms",
    "RAY_grpc_client_keepalive_timeout_ms",
    "RAY_health_check_period_ms",
    "RAY_health_check_failure_threshold",
)
"""What every Ray process must be told; without it a silent partition hangs the run for minutes."""
NODE_CACHE = "169.254.20.10"
"""Where NodeLocal DNSCache answers for names, on every node that has it."""
METADATA = "169.254.169.254"
"""Where all three clouds tell a node who it is, at port 80."""
MAY_BE_MOVED = "cluster-autoscaler.kubernetes.io/safe-to-evict"
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


def heads_tell_of_gpus(files: ClusterFiles) -> Iterator[Problem]:
    """The head says that nodes with GPUs train, where they do: a pool that has shrunk to nothing shows none."""
    head, *pools = files.pools()
    there = any(pool.gpus for pool in pools if pool.role == "train")
    told = head.labels.get(SAYS)
    if there and told != ON_GPUS:
        problem = f"has no label {SAYS}: {ON_GPUS}; while no GPU is there, trainings would take the GPU nodes' cores"
        yield Problem(head.name, problem)
    if told == ON_GPUS and not there:
        yield Problem(
            head.name, f"has the label {SAYS}: {ON_GPUS}, and no pool has GPUs: trainings would wait for ever"
        )


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


def names_can_be_looked_up(files: ClusterFiles) -> Iterator[Problem]:
    """A policy that closes the ways out leaves those to the cluster's DNS open, and to its cache on the node."""
    for policy in (one for one in files.documents if one.get("kind") == "NetworkPolicy"):
        if "Egress" not in policy["spec"].get("policyTypes", []):
            continue
        name = f"NetworkPolicy {policy['metadata']['name']}"
        for protocol in ("UDP", "TCP"):
            if not any(_is_kube_system(peer) for peer in ways_out(policy, 53, protocol)):
                yield Problem(name, f"no egress to kube-system at port 53 of {protocol}: no name would be found")
            if not lets_out(policy, NODE_CACHE, 53, protocol):
                yield Problem(name, f"no egress to {NODE_CACHE} at port 53 of {protocol}, where nodes keep names")


def ways_out(policy: Document, port: int, protocol: str = "TCP") -> Iterator[Document]:
    """Whom a policy lets its pods speak to at this port."""
    for rule in policy["spec"].get("egress", []):
        ports = rule.get("ports", [{"port": port, "protocol": protocol}])
        if any(one.get("port") == port and one.get("protocol", "TCP") == protocol for one in ports):
            yield from rule.get("to", [{"ipBlock": {"cidr": "0.0.0.0/0"}}])


def lets_out(policy: Document, address: str, port: int, protocol: str = "TCP") -> bool:
    """May pods speak to this address, which is no pod's?"""
    wanted = ipaddress.ip_address(address)
    blocks = [peer["ipBlock"] for peer in ways_out(policy, port, protocol) if "ipBlock" in peer]
    return any(
        wanted in ipaddress.ip_network(block["cidr"])
        and not any(wanted in ipaddress.ip_network(one) for one in block.get("except", []))
        for block in blocks
    )


def _is_kube_system(peer: Document) -> bool:
    labels = peer.get("namespaceSelector", {}).get("matchLabels", {})
    return bool(labels.get("kubernetes.io/metadata.name") == "kube-system")


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


def what_must_stay_stays(files: ClusterFiles) -> Iterator[Problem]:
    """Kubernetes gives no node back that the head or trainers are on, and drains none that the head is on."""
    for pool, (name, group) in zip(files.pools(), groups(files), strict=True):
        told = group.get("template", {}).get("metadata", {}).get("annotations", {})
        if pool.role != "decode" and told.get(MAY_BE_MOVED) != "false":
            yield Problem(name, f'its pods have no annotation {MAY_BE_MOVED}: "false": half empty nodes are given back')
    _, head = next(groups(files))
    labels = head.get("template", {}).get("metadata", {}).get("labels", {})
    budgets = [one["spec"] for one in files.documents if one.get("kind") == "PodDisruptionBudget"]
    wanted = (one.get("selector", {}).get("matchLabels", {}) for one in budgets if one.get("minAvailable") == 1)
    if not any(one and one.items() <= labels.items() for one in wanted):
        yield Problem(
            "head", "no PodDisruptionBudget with minAvailable: 1 selects its pod: an upgrade of nodes ends it"
        )
    if "preStop" not in next(iter(pod_containers(head)), {}).get("lifecycle", {}):
        yield Problem("head", "has no lifecycle.preStop: jobs' drivers, which live there, would end unsaved")


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


def commands_mean_the_same_everywhere(files: ClusterFiles) -> Iterator[Problem]:
    """A RayJob's command names whole places: in a pod a relative one is a folder that goes with the pod, and another
    try finds nothing there."""
    try:
        words = command_of(files)
    except UsageError as error:
        yield Problem("job", str(error))
        return
    for one in relative_words(words):
        yield Problem("job", f"its entrypoint says `{one}`, a relative place; wanted one that all pods see: s3://...")
    if makes_no_run(words):
        yield Problem("job", "its entrypoint names no --run: another try would begin anew")


RULES: dict[str, Callable[[ClusterFiles], Iterator[Problem]]] = {
    "images": images_are_pinned,
    "resources": resources_are_stated,
    "head": head_only_manages,
    "pools": pools_are_apart,
    "GPUs": heads_tell_of_gpus,
    "partitions": nodes_notice_partitions,
    "locked": nobody_gets_in_without_the_token,
    "names": names_can_be_looked_up,
    "rights": pods_have_no_rights,
    "looked after": nodes_are_looked_after,
    "moved": what_must_stay_stays,
    "scaling": clusters_come_and_go,
    "places": commands_mean_the_same_everywhere,
}
"""All rules, by their subject."""
