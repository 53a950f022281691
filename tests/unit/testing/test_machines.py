"""Machines of a test's own: what one of them does, the others see as from another computer, and this host does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cineray.testing.clusters.machines import Machine, Network, machines_missing
from cineray.testing.events import until

pytestmark = pytest.mark.skipif(machines_missing() is not None, reason=machines_missing() or "")

SAYS_HELLO = ["python", "-m", "http.server", "--bind", "0.0.0.0", "8000"]
ASK = """
import sys, urllib.request
try:
    print(urllib.request.urlopen(f"http://{sys.argv[1]}:8000/", timeout=float(sys.argv[2])).status)
except OSError as error:
    print("silence" if "timed out" in str(error) else "refused")
"""


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(machines=2, disk_mb=16, shm_mb=8) as made:
        yield made


def ask(machine: Machine, other: str, patience_seconds: float = 0.5) -> str:
    return machine.run(["python", "-c", ASK, other, str(patience_seconds)]).stdout.strip()


def test_machines_have_names_addresses_and_the_checkout_and_hear_each_other(network: Network) -> None:
    one, two = network.machines
    assert (one.address, two.address) == ("198.18.0.10", "198.18.0.11")
    assert one.run(["hostname"]).stdout == "machine-0\n"
    assert one.run(["pwd"]).stdout.strip() == os.getcwd()
    with two.popen(SAYS_HELLO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        until(lambda: ask(one, two.address) == "200", "an answer")
        assert ask(one, "machine-1") == "200"
        server.terminate()
        assert server.wait(60) == -signal.SIGTERM
    assert ask(one, two.address) == "refused"


def test_a_machine_may_have_the_address_of_a_clouds_metadata_for_itself(network: Network) -> None:
    one, two = network.machines
    one.run(["ip", "addr", "add", "169.254.169.254/32", "dev", "lo"])
    one.popen(SAYS_HELLO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: ask(one, "169.254.169.254") == "200", "an answer")
    assert ask(two, "169.254.169.254") == "silence"
    assert ask(two, one.address) == "200"


def test_a_cut_or_frozen_machine_is_silent_and_then_goes_on(network: Network) -> None:
    one, two = network.machines
    with two.popen(SAYS_HELLO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        until(lambda: ask(one, two.address) == "200", "an answer")
        two.cut()
        assert (ask(one, two.address), ask(two, two.address)) == ("silence", "200")
        two.heal()
        assert ask(one, two.address, 60) == "200"
        two.freeze()
        assert ask(one, two.address) == "silence"
        two.thaw()
        assert ask(one, two.address, 60) == "200"
        server.kill()


HEARS = """
import socket
ear = socket.socket(type=socket.SOCK_DGRAM)
ear.bind(("", 8001))
print("ready", flush=True)
print(ear.recv(99).decode())
"""
TELLS = "import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(sys.argv[2].encode(), (sys.argv[1], 8001))"


def test_nothing_that_a_cut_machine_says_is_heard_either(network: Network) -> None:
    one, two = network.machines
    with one.popen(["python", "-c", HEARS], stdout=subprocess.PIPE) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "ready\n"
        two.cut()
        two.run(["python", "-c", TELLS, one.address, "while cut"], check=False)
        two.heal()
        two.run(["python", "-c", TELLS, one.address, "when healed"])
        assert listener.stdout.readline() == "when healed\n"


def test_power_off_ends_all_programs_and_leaves_the_disk(network: Network) -> None:
    machine = network.machines[0]
    machine.run(["sh", "-c", "echo here > /tmp/ray/note; echo gone > /dev/shm/note"])
    program = machine.popen(["sleep", "1000"])
    machine.power_off()
    assert program.wait(60) != 0
    assert (machine.folder / "own/tmp/ray/note").read_text() == "here\n"
    with pytest.raises(RuntimeError, match="machine-0 is off"):
        machine.run(["true"])
    machine.boot()
    assert machine.run(["cat", "/tmp/ray/note"]).stdout == "here\n"
    assert machine.run(["ls", "/dev/shm"]).stdout == ""
    assert "sleep" not in machine.run(["ps", "ax"]).stdout


def test_a_frozen_machine_can_be_switched_off(network: Network) -> None:
    machine = network.machines[0]
    program = machine.popen(["sleep", "1000"])
    machine.freeze()
    machine.power_off()
    assert program.wait(60) != 0


def test_disk_and_shared_memory_are_as_large_as_they_were_made_and_each_machines_own(network: Network) -> None:
    one, two = network.machines
    for place, size_mb in (("/tmp/ray", 16), ("/dev/shm", 8)):
        full = one.run(["dd", "if=/dev/zero", f"of={place}/all", "bs=1M", "count=64"], check=False)
        assert "No space left on device" in full.stderr
        assert one.outside(f"{place}/all").stat().st_size == size_mb << 20
        assert two.run(["ls", place]).stdout == ""
    assert not Path("/dev/shm/all").exists()


def test_a_folder_may_be_as_here_and_its_changes_stay_on_the_machine(network: Network, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("from here")
    machine = network.add(over=[str(tmp_path)])
    machine.run(["sh", "-c", f"echo new > {tmp_path}/new; rm {tmp_path}/old"])
    assert machine.run(["ls", str(tmp_path)]).stdout == "new\n"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    network.remove(machine)
    assert [one.name for one in network.machines] == ["machine-0", "machine-1"]


def test_two_networks_have_the_same_addresses_and_do_not_meet(network: Network) -> None:
    with Network(machines=2, disk_mb=16) as other:
        assert [one.address for one in other.machines] == [one.address for one in network.machines]
        other.machines[1].popen(SAYS_HELLO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: ask(other.machines[0], "machine-1") == "200", "an answer")
        assert ask(network.machines[0], "machine-1") == "refused"


MAKER = """
import time
from cineray.testing.clusters.machines import Network
network = Network(machines=1, disk_mb=16)
with network:
    machine = network.machines[0]
    machine.popen(["sleep", "98765"])
    while "sleep" not in machine.run(["ps", "ax"]).stdout:
        pass
    machine.freeze()
    print(network._place, network._first, machine._first, flush=True)
    time.sleep(1000)
"""


def test_when_its_maker_is_killed_nothing_is_left() -> None:
    maker = subprocess.Popen([sys.executable, "-c", MAKER], stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    place, *processes = maker.stdout.readline().split()
    assert Path(place).is_dir()
    maker.kill()
    maker.wait()
    until(lambda: not any(Path(f"/proc/{number}").exists() for number in processes), "their end")
    until(lambda: not Path(place).exists(), "the end of its mount point")
    maker.stdout.close()
