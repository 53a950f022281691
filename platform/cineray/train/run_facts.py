"""What a run was made with: versions of packages, the commit of the code, the machine. Plain values out.

They go into a folder's first object (`run.json`, `sweep.json`), and `read_facts` reads it again. It is a record that
others read: no environment variables.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from cineray.errors import CinerayError, PlaceMissing, UsageError
from cineray.storage import join_uri, read_object

LIMIT_BYTES = 64 << 20
"""Of a record; a job with all its fields takes some kilobytes."""
PACKAGES = ("cineray", "torch", "torchcodec", "av", "ray", "pylance", "numpy", "pyarrow", "safetensors", "wandb")


def software() -> dict[str, str]:
    """Package -> version, of those that shape a result; Python too."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def read_facts(uri: str, kind: str, form: int) -> dict[str, Any]:
    """What `<kind>.json` says of the folder of a run or a sweep; refused where this code reads another format."""
    try:
        facts: dict[str, Any] = json.loads(read_object(join_uri(uri, f"{kind}.json"), limit_bytes=LIMIT_BYTES))
    except PlaceMissing:
        raise UsageError(f"there is no {kind} at {uri}: it has no {kind}.json; wanted the folder of a {kind}") from None
    except ValueError as error:
        raise CinerayError(f"{uri}/{kind}.json is damaged: {error}; restore it from a copy of the {kind}") from None
    if facts.get("format") != form:
        raise CinerayError(
            f"the {kind} at {uri} has format {facts.get('format')}; this code reads {form}. "
            f"Use the cineray that made it: {facts.get('software', {}).get('cineray', 'unknown')}"
        )
    return facts


def commit_of(folder: str | Path) -> dict[str, Any] | None:
    """The git commit that a folder is at, and whether its files differ from it; None where there is no git."""
    git = ("git", "-C", str(folder))
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": head.stdout.strip(), "changed_files": len(changes.stdout.splitlines())}


def code_commit() -> dict[str, Any] | None:
    """The commit of this package's own checkout; None when it was installed from a wheel."""
    own = Path(__file__).resolve().parents[1]
    return None if "site-packages" in own.parts else commit_of(own)


def machine() -> dict[str, Any]:
    """This host: name, processor, cores that may be used, memory, GPUs if torch is loaded and sees some."""
    facts: dict[str, Any] = {
        "host": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        facts["gpus"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        facts["cuda"] = torch.version.cuda
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
