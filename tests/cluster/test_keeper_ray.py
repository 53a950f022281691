"""A real Ray node under its keeper: killed, it is back in the cluster without anybody's doing; and what probes ask."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cineray.testing.clusters.ray_head import RayHead, free_ports

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ALIVE = Path(__file__).resolve().parents[2] / "cluster" / "image" / "ray-alive"
KEPT = """
import json, ray
ray.init(log_to_driver=False, logging_level="ERROR")
print(json.dumps([[one["NodeID"], one["Alive"]] for one in ray.nodes() if one["Labels"].get("pool") == "kept"]))
"""


def kept_nodes(head: RayHead) -> list[tuple[str, bool]]:
    """The nodes of our label, dead ones too."""
    ask = [sys.executable, "-c", KEPT]
    done = subprocess.run(ask, env=head.environment, capture_output=True, text=True, check=True)
    return [(name, alive) for name, alive in json.loads(done.stdout.splitlines()[-1])]


def test_a_killed_node_is_back_and_its_page_answers_without_a_token(tmp_path: Path) -> None:
    log = tmp_path / "keeper.log"
    with RayHead(cpus=1) as head:
        agent, metrics = free_ports(2)
        page = f"http://localhost:{agent}/api/local_raylet_healthz"
        keep = [sys.executable, "-m", "cineray.launch.nodes.keep_node", "--detach", str(log), "--alive", page, "--"]
        start = [
            *("ray", "start", "--block", f"--address={head.address}", f"--node-ip-address={head.host}"),
            *("--num-cpus=1", "--labels=pool=kept", "--object-store-memory=100000000"),
            *(f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}"),
        ]
        environment = {name: value for name, value in head.environment.items() if name != "RAY_ADDRESS"}
        try:
            up = subprocess.run([*keep, *start], env=environment, capture_output=True, text=True, check=False)
            assert up.returncode == 0, up.stderr
            assert subprocess.run([ALIVE], env=os.environ | {"RAY_AGENT_PORT": str(agent)}, check=False).returncode == 0
            ((first, _),) = kept_nodes(head)
            killed = time.monotonic()
            raylet_under(keeper(log)).send_signal(signal.SIGKILL)
            second = another(head, first)
            print(f"back after {time.monotonic() - killed:.1f} s")
            assert second != first
            assert "ray ended with code" in log.read_text()
        finally:
            end(keeper(log))


def keeper(log: Path) -> psutil.Process:
    return psutil.Process(int(log.with_name(f"{log.name}.pid").read_text().split()[0]))


def raylet_under(process: psutil.Process) -> psutil.Process:
    (found,) = (one for one in process.children(recursive=True) if one.name() == "raylet")
    return found


def another(head: RayHead, first: str) -> str:
    """The node that came in place of the first one."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        alive = [name for name, is_alive in kept_nodes(head) if is_alive and name != first]
        if alive:
            return alive[0]
        time.sleep(1)
    raise AssertionError("no node came back")


def end(process: psutil.Process) -> None:
    """The keeper, and all that is below it."""
    below = process.children(recursive=True)
    process.terminate()
    psutil.wait_procs([process], timeout=30)
    _, left = psutil.wait_procs(below, timeout=10)
    for one in left:
        one.kill()
