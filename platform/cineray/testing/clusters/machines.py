"""Machines of a test's own on this host: each with an address, a disk, shared memory and processes that are its alone.

    with Network(machines=2) as network:
        one, two = network.machines
        one.run(["ray", "start", "--head", ...])
        two.cut()            # no packet in or out, and nobody is told
        one.power_off()      # all its processes at once; `boot()` brings it back with the same disk and address

A machine is a set of Linux namespaces (network, processes, mounts, names, shared memory) around one small first
program; all are plugged into one bridge in a namespace that is itself nobody else's. Nothing is named and nothing lies
in this host's own network, so any number of networks live beside each other, and addresses (198.18.0.0/16) may repeat.
When the process that made them is gone, even by SIGKILL, the kernel ends all of it. The checkout and other folders are
seen by all machines, like a shared disk. Needs Linux and root; `machines_missing()` says why not.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

NETWORK = "198.18.0.0/16"
"""Set apart for tests of networks; no host on any network has such an address."""
FIRST_ADDRESS = 10
UP_SECONDS = 60.0
END_SECONDS = 60.0
_INIT = Path(__file__).with_name("machine_init.py")
_DOOR = Path(__file__).with_name("machine_door.py")
_APART = ("--net", "--pid", "--mount", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc")


@functools.cache
def machines_missing() -> str | None:
    """Why there can be no machines on this host; None where there can."""
    if sys.platform != "linux":
        return "machines are Linux namespaces, and this is not Linux"
    if os.geteuid() != 0:
        return "machines are Linux namespaces, which only root may make here"
    absent = [name for name in ("unshare", "nsenter", "ip", "iptables", "mount") if shutil.which(name) is None]
    if absent:
        return f"machines need the programs {', '.join(absent)} (packages util-linux, iproute2, iptables)"
    try_it = "ip link add br0 type bridge && iptables -A INPUT -j DROP && mount -t tmpfs none /dev/shm"
    done = subprocess.run(["unshare", *_APART, "sh", "-c", try_it], capture_output=True, text=True, check=False)
    return f"no namespaces of our own here: {done.stderr.strip()}" if done.returncode else None


class Network:
    """A switch with machines on it; all are off and gone after `with`."""

    def __init__(self, machines: int = 0, **each: Any) -> None:
        """`each`: what `add` takes, for those that are there from the start."""
        self.machines: list[Machine] = []
        self._count, self._each = machines, each
        self._addresses = (f"198.18.0.{last}" for last in itertools.count(FIRST_ADDRESS))
        self._ports = itertools.count()

    def __enter__(self) -> Network:
        self._place = Path(tempfile.mkdtemp(prefix="machines-"))  # a mount point only, and so always empty
        self._keeper = subprocess.Popen(
            ["unshare", *_APART, "sh", "-c", _SWITCH.format(place=self._place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._first = _first_program(self._keeper, "the network")
        self._hosts = self._place / "hosts"
        self._write_names()
        try:
            for _ in range(self._count):
                self.add(**self._each)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def add(self, name: str = "", *, address: str = "", **sizes: Any) -> Machine:
        """One more machine, switched on. `sizes`: shm_mb, disk_mb, own, over; see `Machine`."""
        name = name or f"machine-{len(self.machines)}"
        machine = Machine(self, name, address or next(self._addresses), **sizes)
        self.machines.append(machine)
        self._write_names()
        machine.boot()
        return machine

    def remove(self, machine: Machine) -> None:
        """Off, and its disk is gone."""
        machine.power_off()
        self.machines.remove(machine)
        self._write_names()
        _call(*self._inside("--mount", "--pid"), "umount", "--lazy", str(self._place / machine.name))

    def _end(self) -> None:
        for machine in self.machines:
            machine.power_off()
        _end(self._keeper)
        with contextlib.suppress(OSError):
            self._place.rmdir()

    def _inside(self, *namespaces: str) -> list[str]:
        return ["nsenter", f"--target={self._first}", *namespaces, "--"]

    def _seen(self, path: Path) -> Path:
        """A path of the switch, as this process comes to it."""
        return Path(f"/proc/{self._first}/root{path}")

    def _write_names(self) -> None:
        lines = ["127.0.0.1 localhost", *(f"{one.address} {one.name}" for one in self.machines)]
        self._seen(self._hosts).write_text("\n".join(lines) + "\n")

    def _add_disk(self, name: str, size_mb: int) -> Path:
        """On the switch, so that it outlives its machine."""
        path = self._place / name
        self._seen(path).mkdir()
        _call(*self._inside("--mount"), "mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "none", str(path))
        return path

    def _plug_in(self, first: int, address: str) -> str:
        """A cable from a machine, by its first process, to the port of the switch that is returned."""
        port = f"p{next(self._ports)}"
        switch = [f"link add {port} type veth peer name e0 netns {first}", f"link set {port} master br0 up"]
        _batch(self._inside("--net"), switch)
        lines = ["link set lo up", f"addr add {address}/16 dev e0", "link set e0 up", "route add default dev e0"]
        _batch(["nsenter", f"--target={first}", "--net", "--"], lines)
        return port

    def _unplug(self, port: str) -> None:
        """Else the kernel would close a dying machine's connections, and the others would hear of it."""
        _batch(self._inside("--net"), [f"link set {port} down"])


_SWITCH = """
mount -t tmpfs -o size=1m none {place} && ip link set lo up && ip link add br0 type bridge && ip link set br0 up &&
: > {place}/hosts && echo up && cat > /dev/null; umount --lazy {place}; rmdir {place}
"""


class Machine:
    """One computer: `run` and `popen` start programs on it; the rest happens to it."""

    def __init__(
        self,
        network: Network,
        name: str,
        address: str,
        *,
        shm_mb: int = 256,
        disk_mb: int = 1024,
        own: Sequence[str] = ("/tmp/ray",),  # noqa: S108 - where Ray has its sessions
        over: Sequence[str] = (),
    ) -> None:
        """`own`: folders that are empty on a new machine; `over`: folders that are as on this host, and whose changes
        stay on the machine. Both lie on its disk, which `folder` shows from outside, also while it is off."""
        self.name, self.address = name, address
        self._network, self._shm_mb, self._own, self._over = network, shm_mb, tuple(own), tuple(over)
        self._disk = network._add_disk(name, disk_mb)
        self._keeper: subprocess.Popen[str] | None = None
        self._first, self._port = 0, ""

    @property
    def folder(self) -> Path:
        """Its disk, seen from outside: /tmp/ray is `folder / "own/tmp/ray"`."""
        return self._network._seen(self._disk)

    def outside(self, path: str) -> Path:
        """A path of the running machine, as this process comes to it."""
        return Path(f"/proc/{self._first}/root{path}")

    @property
    def is_on(self) -> bool:
        """Whether programs can be started on it."""
        return self._keeper is not None and self._keeper.poll() is None

    def boot(self) -> None:
        """Switch it on: nothing runs on it yet."""
        if self.is_on:
            raise RuntimeError(f"{self.name} is on already; power_off() comes first")
        told = {
            "name": self.name,
            "disk": str(self._disk),
            "hosts": str(self._network._hosts),
            "shm_mb": self._shm_mb,
            "own": self._own,
            "over": self._over,
        }
        self._keeper = subprocess.Popen(
            [
                *self._network._inside("--mount"),
                *("unshare", *_APART),
                *(sys.executable, "-I", "-S", str(_INIT), json.dumps(told)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._first = _first_program(self._keeper, self.name)
        self._port = self._network._plug_in(self._first, self.address)

    def power_off(self) -> None:
        """All its programs end at once, and nobody is told, since its cable is out first; its disk stays."""
        if self._keeper is not None:
            self._network._unplug(self._port)
            _end(self._keeper)
        self._keeper = None

    def freeze(self) -> None:
        """Its programs stand still; its cable is in."""
        for _ in range(100):
            moving = [one for one in self._programs() if _moves(one)]
            if not moving:
                return
            for one in moving:
                with contextlib.suppress(psutil.Error):
                    one.send_signal(signal.SIGSTOP)
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} does not stand still: {moving}")

    def thaw(self) -> None:
        """After `freeze`: they go on as if nothing had been."""
        for one in self._programs():
            with contextlib.suppress(psutil.Error):
                one.send_signal(signal.SIGCONT)

    def cut(self) -> None:
        """Every packet in and out is lost in silence."""
        self.run(["iptables", "-I", "INPUT", "!", "-i", "lo", "-j", "DROP"])
        self.run(["iptables", "-I", "OUTPUT", "!", "-o", "lo", "-j", "DROP"])

    def heal(self) -> None:
        """After `cut`: packets pass again."""
        self.run(["iptables", "-F"])

    def run(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, check: bool = True, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end. `env` comes on top of this process's own without what is Ray's."""
        done = subprocess.run(
            [*self._door(), *command],
            env=machine_environment(env),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode != 0:
            words = " ".join(command)
            raise RuntimeError(f"{words} on {self.name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def popen(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[str]:
        """Start a program; `more` as for `subprocess.Popen`. Signals go to the program, and it ends with its door."""
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen([*self._door(), *command], env=machine_environment(env), text=True, **more)

    def _door(self) -> list[str]:
        if not self.is_on:
            raise RuntimeError(f"{self.name} is off; boot() comes first")
        return [sys.executable, "-I", "-S", str(_DOOR), str(self._first)]

    def titles(self) -> list[str]:
        """What its programs call themselves now; Ray's workers tell their task."""
        found = []
        for one in self._programs():
            with contextlib.suppress(psutil.Error):
                found.append(" ".join(one.cmdline()))
        return found

    def _programs(self) -> Iterator[psutil.Process]:
        """All on it but the first, which only waits."""
        here = os.readlink(f"/proc/{self._first}/ns/pid")
        for one in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if one.pid != self._first and os.readlink(f"/proc/{one.pid}/ns/pid") == here:
                    yield one


def _moves(one: psutil.Process) -> bool:
    try:
        return one.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def machine_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What programs on a machine are told: this process's environment, its Python first, and nothing of its Ray."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return kept | {"PATH": path, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"} | dict(more or {})


def _first_program(keeper: subprocess.Popen[str], name: str) -> int:
    """The process in the namespaces that lives as long as they do, once it says that it is up."""
    assert keeper.stdout is not None
    said = keeper.stdout.readline()
    if said != "up\n":
        raise RuntimeError(f"{name} did not come up: said {said!r}, ended with {keeper.wait(UP_SECONDS)}; see above")
    (first,) = psutil.Process(keeper.pid).children()
    return int(first.pid)


def _end(keeper: subprocess.Popen[str]) -> None:
    """Its first program ends when nobody holds its input any more, and all others with it; wait until they are gone."""
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    keeper.stdin.close()
    keeper.wait(END_SECONDS)
    keeper.stdout.close()


def _batch(within: list[str], lines: list[str]) -> None:
    _call(*within, "ip", "-batch", "-", told="\n".join(lines) + "\n")


def _call(*command: str, told: str = "") -> None:
    done = subprocess.run(command, input=told, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {told}{done.stderr.strip()}")
