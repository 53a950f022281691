"""No token, no entry: a table of doors of a real Ray and of who comes with which key.

Beside the locked Ray stands one without a token, to show that the same probes do get in where nothing stops them. Who
comes from another machine: test_locked_elsewhere.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")
import grpc
import psutil
import ray.dashboard
from ray.core.generated import gcs_service_pb2

from cineray.testing.clusters.ray_doors import OPEN_TO_ALL, SYNC, entered, procedures, spoken, who_enters
from cineray.testing.clusters.ray_head import RayHead, free_ports
from cineray.testing.events import until

pytestmark = [pytest.mark.ray, pytest.mark.network, pytest.mark.slow]

DOORS = [
    ("GET", "/api/version"),
    ("GET", "/api/jobs/"),
    ("POST", "/api/jobs/"),
    ("DELETE", "/api/jobs/any"),
    ("POST", "/api/jobs/any/stop"),
    ("GET", "/api/jobs/any/logs"),
    ("PUT", "/api/packages/gcs/any.zip"),
    ("GET", "/api/cluster_status"),
    ("GET", "/api/v0/nodes"),
    ("GET", "/api/v0/tasks"),
    ("GET", "/api/v0/logs?node_id=any"),
    ("GET", "/api/prometheus/sd"),
    ("GET", "/nodes?view=summary"),
    ("GET", "/worker/traceback?pid=1"),
    ("GET", "/api/serve/applications/"),
    ("PUT", "/api/serve/applications/"),
]
OPEN = ["/", "/favicon.ico", "/api/authentication_mode", "/api/gcs_healthz"]
"""The page without any data and its picture, that a token is wanted, and whether the head lives: probes of Kubernetes
bring no token."""
OPEN_ON_NODES = ["/api/healthz", "/api/local_raylet_healthz"]
"""Whether a node lives; answered by its agent, and not by the dashboard."""
ENTRANCE = "/api/authenticate"
"""Where a browser shows the token; without it the answer is a refusal as well."""

Keys = Callable[[RayHead], dict[str, str]]
KEYS: dict[str, tuple[int, Keys]] = {
    "no token": (401, lambda head: {}),
    "a wrong token": (403, lambda head: {"Authorization": f"Bearer {'0' * 64}"}),
    "an empty token": (403, lambda head: {"Authorization": "Bearer "}),
    "the token without its word": (403, lambda head: {"Authorization": head.token}),
    "the beginning of the token": (403, lambda head: {"Authorization": f"Bearer {head.token[:32]}"}),
    "a wrong cookie": (403, lambda head: {"Cookie": "ray-authentication-token=0"}),
}
JOB = {"entrypoint": "true"}


def status(head: RayHead, method: str, path: str, headers: dict[str, str]) -> int:
    body = json.dumps(JOB).encode() if method == "POST" and path == "/api/jobs/" else None
    told = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(f"{head.dashboard}{path}", method=method, headers=told, data=body)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def locked() -> Iterator[RayHead]:
    with RayHead(cpus=1) as head:
        yield head


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("method", "path"), DOORS)
def test_without_the_token_no_door_opens(locked: RayHead, method: str, path: str, key: str) -> None:
    expected, headers = KEYS[key]
    assert status(locked, method, path, headers(locked)) == expected


def routes_of_the_dashboard() -> list[tuple[str, str]]:
    """Every route that the sources of this Ray register, those of the nodes' own agents too."""
    found: set[tuple[str, str]] = set()
    for file in Path(ray.dashboard.__file__).parent.rglob("*.py"):
        told = re.findall(r'@routes\.(get|post|put|delete|patch|head)\(\s*"([^"]+)"', file.read_text(encoding="utf-8"))
        found |= {(method.upper(), re.sub(r"\{[^}]*\}", "any", path)) for method, path in told}
    return sorted(found)


def test_no_route_that_this_ray_has_opens_without_the_token(locked: RayHead) -> None:
    routes = [one for one in routes_of_the_dashboard() if one[1] not in (*OPEN, *OPEN_ON_NODES, ENTRANCE)]
    assert len(routes) > 60
    assert {("GET", "/api/jobs/"), ("POST", "/api/jobs/"), ("DELETE", "/api/jobs/any")} <= set(routes)
    assert {one: status(locked, *one, {}) for one in routes} == dict.fromkeys(routes, 401)
    assert status(locked, "POST", ENTRANCE, {}) == 401


AT_WORK = """
import sys, ray
ray.init(logging_level="ERROR", log_to_driver=False)
actor = ray.remote(num_cpus=0.1)(type("Actor", (), {"is_there": lambda self: True})).remote()
print(ray.get(actor.is_there.remote()), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def at_work(head: RayHead) -> Iterator[int]:
    """A driver and a worker, which have ports of their own; the driver's number."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", AT_WORK], env=head.environment, text=True, **pipes) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        try:
            assert driver.stdout.readline() == "True\n"
            yield driver.pid
        finally:
            driver.stdin.close()


def ports_of(processes: list[int]) -> list[int]:
    """On which they listen."""
    found: set[int] = set()
    for number in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            open_ = psutil.Process(number).net_connections(kind="tcp")
            found |= {one.laddr.port for one in open_ if one.status == psutil.CONN_LISTEN}
    return sorted(found)


ANSWER = {
    "ray.rpc.NodeInfoGcsService",
    "ray.rpc.JobInfoGcsService",
    "ray.rpc.autoscaler.AutoscalerStateService",
    "ray.rpc.NodeManagerService",
    "ray.rpc.ObjectManagerService",
    "ray.rpc.CoreWorkerService",
    "ray.rpc.RayletDriver",
    "ray.rpc.ReporterService",
}
"""Among those that were found: the heads', a node's, a worker's, which runs what it is sent, and the clients' door."""


def test_no_procedure_of_rays_own_protocol_answers_without_the_token(locked: RayHead) -> None:
    right = [("authorization", f"Bearer {locked.token}")]
    with grpc.insecure_channel(locked.address) as head:
        told = asked(head, "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo", right)
        assert len(gcs_service_pb2.GetAllNodeInfoReply.FromString(told).node_info_list) == 1, "with it they do"
    assert len(procedures()) > 140
    with at_work(locked) as driver:
        found = spoken((), locked.host, ports_of([*locked.processes(), driver]))
    refused = {name.split("/")[1] for answers in found.values() for name, code in answers if code == "UNAUTHENTICATED"}
    assert refused >= ANSWER
    assert entered(found) == []
    assert "OK" in {code for answers in found.values() for name, code in answers if name == OPEN_TO_ALL}


def asked(channel: grpc.Channel, name: str, metadata: list[tuple[str, str]]) -> bytes:
    answer: bytes = channel.unary_unary(name)(b"", timeout=60, metadata=metadata, wait_for_ready=True)
    return answer


def test_whoever_reaches_a_port_of_ray_can_end_its_process_as_security_says() -> None:
    """Ray reads who asks before it looks at the token. This fails once it does not: then SECURITY.md can say so."""
    with RayHead(cpus=1) as head:
        with grpc.insecure_channel(head.address) as channel, pytest.raises(grpc.RpcError):
            asked(channel, SYNC, [])
        until(lambda: not any(b"gcs_server" in line for line in command_lines(head.processes())), "the head to end")
    said = (Path(__file__).resolve().parents[2] / "SECURITY.md").read_text(encoding="utf-8")
    assert "can end it without a token" in " ".join(said.split())


@pytest.mark.parametrize("path", OPEN)
def test_what_is_open_to_all_is_this_and_tells_nothing(locked: RayHead, path: str) -> None:
    with urllib.request.urlopen(f"{locked.dashboard}{path}", timeout=30) as answer:
        text = answer.read().decode(errors="replace")
    assert answer.status == 200
    assert locked.token not in text
    assert len(text) < 20_000


def test_with_the_token_the_same_doors_open(locked: RayHead) -> None:
    right = {"Authorization": f"Bearer {locked.token}"}
    assert status(locked, "GET", "/api/version", right) == 200
    assert status(locked, "GET", "/api/v0/nodes", right) == 200
    assert status(locked, "POST", "/api/jobs/", right) == 200


def test_a_driver_without_the_token_does_not_get_in_and_with_it_does(locked: RayHead) -> None:
    assert who_enters(locked) == ["the token", "the token"]


def test_the_token_is_in_no_log_and_no_command_line_of_the_cluster(locked: RayHead) -> None:
    files = [path for path in locked.session().resolve().rglob("*") if path.is_file() and not path.is_socket()]
    assert len(files) > 10
    for path in files:
        assert locked.token.encode() not in path.read_bytes(), path
    lines = command_lines(int(path.name) for path in Path("/proc").glob("[0-9]*"))
    assert any(b"gcs_server" in line for line in lines)
    assert not any(locked.token.encode() in line for line in lines)


def command_lines(processes: Iterable[int]) -> list[bytes]:
    """Of programs that run now, but for those that end meanwhile."""
    found = []
    for number in processes:
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{number}/cmdline").read_bytes())
    return found


def test_a_head_that_is_to_have_a_token_and_has_none_does_not_start(tmp_path: Path) -> None:
    port, dashboard = free_ports(2)
    kept = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    environment = kept | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "none"),
        "HOME": str(tmp_path),
    }
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", f"--port={port}", "--num-cpus=0"]
    done = subprocess.run(
        [*command, f"--dashboard-port={dashboard}", f"--temp-dir={tmp_path / 'r'}", "--disable-usage-stats"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    assert "RAY_AUTH_TOKEN_PATH is set but file cannot be opened or is empty" in done.stdout + done.stderr
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=2)


def test_the_probes_do_get_in_where_there_is_no_token() -> None:
    """What the token is for: without one, anybody who reaches the dashboard runs programs on the cluster."""
    with RayHead(cpus=1, locked=False) as head:
        assert status(head, "POST", "/api/jobs/", {}) == 200
        assert status(head, "GET", "/api/v0/nodes", {}) == 200
        assert set(who_enters(head)) == {"no token", "a wrong one", "the token"}
