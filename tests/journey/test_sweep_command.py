"""A sweep as its user types it: a job, trials that are ordinary runs, the best as a job, the page, going on with it."""

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

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]

JOB = """
kind: sweep
name: tiny
base:
  name: tiny
  recipe:
    datasets: [{{lake: {lake}, split: null}}]
    sampling: {{mode: fps, fps: "8", frames: 4}}
    frame: {{height: 16, width: 16}}
    batch_size: 4
  steps: 100
  model: {{kind: stdit, size: custom, width: 24, depth: 1, heads: 2, patch: [1, 8, 8]}}
  precision: fp32
  validation: {{clips: 8, baseline_clips: 8}}
space:
  lr: {{kind: choice, field: optimiser.lr, values: [0.003, {least}]}}
objectives: [{{name: noisiest_loss}}]
budget: {{steps: 40}}
judge: {{times: 2}}
search: {{kind: grid}}
finalists: {{most: 0}}
quick: ["budget.steps=3"]
"""


def cineray(*words: object, code: int = 0) -> tuple[dict[str, Any], str]:
    """What the command says on standard output, and its words."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cineray", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == code, done.stderr
    return (json.loads(done.stdout) if done.stdout else {}), done.stderr


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """Two learning rates, three steps each, one after the other."""
    folder = tmp_path_factory.mktemp("sweep-command")
    make_shapes(folder / "videos", videos=12)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    (folder / "job.yaml").write_text(JOB.format(lake=folder / "lake", least="0.000001"))
    return cineray("sweep", folder / "job.yaml", "--quick", "--sweep", folder / "sweep")


def test_it_tells_its_trials_what_none_beats_the_best_and_where_the_page_lies(swept: Any) -> None:
    told, words = swept

    assert {"trials", "pareto", "best", "report", "importance", "wasted", "leaks"} <= told.keys()
    assert [(trial["state"], trial["step"], trial["values"]) for trial in told["trials"]] == [
        ("done", 3, {"lr": 0.003}),
        ("done", 3, {"lr": 1e-6}),
    ]
    losses = [trial["objectives"]["noisiest_loss"]["value"] for trial in told["trials"]]
    assert told["best"] == losses.index(min(losses))
    assert told["leaks"] == {"placement_groups": 0, "actors": 0, "store_bytes": 0, "disk_bytes": 0}
    assert Path(told["report"]).stat().st_size > 100_000
    states = [line["state"] for line in map(json.loads, words.splitlines()) if line.get("trial") == 0]
    assert list(dict.fromkeys(states)) == ["waiting", "running", "done"]


def test_a_space_that_makes_an_invalid_job_is_refused_by_the_fields_name_before_anything_starts(
    swept: Any, tmp_path: Path
) -> None:
    told, _ = swept
    (tmp_path / "job.yaml").write_text(JOB.format(lake=Path(told["sweep"]).parent / "lake", least="0.0"))
    _, words = cineray("sweep", tmp_path / "job.yaml", "--sweep", tmp_path / "sweep", code=2)

    assert words == "error: space.lr = 0.0 (optimiser.lr): optimiser.lr got 0.0: Input should be greater than 0\n"
    assert not (tmp_path / "sweep").exists()


def test_a_trial_is_a_run_like_any_other(swept: Any) -> None:
    told, _ = swept
    batch, _ = cineray("batch", f"{told['sweep']}/{told['trials'][1]['run']}", "--step", 1, "--no-files")
    assert len(batch["clips"]) == 4


def test_the_best_is_a_job_of_as_many_steps_that_trains_as_it_is(swept: Any) -> None:
    told, _ = swept
    best = f"{told['sweep']}/{told['best_job']}"
    trained, _ = cineray("train", best, "--run", f"{told['sweep']}/again", "--set", "feed.driver=local")

    assert trained["step"] == 3
    assert trained["loss"] > 0


def test_a_sweep_that_is_done_stays_as_it_is(swept: Any) -> None:
    told, _ = swept
    again, _ = cineray("sweep", told["sweep"])

    assert again["id"] == told["id"]
    assert [trial["objectives"] for trial in again["trials"]] == [trial["objectives"] for trial in told["trials"]]


def test_a_sweep_that_goes_on_takes_no_other_settings(swept: Any) -> None:
    told, _ = swept
    _, words = cineray("sweep", told["sweep"], "--set", "trials=9", code=2)
    assert "whose trials are comparable because its job does not change" in words
