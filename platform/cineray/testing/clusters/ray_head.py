"""A Ray of a test's own: real `ray start` processes on free ports, with token authentication, in a folder of their own.

    with RayHead(cpus=1) as head:
        node = head.add_node(cpus=1, labels={"pool": "decode"})
        subprocess.run([...], env=head.environment)

Nothing of it is shared with any other Ray of this machine: ports are free ones, the token is new, and what was started
is ended by its process group, also when the process that started it is killed. `ray stop` is never called, since it
would end every Ray here.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

START_SECONDS = 120.0
"""On a busy machine a head has taken half a minute."""
_TRIES = 5
"""A raylet gives up when its agent is not there after 15 s, and `ray start` when its node is not after 30 s, which
happens on a busy machine. Longer and longer is waited between tries, for what makes it busy to pass."""
_PAUSE_SECONDS = 2.0
LEASH = ("sh", "-c", 'exec 3<&0; { cat <&3 >/dev/null; kill -KILL 0; } & exec "$@" </dev/null 3<&-', "leash")
"""Before a command that leads a process group: the group ends when nobody holds the command's input any more, as when
this process is killed."""


class RayHead:
    """A head with its dashboard; `environment` is what a client needs to get in."""

    def __init__(
        self,
        *,
        cpus: int = 1,
        labels: Mapping[str, str] | None = None,
        locked: bool = True,
        host: str = "127.0.0.1",
        dashboard_host: str = "",
        within: Sequence[str] = (),
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`locked`: with a token; a Ray without one only exists to show what the token is for. `dashboard_host`: where
        the dashboard listens, if not at `host`. `within`: what starts each command elsewhere, in another namespace.
        `options`: more words for `ray start`, which win; `environment`: more of it for the head."""
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: Ray's sockets lie in it
        self.token = secrets.token_hex(32)
        self.token_path = self._folder / "token"
        self.token_path.write_text(self.token)
        self.token_path.chmod(0o600)
        self.port, self.dashboard_port, self._client_port, *metrics = free_ports(5)
        self.host, self._dashboard_host, self._within = host, dashboard_host or host, tuple(within)
        self.address = f"{self.host}:{self.port}"
        self.dashboard = f"http://{self.host}:{self.dashboard_port}"
        # Fixed ones, unless told: 44217 and 44227.
        self._metrics = dict(zip(("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT"), map(str, metrics), strict=True))
        self.environment = self._environment(locked=locked)
        self._cpus, self._labels = cpus, dict(labels or {})
        self._options, self._more_environment = tuple(options), dict(environment or {})
        self._groups: list[subprocess.Popen[bytes]] = []
        self._logs: list[Path] = []
        self._has_ended = False

    def __enter__(self) -> RayHead:
        try:
            self._start(
                "--head",
                f"--port={self.port}",
                f"--dashboard-host={self._dashboard_host}",
                f"--dashboard-port={self.dashboard_port}",
                f"--ray-client-server-port={self._client_port}",
                f"--temp-dir={self._folder / 'ray'}",
                *self._options,
                cpus=self._cpus,
                labels=self._labels,
                environment=self._more_environment,
            )
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def add_node(
        self,
        *,
        cpus: int = 1,
        labels: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Another raylet on this machine; the process whose group it is."""
        told = (f"--address={self.address}", *options)
        return self._start(*told, cpus=cpus, labels=dict(labels or {}), environment=environment or {})

    def session(self) -> Path:
        """Ray's own folder of this cluster: logs, sockets."""
        return self._folder / "ray" / "session_latest"

    def processes(self) -> list[int]:
        """The numbers of all that belongs to it, nodes and their workers too."""
        groups, found = {group.pid for group in self._groups}, []
        for number in (int(one.name) for one in Path("/proc").iterdir() if one.name.isdecimal()):
            with contextlib.suppress(ProcessLookupError):
                found += [number] if os.getpgid(number) in groups else []
        return found

    def _environment(self, *, locked: bool) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_path)}
        return kept | {
            **(mode if locked else {"RAY_AUTH_MODE": "disabled"}),
            **self._metrics,
            "RAY_ADDRESS": self.address,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DISABLE_IMPORT_WARNING": "1",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}",
        }

    def _start(
        self, *options: str, cpus: int, labels: Mapping[str, str], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """`ray start --block` until the node is there."""
        told = [f"--labels={','.join(f'{name}={value}' for name, value in labels.items())}"] if labels else []
        command = [
            *LEASH,
            *self._within,
            *("ray", "start", "--block", *told, f"--num-cpus={cpus}", "--object-store-memory=150000000"),
            f"--node-ip-address={self.host}",
            "--disable-usage-stats",
            *options,
        ]
        # A raylet of its own address book: $RAY_ADDRESS would make `ray start --head` a client.
        kept = {name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"}
        for number in range(_TRIES):
            time.sleep(number * _PAUSE_SECONDS)
            if self._has_ended:  # while another thread was at it
                raise RuntimeError("the head has ended, and nodes with it")
            agent_port, metrics_port = free_ports(2)  # else every Ray of the machine would use the same
            ports = [f"--dashboard-agent-listen-port={agent_port}", f"--metrics-export-port={metrics_port}"]
            log = self._folder / f"start-{agent_port}.log"
            self._logs.append(log)
            with log.open("wb") as sink:
                started = subprocess.Popen(
                    [*command, *ports],
                    env={**kept, **environment},
                    stdin=subprocess.PIPE,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._groups.append(started)
            if _says(started, log, "Ray runtime started."):
                return started
            end_group(started)
        raise RuntimeError(f"`{' '.join(command)}` did not come up in {_TRIES} tries:\n{self._logs[-1].read_text()}")

    def _end(self) -> None:
        self._has_ended = True
        for group in reversed(self._groups):
            end_group(group)
        shutil.rmtree(self._folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _says(process: subprocess.Popen[bytes], log: Path, sentence: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if sentence in log.read_text(errors="replace"):
            return True
        time.sleep(0.2)
    return False


def end_group(process: subprocess.Popen[bytes]) -> None:
    """It and all below it: Ray's processes stay in the group of the `ray start` that began them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
