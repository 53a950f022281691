"""What `cineray submit --dry-run` says of where a job would decode and train, with a description and without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("ray")

from cineray.cli.main import app

REPO = Path(__file__).resolve().parents[3]
JOB = """
kind: train
name: tiny
recipe:
  datasets: [{lake: s3://b/lake}]
  sampling: {mode: fps, fps: "8", frames: 4}
  frame: {height: 16, width: 16}
  batch_size: 4
steps: 4
runs: s3://b/runs
validation: {every_steps: 0}
"""


def dry_run(folder: Path, *words: str) -> tuple[dict[str, Any], str]:
    (folder / "job.yaml").write_text(JOB)
    told = ["submit", "train", str(folder / "job.yaml"), "--address", "http://127.0.0.1:1", "--code", "cluster"]
    done = CliRunner().invoke(app, [*told, "--dry-run", "--json", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts, " ".join(done.stderr.split())


def test_with_a_description_it_decodes_on_the_nodes_that_are_labelled_there_and_trains_on_gpus(tmp_path: Path) -> None:
    where = str(REPO / "cluster" / "vm" / "aws.yaml")
    facts, said = dry_run(tmp_path, "--cluster", where)
    assert facts["command"].endswith(" --set feed.decode_subcluster=decode --set parallel.gpus_per_worker=1")
    assert f"because pools of {where} carry ray-subcluster=decode; for all nodes: --set feed.decode_sub" in said
    assert f"gpus_per_worker=1, because nodes of the pool gpu of {where} have GPUs; on cores: --set parallel.gp" in said
    assert facts["submission_id"] == dry_run(tmp_path)[0]["submission_id"], "it is the same submission"


def test_without_one_the_cluster_will_be_asked(tmp_path: Path) -> None:
    facts, said = dry_run(tmp_path)
    assert "decode_subcluster" not in facts["command"]
    assert "the cluster is asked when it is sent: feed.decode_subcluster, if it has nodes for decoding" in said
    assert "; parallel.gpus_per_worker, if its head says that nodes with GPUs train (or --cluster names its" in said


def test_opted_out_nobody_is_asked(tmp_path: Path) -> None:
    opted_out = ("--set", "feed.decode_subcluster=", "--set", "parallel.gpus_per_worker=0")
    facts, said = dry_run(tmp_path, *opted_out, "--cluster", str(REPO / "cluster" / "vm" / "aws.yaml"))
    assert facts["command"].endswith(" --set feed.decode_subcluster= --set parallel.gpus_per_worker=0")
    assert "for the cluster" not in said
    assert "is asked" not in said
