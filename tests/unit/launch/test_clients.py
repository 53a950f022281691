"""Jobs as a cluster tells of them: ours by what cineray noted, others' by nothing that they noted themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")
from cineray.launch.clients import Cluster

OURS = {"cineray_attempt": "3", "cineray_run": "s3://b/runs/one", "cineray_command": "train"}


class Answers:
    """A dashboard with these jobs, each with its metadata."""

    def __init__(self, *metadata: dict[str, Any] | None) -> None:
        told: dict[str, Any] = {"status": "RUNNING", "entrypoint": "x"}
        self.rows = [told | {"submission_id": f"job-{at}", "metadata": one} for at, one in enumerate(metadata)]

    def get_address(self) -> str:
        return "http://127.0.0.1:8265"

    def _do_request(self, _method: str, _endpoint: str) -> Any:
        return SimpleNamespace(status_code=200, json=lambda: self.rows)


def test_what_others_noted_of_their_jobs_is_not_taken_for_ours() -> None:
    client: Any = Answers(OURS, {"attempt": "first", "run": "s3://b/runs/one"}, {"cineray_attempt": "first"}, None)
    jobs = Cluster(client).jobs()
    assert [job.attempt for job in jobs] == [3, 1, 1, 1]
    assert [job.told.get("run") for job in jobs] == ["s3://b/runs/one", None, None, None]
    assert jobs[0].told == {"attempt": "3", "run": "s3://b/runs/one", "command": "train"}
