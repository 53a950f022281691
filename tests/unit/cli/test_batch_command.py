"""`cineray batch`: what a step was trained on, down to its noise, and where its clips came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cineray.cli.main import app
from cineray.config import job_to_yaml
from cineray.diffusion import DiffusionConfig, drawn
from cineray.errors import UsageError
from cineray.feed import FeedSpec, local_batch
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.train import TrainJob, ValidationConfig, diffusion_task
from cineray.train.job_kinds import JOB_KINDS

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """Four clips of four frames a step, half of them with their first frame shown."""
    folder = tmp_path_factory.mktemp("batch-command")
    make_shapes(folder / "videos", videos=6, frames=12, size_px=32)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    recipe = Recipe(
        datasets=(DatasetSpec(lake=str(folder / "lake"), version="1", split=None),),
        sampling=SamplingSpec(mode="fps", fps="8", frames=4),
        frame=FrameSpec(height=16, width=16),
        batch_size=4,
    )
    return TrainJob(
        name="noisy",
        recipe=recipe,
        seed=5,
        steps=10,
        model=StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8)),
        diffusion=DiffusionConfig(first_frame=0.5, drop=0.5),
        validation=ValidationConfig(every_steps=0),
    )


@pytest.fixture
def ask(job: TrainJob, tmp_path: Path) -> Ask:
    """`ask("--step", 3)`: what the command tells of the job; it raises what the shell would be told in a sentence."""
    record = tmp_path / "job.yaml"
    record.write_text(job_to_yaml(job, JOB_KINDS))

    def asked(*words: object) -> dict[str, Any]:
        command = ["batch", str(record), "--out", str(tmp_path), *map(str, words), "--json"]
        told: dict[str, Any] = json.loads(CliRunner().invoke(app, command, catch_exceptions=False).stdout)
        return told

    return asked


def test_it_tells_the_noise_that_the_trainer_gives_each_clip(
    job: TrainJob, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr(
        diffusion_task, "drawn", lambda *words, **told: given.append(drawn(*words, **told)) or given[-1]
    )
    task = diffusion_task.DiffusionTask(job)
    task.clip_losses(task.build(), task.inputs(local_batch(FeedSpec(recipe=job.recipe, seed=5), 3)), 3)
    (had,) = given
    assert ask("--step", 3, "--no-files")["clips"] == [
        {
            **clip,
            "slot": slot,
            "t": float(had.t_BT[slot, -1]),
            "shows_first_frame": float(had.t_BT[slot, 0]) == 1,
            "is_hidden": bool(had.is_hidden_B[slot]),
            "noise_sha256": hashlib.sha256(had.e_BCTHW[slot].numpy().tobytes()).hexdigest(),
        }
        for slot, clip in enumerate(ask("--step", 3, "--no-files")["clips"])
    ]
    assert len({clip["noise_sha256"] for clip in ask("--step", 3, "--no-files")["clips"]}) == 4
    assert torch.any(had.t_BT[:, 0] == 1)


def test_a_ranks_share_has_the_same_noise_as_in_the_whole(ask: Ask) -> None:
    whole = ask("--step", 2, "--no-files")
    share = ask("--step", 2, "--no-files", "--rank", 1, "--world", 2)
    assert share["clips"] == whole["clips"][2:]


def test_clips_are_called_by_the_files_that_they_are_from(job: TrainJob, ask: Ask, tmp_path: Path) -> None:
    told = ask("--step", 0)
    files = {path.name for path in Path(job.recipe.datasets[0].lake).parent.glob("videos/**/*.mp4")}
    assert len({clip["source"] for clip in told["clips"]} & files) == 4
    sheet = np.array(Image.open(told["files"][0]))
    from cineray.batch import contact_sheet

    batch = local_batch(FeedSpec(recipe=job.recipe, seed=5), 0)
    (tmp_path / "named.png").write_bytes(
        contact_sheet(batch, names={clip["video_id"]: clip["source"] for clip in told["clips"]})
    )
    assert np.array_equal(sheet, np.array(Image.open(tmp_path / "named.png")))


@pytest.mark.parametrize("words", [("--rank", 3, "--world", 2), ("--rank", 3)])
def test_a_rank_that_is_not_there_is_refused(ask: Ask, words: tuple[object, ...]) -> None:
    with pytest.raises(UsageError, match=r"--rank is 3 of --world .* wanted 0 to"):
        ask("--step", 0, "--no-files", *words)


def test_an_autoencoder_that_is_not_here_leaves_the_rest_to_be_seen(ask: Ask) -> None:
    told = ask("--step", 0, "--no-files", "--set", "autoencoder={kind: vae_lite, path: /nowhere.safetensors}")
    assert "/nowhere.safetensors" in told["no_noise"]
    assert "t" not in told["clips"][0]
