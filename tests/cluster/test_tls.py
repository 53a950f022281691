"""TLS beside the token, by the commands of cluster/README.md: a job runs over it, nobody reads along or enters without.

Three machines of the test's own (namespaces with addresses of their own): the head, one that trains, one that decodes.
A second, plain cluster shows that the same eavesdropper reads what is not encrypted.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.testing import make_shapes
from cineray.testing.clusters.machine_cluster import MachineCluster
from cineray.testing.clusters.machines import Machine, Network, machines_missing

pytestmark = [pytest.mark.ray, pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600)]

REPO = Path(__file__).resolve().parents[2]
HELD = "/tmp/ray/tls"
"""Each machine's own folder."""
TLS = {
    "RAY_USE_TLS": "1",
    "RAY_TLS_CA_CERT": f"{HELD}/ca.crt",
    "RAY_TLS_SERVER_CERT": f"{HELD}/tls.crt",
    "RAY_TLS_SERVER_KEY": f"{HELD}/tls.key",
}
CANARY = "canary-93b1e07c-"
JOB = """
kind: train
name: tiny
recipe:
  datasets: [{lake: LAKE, split: null}]
  sampling: {mode: fps, fps: "8", frames: 4}
  frame: {height: 16, width: 16}
  batch_size: 4
feed: {driver: ray}
steps: 2
model: {kind: stdit, size: custom, width: 24, depth: 1, heads: 2, patch: [1, 8, 8]}
precision: fp32
validation: {every_steps: 0}
"""


def commands() -> tuple[str, str]:
    """What README says: how to make an authority, and how a certificate of a machine."""
    section = (REPO / "cluster" / "README.md").read_text(encoding="utf-8").split("## TLS")[1].split("\n## ")[0]
    authority, machine, settings = re.findall(r"```bash\n(.*?)```", section, flags=re.S)
    assert set(re.findall(r"\bRAY_\w+", settings)) == set(TLS)
    return authority, machine


class Certified(Network):
    """Machines that have a certificate before anything starts on them."""

    def __init__(self, authority: Path, **told: Any) -> None:
        super().__init__(**told)
        self._authority = authority

    def add(self, name: str = "", *, address: str = "", **sizes: Any) -> Machine:
        machine = super().add(name, address=address, **sizes)
        certify(machine, self._authority)
        return machine


def certify(machine: Machine, authority: Path) -> None:
    """Made where the authority's key is; only the results go to the machine."""
    subprocess.run(
        ["sh", "-ec", commands()[1]],
        cwd=authority,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "NODE_IP": machine.address},
        check=True,
        capture_output=True,
    )
    held = machine.outside(HELD)
    held.mkdir()
    for name in ("tls.key", "tls.crt", "ca.crt"):
        shutil.copy(authority / name, held / name)


def made_authority(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    subprocess.run(["sh", "-ec", commands()[0]], cwd=folder, check=True, capture_output=True)
    return folder


@contextmanager
def cluster_of(network: Network, settings: Mapping[str, str]) -> Iterator[MachineCluster]:
    with MachineCluster(network, settings=settings, head_memory=False) as cluster:
        cluster.add_nodes(
            {"name": "train", "cpus": 1}, {"name": "decode", "cpus": 1, "labels": {"ray-subcluster": "decode"}}
        )
        yield cluster


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MachineCluster]:
    if why := machines_missing() or (None if shutil.which("openssl") else "openssl is not installed"):
        pytest.skip(why)
    authority = made_authority(tmp_path_factory.mktemp("tls") / "authority")
    with Certified(authority) as network, cluster_of(network, TLS) as cluster:
        yield cluster


def test_a_job_that_is_submitted_trains_on_one_machine_and_decodes_on_another(
    encrypted: MachineCluster, tmp_path: Path
) -> None:
    make_shapes(tmp_path / "videos", videos=6)
    lake = tmp_path / "lake"
    ingest(IngestConfig(source=str(tmp_path / "videos"), lake=str(lake)), EngineConfig(engine="local"))
    (tmp_path / "job.yaml").write_text(JOB.replace("LAKE", str(lake)))
    words = ["submit", "train", tmp_path / "job.yaml", "--set", f"runs={tmp_path / 'runs'}", "--follow", "--json"]
    address = ["--address", "http://127.0.0.1:8265"]
    command = ["python", "-m", "cineray", *map(str, words), *address]
    done = encrypted.head.run(command, env=encrypted.environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (told["status"], told["result"]["step"]) == ("SUCCEEDED", 2)
    assert "feed.decode_subcluster=decode" in done.stderr


SAYS_A_CANARY = f"""
import ray
ray.init(logging_level="error", log_to_driver=False)
@ray.remote(num_cpus=0.1, label_selector={{"ray-subcluster": "decode"}})
def say(): return "{CANARY}" * 2000
assert ray.get(say.remote()) == "{CANARY}" * 2000
print("said")
"""
LISTENS = f"""
import select, socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
print("listening", flush=True)
seen = heard = 0
while True:
    ready, _, _ = select.select([wire, sys.stdin], [], [])
    if wire not in ready:
        break
    packet = wire.recv(1 << 16)
    seen, heard = seen + len(packet), heard + (b"{CANARY}" * 4 in packet)
print(seen, heard)
"""


def overheard(cluster: MachineCluster) -> int:
    """How many packets with what a task answered somebody on the head's network card has read."""
    told = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with cluster.head.popen(["python", "-c", LISTENS], **told) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "listening\n"
        done = cluster.head.run(["python", "-c", SAYS_A_CANARY], env=cluster.environment)
        assert done.stdout.endswith("said\n")
        said, _ = listener.communicate("end\n", timeout=120)
    seen, heard = map(int, said.split())
    assert seen > 10_000
    return heard


def test_what_passes_between_machines_is_read_by_nobody_and_would_be_without_it(encrypted: MachineCluster) -> None:
    assert overheard(encrypted) == 0
    with Network() as network, cluster_of(network, {}) as plain:
        assert overheard(plain) > 0


ENTERS = "import ray; ray.init(logging_level='ERROR'); print('in', len(ray.nodes()))"


def test_without_a_certificate_of_the_authority_nobody_comes_in_even_with_the_token(
    encrypted: MachineCluster, tmp_path: Path
) -> None:
    """Who is refused waits for longer than anybody would: those begin first, and have had longer than two others that
    came in, one after the other."""
    decode = next(machine for machine in encrypted.network.machines if machine.name == "decode")
    other = made_authority(tmp_path / "other")
    certified = decode.outside(HELD).with_name("tls-of-others")
    subprocess.run(
        ["sh", "-ec", commands()[1]],
        cwd=other,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "NODE_IP": decode.address},
        check=True,
        capture_output=True,
    )
    shutil.copytree(other, certified)
    own = encrypted.environment
    foreign = {name: text.replace(HELD, f"{HELD}-of-others") for name, text in TLS.items()}
    wrong = {"plain": {name: text for name, text in own.items() if name not in TLS}, "of others": own | foreign}
    command = ["python", "-c", ENTERS]
    tries = {name: decode.popen(command, env=env, stdout=subprocess.PIPE) for name, env in wrong.items()}
    for _ in range(2):
        assert "in 3" in decode.run(command, env=own).stdout
    entered = []
    for name, one in tries.items():
        one.kill()
        said, _ = one.communicate()
        entered += [name] if "in 3" in said else []
    assert entered == []
