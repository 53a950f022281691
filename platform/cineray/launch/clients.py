"""Ray's job API as we use it: an address goes in; jobs, versions and clear errors come out.

Ray's own client lets RAY_ADDRESS overrule the address that it is given, waits for minutes for a machine that is not
there, and reports what goes wrong as a status code. This one asks the address that it was told, waits `ANSWER_SECONDS`,
and says what to do.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import ray
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from cineray.errors import CinerayError, UsageError

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 120.0
_OVERRULES = "RAY_API_SERVER_ADDRESS"
_DASHBOARD_PORT, _GCS_PORT = 8265, 6379
_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
_METADATA = "cineray_"


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job as the cluster tells of it. `told`: what cineray noted when it sent it; nothing of what others noted."""

    submission_id: str
    status: str
    entrypoint: str
    told: Mapping[str, str]
    message: str
    exit_code: int | None
    started: float | None
    ended: float | None

    @property
    def has_ended(self) -> bool:
        """Will nothing more come of it?"""
        return self.status in _ENDED

    @property
    def attempt(self) -> int:
        """Which start of the same submission."""
        told = self.told.get("attempt", "")
        return int(told) if told.isdecimal() else 1


@dataclass(frozen=True, slots=True)
class Versions:
    """What a cluster runs on."""

    ray: str
    python: str


class Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's, with time-outs, and without its words on each upload and each end of a stream."""

    def __init__(self, url: str) -> None:
        for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
            logging.getLogger(name).setLevel(logging.WARNING)
        super().__init__(url)

    def _do_request(self, method: str, endpoint: str, **how: Any) -> requests.Response:
        try:
            answer: requests.Response = super()._do_request(
                method, endpoint, timeout=(CONNECT_SECONDS, ANSWER_SECONDS), **how
            )
            return answer
        except AuthenticationError as error:
            raise CinerayError(_locked(self.get_address(), error)) from None
        except requests.RequestException as error:
            raise CinerayError(
                f"the cluster at {self.get_address()} does not answer: {_short(error)}; check that it is up, and the "
                "tunnel to it, if there is one"
            ) from error


class Cluster:
    """Jobs of one cluster."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.address: str = client.get_address()

    def versions(self) -> Versions:
        """Of its head node."""
        told = self.read("/api/v0/cluster_metadata")["data"]
        return Versions(str(told["rayVersion"]), str(told["pythonVersion"]))

    def jobs(self) -> list[JobFacts]:
        """All that were submitted, the newest first."""
        found = [_facts(told) for told in self.read("/api/jobs/") if told.get("submission_id")]
        return sorted(found, key=lambda job: job.started or 0.0, reverse=True)

    def job(self, submission_id: str) -> JobFacts:
        """One of them, by its id or by a beginning of it that no other has."""
        jobs = self.jobs()
        found = [job for job in jobs if job.submission_id == submission_id]
        found = found or [job for job in jobs if job.submission_id.startswith(submission_id)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(job.submission_id for job in (found or jobs)[:5])
        raise UsageError(
            f"{len(found) or 'no'} jobs at {self.address} have the id {submission_id}"
            + (f"; there are: {known}" if known else "; it has no jobs")
        )

    def stop(self, submission_id: str) -> bool:
        """Send it SIGTERM; False if it was not running."""
        return bool(self.read(f"/api/jobs/{submission_id}/stop", method="POST")["stopped"])

    def logs(self, submission_id: str) -> str:
        """All that it has printed so far."""
        return str(self.read(f"/api/jobs/{submission_id}/logs")["logs"] or "")

    def read(self, endpoint: str, method: str = "GET") -> Any:
        """What the dashboard answers to any of its questions."""
        answer = self.client._do_request(method, endpoint)
        if answer.status_code != requests.codes.ok:
            raise CinerayError(
                f"the cluster at {self.address} answered {endpoint} with {answer.status_code}: "
                f"{_last_line(answer.text)}; wanted the dashboard of Ray {ray.__version__}"
            )
        return answer.json()


def open_cluster(address: str) -> Cluster:
    """The cluster whose dashboard is at `address`."""
    url = dashboard_url(address)
    _check_answers(url)
    with _not_overruled(url):
        try:
            return Cluster(Client(url))
        except (RuntimeError, ConnectionError, requests.RequestException, ValueError) as error:
            raise CinerayError(
                f"{url} answers, but not as Ray's dashboard: {_short(error)}; wanted the dashboard's address, such as "
                f"http://127.0.0.1:{_DASHBOARD_PORT}"
            ) from error
        except AuthenticationError as error:
            raise CinerayError(_locked(url, error)) from None


def dashboard_url(address: str) -> str:
    """`host:8265` or an http(s) address, as a URL; the address of another port of Ray's is refused."""
    url = address if "://" in address else f"http://{address}"
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:  # no number
        port = _GCS_PORT
    if parts.scheme not in ("http", "https") or not parts.hostname or port == _GCS_PORT:
        raise UsageError(
            f"--address got {address!r}; jobs are sent to the dashboard, http://HOST:{_DASHBOARD_PORT}; a cluster that "
            f"is not open to you is reached by a tunnel: ssh -L {_DASHBOARD_PORT}:127.0.0.1:{_DASHBOARD_PORT} HEAD"
        )
    if parts.username or parts.password:
        raise UsageError("--address has a user or password in it; Ray's token is passed by RAY_AUTH_TOKEN_PATH")
    where = parts.netloc if port else f"{parts.netloc}:{_DASHBOARD_PORT if parts.scheme == 'http' else 443}"
    return f"{parts.scheme}://{where}{parts.path.rstrip('/')}"


def is_in_the_open(url: str) -> bool:
    """Would Ray's token, and all that is sent, travel where others may read it?"""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")


def check_versions(there: Versions, *, other_python: bool = False) -> None:
    """Refuse a cluster on which this cineray was not meant to run."""
    here = Versions(ray.__version__, ".".join(map(str, sys.version_info[:3])))
    if _minor(there.ray) != _minor(here.ray):
        raise UsageError(
            f"the cluster runs Ray {there.ray} and this machine {here.ray}; cineray wants the same on both, because a "
            f"job's code and Ray's speak to each other. Use an image with ray=={here.ray}, or install "
            f"ray=={there.ray} and the cineray that is made for it here"
        )
    if _minor(there.python) != _minor(here.python) and not other_python:
        raise UsageError(
            f"the cluster runs Python {there.python} and this machine {here.python}; what works here may not work "
            f"there. Use the same, or say --other-python to accept it"
        )


@contextmanager
def _not_overruled(url: str) -> Iterator[None]:
    """While Ray's client reads its address, the environment names the same one."""
    before = os.environ.get(_OVERRULES)
    os.environ[_OVERRULES] = url
    try:
        yield
    finally:
        os.environ.pop(_OVERRULES)
        if before is not None:
            os.environ[_OVERRULES] = before


def _check_answers(url: str) -> None:
    parts = urlsplit(url)
    try:
        socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise CinerayError(
            f"nothing answers at {url}: {error}; check --address, that the cluster is up, and the tunnel to it, if "
            "there is one"
        ) from error


def _facts(told: Mapping[str, Any]) -> JobFacts:
    metadata = told.get("metadata") or {}
    started, ended = told.get("start_time"), told.get("end_time")
    code = told.get("driver_exit_code")
    return JobFacts(
        submission_id=str(told["submission_id"]),
        status=str(told["status"]),
        entrypoint=str(told.get("entrypoint", "")),
        told={
            name.removeprefix(_METADATA): str(value) for name, value in metadata.items() if name.startswith(_METADATA)
        },
        message=str(told.get("message") or ""),
        exit_code=None if code is None else int(code),
        started=None if not started else started / 1000,
        ended=None if not ended else ended / 1000,
    )


def _locked(url: str, error: BaseException) -> str:
    return (
        f"the cluster at {url} wants a token: {_last_line(str(error))}. Set RAY_AUTH_MODE=token, and "
        "RAY_AUTH_TOKEN_PATH to a file that has its token and that only you can read"
    )


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.strip().splitlines()) if line.strip()), "")[:300]
