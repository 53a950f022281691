"""A process that hangs ends with its own code, and the stacks of all its threads are in the run's folder."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cineray.train.watchdog import EXIT_CODE, Watchdog, alive

HANGING = """
import sys, threading, time
from cineray.train.watchdog import Watchdog

def a_thread_that_waits_for_a_lock():
    threading.Lock().acquire()
    lock.acquire()

def a_collective_that_never_returns():
    lock.acquire()

lock = threading.Lock()
lock.acquire()
told = open(sys.argv[2], "w")
def tell(sentence):
    told.write(sentence)
    told.flush()
dog = Watchdog(float(sys.argv[3]), sys.argv[1], who=" on rank 1 of 2", before_exit=tell).start()
for step in range(5):
    dog.alive("compute")
    time.sleep(0.1)
threading.Thread(target=a_thread_that_waits_for_a_lock).start()
a_collective_that_never_returns()
"""


def hang(uri: str, tmp_path: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", HANGING, uri, str(tmp_path / "told"), "0.5"],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def test_anybody_who_is_long_at_something_can_give_a_sign_of_life(tmp_path: Path) -> None:
    dog = Watchdog(1000.0, str(tmp_path / "stacks.txt")).start()
    before = dog._at
    alive("validation")
    assert (dog._at > before, dog._doing) == (True, "validation")
    dog.stop()
    alive("nobody watches any more")
    assert dog._doing == "validation"


def test_a_hang_is_dumped_and_ends_the_process_with_its_own_code(tmp_path: Path) -> None:
    stacks = tmp_path / "stacks" / "rank-1.txt"
    code, said = hang(str(stacks), tmp_path)

    assert code == EXIT_CODE == 75
    assert "nothing happened on rank 1 of 2 for" in said
    assert f"The stacks of all threads are in {stacks}" in said
    dump = stacks.read_text()
    assert "a_collective_that_never_returns" in dump
    assert "a_thread_that_waits_for_a_lock" in dump
    assert (tmp_path / "told").read_text() in said


@pytest.mark.network
def test_of_a_remote_run_the_stacks_are_uploaded(tmp_path: Path, s3_bucket: str) -> None:
    from cineray.storage import read_object

    code, _ = hang(f"{s3_bucket}/run/stacks/rank-1.txt", tmp_path)
    assert code == EXIT_CODE
    assert b"a_collective_that_never_returns" in read_object(f"{s3_bucket}/run/stacks/rank-1.txt", limit_bytes=1 << 20)


def test_signs_of_life_keep_it_quiet_and_nothing_is_left_behind(tmp_path: Path) -> None:
    def leave(code: int) -> None:
        raise AssertionError(f"left with {code}")

    dog = Watchdog(0.4, str(tmp_path / "stacks.txt"), leave=leave).start()  # type: ignore[arg-type]
    for _ in range(20):
        time.sleep(0.05)
        dog.alive("compute")
    dog.stop()
    assert not (tmp_path / "stacks.txt").exists()
