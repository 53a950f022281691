"""No token, no entry: a table of doors of a real Ray and of who comes with which key, from here and from elsewhere.

Beside the locked Ray stands one without a token, to show that the same probes do get in where nothing stops them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")
import grpc
import ray.dashboard
from ray.core.generated import autoscaler_pb2, gcs_service_pb2, node_manager_pb2

from cineray.testing.clusters.ray_head import RayHead, free_ports

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


def procedures() -> list[tuple[str, str]]:
    """Ray's own protocol, as its definitions list it: who answers, and the names of what can be asked."""
    files = {"head": (gcs_service_pb2, autoscaler_pb2), "node": (node_manager_pb2,)}
    return [
        (who, f"/{service.full_name}/{method.name}")
        for who, told in files.items()
        for file in told
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def test_no_procedure_of_rays_own_protocol_answers_without_the_token(locked: RayHead) -> None:
    right = [("authorization", f"Bearer {locked.token}")]
    wrong = [("authorization", f"Bearer {'0' * 64}")]
    with grpc.insecure_channel(locked.address) as head:
        told = gcs_service_pb2.GetAllNodeInfoReply.FromString(
            asked(head, "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo", right)
        )
        (node,) = told.node_info_list
        with grpc.insecure_channel(f"{node.node_manager_address}:{node.node_manager_port}") as nodes:
            ways = {"head": head, "node": nodes}
            assert len(procedures()) > 80
            found = {one: {code(ways[one[0]], one[1], key) for key in ([], wrong)} for one in procedures()}
    assert {one: codes for one, codes in found.items() if codes != {grpc.StatusCode.UNAUTHENTICATED}} == {}


def asked(channel: grpc.Channel, name: str, metadata: list[tuple[str, str]]) -> bytes:
    answer: bytes = channel.unary_unary(name)(b"", timeout=60, metadata=metadata, wait_for_ready=True)
    return answer


def code(channel: grpc.Channel, name: str, metadata: list[tuple[str, str]]) -> grpc.StatusCode:
    try:
        asked(channel, name, metadata)
    except grpc.RpcError as error:
        found: grpc.StatusCode = error.code()
        return found
    return grpc.StatusCode.OK


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


ENTER = "import ray; ray.init(address='{address}', logging_level='ERROR'); print('in', len(ray.nodes()))"
WRONG = {"no token": {"RAY_AUTH_MODE": "disabled"}, "a wrong one": {"RAY_AUTH_TOKEN": "0" * 64}}


def who_enters(head: RayHead, within: tuple[str, ...] = ()) -> list[str]:
    """Which of several drivers gets in. One without the right token waits for longer than anybody would: those begin
    first, and are ended when two with the right one have come in, one after the other."""
    outside = {name: text for name, text in head.environment.items() if name != "RAY_AUTH_TOKEN_PATH"}
    command = [*within, sys.executable, "-c", ENTER.format(address=head.address)]

    def driver(**environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            env=outside | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    with contextlib.ExitStack() as ended:
        drivers = {name: ended.enter_context(driver(**told)) for name, told in WRONG.items()}
        for one in drivers.values():
            ended.callback(one.kill)
        entered = []
        for _ in range(2):
            said, _ = driver(RAY_AUTH_TOKEN=head.token).communicate(timeout=120)
            entered += ["the token"] if "in 1" in said else []
        for name, one in drivers.items():
            one.kill()
            entered += [name] if "in 1" in (one.stdout.read() if one.stdout else "") else []
    return entered


def test_a_driver_without_the_token_does_not_get_in_and_with_it_does(locked: RayHead) -> None:
    assert who_enters(locked) == ["the token", "the token"]


def test_the_token_is_in_no_log_and_no_command_line_of_the_cluster(locked: RayHead) -> None:
    files = [path for path in locked.session().resolve().rglob("*") if path.is_file() and not path.is_socket()]
    assert len(files) > 10
    for path in files:
        assert locked.token.encode() not in path.read_bytes(), path
    lines = command_lines()
    assert any(b"gcs_server" in line for line in lines)
    assert not any(locked.token.encode() in line for line in lines)


def command_lines() -> list[bytes]:
    """Of all programs that run now, but for those that end meanwhile."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
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


# ---- from another machine --------------------------------------------------------------------------------------------

HEAD_IP, OTHER_IP = "198.18.70.1", "198.18.70.2"


@pytest.fixture
def two_machines() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a cable between them: the head's, and somebody else's."""
    if os.geteuid() != 0 or not all(shutil.which(name) for name in ("ip", "ss")):
        pytest.skip("another machine is a network namespace here, which needs root and the programs `ip` and `ss`")
    names = (f"cin-a-{os.getpid()}", f"cin-b-{os.getpid()}")
    made = [["netns", "add", name] for name in names]
    made += [["link", "add", "e0", "netns", names[0], "type", "veth", "peer", "name", "e0", "netns", names[1]]]
    for name, ip in zip(names, (HEAD_IP, OTHER_IP), strict=True):
        made += [["-n", name, "addr", "add", f"{ip}/24", "dev", "e0"], ["-n", name, "link", "set", "e0", "up"]]
        made += [["-n", name, "link", "set", "lo", "up"], ["-n", name, "route", "add", "default", "dev", "e0"]]
    try:
        for words in made:
            done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"no network namespaces here: ip {' '.join(words)}: {done.stderr.strip()}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


PROBE = """
import json, sys, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor
SECONDS = float(sys.argv[2])
def status(method, url):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=SECONDS) as answer:
            return "figures" if answer.read(7) == b"# HELP " else answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except Exception as error:
        return "refused" if "refused" in str(error) else "not HTTP"
with ThreadPoolExecutor(16) as asking:
    print(json.dumps(list(asking.map(lambda one: status(*one), json.loads(sys.argv[1])))))
"""
Question = tuple[str, str]
ASKED = ("GET", "POST")


def probed(within: tuple[str, ...], questions: list[Question], seconds: float = 60.0) -> list[int | str]:
    """What each answers, asked without any key, in one process there."""
    command = [*within, sys.executable, "-c", PROBE, json.dumps(questions), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found: list[int | str] = json.loads(done.stdout)
    return found


def reachable_ports(within: tuple[str, ...]) -> list[int]:
    """Ports on which something listens for other machines."""
    done = subprocess.run([*within, "ss", "-Hltn"], capture_output=True, text=True, check=True)
    addresses = [line.split()[3] for line in done.stdout.splitlines()]
    own = ("127.", "[::1]", "[::ffff:127.")
    return sorted({int(one.rpartition(":")[2]) for one in addresses if not one.startswith(own)})


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
def test_from_another_machine_no_port_does_anything_without_the_token(
    two_machines: tuple[str, str], bound: str
) -> None:
    """A dashboard that listens on 127.0.0.1 is not there at all; one that listens for all, as in a pod, asks for the
    token. Ray's other ports are found by looking, so that a new one in a new Ray is tried too."""
    here, there = (("ip", "netns", "exec", name) for name in two_machines)
    with RayHead(cpus=1, host=HEAD_IP, dashboard_host=bound, within=here) as head:
        url = f"http://{HEAD_IP}:{head.dashboard_port}/api/jobs/"
        expected = "refused" if bound == "127.0.0.1" else 401
        assert probed(there, [("GET", url), ("POST", url)]) == [expected, expected]
        ports = reachable_ports(here)
        assert head.port in ports
        assert (head.dashboard_port in ports) == (bound != "127.0.0.1")
        told = tried(there, HEAD_IP, ports)
        assert "figures" in told.values(), (
            "metrics ports have no token, and answer whatever is asked with their figures"
        )
        assert who_enters(head, there) == ["the token", "the token"]


def tried(there: tuple[str, ...], ip: str, ports: list[int]) -> dict[Question, int | str]:
    """Each port asked from there for what would do something; nothing of it is done."""
    doors = ["/api/jobs/", "/api/job_agent/jobs/", "/api/version", "/logs", "/api/local_raylet_healthz"]
    questions = [(method, f"http://{ip}:{port}{door}") for port in ports for door in doors for method in ASKED]
    told = dict(zip(questions, probed(there, questions, seconds=5.0), strict=True))  # what is not HTTP never answers
    entered = [f"{' '.join(one)} answers {code}" for one, code in told.items() if isinstance(code, int) and code < 400]
    assert [one for one in entered if "healthz" not in one] == []
    return told


EMBEDDED = """
import sys
from cineray.telemetry.ray_session import connected
with connected(num_cpus=1, object_store_memory=80_000_000):
    print("up", file=sys.__stdout__, flush=True)
    sys.stdin.read()
"""


def test_from_another_machine_the_ray_that_a_command_starts_for_itself_does_nothing_without_its_token(
    two_machines: tuple[str, str], tmp_path: Path
) -> None:
    """It has no dashboard; what of it listens for other machines, its nodes' job API too, asks for the token."""
    here, there = (("ip", "netns", "exec", name) for name in two_machines)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # short: Ray's sockets lie in it
        environment |= {"HOME": str(tmp_path), "RAY_TMPDIR": folder}
        command = [*here, sys.executable, "-c", EMBEDDED]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, env=environment, text=True, **pipes) as embedded:
            assert embedded.stdin is not None
            assert embedded.stdout is not None
            try:
                assert embedded.stdout.readline() == "up\n", embedded.stderr.read() if embedded.stderr else ""
                ports = reachable_ports(here)
                assert len(ports) > 0
                assert 8265 not in ports
                tried(there, HEAD_IP, ports)
            finally:
                embedded.stdin.close()
