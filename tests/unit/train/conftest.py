"""Made batches (made.py), and worlds of several processes that run what together.py knows."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

torch.set_num_threads(1)

HERE = Path(__file__).parent


def _loaded(name: str) -> ModuleType:
    """With --import-mode=importlib, tests are no package: a neighbour is loaded by its path."""
    spec = importlib.util.spec_from_file_location(f"cineray_train_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """`made.job_of(...)`, `made.made_batches(range)`."""
    return _loaded("made")


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[list[dict[str, Any]]]]:
    """`together(3, {"what": "curve", "kind": "ddp"}, ...)`: of each thing that was asked, what each rank found."""

    def run(world: int, *asked: dict[str, Any]) -> list[list[dict[str, Any]]]:
        folder = tmp_path_factory.mktemp("together")
        children = [
            subprocess.Popen(
                [sys.executable, str(HERE / "together.py"), str(folder), json.dumps(asked)],
                env=os.environ | {"RANK": str(rank), "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(world)
        ]
        ends = [child.communicate(timeout=240)[1] for child in children]
        assert all(child.returncode == 0 for child in children), "\n".join(ends)
        found = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]
        return [list(ranks) for ranks in zip(*found, strict=True)]

    return run
