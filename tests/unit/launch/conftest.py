"""A cluster for jobs: a real Ray with dashboard and token, a node that decodes apart, and a project outside of it.

It is started once for all tests of this folder that ask for it. They run the command line as its user does, in a
process of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

import cineray
from cineray.testing.clusters.ray_head import RayHead

JOB = """
kind: train
name: tiny
recipe:
  datasets: [{lake: lake, split: null}]
  sampling: {mode: fps, fps: "8", frames: 4}
  frame: {height: 16, width: 16}
  batch_size: 4
feed: {driver: local}
steps: 4
model: {kind: stdit, size: custom, width: 24, depth: 1, heads: 2, patch: [1, 8, 8]}
precision: fp32
validation: {every_steps: 0}
checkpoint: {every_steps: 2}
parallel: {cpus_per_worker: 0.5}
"""
SWEEP = """
kind: sweep
name: rates
base:
  name: tiny
  recipe:
    datasets: [{lake: lake, split: null}]
    sampling: {mode: fps, fps: "8", frames: 4}
    frame: {height: 16, width: 16}
    batch_size: 4
  steps: 100
  model: {kind: stdit, size: custom, width: 24, depth: 1, heads: 2, patch: [1, 8, 8]}
  precision: fp32
  validation: {clips: 8, baseline_clips: 8}
  parallel: {cpus_per_worker: 0.5}
space:
  lr: {kind: choice, field: optimiser.lr, values: [0.003, 0.000001]}
objectives: [{name: noisiest_loss}]
budget: {steps: 30}
judge: {times: 1}
search: {kind: grid}
share: {max_concurrent: 1}
finalists: {most: 0}
quick: ["budget.steps=3"]
"""


@dataclass(frozen=True)
class Place:
    """A cluster, and a project outside of it."""

    head: RayHead
    project: Path
    shared: Path
    installed: Path

    def run(self, *words: object, code: int | None = 0, env: dict[str, str] | None = None) -> tuple[Any, str]:
        """A command of cineray's: what it says on standard output, and its words."""
        command = [sys.executable, "-m", "cineray", *map(str, words)]
        done = subprocess.run(
            command, cwd=self.project, env=self.environment | (env or {}), capture_output=True, text=True, check=False
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return (lines[0] if len(lines) == 1 else lines), done.stderr

    def submit(self, *words: object, **how: Any) -> tuple[Any, str]:
        return self.run("submit", *words, "--address", self.head.dashboard, "--json", **how)

    def facts(self, question: str) -> list[dict[str, Any]]:
        """What the cluster's state API answers: all of it, for unasked it shows any hundred."""
        headers = {"Authorization": f"Bearer {self.head.token}"}
        url = f"{self.head.dashboard}/api/v0/{question}?detail=1&limit=10000"
        told: dict[str, Any] = requests.get(url, headers=headers, timeout=60).json()["data"]["result"]
        assert told["total"] == len(told["result"])
        rows: list[dict[str, Any]] = told["result"]
        return rows

    def jobs(self, verb: str, *words: object, **how: Any) -> tuple[Any, str]:
        return self.run("jobs", verb, *words, "--address", self.head.dashboard, **how)

    def until(self, holds: Callable[[], object], seconds: float = 180.0) -> None:
        """Wait for it."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.2)

    @property
    def environment(self) -> dict[str, str]:
        """Of a client: the token, and an address of another cluster, which --address must overrule."""
        told = {"PYTHONPATH": str(self.installed), "RAY_ADDRESS": "http://127.0.0.1:9", "COLUMNS": "200"}
        return self.head.environment | told


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    from cineray.ingest import EngineConfig, IngestConfig, ingest
    from cineray.testing import make_shapes

    folder = tmp_path_factory.mktemp("submit")
    project, shared = folder / "project", folder / "shared"
    project.mkdir()
    (project / "job.yaml").write_text(JOB)
    (project / "sweep.yaml").write_text(SWEEP)
    make_shapes(shared / "videos", videos=6)
    ingest(IngestConfig(source=str(shared / "videos"), lake=str(shared / "lake")), EngineConfig(engine="local"))
    # A copy, as pip would install it: nobody edits it while the tests run.
    shutil.copytree(Path(cineray.__file__).parent, folder / "installed" / "cineray")
    with RayHead(cpus=2) as head:
        head.add_node(cpus=2, labels={"ray-subcluster": "decode"})
        yield Place(head, project, shared, folder / "installed")
