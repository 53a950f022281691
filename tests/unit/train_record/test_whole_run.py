"""A training and its record together: killed, it ends with the ledger of one that was left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cineray.config import job_to_yaml, load_job
from cineray.feed import DataJob
from cineray.train.config import CheckpointConfig, TrainJob, ValidationConfig
from cineray.train.goodput import goodput_of
from cineray.train.ledger import read_all_rows, read_ledger
from cineray.train.local_run import run_local
from cineray.train.run_folder import RunFolder

CHILD = Path(__file__).with_name("killed_run.py")
STEPS = 40


@pytest.fixture(scope="module")
def training(job: DataJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job's YAML."""
    made = TrainJob.model_validate(
        job.model_dump()
        | {
            "steps": STEPS,
            "precision": "fp32",
            "model": {"kind": "stdit", "size": "custom", "width": 24, "depth": 2, "heads": 2, "patch": (1, 8, 8)},
            "validation": ValidationConfig(every_steps=0).model_dump(),
            "checkpoint": CheckpointConfig(every_steps=8).model_dump(),
        }
    )
    file = tmp_path_factory.mktemp("training") / "job.yaml"
    file.write_text(job_to_yaml(made, {"train": TrainJob}))
    return file


def start(training: Path, run: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(training), str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    summary: dict[str, Any] = json.loads(out)
    return summary


@pytest.mark.slow
def test_a_run_that_is_killed_has_the_ledger_of_one_that_was_left_alone(training: Path, tmp_path: Path) -> None:
    straight = run_local(load_job(training, {"train": TrainJob}), uri=str(tmp_path / "straight"))  # type: ignore[arg-type]
    wanted = read_ledger(str(tmp_path / "straight" / "ledger")).to_pylist()

    process = start(training, tmp_path / "killed")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        rows = read_all_rows(str(tmp_path / "killed" / "ledger"))
        if rows and rows[-1]["step"] >= 21:
            break
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    summary = finished(start(training, tmp_path / "killed"))

    found = read_ledger(str(tmp_path / "killed" / "ledger")).to_pylist()
    same = ("step", "loss", "lr", "grad_norm", "clips", "frames", "tokens", "padding_fraction", "substituted", "bucket")
    assert [[row[name] for name in same] for row in found] == [[row[name] for name in same] for row in wanted]
    assert [row["step"] for row in found] == list(range(STEPS))

    told = goodput_of(RunFolder.open(str(tmp_path / "killed")))
    assert told["attempts"] == 2
    assert told["steps_redone"] >= 1, "what was done after the last checkpoint before the kill"
    assert told["seconds"]["lost_progress"] > 0
    assert told["seconds"]["checkpoint_restore"] > 0
    assert told["seconds"]["idle"] > 0, "between the attempts"
    assert sum(told["seconds"].values()) == pytest.approx(told["lifetime_s"])
    assert (summary["step"], straight["step"]) == (STEPS, STEPS)
    assert summary["loss"] == straight["loss"]
    assert {"run", "loss", "clips_per_s", "data_wait_fraction", "mfu", "goodput", "verdict"} <= set(summary)
