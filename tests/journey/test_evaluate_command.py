"""Judging as its user types it: a run, two checkpoints beside each other, two recipes beside each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.testing import make_shapes

pytestmark = [pytest.mark.slow]

DATA = """
recipe:
  datasets: [{{lake: {lake}, split: null}}]
  sampling: {{mode: fps, fps: "{fps}", frames: 4}}
  frame: {{height: 16, width: 16}}
  batch_size: 4
feed: {{driver: local}}
"""
LEARNING = """
name: tiny
steps: 2
classes: data
model: {kind: stdit, size: custom, width: 24, depth: 1, heads: 2, patch: [1, 8, 8]}
precision: fp32
validation: {every_steps: 100, clips: 4, bins: 2, held_out: 0.3, baseline_clips: 0}
checkpoint: {every_steps: 1, keep_last: 4}
"""
SMALL = [
    *("--set", "clips=4", "--set", "sampler.steps=1", "--set", "bootstrap=100", "--set", "training_clips=4"),
    *("--set", "sensitivity_clips=0", "--set", "shown=1", "--set", "metrics=[direction_accuracy, flicker, fvd]"),
]


def cineray(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """What the command says."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    command = [sys.executable, "-m", "cineray", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, and two jobs that say which batches are made: one of them asks for more than there is."""
    here = tmp_path_factory.mktemp("evaluate-command")
    make_shapes(here / "videos", videos=8, frames=16, rate=8, size_px=32, variable_rate_every=0)
    ingest(IngestConfig(source=str(here / "videos"), lake=str(here / "lake")), EngineConfig(engine="local"))
    (here / "job.yaml").write_text("kind: train" + DATA.format(lake=here / "lake", fps=8) + LEARNING)
    for name, fps in (("even", 8), ("hasty", 13)):
        (here / f"{name}.yaml").write_text(f"kind: data\nname: {name}" + DATA.format(lake=here / "lake", fps=fps))
    cineray("train", here / "job.yaml", "--run", here / "run")
    return here


def test_a_run_is_judged_and_the_second_time_only_read(folder: Path) -> None:
    told = json.loads(cineray("evaluate", folder / "run", *SMALL).stdout)
    assert {"run", "checkpoint", "metrics"} <= told.keys()
    assert (told["run"], told["checkpoint"]) == (str(folder / "run"), 2)
    assert [metric["name"] for metric in told["metrics"]] == ["direction_accuracy", "flicker", "fvd"]
    assert all({"name", "value", "low", "high", "n", "controls"} <= metric.keys() for metric in told["metrics"])
    assert Path(told["folder"], "evaluation.json").is_file()
    table = cineray("evaluate", folder / "run", *SMALL, "--table").stdout
    assert told["verdict"] in " ".join(table.split())
    assert "fvd: no path was given for its weights; give weights.NETWORK=PATH" in table
    again = json.loads(cineray("evaluate", folder / "run", *SMALL).stdout)
    assert again["made_at"] == told["made_at"]


def test_two_checkpoints_are_held_against_each_other(folder: Path) -> None:
    run = folder / "run"
    told = json.loads(cineray("evaluate", run, "--step", 1, "--against", run, *SMALL).stdout)
    assert (told["a"]["checkpoint"], told["b"]["checkpoint"]) == (1, 2)
    assert [row["name"] for row in told["metrics"]] == ["direction_accuracy", "flicker", "fvd"]
    table = cineray("evaluate", run, "--step", 1, "--against", run, *SMALL, "--table").stdout
    assert "B less A [95 % interval]" in table


def test_two_recipes_are_held_against_each_other(folder: Path) -> None:
    asked = ("evaluate", "--pipeline", folder / "even.yaml", folder / "hasty.yaml", "--out", folder / "out")
    told = json.loads(cineray(*asked, "--set", "clips=4").stdout)
    assert told["red_flag"]
    assert told["verdict"].startswith("A pipeline red flag, not a model mystery: sampling: frames repeat")
    assert all((folder / "out" / one["file"]).is_file() for one in told["samples"])
    assert "red flag" in cineray(*asked, "--set", "clips=4", "--table").stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "none was given; wanted a run: cineray evaluate RUN"),
        (("a", "b"), "say --against b to compare two runs, or --pipeline"),
        (("--pipeline", "a"), "one was given; wanted two jobs or runs"),
        (("a", "--against-step", "3"), "--against-step names a checkpoint of the run of --against"),
        (("--pipeline", "a", "b", "--against", "c"), "say one of them"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_can(words: tuple[str, ...], complaint: str) -> None:
    assert complaint in cineray("evaluate", *words, code=2).stderr


def test_a_field_that_is_not_there_is_named_with_the_one_that_was_meant(folder: Path) -> None:
    refused: Any = cineray("evaluate", folder / "run", "--set", "clip=8", code=2)
    assert "did you mean `clips`?" in refused.stderr
