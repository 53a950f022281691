"""The image's own programs, run here: the probe against real pages, the smoke command on this machine's libraries."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def pinned(*names: str) -> dict[str, str]:
    """The versions that files of constraints say."""
    texts = [(IMAGE.parents[1] / name).read_text().splitlines() for name in names]
    pairs = [line.split("==") for lines in texts for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_library_of_the_image_has_one_version() -> None:
    """What is installed here stands for what pip would install there; NVIDIA's libraries are named by torch itself."""
    told = pinned("platform/constraints.txt", "cluster/image/constraints.txt")
    project = tomllib.loads((IMAGE.parents[1] / "pyproject.toml").read_text())["project"]
    extras = [one for name in ("s3", "gcs", "azure") for one in project["optional-dependencies"][name]]
    left = [*project["dependencies"], *extras, "boto3", "torch", "torchcodec"]
    seen: set[str] = set()
    while left:
        one = left.pop()
        if one not in seen:
            seen.add(one)
            left += asked_by(Requirement(one))
    names = {canonicalize_name(Requirement(one).name) for one in seen} - {"setuptools"}
    assert len(names) > 60
    assert sorted(name for name in names - set(told) if not re.match(r"nvidia-|cuda-|triton", name)) == []
    assert {"adlfs", "azure-storage-blob", "azure-identity"} < set(told)


def asked_by(wanted: Requirement) -> list[str]:
    """What a library that is installed here asks for, on this kind of machine."""
    try:
        asked = map(Requirement, distribution(wanted.name).requires or [])
    except PackageNotFoundError:
        return []
    extras = wanted.extras or {""}
    here = [one for one in asked if one.marker is None or any(one.marker.evaluate({"extra": name}) for name in extras)]
    return [str(one).partition(";")[0].strip() for one in here]


def test_both_targets_have_the_pair_of_torch_and_torchcodec_that_set_up_chooses_for_cores() -> None:
    told = pinned("cluster/image/constraints.txt")
    setup = (IMAGE.parents[1] / "platform" / "setup_env.py").read_text()
    assert f'"torch=={told["torch"]}", "torchcodec=={told["torchcodec"].rpartition(".")[0]}.*"' in setup
    assert re.findall(r"pip install .*\b(torch\S*) (torchcodec\S*)", DOCKERFILE) == [("torch", "torchcodec")] * 2
    copied = dict(re.findall(r"^COPY (\S+constraints.txt) (\S+)$", DOCKERFILE, flags=re.M))
    assert set(copied) == {"platform/constraints.txt", "cluster/image/constraints.txt"}
    assert f'ENV PIP_CONSTRAINT="{" ".join(copied.values())}"' in DOCKERFILE


def test_base_and_constraints_are_of_the_same_python() -> None:
    constraints = (IMAGE.parents[1] / "platform" / "constraints.txt").read_text()
    python = re.search(r"tried together on Python ([\d.]+\d)", constraints)
    assert python is not None
    assert f"ARG BASE=python:{python[1]}-slim" in DOCKERFILE
