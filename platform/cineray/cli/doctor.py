"""`cineray doctor`: is this machine ready? One line per part: what was found, and the next step where one is needed.
With `--address`: is that cluster (cluster_doctor.py)?

Each check is a small function that returns a `Finding`; heavy libraries are imported in a child process, so that a
library that crashes on import (a torch and torchcodec that do not match) is a finding and not the end of the doctor.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import typer
from rich.table import Table

from cineray.cli.output import JSON, bytes_text, plain, show

CHILD_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked part. `state` is `ok`, `warning` (works, with a limit) or `broken`."""

    part: str
    state: str
    found: str
    next_step: str = ""


def doctor(
    address: str = typer.Option(
        "", help="Check this cluster instead, by its dashboard's address: nodes, versions, and who waits for whom."
    ),
    as_json: bool | None = JSON,
) -> None:
    """Check this machine: Python, FFmpeg, torch and torchcodec, GPU, Ray, Lance, memory, disk; or a cluster."""
    if address:
        from cineray.cli.cluster_doctor import facts_of, judged, looked_at, tables_of

        view = looked_at(address)
        findings = judged(view)
        facts, tables = facts_of(view, findings), tables_of(view)
    else:
        findings = [check() for check in CHECKS]
        facts, tables = {"findings": [asdict(f) for f in findings]}, []
    ready = all(f.state != "broken" for f in findings)
    show({"ready": ready, **facts}, as_json=as_json, table=[findings_table(findings), *tables])
    raise typer.Exit(0 if ready else 1)


def findings_table(findings: Sequence[Finding]) -> Table:
    """One line each."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("part", "state", "found", "next step"):
        table.add_column(column, overflow="fold")
    colour = {"ok": "green", "warning": "yellow", "broken": "red"}
    for f in findings:
        table.add_row(
            f.part, f"[{colour[f.state]}]{f.state}[/]", plain(f.found), plain(f.next_step) if f.next_step else ""
        )
    return table


def _python() -> Finding:
    version = platform.python_version()
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("python", "ok" if ok else "broken", version, "" if ok else "use Python 3.11, 3.12 or 3.13")


def _ffmpeg() -> Finding:
    program = shutil.which("ffmpeg")
    if program is None:
        return Finding("ffmpeg", "broken", "not on PATH", "install it: apt-get install ffmpeg")
    done = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    return Finding("ffmpeg", "ok", done.stdout.split("\n", 1)[0].split(" Copyright")[0])


def _torchcodec() -> Finding:
    pair = f"torch {_installed('torch')}, torchcodec {_installed('torchcodec')}"
    problem = _fails("import torch, torchcodec.decoders")
    if not problem:
        return Finding("torch and torchcodec", "ok", pair)
    return Finding(
        "torch and torchcodec",
        "broken",
        f"{pair}: {problem}",
        "beside CPU torch install torchcodec 0.13: pip install torch==2.13.0 'torchcodec==0.13.*'; with CUDA the "
        "newest pair; both need FFmpeg's shared libraries",
    )


def _library(part: str, package: str, code: str) -> Callable[[], Finding]:
    def check() -> Finding:
        problem = _fails(code)
        found = f"{package} {_installed(package)}"
        if not problem:
            return Finding(part, "ok", found)
        return Finding(part, "broken", f"{found}: {problem}", f"pip install --force-reinstall {package}")

    return check


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding("gpu", "warning", "none", "training runs on the CPU; indexing and planning need no GPU")
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return Finding("gpu", "broken", done.stdout.strip() or done.stderr.strip(), "check the NVIDIA driver")
    return Finding("gpu", "ok", "; ".join(done.stdout.strip().splitlines()))


def _cores() -> Finding:
    return Finding("cores", "ok", str(len(os.sched_getaffinity(0))))


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    enough = total >= 4 << 30
    found = f"{bytes_text(total)}, {bytes_text(free)} unused"
    return Finding(
        "memory", "ok" if enough else "warning", found, "" if enough else "an embedded Ray wants 4 GB or more"
    )


def _disk() -> Finding:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    state = "ok" if free > 10 << 30 else "warning" if free > 1 << 30 else "broken"
    step = "" if state == "ok" else "Ray spills there; free some space or set TMPDIR"
    return Finding("disk", state, f"{bytes_text(free)} free in {folder}", step)


def _shared_memory() -> Finding:
    folder = "/dev/shm"  # noqa: S108 - Ray's object store lives there; we only look at its size
    if not os.path.isdir(folder):
        return Finding(
            "shared memory", "warning", "no /dev/shm", "Ray will keep its object store on disk, which is slow"
        )
    free = shutil.disk_usage(folder).free
    state = "ok" if free > 1 << 30 else "warning"
    return Finding(
        "shared memory", state, f"{bytes_text(free)} free", "" if state == "ok" else "run containers with --shm-size=4g"
    )


def _fails(code: str) -> str:
    """Why this code does not run in a fresh interpreter: the last line of its error, or empty when it runs."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=CHILD_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {CHILD_SECONDS} s"
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return lines[-1] if lines else f"ended with exit code {done.returncode}"


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _ffmpeg,
    _torchcodec,
    _library("indexing", "av", "import av"),
    _library("lake", "pylance", "import lance"),
    _library("ray", "ray", "import ray, ray.data"),
    _gpu,
    _cores,
    _memory,
    _shared_memory,
    _disk,
)
