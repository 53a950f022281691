"""No token, no entry: a table of doors of a real Ray and of who comes with which key, from here and from elsewhere.

Beside the locked Ray stands one without a token, to show that the same probes do get in where nothing stops them.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cineray.testing.ray_head import RayHead, free_ports

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
OPEN = ["/", "/api/gcs_healthz"]
"""The page without any data, and whether the head lives: probes of Kubernetes bring no token."""

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


@pytest.mark.parametrize("path", OPEN)
def test_what_is_open_to_all_is_this_and_tells_nothing(locked: RayHead, path: str) -> None:
    with urllib.request.urlopen(f"{locked.dashboard}{path}", timeout=30) as answer:
        text = answer.read().decode()
    assert answer.status == 200
    assert locked.token not in text
    assert len(text) < 20_000


def test_with_the_token_the_same_doors_open(locked: RayHead) -> None:
    right = {"Authorization": f"Bearer {locked.token}"}
    assert status(locked, "GET", "/api/version", right) == 200
    assert status(locked, "GET", "/api/v0/nodes", right) == 200
    assert status(locked, "POST", "/api/jobs/", right) == 200


ENTER = "import ray; ray.init(address='{address}', logging_level='ERROR'); print('in', len(ray.nodes()))"


def enters(head: RayHead, within: tuple[str, ...] = (), **environment: str) -> bool:
    """Whether a driver gets in. One without the right token waits for longer than anybody would; so it is ended."""
    outside = {name: text for name, text in head.environment.items() if name != "RAY_AUTH_TOKEN_PATH"}
    command = [*within, sys.executable, "-c", ENTER.format(address=head.address)]
    try:
        done = subprocess.run(
            command, env=outside | environment, capture_output=True, text=True, check=False, timeout=25
        )
    except subprocess.TimeoutExpired:
        return False
    return "in 1" in done.stdout


def test_a_driver_without_the_token_does_not_get_in_and_with_it_does(locked: RayHead) -> None:
    assert not enters(locked, RAY_AUTH_MODE="disabled")
    assert not enters(locked, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
    assert enters(locked, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=locked.token)


def test_the_token_is_in_no_log_and_no_command_line_of_the_cluster(locked: RayHead) -> None:
    files = [path for path in locked.session().resolve().rglob("*") if path.is_file() and not path.is_socket()]
    assert len(files) > 10
    for path in files:
        assert locked.token.encode() not in path.read_bytes(), path
    lines = [path.read_bytes() for path in _command_lines()]
    assert any(b"gcs_server" in line for line in lines)
    assert not any(locked.token.encode() in line for line in lines)


def _command_lines() -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK) and path.exists()]


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
        assert enters(head, RAY_AUTH_MODE="disabled")


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
def status(method, url):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as answer:
            return "figures" if answer.read(7) == b"# HELP " else answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except Exception as error:
        return "refused" if "refused" in str(error) else "not HTTP"
print(json.dumps([status(*one) for one in json.loads(sys.argv[1])]))
"""
Question = tuple[str, str]
ASKED = ("GET", "POST")


def probed(within: tuple[str, ...], questions: list[Question]) -> list[int | str]:
    """What each answers, asked without any key, in one process there."""
    command = [*within, sys.executable, "-c", PROBE, json.dumps(questions)]
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
        doors = ["/api/jobs/", "/api/job_agent/jobs/", "/api/version", "/logs", "/api/local_raylet_healthz"]
        questions = [(method, f"http://{HEAD_IP}:{port}{door}") for port in ports for door in doors for method in ASKED]
        told = dict(zip(questions, probed(there, questions), strict=True))
        entered = [
            f"{' '.join(one)} answers {code}" for one, code in told.items() if isinstance(code, int) and code < 400
        ]
        assert [one for one in entered if "healthz" not in one] == []
        assert "figures" in told.values(), (
            "metrics ports have no token, and answer whatever is asked with their figures"
        )
        assert not enters(head, there, RAY_AUTH_MODE="disabled")
        assert enters(head, there, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=head.token)
