"""The same command on a cluster: a Ray that was there before is used, and is still there afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def cluster_address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A head without CPUs and a worker node with two: real raylets, on this machine."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.add_node(num_cpus=2)
    yield cluster.address
    cluster.shutdown()


@pytest.mark.ray
@pytest.mark.slow
def test_an_ingest_with_an_address_runs_on_that_cluster(
    cluster_address: str, video: Callable[..., Path], tmp_path: Path
) -> None:
    for number, colour in enumerate(["red", "green", "blue"]):
        video(tmp_path / "v" / f"{number}.mp4", colour)
    command = [sys.executable, "-m", "cineray", "ingest", tmp_path / "v", "--lake", tmp_path / "lake"]

    for expected in ((3, 0), (0, 3)):
        done = subprocess.run(
            [*command, "--address", cluster_address, "--json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        )
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout)
        assert (facts["added"], facts["unchanged"]) == expected


@pytest.mark.ray
@pytest.mark.slow
def test_an_address_where_nobody_answers_is_a_sentence(video: Callable[..., Path], tmp_path: Path) -> None:
    video(tmp_path / "v" / "a.mp4")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cineray",
            "ingest",
            tmp_path / "v",
            "--lake",
            tmp_path / "lake",
            "--address",
            "127.0.0.1:1",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )

    assert done.returncode == 1
    assert "Ray could not be reached at 127.0.0.1:1" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
