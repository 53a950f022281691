"""Logs come once and whole, however often the stream breaks. The cluster is a stand-in that breaks where it is told."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

pytest.importorskip("ray")
from cineray.errors import CinerayError, UsageError
from cineray.launch import follow as follow_module
from cineray.launch.clients import JobFacts
from cineray.launch.follow import follow, wait_for_end

LOG = "".join(f"line {number}\n" for number in range(50))


class Breaking:
    """A cluster with one job; its streams end after so many characters each, by an error or quietly."""

    address = "http://127.0.0.1:8265"

    def __init__(self, cuts: list[int], *, pending: int = 0, error: type[Exception] | None = RuntimeError) -> None:
        self.cuts, self.pending, self.error, self.client = list(cuts), pending, error, self

    def job(self, _submission_id: str) -> JobFacts:
        self.pending -= 1
        status = "PENDING" if self.pending >= 0 else "RUNNING" if self.cuts else "SUCCEEDED"
        return JobFacts("one", status, "", {}, "no room yet", None, None, None)

    def logs(self, _submission_id: str) -> str:
        return LOG

    async def tail_job_logs(self, _submission_id: str) -> AsyncIterator[str]:
        """From the beginning each time, as Ray's does."""
        cut = self.cuts.pop(0) if self.cuts else len(LOG)
        for at in range(0, cut, 7):
            yield LOG[at : min(at + 7, cut)]
        if self.error is not None and self.cuts:
            raise self.error("the connection was lost")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "_LOOK_SECONDS", 0.001)


@pytest.mark.parametrize("error", [RuntimeError, OSError, None])
@pytest.mark.parametrize("cuts", [[], [0, 0], [10, 3, 100], [100, 100, 101]])
def test_a_broken_stream_is_taken_up_where_it_was(cuts: list[int], error: type[Exception] | None) -> None:
    cluster: Any = Breaking(cuts, error=error)
    assert "".join(follow(cluster, "one")) == LOG


def test_while_a_job_waits_it_is_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "PENDING_SECONDS", 0.0)
    said: list[str] = []
    cluster: Any = Breaking([], pending=3)
    assert "".join(follow(cluster, "one", said.append)) == LOG
    assert len(said) == 3
    assert said[0].endswith("s: no room yet")


def test_a_cluster_that_stays_away_is_given_up_and_the_job_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "PATIENCE_SECONDS", 0.05)
    cluster: Any = Breaking([5] * 10_000)
    with pytest.raises(CinerayError, match=r"could not be followed .* the connection was lost; the job may well go on"):
        list(follow(cluster, "one"))


class Interrupting(Breaking):
    """Somebody presses Ctrl-C while nothing comes."""

    async def tail_job_logs(self, _submission_id: str) -> AsyncIterator[str]:
        yield LOG[:7]
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)
        yield "too late"


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """Also where the tests were started in the background, by a shell that makes all of it deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_ends_the_following_at_once_also_while_nothing_comes() -> None:
    cluster: Any = Interrupting([1])
    got: list[str] = []

    def read() -> None:
        for piece in follow(cluster, "one"):
            got.append(piece)

    with pytest.raises(KeyboardInterrupt):
        read()
    assert got == [LOG[:7]]


class Forgotten(Breaking):
    """A router forgets each stream after some characters: nothing more comes, not even an end. The job is always there
    to be asked for, and still runs when it is first asked for beside the stream."""

    def __init__(self, cuts: list[int]) -> None:
        super().__init__(cuts)
        self.asked = 0

    async def tail_job_logs(self, _submission_id: str) -> AsyncIterator[str]:
        cut = self.cuts.pop(0)
        yield LOG[:cut]
        await asyncio.sleep(3600)

    def job(self, submission_id: str) -> JobFacts:
        self.asked += 1
        return super().job(submission_id)


def test_a_stream_that_falls_silent_for_ever_is_taken_up_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "SILENT_SECONDS", 0.001)
    cluster: Any = Forgotten([10, 30, 100])
    assert "".join(follow(cluster, "one")) == LOG
    assert cluster.cuts == []


class Quiet(Breaking):
    """It prints its first line, for long nothing, and then the rest."""

    async def tail_job_logs(self, _submission_id: str) -> AsyncIterator[str]:
        self.began = getattr(self, "began", 0) + 1
        yield LOG[:7]
        while self.looks < 3:
            await asyncio.sleep(0.001)
        self.cuts.clear()
        yield LOG[7:]

    looks = 0

    def logs(self, _submission_id: str) -> str:
        self.looks += 1
        return LOG[:7]


def test_a_job_that_is_only_quiet_keeps_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "SILENT_SECONDS", 0.001)
    cluster: Any = Quiet([1])
    assert "".join(follow(cluster, "one")) == LOG
    assert cluster.began == 1


class Away(Breaking):
    """The dashboard does not answer each other question."""

    def __init__(self, *, pending: int) -> None:
        super().__init__([10], pending=pending)
        self.questions = 0

    def job(self, submission_id: str) -> JobFacts:
        self.questions += 1
        if self.questions % 2:
            raise CinerayError("the cluster does not answer: connection refused")
        return super().job(submission_id)


def test_a_cluster_that_is_away_for_a_moment_is_asked_again_before_while_and_after_the_job_runs() -> None:
    cluster: Any = Away(pending=3)
    assert "".join(follow(cluster, "one")) == LOG
    assert wait_for_end(cluster, "one", seconds=60.0).status == "SUCCEEDED"
    assert cluster.questions > 8


def test_a_cluster_that_stays_away_while_a_job_waits_or_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "PATIENCE_SECONDS", 0.05)

    class Gone(Breaking):
        def job(self, _submission_id: str) -> JobFacts:
            raise CinerayError("the cluster does not answer: connection refused")

    cluster: Any = Gone([])
    with pytest.raises(CinerayError, match=r"one could not be followed .*connection refused; the job may well go on"):
        list(follow(cluster, "one"))
    with pytest.raises(CinerayError, match=r"one could not be followed .*cineray jobs status one --address http"):
        wait_for_end(cluster, "one", seconds=60.0)


def test_a_job_that_the_cluster_does_not_know_is_not_waited_for() -> None:
    class Unknown(Breaking):
        def job(self, _submission_id: str) -> JobFacts:
            raise UsageError("no jobs at http://127.0.0.1:8265 have the id one")

    cluster: Any = Unknown([])
    with pytest.raises(UsageError, match="have the id one"):
        list(follow(cluster, "one"))


def test_who_waits_for_an_end_waits_no_longer_than_told() -> None:
    cluster: Any = Breaking([1])
    assert wait_for_end(cluster, "one", seconds=0.01).status == "RUNNING"
    ended: Any = Breaking([])
    assert wait_for_end(ended, "one", seconds=5.0).status == "SUCCEEDED"
