"""A RayCluster of Kubernetes' on this machine: its description goes in; a head, KubeRay's own autoscaler and pods run.

    with KubeCluster(cluster, ray_environment, check=complaints) as kube:
        subprocess.run([...], env=kube.head.environment)      a job, as a pod beside the cluster would send it
        kube.pods("decode"), kube.events, kube.api.patches

Real are Ray (each pod is a node of `ray start`, with the group's own rayStartParams, labels and memory), the autoscaler
(`ray kuberay-autoscaler`, as the sidecar that KubeRay adds to the head) and the way between it and the API server. Made
up is the operator, in `_reconcile`: as many pods as the RayCluster says, and those deleted that it names. A pod here is
a group of processes; there are no images, probes or policies.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from cineray.testing.clusters.kube_api import Check, Document, KubeApi
from cineray.testing.clusters.ray_head import LEASH, RayHead, end_group

LOOK_SECONDS = 0.5
"""How often the operator compares what is with what should be."""
_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_NOT_HERE = ("HOME",)
"""Of the pods' environment: what is only true in the image."""


@dataclass(frozen=True, slots=True)
class Event:
    """A pod that came or went."""

    at: float
    """Seconds since the cluster was up."""
    what: str
    """`created`, `ready`, `deleted` (the autoscaler named it), or `lost`."""
    pod: str


@dataclass(slots=True)
class _Pod:
    name: str
    group: str
    address: str
    process: subprocess.Popen[bytes] | None = None
    gone: threading.Event = field(default_factory=threading.Event)


class KubeCluster:
    """A RayCluster that lives; see the module."""

    def __init__(self, cluster: Document, ray_environment: Mapping[str, str], *, check: Check) -> None:
        """`ray_environment`: what the pods' ConfigMap tells all of Ray's processes."""
        self.api = KubeApi(cluster, check=check)
        self._environment = {name: value for name, value in ray_environment.items() if name not in _NOT_HERE}
        self._environment["RAY_enable_autoscaler_v2"] = "1"
        self.head_pod = f"{self.api.name}-head"
        group = cluster["spec"]["headGroupSpec"]
        self.head = RayHead(
            cpus=int(group["rayStartParams"]["num-cpus"]),
            labels=group.get("labels", {}),
            options=["--no-monitor", *_options(group)],
            environment=self._environment | self._identity(self.head_pod, "headgroup"),
        )
        self.events: list[Event] = []
        self._pods: dict[str, _Pod] = {}
        self._lock = threading.RLock()
        self._ends = threading.Event()
        self._has_none = False
        self._running = contextlib.ExitStack()

    def __enter__(self) -> KubeCluster:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.api)
            stack.enter_context(self.head)
            self._began = time.monotonic()
            self._show(_Pod(self.head_pod, "headgroup", self.head.host), kind="head", running=True)
            stack.callback(self._end)
            self._operator = threading.Thread(target=self._operate, daemon=True)
            self._operator.start()
            self._start_autoscaler()
            self._running = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def pods(self, group: str) -> list[str]:
        """The pods of a group that are there now, ready or not."""
        with self._lock:
            return [pod.name for pod in self._pods.values() if pod.group == group]

    def take_away(self, pod: str) -> None:
        """A spot node that vanishes with what runs on it, without notice."""
        with self._lock:
            found = self._pods.pop(pod)
        self._stop(found, "lost")

    @contextlib.contextmanager
    def no_capacity(self) -> Iterator[None]:
        """While the cloud has no node to give: pods that are wanted come afterwards."""
        self._has_none = True
        try:
            yield
        finally:
            self._has_none = False

    def wait_for(self, what: str, group: str, seconds: float, *, after: float = 0.0) -> Event:
        """The first such event of the group's pods, from `after` on; raises TimeoutError with what was seen."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for event in list(self.events):
                if event.what == what and event.at >= after and f"-{group}-worker-" in event.pod:
                    return event
            time.sleep(0.2)
        seen = ", ".join(f"{one.pod} {one.what} at {one.at:.1f} s" for one in self.events) or "no pod at all"
        raise TimeoutError(f"no pod of {group} was {what} within {seconds:g} s; seen: {seen}; {self.autoscaler_log()}")

    def now(self) -> float:
        """Seconds since the cluster was up."""
        return time.monotonic() - self._began

    def autoscaler_log(self, lines: int = 15) -> str:
        """The last that the autoscaler said."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    # ---- the autoscaler --------------------------------------------------------------------------------------------

    def _start_autoscaler(self) -> None:
        # Every 2 s instead of 5: tests wait for it at each turn.
        told_of_pod = {"RAY_HEAD_POD_NAME": self.head_pod, "AUTOSCALER_UPDATE_INTERVAL_S": "2"}
        told = ["--cluster-name", self.api.name, "--cluster-namespace", self.api.namespace]
        self._log = Path(self.head.token_path).with_name("autoscaler.log")
        with self._log.open("wb") as sink:
            self._autoscaler = subprocess.Popen(
                [*LEASH, "ray", "kuberay-autoscaler", *told, "--gcs-address", self.head.address],
                env=self.head.environment | self.api.environment | told_of_pod,
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    # ---- the operator ----------------------------------------------------------------------------------------------

    def _operate(self) -> None:
        while not self._ends.wait(LOOK_SECONDS):
            self._reconcile()

    def _reconcile(self) -> None:
        """One look: delete who is named or has died, and make as many as are wanted."""
        for group in self.api.cluster()["spec"]["workerGroupSpecs"]:
            named = set((group.get("scaleStrategy") or {}).get("workersToDelete") or ())
            for pod in self._of(group["groupName"]):
                died = pod.process is not None and pod.process.poll() is not None
                if pod.name in named or died:
                    with self._lock:
                        found = self._pods.pop(pod.name, None)
                    if found is not None:
                        self._stop(found, "deleted" if pod.name in named else "lost")
            wanted = 0 if self._has_none else group.get("replicas", 0)
            for _ in range(wanted - len(self._of(group["groupName"]))):
                self._create(group)

    def _of(self, group: str) -> list[_Pod]:
        with self._lock:
            return [pod for pod in self._pods.values() if pod.group == group]

    def _create(self, group: Document) -> None:
        name = f"{self.api.name}-{group['groupName']}-worker-{secrets.token_hex(3)}"
        pod = _Pod(name, group["groupName"], self.head.host)
        with self._lock:
            self._pods[name] = pod
        self._show(pod, kind="worker", running=False)
        self._note("created", pod)
        threading.Thread(target=self._start, args=(pod, group), daemon=True).start()

    def _start(self, pod: _Pod, group: Document) -> None:
        try:
            process = self.head.add_node(
                cpus=int(group["rayStartParams"]["num-cpus"]),
                labels=group.get("labels", {}),
                options=_options(group),
                environment=self._environment | self._identity(pod.name, pod.group),
            )
        except RuntimeError:  # it would not start: a pod that crashes, and the operator makes another
            with self._lock:
                self._pods.pop(pod.name, None)
            self._stop(pod, "lost")
            return
        pod.process = process
        if pod.gone.is_set():
            end_group(process)
            return
        self._show(pod, kind="worker", running=True)
        self._note("ready", pod)

    def _stop(self, pod: _Pod, what: str) -> None:
        pod.gone.set()
        self.api.remove_pod(pod.name)
        if pod.process is not None:
            end_group(pod.process)
        self._note(what, pod)

    def _end(self) -> None:
        self._ends.set()
        self._operator.join(timeout=30)
        if hasattr(self, "_autoscaler"):
            end_group(self._autoscaler)
        for pod in list(self._pods.values()):
            pod.gone.set()

    def _note(self, what: str, pod: _Pod) -> None:
        self.events.append(Event(self.now(), what, pod.name))

    def _show(self, pod: _Pod, *, kind: str, running: bool) -> None:
        """The pod as the API tells of it."""
        labels = {"ray.io/cluster": self.api.name, "ray.io/node-type": kind, "ray.io/group": pod.group}
        state: dict[str, Any] = {"running": {}} if running else {"waiting": {"reason": "ContainerCreating"}}
        self.api.add_pod(
            {
                "metadata": {"name": pod.name, "namespace": self.api.namespace, "labels": labels},
                "spec": {"containers": []},
                "status": {
                    "phase": "Running" if running else "Pending",
                    "podIP": pod.address,
                    "containerStatuses": [{"name": f"ray-{kind}", "state": state}],
                },
            }
        )

    def _identity(self, pod: str, group: str) -> dict[str, str]:
        """By what the autoscaler knows which pod a node of Ray is."""
        return {"RAY_CLOUD_INSTANCE_ID": pod, "RAY_NODE_TYPE_NAME": group}


def _options(group: Document) -> list[str]:
    """What KubeRay makes of a group for `ray start`, apart from its cores and labels."""
    told = {name: value for name, value in group["rayStartParams"].items() if name != "num-cpus"}
    memory = group["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    return [f"--{name}={value}" for name, value in {"memory": _bytes(memory), **told}.items()]


def _bytes(quantity: str) -> int:
    unit = next((one for one in _UNITS if quantity.endswith(one)), "")
    return int(quantity.removesuffix(unit)) * _UNITS.get(unit, 1)
