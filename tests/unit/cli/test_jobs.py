"""A job as a person reads it: its time as a time, and nothing twice."""

from __future__ import annotations

import time

import pytest

from cineray.cli.jobs import for_people


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_a_job_of_cineray_is_told_by_its_command_and_another_by_what_started_it() -> None:
    row = {
        "submission_id": "a-1",
        "command": "train",
        "exit_code": None,
        "started": 1795272126.4,
        "entrypoint": "exec x",
    }
    assert for_people(row) == {"submission_id": "a-1", "command": "train", "started": "2026-11-21 14:42:06 UTC"}
    other = {"submission_id": "raysubmit_1", "command": "", "started": None, "entrypoint": "python x.py"}
    assert for_people(other) == {"submission_id": "raysubmit_1", "entrypoint": "python x.py"}
