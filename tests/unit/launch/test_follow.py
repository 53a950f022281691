"""Logs come once and whole, however often the stream breaks. The cluster is a stand-in that breaks where it is told."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("ray")
from cineray.errors import CinerayError
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


def test_ctrl_c_ends_the_following_at_once_also_while_nothing_comes() -> None:
    cluster: Any = Interrupting([1])
    got: list[str] = []

    def read() -> None:
        for piece in follow(cluster, "one"):
            got.append(piece)

    with pytest.raises(KeyboardInterrupt):
        read()
    assert got == [LOG[:7]]


def test_who_waits_for_an_end_waits_no_longer_than_told() -> None:
    cluster: Any = Breaking([1])
    assert wait_for_end(cluster, "one", seconds=0.01).status == "RUNNING"
    ended: Any = Breaking([])
    assert wait_for_end(ended, "one", seconds=5.0).status == "SUCCEEDED"
