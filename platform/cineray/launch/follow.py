"""A job's logs as they come: a cluster and an id go in; text comes out until the job has ended.

The cluster may be away for a while (a tunnel, a head node that comes back), and then is asked again. A stream that
breaks is taken up where it was; one that only falls silent, as when a router forgets it, is too, once the log is seen
to have grown without it. Who stops following leaves the job alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

import aiohttp

from cineray.errors import CinerayError, UsageError
from cineray.launch.clients import Cluster, JobFacts

PATIENCE_SECONDS = 120.0
"""How long a cluster may be away before following gives up."""
PENDING_SECONDS = 15.0
"""How often it is said that a job still waits for its turn."""
SILENT_SECONDS = 30.0
"""After so long without a word the job and its log are looked at beside the stream; then after twice as long."""
_LOOK_SECONDS = 1.0
_AWAY = (CinerayError, RuntimeError, aiohttp.ClientError, OSError)

Tell = Callable[[str], None]
Answer = TypeVar("Answer")


def follow(cluster: Cluster, submission_id: str, tell: Tell = lambda _: None) -> Iterator[str]:
    """What the job prints, piece by piece, from its beginning. `tell` is told in words why nothing comes."""
    patience, with_stream = _Patience(cluster, submission_id), _Patience(cluster, submission_id)
    _until_it_runs(patience, tell)
    seen = 0
    while True:
        try:
            for piece in _stream(cluster, submission_id, seen):
                seen += len(piece)
                with_stream.is_there()
                yield piece
        except _AWAY as error:
            with_stream.is_away(error)
        if patience.job().has_ended:
            rest = patience.asked(lambda: cluster.logs(submission_id))[seen:]
            if rest:
                yield rest
            return
        time.sleep(_LOOK_SECONDS)


def wait_for_end(cluster: Cluster, submission_id: str, *, seconds: float, tell: Tell = lambda _: None) -> JobFacts:
    """The job once it has ended, or as it is after so long."""
    patience = _Patience(cluster, submission_id)
    began = said = time.monotonic()
    while True:
        job = patience.job()
        now = time.monotonic()
        if job.has_ended or now - began > seconds:
            return job
        if now - said > PENDING_SECONDS:
            said = now
            tell(f"{submission_id} is still {job.status} after {now - began:.0f} s")
        time.sleep(_LOOK_SECONDS)


def _until_it_runs(patience: _Patience, tell: Tell) -> None:
    began = said = time.monotonic()
    while (job := patience.job()).status == "PENDING":
        if time.monotonic() - said > PENDING_SECONDS:
            said = time.monotonic()
            tell(f"waiting for {said - began:.0f} s: {job.message or 'the job has not begun'}")
        time.sleep(_LOOK_SECONDS)


class _Patience:
    """Asks for a job until it is told, or until the cluster has been away for too long."""

    def __init__(self, cluster: Cluster, submission_id: str) -> None:
        self._cluster, self._id = cluster, submission_id
        self._away_since: float | None = None

    def job(self) -> JobFacts:
        """As it is now."""
        return self.asked(lambda: self._cluster.job(self._id))

    def asked(self, question: Callable[[], Answer]) -> Answer:
        """What the cluster answers. That it knows no such job is an answer."""
        while True:
            try:
                answer = question()
            except UsageError:
                raise
            except _AWAY as error:
                self.is_away(error)
                time.sleep(_LOOK_SECONDS)
            else:
                self.is_there()
                return answer

    def is_there(self) -> None:
        """Something came of it."""
        self._away_since = None

    def is_away(self, error: BaseException) -> None:
        """Nothing came of it; raises when that has been so for too long."""
        self._away_since = self._away_since or time.monotonic()
        if time.monotonic() - self._away_since > PATIENCE_SECONDS:
            raise CinerayError(
                f"{self._id} could not be followed for {PATIENCE_SECONDS:.0f} s: {error}; the job may well go on: "
                f"cineray jobs status {self._id} --address {self._cluster.address}"
            ) from error


def _stream(cluster: Cluster, submission_id: str, seen: int) -> Iterator[str]:
    """The stream from its beginning on, without the first `seen` characters, until it ends or is found to be dead. The
    runner sees to it that Ctrl-C ends the stream too: closing one that is being read is an error, which would stand in
    the way of the interruption."""
    pieces, received = cluster.client.tail_job_logs(submission_id), 0
    with asyncio.Runner() as runner:
        while True:
            coming, patient_seconds = runner.get_loop().create_task(_next(pieces)), SILENT_SECONDS
            while not runner.run(_came(coming, patient_seconds)):
                if cluster.job(submission_id).has_ended or len(cluster.logs(submission_id)) > max(seen, received):
                    return
                patient_seconds *= 2
            piece = coming.result()
            if piece is None:
                return
            new = piece[max(0, seen - received) :]
            received += len(piece)
            if new:
                yield new


async def _next(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)


async def _came(coming: asyncio.Task[str | None], seconds: float) -> bool:
    """Whether it came within that time; it goes on coming."""
    done, _ = await asyncio.wait({coming}, timeout=seconds)
    return bool(done)
