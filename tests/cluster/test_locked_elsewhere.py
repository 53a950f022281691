"""No token, no entry, from another machine: whatever listens there on a real Ray is asked, over HTTP and in Ray's own
protocol. Another machine is a network namespace here, with a cable to the first one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")
from cineray.testing.clusters.ray_doors import entered, spoken, who_enters
from cineray.testing.clusters.ray_head import RayHead

pytestmark = [pytest.mark.ray, pytest.mark.network, pytest.mark.slow]

OF_ENVIRONMENTS = ["/get_or_create_runtime_env", "/delete_runtime_env_if_possible", "/get_runtime_envs_info"]
"""Of the agent on each node that makes what jobs find there."""
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
    """Each port asked from there, over HTTP and in Ray's own protocol, for what would do something; nothing of it is
    done. No port speaks anything else."""
    doors = [
        "/api/jobs/",
        "/api/job_agent/jobs/",
        "/api/version",
        "/logs",
        "/api/local_raylet_healthz",
        *OF_ENVIRONMENTS,
    ]
    questions = [(method, f"http://{ip}:{port}{door}") for port in ports for door in doors for method in ASKED]
    told = dict(zip(questions, probed(there, questions, seconds=5.0), strict=True))  # what is not HTTP never answers
    came_in = [f"{' '.join(one)} answers {code}" for one, code in told.items() if isinstance(code, int) and code < 400]
    assert [one for one in came_in if "healthz" not in one] == []
    found = spoken(there, ip, ports)
    assert len(found) > 2
    assert entered(found) == []
    http = {int(url.split(":")[2].partition("/")[0]) for (_, url), code in told.items() if code != "not HTTP"}
    assert set(ports) == {*found, *http}
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
