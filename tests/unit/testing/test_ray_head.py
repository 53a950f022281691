"""The leash on which a test's Ray is held: what it starts is gone when the process that started it is."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from cineray.testing.clusters.ray_head import LEASH, end_group
from cineray.testing.events import until

MAKER = """
import subprocess, time
from cineray.testing.clusters.ray_head import LEASH
told = [*LEASH, "sh", "-c", "echo $$; sleep 98765 & echo $!; wait"]
made = subprocess.Popen(told, stdin=subprocess.PIPE, start_new_session=True)
time.sleep(1000)
"""


def test_when_its_maker_is_killed_all_that_it_started_ends() -> None:
    maker = subprocess.Popen([sys.executable, "-c", MAKER], stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    numbers = [int(maker.stdout.readline()) for _ in range(2)]
    maker.kill()
    maker.wait()
    until(lambda: not any(Path(f"/proc/{number}").exists() for number in numbers), "their end")
    maker.stdout.close()


def test_a_command_on_a_leash_is_the_command_itself_and_ends_as_it_does() -> None:
    told = [*LEASH, "sh", "-c", "echo $$; exit 7"]
    made = subprocess.Popen(told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert made.stdout is not None
    assert (int(made.stdout.readline()), made.wait()) == (made.pid, 7)
    end_group(made)
    made.stdout.close()


def test_ended_by_its_group_nothing_is_left() -> None:
    told = [*LEASH, "sleep", "98765"]
    made = subprocess.Popen(told, stdin=subprocess.PIPE, start_new_session=True)
    end_group(made)
    assert made.returncode == -signal.SIGKILL
    assert members(made.pid) == []


def members(group: int) -> list[int]:
    """The living processes of a group."""
    found = []
    for one in Path("/proc").iterdir():
        if one.name.isdecimal():
            try:
                fields = (one / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(one.name))
    return found
