"""A job's logs as they come: a cluster and an id go in; text comes out until the job has ended.

The stream may break (a tunnel, a head node that comes back): it is taken up where it was. Who stops following leaves
the job alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import aiohttp

from cineray.errors import CinerayError
from cineray.launch.clients import Cluster, JobFacts

PATIENCE_SECONDS = 120.0
"""How long a cluster may be away before following gives up."""
PENDING_SECONDS = 15.0
"""How often it is said that a job still waits for its turn."""
_LOOK_SECONDS = 1.0


def follow(cluster: Cluster, submission_id: str, tell: Callable[[str], None] = lambda _: None) -> Iterator[str]:
    """What the job prints, piece by piece, from its beginning. `tell` is told in words why nothing comes."""
    _until_it_runs(cluster, submission_id, tell)
    seen, away_since = 0, None
    while True:
        try:
            for piece in _stream(cluster, submission_id, seen):
                seen += len(piece)
                away_since = None
                yield piece
            if cluster.job(submission_id).has_ended:
                rest = cluster.logs(submission_id)[seen:]
                if rest:
                    yield rest
                return
        except (CinerayError, RuntimeError, aiohttp.ClientError, OSError) as error:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > PATIENCE_SECONDS:
                raise CinerayError(
                    f"the logs of {submission_id} could not be followed for {PATIENCE_SECONDS:.0f} s: {error}; the job "
                    f"may well go on: cineray jobs status {submission_id} --address {cluster.address}"
                ) from error
        time.sleep(_LOOK_SECONDS)


def wait_for_end(
    cluster: Cluster, submission_id: str, *, seconds: float, tell: Callable[[str], None] = lambda _: None
) -> JobFacts:
    """The job once it has ended, or as it is after so long."""
    began = said = time.monotonic()
    while True:
        job = cluster.job(submission_id)
        now = time.monotonic()
        if job.has_ended or now - began > seconds:
            return job
        if now - said > PENDING_SECONDS:
            said = now
            tell(f"{submission_id} is still {job.status} after {now - began:.0f} s")
        time.sleep(_LOOK_SECONDS)


def _until_it_runs(cluster: Cluster, submission_id: str, tell: Callable[[str], None]) -> None:
    began = said = time.monotonic()
    while (job := cluster.job(submission_id)).status == "PENDING":
        if time.monotonic() - said > PENDING_SECONDS:
            said = time.monotonic()
            tell(f"waiting for {said - began:.0f} s: {job.message or 'the job has not begun'}")
        time.sleep(_LOOK_SECONDS)


def _stream(cluster: Cluster, submission_id: str, seen: int) -> Iterator[str]:
    """The stream from its beginning on, without the first `seen` characters. The runner sees to it that Ctrl-C ends the
    stream too: closing one that is being read is an error, which would stand in the way of the interruption."""
    pieces = cluster.client.tail_job_logs(submission_id)
    with asyncio.Runner() as runner:
        while (piece := runner.run(_next(pieces))) is not None:
            passed_over = min(seen, len(piece))
            seen -= passed_over
            if piece[passed_over:]:
                yield piece[passed_over:]


async def _next(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)
