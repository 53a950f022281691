"""A program is started again whenever it ends, until the keeper is told to stop; shown with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cineray.launch.nodes.keep_node import end_former
from cineray.testing.events import until

KEEP = [sys.executable, "-m", "cineray.launch.nodes.keep_node"]


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def alive(number: int) -> bool:
    """Is there such a process, and is it more than an entry that nobody has read yet?"""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_ends_is_started_again_and_what_it_ended_with_is_told(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    told = [*KEEP, "--", "bash", "-c", f"echo $$ >> {starts}; exit 7"]
    keeper = subprocess.Popen(told, stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: len(lines(starts)) >= 2, "a second start")
    finally:
        keeper.terminate()
    printed, _ = keeper.communicate(timeout=20)
    assert keeper.returncode == 0
    assert "bash ended with code 7; it is started again in 2 s" in printed


def test_sigterm_reaches_the_program_which_may_put_its_work_away(tmp_path: Path) -> None:
    starts, ends = tmp_path / "starts", tmp_path / "ends"
    script = f"trap 'sleep 0.5; echo done > {ends}; exit 0' TERM; echo $$ > {starts}; while true; do sleep 0.1; done"
    keeper = subprocess.Popen([*KEEP, "--", "bash", "-c", script])
    until(lambda: bool(lines(starts)), "its start")
    keeper.terminate()
    assert keeper.wait(timeout=20) == 0
    assert lines(ends) == ["done"]


@pytest.fixture
def healthy() -> Iterator[str]:
    """An address that says what Ray says."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"success")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """Where a detached keeper writes; it is ended with the test."""
    file = tmp_path / "logs" / "keeper.log"
    yield file
    with contextlib.suppress(OSError, ProcessLookupError):
        number = int(file.with_name("keeper.log.pid").read_text().split()[0])
        os.kill(number, signal.SIGTERM)
        until(lambda: not alive(number), "its end")


def detached(log: Path, healthy: str, starts: Path) -> int:
    script = f"echo $$ >> {starts}; exec sleep 1000"
    told = [*KEEP, "--detach", str(log), "--alive", healthy, "--", "bash", "-c", script]
    assert subprocess.run(told, check=False, timeout=60).returncode == 0
    until(lambda: bool(lines(starts)), "its start")
    return int(log.with_name("keeper.log.pid").read_text().split()[0])


def test_detached_it_outlives_who_started_it_and_a_second_one_takes_its_place(
    tmp_path: Path, log: Path, healthy: str
) -> None:
    """As when `ray up` is run again on a machine that is up."""
    first = detached(log, healthy, tmp_path / "first")
    (program,) = map(int, lines(tmp_path / "first"))
    assert alive(first)
    assert alive(program)
    second = detached(log, healthy, tmp_path / "second")
    assert alive(second)
    assert not alive(first)
    assert not alive(program)


def test_a_former_keeper_whose_program_will_not_end_is_killed_with_it(tmp_path: Path, log: Path, healthy: str) -> None:
    starts = tmp_path / "starts"
    script = f"trap '' TERM; echo $$ > {starts}; while true; do sleep 0.1; done"
    told = [*KEEP, "--detach", str(log), "--alive", healthy, "--", "bash", "-c", script]
    assert subprocess.run(told, check=False, timeout=60).returncode == 0
    until(lambda: bool(lines(starts)), "its start")
    mark = log.with_name("keeper.log.pid")
    end_former(mark, stop_seconds=0.5)
    for number in (int(mark.read_text().split()[0]), int(lines(starts)[0])):
        until(lambda number=number: not alive(number), "its end")


def test_a_killed_program_comes_back_under_a_detached_keeper(tmp_path: Path, log: Path, healthy: str) -> None:
    starts = tmp_path / "starts"
    detached(log, healthy, starts)
    os.kill(int(lines(starts)[0]), signal.SIGKILL)
    until(lambda: len(lines(starts)) == 2, "a second start")
    assert alive(int(lines(starts)[1]))


def test_what_does_not_come_up_is_told_with_the_logs_last_lines(tmp_path: Path, log: Path) -> None:
    told = [*KEEP, "--detach", str(log), "--alive", "http://127.0.0.1:9/", "--wait-seconds", "2", "--"]
    done = subprocess.run([*told, "bash", "-c", "echo no such head"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "bash does not answer at http://127.0.0.1:9/ after 2 s" in done.stderr
    assert "no such head" in done.stderr


def test_a_number_that_is_somebody_elses_by_now_is_left_alone(tmp_path: Path, log: Path, healthy: str) -> None:
    """Even another keeper's: numbers repeat where a container is started again, and so may this program's own."""
    stranger = subprocess.Popen([*KEEP, "--", "sleep", "1000"])
    log.parent.mkdir()
    log.with_name("keeper.log.pid").write_text(f"{stranger.pid} 1")
    detached(log, healthy, tmp_path / "starts")
    assert stranger.poll() is None
    stranger.terminate()
    stranger.wait()
