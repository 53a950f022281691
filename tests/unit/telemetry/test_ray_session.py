"""The Ray that commands work on: the one that was asked for, and no other, however many there are."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROGRAM = """
import ray, sys
from cineray.telemetry.ray_session import connected
with connected(num_cpus=1, object_store_memory=80_000_000):
    print("embedded with", int(ray.cluster_resources()["CPU"]), "core", file=sys.__stdout__)
try:
    ray.put(1)
except Exception as error:
    print("afterwards", type(error).__name__, ray.is_initialized())
"""


def test_an_embedded_ray_is_its_own_beside_others_and_does_not_start_again_by_itself() -> None:
    """Ray writes down which cluster was started last, and would join it: here it is one that is gone."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with tempfile.TemporaryDirectory() as folder:  # a short path: Ray's sockets lie in it
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
        environment["RAY_TMPDIR"] = folder
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False, timeout=120
        )
    assert done.stdout.splitlines() == ["embedded with 1 core", "afterwards RaySystemError False"], done.stderr


def test_an_address_in_the_environment_is_one_that_is_meant() -> None:
    """In a process of its own: where a Ray is there already, that one is used."""
    program = "from cineray.telemetry.ray_session import connected\nwith connected(num_cpus=1): pass"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"RAY_ADDRESS": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert "CinerayError: Ray could not be reached at 127.0.0.1:1" in done.stderr
