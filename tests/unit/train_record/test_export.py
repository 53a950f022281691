"""Weights for others: the average of a checkpoint as safetensors, with where it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cineray.train.checkpoint import Checkpoints
from cineray.train.export import export_weights, load_weights
from cineray.train.run_folder import RunFolder


@pytest.fixture
def saved(run: RunFolder, rule: Any) -> Any:
    weights = {"a.weight": torch.arange(6.0).reshape(2, 3).T, "a.steps": torch.tensor(7)}
    state = {"model": weights, "ema": {name: weight * 2 for name, weight in weights.items()}}
    checkpoints = Checkpoints(run, rule)
    checkpoints.save(state, 40, {"loss": 0.25}, facts={"pixels": {"mean": [0.5]}}, blocking=True)
    return checkpoints.latest()


def test_the_average_is_what_is_exported_and_says_where_it_comes_from(
    run: RunFolder, saved: Any, tmp_path: Path
) -> None:
    file = str(tmp_path / "made" / "model.safetensors")
    export_weights(run, saved, file)

    tensors, about = load_weights(file)
    torch.testing.assert_close(
        tensors, {"a.weight": 2 * torch.arange(6.0).reshape(2, 3).T, "a.steps": torch.tensor(14)}
    )
    assert (about["run"], about["step"], about["plan"]) == (run.run_id, "40", run.identity.fingerprint)
    assert about["part"] == "ema"
    assert json.loads(about["facts"])["pixels"] == {"mean": [0.5]}
    assert about["job"] == run.job_text()
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["model.safetensors"]


def test_weights_may_be_cast_and_counters_are_not(run: RunFolder, saved: Any, tmp_path: Path) -> None:
    file = str(tmp_path / "model.safetensors")
    export_weights(run, saved, file, part="model", dtype=torch.bfloat16)
    tensors, _ = load_weights(file)
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "a.weight": torch.bfloat16,
        "a.steps": torch.int64,
    }


@pytest.mark.network
def test_it_may_go_to_an_object_store(run: RunFolder, saved: Any, tmp_path: Path, s3_bucket: str) -> None:
    from cineray.storage import read_object

    export_weights(run, saved, f"{s3_bucket}/model.safetensors")
    (tmp_path / "back").write_bytes(read_object(f"{s3_bucket}/model.safetensors", limit_bytes=1 << 20))
    assert load_weights(str(tmp_path / "back"))[1]["step"] == "40"
