"""Sending a job once: a submission goes in; the attempt that is at work, or has done it, comes out.

    nothing of it is there   ->  sent          the first attempt
    it is at work            ->  attached      nothing is sent
    it has succeeded         ->  finished      nothing is sent; but what looks at a place looks again
    it failed, was stopped   ->  sent          the next attempt, which goes on with the run

Two who send the same job at once make one attempt of it: the cluster takes an id once, and who comes second attaches.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cineray.errors import CinerayError, UsageError
from cineray.launch.clients import Cluster, JobFacts
from cineray.launch.package import Package
from cineray.launch.submission import Submission

How = Literal["sent", "attached", "finished"]
_TOO_LARGE = 413


@dataclass(frozen=True, slots=True)
class Sent:
    """What has become of a submission."""

    submission_id: str
    attempt: int
    how: How
    before: str = ""
    """How the attempt before it ended; empty for a first one."""


def send(cluster: Cluster, submission: Submission, package: Package) -> Sent:
    """See that the job is at work, or done, once."""
    for _ in range(3):  # somebody else may send the same at the same time, and even end
        newest = _newest(cluster, submission)
        if newest is not None and not newest.has_ended:
            return Sent(newest.submission_id, newest.attempt, "attached")
        if newest is not None and newest.status == "SUCCEEDED" and not submission.looks:
            return Sent(newest.submission_id, newest.attempt, "finished")
        _check_run_is_free(cluster, submission)
        attempt = 1 if newest is None else newest.attempt + 1
        if _put(cluster, submission, package, attempt):
            return Sent(submission.id_of(attempt), attempt, "sent", "" if newest is None else newest.status)
    raise CinerayError(
        f"{submission.id_of(1)} was sent by others again and again while this one tried; look at "
        f"`cineray jobs list --address {cluster.address}` and try again"
    )


def _newest(cluster: Cluster, submission: Submission) -> JobFacts | None:
    attempts = [job for job in cluster.jobs() if submission.attempt_of(job.submission_id)]
    return max(attempts, key=lambda job: submission.attempt_of(job.submission_id), default=None)


def _check_run_is_free(cluster: Cluster, submission: Submission) -> None:
    """Two jobs on one run would take it from each other."""
    for job in cluster.jobs():
        if submission.run and not job.has_ended and job.told.get("run") == submission.run:
            raise UsageError(
                f"{job.submission_id} is at work on the run {submission.run}, and is another job than this one: its "
                f"code, arguments or environment differ. Stop it first: cineray jobs stop {job.submission_id} "
                f"--address {cluster.address}; or name another run: --run"
            )


def _put(cluster: Cluster, submission: Submission, package: Package, attempt: int) -> bool:
    """Send an attempt; False where somebody else had just sent it."""
    wanted = submission.id_of(attempt)
    with tempfile.TemporaryDirectory(prefix="cineray-submit-") as folder:
        packed = package.write(Path(folder)) if package.files else None
        try:
            cluster.client.submit_job(
                entrypoint=submission.entrypoint(attempt),
                submission_id=wanted,
                runtime_env=submission.runtime_env(packed),
                metadata=submission.metadata(attempt),
                entrypoint_num_cpus=submission.cpus or None,
                entrypoint_num_gpus=submission.gpus or None,
            )
        except RuntimeError as error:
            if any(job.submission_id == wanted for job in cluster.jobs()):
                return False
            raise CinerayError(_refused(cluster, package, str(error))) from error
    return True


def _refused(cluster: Cluster, package: Package, error: str) -> str:
    if f"status code {_TOO_LARGE}" in error:
        return (
            f"the cluster at {cluster.address} refused a package of {package.size_bytes / 1e6:.1f} MB (before it was "
            "packed) as too large; choose folders: --only jobs"
        )
    last = next((line for line in reversed(error.strip().splitlines()) if line.strip()), error)
    return f"the cluster at {cluster.address} did not take the job: {last[:500]}; its dashboard's log says more"
