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


LOCKED = """
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from cineray.telemetry.ray_session import connected
with connected(num_cpus=1, object_store_memory=80_000_000):
    import sys
    print("token", is_token_auth_enabled(), file=sys.__stdout__)
"""


@pytest.mark.parametrize("before", [None, 0o644], ids=["no token yet", "one that Ray made"])
def test_an_embedded_ray_has_a_token_that_only_its_user_can_read(tmp_path: Path, before: int | None) -> None:
    """Ray itself writes it for all users of the machine to read."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    token = tmp_path / ".ray" / "auth_token"
    if before is not None:
        token.parent.mkdir()
        token.write_text("ab" * 32)
        token.chmod(before)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", LOCKED],
            env=environment | {"HOME": str(tmp_path), "RAY_TMPDIR": folder},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.stdout == "token True\n", done.stderr
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text()) == 64
    assert before is None or token.read_text() == "ab" * 32, "what others use already stays"
