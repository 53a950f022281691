"""A Ray cluster on machines of a test's own, as cluster/vm starts it: token, head that remembers, keepers, watchers.

    with Network() as network, MachineCluster(network, settings=...) as cluster:
        decode = cluster.add_node(cpus=1, labels={"ray-subcluster": "decode"})
        driver = cluster.head.popen([...], env=cluster.environment)
        decode.power_off()

Each node is a machine with Ray's own ports on an address of its own. Programs that talk to the cluster start on one of
its machines: this process is not on their network. Nodes run under `keep_node`, so that they are back after a fault as
they would be on virtual machines; a head that was off is started again by `start_head`, with what it had on its disk.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from cineray.testing.clusters import aws_metadata
from cineray.testing.clusters.machines import Machine, Network
from cineray.testing.events import until

HEAD_PORT = 6379
START_SECONDS = 300.0
KEEPER_LOG = "/tmp/ray/keeper.log"  # noqa: S108 - a machine's own
WATCH_LOG = "/tmp/ray/spot-watch.log"  # noqa: S108
_TOLD = "/tmp/ray"  # noqa: S108
"""Where a machine's metadata address finds what to say."""
_HEAD_MEMORY = "/tmp/ray/gcs"  # noqa: S108
_KEEP = ("python", "-m", "cineray.launch.nodes.keep_node", "--detach")


class MachineCluster:
    """A head, and nodes that come and go; `environment` is what lets a program on one of the machines in."""

    def __init__(
        self,
        network: Network,
        *,
        settings: Mapping[str, str] | None = None,
        head_memory: bool = True,
        object_store_mb: int = 80,
        head: Mapping[str, Any] | None = None,
    ) -> None:
        """`settings`: environment of every Ray process, as of cluster/. `head_memory`: the head keeps what it knows on
        its disk. `head`: sizes of its machine, as for `Network.add`."""
        self.network, self._head_memory, self._object_store_mb = network, head_memory, object_store_mb
        self.head = network.add("head", **(head or {}))
        self.token = secrets.token_hex(32)
        self.address = f"{self.head.address}:{HEAD_PORT}"
        self.settings = {**(settings or {}), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        self.environment = {**self.settings, "RAY_ADDRESS": self.address}
        self._starts: dict[str, list[str]] = {}
        self._watched: dict[str, bool] = {}

    def __enter__(self) -> MachineCluster:
        self.start_head()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Its machines end with their network."""

    def start_head(self) -> None:
        """On a machine that is new, or was off: then the cluster is the one that it was."""
        memory = {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": _HEAD_MEMORY} if self._head_memory else {}
        start = ["ray", "start", "--block", "--head", f"--port={HEAD_PORT}", "--num-cpus=0", "--num-gpus=0"]
        start += ["--dashboard-host=127.0.0.1", f"--object-store-memory={self._object_store_mb * 10**6}"]
        self._keep(self.head, [*start, "--metrics-export-port=8080", "--labels=pool=head"], memory)

    def add_node(self, name: str = "", **told: Any) -> Machine:
        """A machine with a node that is up. `told`: cpus, labels, resources, object_store_mb; `watched`: with a spot
        watcher; and the machine's sizes, as for `Network.add`."""
        return self.add_nodes({"name": name, **told})[0]

    def add_nodes(self, *each: Mapping[str, Any]) -> list[Machine]:
        """Several at once, which is sooner."""
        machines = [self._add_machine(**told) for told in each]
        failed: list[BaseException] = []

        def start(machine: Machine) -> None:
            try:
                self.start_node(machine)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=start, args=(machine,)) for machine in machines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        return machines

    def _add_machine(
        self,
        name: str = "",
        *,
        cpus: int = 1,
        labels: Mapping[str, str] | None = None,
        resources: Mapping[str, float] | None = None,
        object_store_mb: int = 0,
        watched: bool = False,
        **sizes: Any,
    ) -> Machine:
        machine = self.network.add(name, **sizes)
        start = ["ray", "start", "--block", f"--address={self.address}", f"--num-cpus={cpus}", "--num-gpus=0"]
        start += [f"--object-store-memory={(object_store_mb or self._object_store_mb) * 10**6}"]
        start += ["--metrics-export-port=8080", f"--resources={json.dumps(dict(resources or {}))}"]
        if labels:
            start += [f"--labels={','.join(f'{name}={value}' for name, value in labels.items())}"]
        self._starts[machine.name] = start
        self._watched[machine.name] = watched
        return machine

    def start_node(self, machine: Machine) -> None:
        """On a machine that is new, or was off."""
        self._keep(machine, self._starts[machine.name], {})
        if self._watched[machine.name]:
            watch = ["python", "-m", "cineray.launch.nodes.spot_watch", "--cloud", "aws", "--address", self.address]
            self._run(machine, [*_KEEP, WATCH_LOG, "--no-wait", "--", *watch])

    def answer_metadata(self, machine: Machine) -> None:
        """As on a machine of AWS, which nobody takes away so far."""
        told = machine.outside(_TOLD)
        (told / "notice").unlink(missing_ok=True)
        (told / "role").write_text("nobody")
        machine.run(["ip", "addr", "replace", f"{aws_metadata.ADDRESS}/32", "dev", "lo"])
        machine.popen(["python", "-I", "-S", aws_metadata.__file__, _TOLD])

    def give_notice(self, machine: Machine, *, seconds: float) -> None:
        """AWS will take it away so soon. That it goes, is for the test to do."""
        at = datetime.fromtimestamp(time.time() + seconds, tz=UTC)
        notice = {"action": "terminate", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
        (machine.outside(_TOLD) / "notice").write_text(json.dumps(notice))

    def nodes(self, at: Machine | None = None) -> dict[str, bool]:
        """Whether each node that the head knows of is alive, by its id with its address: `198.18.0.11 2f3a...`."""
        done = self._run(at or self.head, [sys.executable, "-c", _NODES, self.address])
        found: dict[str, bool] = json.loads(done.splitlines()[-1])
        return found

    def nodes_of(self, machine: Machine) -> list[bool]:
        """Whether each node is alive that this machine ever was to the head."""
        return [alive for name, alive in self.nodes().items() if name.split()[0] == machine.address]

    def wait_for(self, machine: Machine, *, alive: bool) -> None:
        """Until the head counts a node of this machine among the living, or none."""
        until(lambda: any(self.nodes_of(machine)) == alive, f"{machine.name} to be {'alive' if alive else 'dead'}")

    def node_id(self, machine: Machine) -> str:
        """Of the node that lives on a machine."""
        (found,) = (
            name.split()[1] for name, alive in self.nodes().items() if alive and name.split()[0] == machine.address
        )
        return found

    def _keep(self, machine: Machine, start: list[str], more: Mapping[str, str]) -> None:
        keep = [*_KEEP, KEEPER_LOG, f"--wait-seconds={START_SECONDS:g}", "--"]
        self._run(machine, [*keep, *start, "--disable-usage-stats"], more)

    def _run(self, machine: Machine, command: list[str], more: Mapping[str, str] | None = None) -> str:
        return machine.run(command, env={**self.settings, **(more or {})}, timeout=2 * START_SECONDS).stdout


_NODES = """
import json, sys
from ray._raylet import GcsClient
from ray.core.generated import gcs_pb2
alive = gcs_pb2.GcsNodeInfo.GcsNodeState.Value("ALIVE")
found = GcsClient(address=sys.argv[1]).get_all_node_info(timeout=60)
print(json.dumps({f"{one.node_manager_address} {node.hex()}": one.state == alive for node, one in found.items()}))
"""


def ray_settings(path: Path) -> dict[str, str]:
    """What a ConfigMap of cluster/ tells every Ray process; none of it is about where things lie."""
    import yaml

    told: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
    return {name: text for name, text in told.items() if name.startswith("RAY_")}
