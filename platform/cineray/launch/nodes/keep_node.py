"""Keeps a program running on a machine: a command goes in, and it is started again whenever it ends, until SIGTERM.

    python -m cineray.launch.nodes.keep_node --detach LOG -- ray start --block --address=...

Ray's own node ends itself when it was cut off and is heard again ("mistakenly marked as dead"), and `ray up` does not
look after that; Kubernetes does. Detached, it replaces the keeper that held the same log before, and returns once Ray
answers on this machine, or with the log's last lines when it does not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ALIVE = "http://localhost:52365/api/local_raylet_healthz"
"""Says `success` without a token, and nothing else."""
WAIT_SECONDS = 120.0
SHORT_SECONDS, LONG_SECONDS = 1.0, 30.0
"""A program that ends at once, again and again, is started more and more rarely."""
GOOD_SECONDS = 60.0
STOP_SECONDS = 150.0
"""A raylet that is told to end lets its jobs write their checkpoints."""


def keep(command: Sequence[str]) -> int:
    """Run a program for ever; SIGTERM ends it and this."""
    stopping: list[int] = []
    child: list[subprocess.Popen[bytes]] = []

    def stop(number: int, _: object) -> None:
        stopping.append(number)
        if child and child[-1].poll() is None:
            child[-1].terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    pause = SHORT_SECONDS
    while not stopping:
        began = time.monotonic()
        child.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        if stopping:  # between the look above and the start
            child[-1].terminate()
        code = child[-1].wait()
        if stopping:
            break
        pause = SHORT_SECONDS if time.monotonic() - began > GOOD_SECONDS else min(2 * pause, LONG_SECONDS)
        _tell(f"{command[0]} ended with code {code}; it is started again in {pause:g} s")
        _sleep(pause, stopping)
    return 0


def _sleep(seconds: float, stopping: list[int]) -> None:
    end = time.monotonic() + seconds
    while not stopping and time.monotonic() < end:
        time.sleep(0.05)


def _tell(words: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} keep_node: {words}", flush=True)


def detach(command: Sequence[str], log: Path, *, wait_seconds: float, alive: str) -> int:
    """Start a keeper of its own session in place of the one before; 0 once the machine's Ray answers."""
    log.parent.mkdir(parents=True, exist_ok=True)
    mark = log.with_name(f"{log.name}.pid")
    end_former(mark)
    with log.open("ab") as out:
        told = [sys.executable, "-m", "cineray.launch.nodes.keep_node", "--", *command]
        keeper = subprocess.Popen(told, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    mark.write_text(f"{keeper.pid} {_began(keeper.pid)}")
    end = time.monotonic() + wait_seconds
    while wait_seconds and not answers(alive):
        if time.monotonic() > end or keeper.poll() is not None:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            print(
                f"{command[0]} does not answer at {alive} after {wait_seconds:g} s; {log} ends:\n{last}",
                file=sys.stderr,
            )
            return 1
        time.sleep(0.5)
    return 0


def end_former(mark: Path, *, stop_seconds: float = STOP_SECONDS) -> None:
    """End the keeper that a file names, if it is there, and wait until it is gone. One that will not go is killed with
    all that it started: two keepers would start two nodes."""
    try:
        number, began = map(int, mark.read_text().split())
        if began != _began(number):
            return  # a container that was started again has the same numbers, and this process may have that one
    except (OSError, ValueError):
        return
    end = time.monotonic() + stop_seconds
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGTERM)
        while time.monotonic() < end and _is_running(number):
            time.sleep(0.1)
        if _is_running(number):
            os.killpg(number, signal.SIGKILL)  # it leads a session of its own


def _began(number: int) -> int:
    """When a process began, in ticks of this host's clock."""
    return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[19])


def _is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def answers(url: str) -> bool:
    """Does Ray say that it is well?"""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http on this machine
            return bool(b"success" in answer.read(100))
    except (urllib.error.URLError, OSError):
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """What `python -m cineray.launch.nodes.keep_node` does."""
    parser = argparse.ArgumentParser(
        prog="python -m cineray.launch.nodes.keep_node", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--detach", metavar="LOG", type=Path, help="go on in the background and write to this file")
    parser.add_argument("--no-wait", action="store_true", help="do not wait for Ray to answer")
    parser.add_argument("--alive", default=ALIVE, help="the address that says `success` once it is up")
    parser.add_argument("--wait-seconds", type=float, default=WAIT_SECONDS, help="for that")
    parser.add_argument("command", nargs="+", help="the program, after --")
    told = parser.parse_args(arguments)
    if told.detach is None:
        return keep(told.command)
    return detach(told.command, told.detach, wait_seconds=0 if told.no_wait else told.wait_seconds, alive=told.alive)


if __name__ == "__main__":
    sys.exit(main())
