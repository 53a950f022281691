"""The image's own programs, run here: the probe against real pages, the smoke command on this machine's libraries."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

IMAGE = Path(__file__).resolve().parents[2] / "cluster" / "image"
DOCKERFILE = (IMAGE / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def pages() -> Iterator[dict[str, tuple[int, str]]]:
    """A web server with the pages in this dict; `port` is its."""
    told: dict[str, tuple[int, str]] = {}

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, text = told.get(self.path, (404, "success"))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told["port"] = (server.server_port, "")
    yield told
    server.shutdown()


def alive(pages: dict[str, tuple[int, str]], *arguments: str) -> bool:
    port = str(pages["port"][0])
    environment = os.environ | {"RAY_AGENT_PORT": port, "RAY_DASHBOARD_PORT": port}
    return subprocess.run([IMAGE / "ray-alive", *arguments], env=environment, check=False).returncode == 0


def test_a_node_is_alive_when_its_raylet_says_so_and_a_head_when_its_gcs_does_too(
    pages: dict[str, tuple[int, str]],
) -> None:
    assert not alive(pages)
    pages["/api/local_raylet_healthz"] = (200, "success")
    assert alive(pages)
    assert not alive(pages, "head")
    pages["/api/gcs_healthz"] = (200, "success")
    assert alive(pages, "head")
    pages["/api/local_raylet_healthz"] = (503, "success")
    assert not alive(pages)
    pages["/api/local_raylet_healthz"] = (200, "Local Raylet failed")
    assert not alive(pages)


@pytest.mark.slow
@pytest.mark.ray
def test_the_smoke_command_looks_at_everything() -> None:
    """On a machine where this is root, only the last look fails; in the image none does."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}  # the usual TMPDIR: paths of sockets have a limit
    done = subprocess.run([IMAGE / "cineray-smoke"], env=environment, capture_output=True, text=True, check=False)
    looked = re.findall(r"^(ok|failed) +(.*)$", done.stdout, flags=re.M)
    root = os.geteuid() == 0
    assert looked == [
        ("ok", "cineray"),
        ("ok", "FFmpeg"),
        ("ok", "libraries load together"),
        ("ok", "this machine"),
        ("ok", "Ray starts"),
        ("ok", "videos are made and ingested"),
        ("failed" if root else "ok", "nobody is root"),
    ], done.stdout + done.stderr
    assert done.returncode == int(root)


def test_a_failing_look_ends_the_smoke_command_with_what_was_printed(tmp_path: Path) -> None:
    broken = tmp_path / "cineray"
    broken.write_text("#!/bin/sh\necho libtorch is missing; exit 1\n")
    broken.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([IMAGE / "cineray-smoke"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "failed  cineray\nlibtorch is missing\n")


def test_the_image_has_two_targets_that_end_as_the_same_user_that_is_no_root() -> None:
    stages = dict(re.findall(r"^FROM \S+ AS (\w+)\n((?:(?!^FROM ).*\n)*)", DOCKERFILE, flags=re.M))
    assert set(stages) == {"wheel", "common", "cpu", "cuda"}
    assert [re.findall(r"^USER (.*)$", stages[name], flags=re.M) for name in ("cpu", "cuda")] == [["1000:1000"]] * 2


def test_what_the_image_copies_exists_and_travels_to_the_builder() -> None:
    root = IMAGE.parents[1]
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, flags=re.M)
        for word in [one for one in line.split() if not one.startswith("--")][:-1]
    ]
    assert copied
    assert [one for one in copied if not (root / one).exists()] == []
    allowed = [line[1:] for line in (IMAGE / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    assert [one for one in copied if not any(one == top or one.startswith(f"{top}/") for top in allowed)] == []


def test_base_and_constraints_are_of_the_same_python() -> None:
    constraints = (IMAGE.parents[1] / "platform" / "constraints.txt").read_text()
    python = re.search(r"tried together on Python ([\d.]+\d)", constraints)
    assert python is not None
    assert f"ARG BASE=python:{python[1]}-slim" in DOCKERFILE
