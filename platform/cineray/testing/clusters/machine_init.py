"""The first program of a test's machine, inside its namespaces: makes its disk and memory its own, then waits.

    python -I -S machine_init.py '{"name": ..., "disk": ..., "shm_mb": ..., "own": [...], "over": [...], "hosts": ...}'

It says `up` once all is there, and ends when its standard input ends, which is when whoever made the machine is gone,
however that came; with it the kernel ends every program of the machine. Standard library only: it starts in no time.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any


def mount(*words: str | Path) -> None:
    """Here alone: no other mount namespace sees it."""
    subprocess.run(["mount", *map(str, words)], check=True)


def own_folder(path: Path, disk: Path) -> None:
    """A folder that is empty on a new machine, and lies on the machine's disk."""
    there = disk / "own" / path.relative_to("/")
    there.mkdir(parents=True, exist_ok=True)
    path.mkdir(parents=True, exist_ok=True)
    there.chmod(path.stat().st_mode & 0o7777)
    mount("--bind", there, path)


def own_changes(path: Path, disk: Path) -> None:
    """A folder that is as here, and whose changes lie on the machine's disk."""
    there = disk / "over" / str(path.relative_to("/")).replace("/", "-")
    for part in ("changes", "work"):
        (there / part).mkdir(parents=True, exist_ok=True)
    (there / "changes").chmod(path.stat().st_mode & 0o7777)
    mount("-t", "overlay", "-o", f"lowerdir={path},upperdir={there}/changes,workdir={there}/work", "overlay", path)


def own_names(hosts: Path, disk: Path) -> None:
    """The network's own list of names; and nobody is asked for others, which would take its time."""
    nobody = disk / "resolv.conf"
    nobody.write_text("")
    mount("--bind", hosts, "/etc/hosts")
    mount("--bind", nobody, os.path.realpath("/etc/resolv.conf"))


def prepare(told: dict[str, Any]) -> None:
    """All that a machine has of its own, but its cable."""
    disk = Path(told["disk"])
    socket.sethostname(told["name"])
    mount("-t", "tmpfs", "-o", f"size={told['shm_mb']}m", "none", "/dev/shm")  # noqa: S108 - a machine's own
    for path in told["over"]:
        own_changes(Path(path), disk)
    for path in told["own"]:
        own_folder(Path(path), disk)
    own_names(Path(told["hosts"]), disk)
    # Else it would answer for the addresses of its loopback too, as of a cloud's metadata, when others look for them.
    Path("/proc/sys/net/ipv4/conf/all/arp_ignore").write_text("1")


def wait_for_the_end() -> None:
    """Orphans that end here are nobody's: the kernel takes them away by itself."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("up", flush=True)
    while os.read(0, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    prepare(json.loads(sys.argv[1]))
    wait_for_the_end()
