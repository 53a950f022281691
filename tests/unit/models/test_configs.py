"""What a job says of its model: sizes, contradictions, and that saying it needs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from pydantic import Field

from cineray.config import Config, check
from cineray.errors import UsageError
from cineray.models.configs import Image2VideoConfig, ModelConfig, StDiTConfig, TextConfig, UNet3dConfig


class Job(Config):
    """A job with a model."""

    model: ModelConfig = Field()


@pytest.mark.parametrize(
    "model",
    [
        StDiTConfig(size="B", patch=(2, 8, 8)),
        StDiTConfig(size="custom", width=96, depth=4, heads=4, positions="rope+learned"),
        UNet3dConfig(channels=32),
        Image2VideoConfig(base=StDiTConfig(size="S"), image_weights="image.safetensors"),
    ],
)
def test_a_model_comes_back_from_the_jobs_record_as_it_was(model: ModelConfig) -> None:
    job = Job(model=model)
    assert check(Job, yaml.safe_load(yaml.safe_dump(job.model_dump(mode="json")))) == job


def test_saying_what_model_is_wanted_needs_no_torch() -> None:
    code = "import sys, cineray.models.configs, cineray.models; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("kind", "told", "complaint"),
    [
        (StDiTConfig, {"size": "B", "width": 512}, "size=B sets width itself"),
        (StDiTConfig, {"size": "custom", "width": 64, "depth": 2}, "must each be at least 1"),
        (StDiTConfig, {"size": "custom", "width": 100, "depth": 2, "heads": 3}, "100 over 3 heads gives heads of 33.3"),
        (StDiTConfig, {"size": "custom", "width": 20, "depth": 2, "heads": 5}, "even number of at least 6"),
        (StDiTConfig, {"factorised": True, "attention": "varlen"}, "factorised=true got attention=varlen"),
        (StDiTConfig, {"rope_seconds": (2.0, 1.0)}, r"rope_seconds got \(2.0, 1.0\)"),
        (StDiTConfig, {"patch": (1, 0, 2)}, "patch.1 got 0"),
        (StDiTConfig, {"pach": (1, 2, 2)}, "did you mean `patch`"),
        (UNet3dConfig, {"channels": 20}, "multiple of 8"),
        (UNet3dConfig, {"channels": 8, "heads": 5}, "heads of 3.2 values"),
        (Image2VideoConfig, {"image_weights": "a.pt", "base": {"patch": (2, 8, 8)}}, "spans 1 frame"),
        (Image2VideoConfig, {"image_weights": "a.pt", "base": {"attention": "flex"}}, "one frame at a time"),
        (Image2VideoConfig, {"image_weights": ""}, "image_weights"),
        (TextConfig, {"kind": "transformers"}, "kind=transformers wants one"),
        (TextConfig, {"kind": "builtin", "path": "t5"}, "the others none"),
        (TextConfig, {"kind": "builtin", "cache": "kept"}, "only a frozen encoder"),
        (TextConfig, {"kind": "builtin", "width": 30, "heads": 4}, "heads of 7.5 values"),
    ],
)
def test_contradictions_are_refused_with_the_fields_name(
    kind: type[Config], told: dict[str, object], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        check(kind, told)
