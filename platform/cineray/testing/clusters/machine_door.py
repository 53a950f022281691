"""The door to a test's machine: starts one program in the namespaces of another process, and is its stand-in out here.

    python -I -S machine_door.py PID PROGRAM [WORDS]...

Signals that the door gets go on to the program, which ends with the door, and the door's exit says how it ended. When
the program stands still (SIGSTOP), the door does not, so that whoever ends the machine need not know of its doors;
util-linux's `nsenter` would stand still too. Standard library only: it starts in no time.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import FrameType

NAMESPACES = ("ipc", "uts", "net", "pid", "mnt")
"""Mounts last: the others are looked up here."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def enter(pid: int) -> None:
    """This process itself stays in its own process namespace; its children will be in the other."""
    folder = os.getcwd()
    try:
        opened = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in NAMESPACES]
    except FileNotFoundError:
        sys.exit(f"process {pid} is no more: the machine is off")
    for name, fd in zip(NAMESPACES, opened, strict=True):
        if _LIBC.setns(fd, 0) != 0:
            raise OSError(ctypes.get_errno(), f"setns {name} of process {pid}: {os.strerror(ctypes.get_errno())}")
        os.close(fd)
    os.chdir(folder)


def start(command: list[str]) -> int:
    """The program, as a child that does not outlive this process."""
    child = os.fork()
    if child:
        return child
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - this is what a door is for
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
    os._exit(127)


def stand_in(child: int) -> int:
    """Wait for its end; the exit code, or the signal as a negative number."""

    def forward(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def main() -> int:
    """What `python machine_door.py` does."""
    enter(int(sys.argv[1]))
    code = stand_in(start(sys.argv[2:]))
    if code >= 0:
        return code
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
    return 128 - code


if __name__ == "__main__":
    sys.exit(main())
