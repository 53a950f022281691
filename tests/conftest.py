"""Fixtures that every test may use: the real videos, a way to make small ones, and servers (tests/servers.py)."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]

# The fixtures of tests/servers.py, loaded by its path: with --import-mode=importlib, tests are no package.
_spec = importlib.util.spec_from_file_location("cineray_test_servers", Path(__file__).with_name("servers.py"))
assert _spec is not None
assert _spec.loader is not None
_servers = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _servers
_spec.loader.exec_module(_servers)
s3_server, s3_bucket = _servers.s3_server, _servers.s3_bucket
gcs_server, gcs_bucket = _servers.gcs_server, _servers.gcs_bucket
web_server, faulty_proxy = _servers.web_server, _servers.faulty_proxy


@pytest.fixture(scope="session")
def media_dir() -> Path:
    """The folder of real videos beside the checkout, or where CINERAY_MEDIA says; without it the test is skipped."""
    folder = Path(os.environ.get("CINERAY_MEDIA", REPO.parent / "shared" / "media"))
    if not folder.is_dir():
        pytest.skip(f"no real videos: {folder} does not exist; set CINERAY_MEDIA to a folder that has them")
    return folder


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., None]:
    """Run the system's FFmpeg with these arguments: `ffmpeg("-f", "lavfi", "-i", "testsrc", "-frames:v", 25, path)`."""

    def run(*arguments: object) -> None:
        command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"

    return run
