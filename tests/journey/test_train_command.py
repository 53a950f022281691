"""A training as its user types it: a job, a run's folder, going on with it, looking into it, taking the weights out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cineray.batch import batch_digest
from cineray.feed import local_batch
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.testing import make_shapes
from cineray.train import RunFolder
from cineray.train.export import load_weights

pytestmark = [pytest.mark.slow]

DATA = """
name: tiny
recipe:
  datasets: [{{lake: {lake}, split: null}}]
  sampling: {{mode: fps, fps: "8", frames: 4}}
  frame: {{height: 16, width: 16}}
  batch_size: 4
feed: {{driver: local}}
"""
LEARNING = """
steps: 4
model: {{kind: stdit, size: custom, width: 24, depth: 1, heads: 2, patch: [1, 8, 8]}}
precision: fp32
validation: {{every_steps: 0}}
checkpoint: {{every_steps: 2}}
"""


def cineray(*words: object, code: int = 0) -> tuple[dict[str, Any], str]:
    """What the command says on standard output, and its words."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cineray", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == code, done.stderr
    return (json.loads(done.stdout) if done.stdout else {}), done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps."""
    folder = tmp_path_factory.mktemp("train-command")
    make_shapes(folder / "videos", videos=6)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    (folder / "job.yaml").write_text("kind: train" + (DATA + LEARNING).format(lake=folder / "lake"))
    told, _ = cineray("train", folder / "job.yaml", "--run", folder / "run")
    assert {"run", "step", "loss", "clips_per_s", "data_wait_fraction", "mfu", "goodput", "verdict"} <= told.keys()
    assert (told["step"], told["attempts"]) == (4, 1)
    return folder / "run"


def test_a_run_goes_on_where_it_was(run: Path) -> None:
    told, _ = cineray("train", run, "--set", "steps=6", "--set", "samples.every_steps=2", "--set", "samples.clips=2")
    assert (told["step"], told["attempts"]) == (6, 2)
    assert told["samples"] == {"steps": [6], "failed": {}}
    assert (run / "samples" / "step-00000006" / "grid.webp").is_file()


def test_a_run_can_be_asked_for_any_of_its_batches(run: Path) -> None:
    told, _ = cineray("batch", run, "--step", 1, "--no-files")
    assert told["sha256"] == batch_digest([local_batch(RunFolder.open(str(run)).spec(), 1)])


def test_its_weights_come_out_with_what_made_them(run: Path, tmp_path: Path) -> None:
    told, _ = cineray("export", run, tmp_path / "weights.safetensors", "--dtype", "bf16")
    tensors, about = load_weights(told["file"])
    assert about["run"] == RunFolder.open(str(run)).run_id
    assert int(about["step"]) == told["step"]
    assert {str(tensor.dtype) for name, tensor in tensors.items() if name.startswith("net.")} == {"torch.bfloat16"}


def test_it_shows_what_it_makes_at_any_checkpoint_from_the_same_noise(run: Path, tmp_path: Path) -> None:
    sets = ["--set", "steps=2", "--set", "clips=2", "--set", "clip_format=gif"]
    told, _ = cineray("sample", run, "--step", 4, *sets)
    assert (told["run"], told["checkpoint"], told["clips"]) == (str(run), 4, 2)
    assert told["seconds"] > 0
    names = ["0000.gif", "0001.gif", "clips.npz", "contact-sheet.png", "grid.webp", "samples.json"]
    assert sorted(Path(path).name for path in told["samples"]) == names
    assert all(Path(path).is_file() for path in told["samples"])
    assert told["folder"] == str(run / "samples" / "step-00000004")
    again, _ = cineray("sample", run, "--step", 4, *sets)
    assert again["folder"] == told["folder"], "the same settings, the same place"
    other, _ = cineray("sample", run, "--step", 4, *sets, "--set", "fps=12")
    assert other["folder"].startswith(told["folder"] + "-"), "others do not overwrite it"
    elsewhere, _ = cineray("sample", run, *sets, "--out", tmp_path / "newest")
    assert elsewhere["checkpoint"] >= 4
    seeds = [json.loads((Path(one["folder"]) / "samples.json").read_text())["clips"] for one in (told, elsewhere)]
    assert [clip["seed"] for clip in seeds[0]] == [clip["seed"] for clip in seeds[1]] == [0, 1]


def test_samples_that_cannot_be_say_why(run: Path) -> None:
    _, words = cineray("sample", run, "--set", "guidence=3", code=2)
    assert "did you mean `guidance`" in words
    _, words = cineray("sample", run, "--step", 3, code=1)
    assert "no checkpoint of step 3" in words
    _, words = cineray("sample", run, "--set", "height=20", "--set", "width=20", code=2)
    assert "multiples" in words


def test_another_plan_is_not_gone_on_with(run: Path) -> None:
    _, words = cineray("train", run, "--set", "seed=1", code=2)
    assert "what differs" in words
    assert "seed" in words


def test_a_job_that_learns_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("kind: data" + DATA.format(lake=tmp_path))
    _, words = cineray("train", tmp_path / "data.yaml", code=2)
    assert "wanted a TrainJob" in words


def test_a_field_that_is_not_there_is_named(run: Path) -> None:
    _, words = cineray("train", run.parent / "job.yaml", "--set", "optimiser.lrr=1", code=2)
    assert "did you mean `lr`" in words
