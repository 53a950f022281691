"""Training an autoencoder: what it lowers, what it measures, what it exports; and that it learns, in seconds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cineray.errors import UsageError
from cineray.models import reconstruction
from cineray.models.autoencoder import load_autoencoder
from cineray.models.autoencoder_config import VaeLiteConfig
from cineray.plan import BucketSpec
from cineray.records import Batch
from cineray.train.autoencoder_task import AutoencoderTask
from cineray.train.blank import blank_batch
from cineray.train.compiling import arrange
from cineray.train.inputs import Inputs
from cineray.train.parallel import World
from cineray.train.vae_config import TrainVaeJob

SIZE = 16


def job(**told: Any) -> TrainVaeJob:
    return TrainVaeJob.model_validate(
        {
            "name": "vae",
            "steps": 10,
            "recipe": {"batch_size": 4, "sampling": {"frames": 5}, "frame": {"height": SIZE, "width": SIZE}},
            "shape": {"width": 8, "blocks": 1, "channels": 4},
            "feed": {"driver": "local"},
            **told,
        }
    )


def squares(clips: int, *, seed: int, frames: int = 5) -> Batch:
    """A bright square that moves two pixels a frame to the right."""
    made = blank_batch(BucketSpec(frames=frames, height=SIZE, width=SIZE), clips)
    generator = np.random.default_rng(seed)
    for clip in made.frames_BTHWC:
        top, left = generator.integers(0, 8, 2)
        for t, frame in enumerate(clip):
            frame[top : top + 6, (left + 2 * t) % 12 : (left + 2 * t) % 12 + 5] = (200, 90, 60)
    return made


def task_of(held_out: Batch | None = None, exports: tuple[str, ...] = (), **told: Any) -> AutoencoderTask:
    batches = (lambda rank, world: iter([held_out])) if held_out is not None else None
    return AutoencoderTask(job(**told), world=World.here(), held_out=batches, exports=exports)


def train(task: AutoencoderTask, model: torch.nn.Module, steps: int) -> list[float]:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in range(steps):
        loss = task.clip_losses(model, task.inputs(squares(8, seed=step)), step).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_it_learns_moving_squares_and_says_how_well_on_others(tmp_path: Path) -> None:
    path = str(tmp_path / "vae.safetensors")
    task = task_of(squares(8, seed=10**6), (path,))
    model = task.build()
    before = task.validate(model, 0)
    losses = train(task, model, 150)
    after = task.validate(model, 150)
    assert losses[-1] < 0.4 * losses[0]
    assert after["validation/psnr_db"] > before["validation/psnr_db"] + 5
    assert after["validation/headline"] < before["validation/headline"]
    assert after["validation/passes_gate"] == 0.0, "squares in 4 channels, seconds of training: not good enough yet"
    exported = load_autoencoder(VaeLiteConfig(path=path, gate=None))
    assert exported.held_out is not None
    assert exported.held_out.psnr_db == after["validation/psnr_db"]
    with pytest.raises(UsageError, match="on 8 held-out clips"):
        load_autoencoder(VaeLiteConfig(path=path))


@torch.no_grad()
def test_exported_latents_have_mean_nought_and_spread_one_over_the_held_out_clips(tmp_path: Path) -> None:
    path, held_out = str(tmp_path / "vae.safetensors"), squares(8, seed=3)
    task = task_of(held_out, (path,))
    task.validate(task.build(), 0)
    x = torch.from_numpy(held_out.frames_BTHWC).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    z = load_autoencoder(VaeLiteConfig(path=path, gate=None)).encode(x)
    torch.testing.assert_close(z.mean((0, 2, 3, 4)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3, 4), correction=0), torch.ones(4), atol=1e-3, rtol=0)


def test_a_clips_loss_follows_from_its_step_and_slot_and_not_from_its_batch() -> None:
    task = task_of()
    model = task.build()
    whole = task.inputs(squares(4, seed=0))
    losses = task.clip_losses(model, whole, 3)
    alone = torch.cat([task.clip_losses(model, whole.cut(b, b + 1, 1), 3) for b in range(4)])
    torch.testing.assert_close(alone, losses)
    assert not torch.allclose(task.clip_losses(model, whole, 4), losses), "another step, another noise"
    assert losses.shape == (4,)


@pytest.mark.parametrize("measure", ["reconstruction_loss", "psnr_db", "temporal_psnr_db"])
def test_padded_frames_count_for_nothing(measure: str) -> None:
    generator = torch.Generator().manual_seed(0)
    real, again = torch.rand(2, 2, 3, 6, 8, 8, generator=generator).unbind()
    is_real = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    judged = getattr(reconstruction, measure)
    spoiled = again.clone()
    spoiled[1, :, 4:] = 0
    torch.testing.assert_close(judged(real, spoiled, is_real), judged(real, again, is_real))
    alone = judged(real[1:, :, :4], again[1:, :, :4], is_real[1:, :4])
    torch.testing.assert_close(judged(real, again, is_real)[1:], alone)


def test_psnr_is_the_known_figure() -> None:
    real = torch.zeros(1, 3, 2, 4, 4)
    is_real = torch.ones(1, 2, dtype=torch.bool)
    wanted = 10 * math.log10(4 / 0.01)
    assert reconstruction.psnr_db(real, real + 0.1, is_real).item() == pytest.approx(wanted, abs=1e-4)
    assert reconstruction.temporal_psnr_db(real, real + 0.1, is_real).item() == pytest.approx(10 * math.log10(4e10))


def test_a_still_picture_of_a_moving_thing_has_a_low_temporal_psnr() -> None:
    x = torch.from_numpy(squares(1, seed=1).frames_BTHWC).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    is_real = torch.ones(1, 5, dtype=torch.bool)
    still, nearly = x[:, :, :1].expand_as(x), x + 0.05
    assert reconstruction.temporal_psnr_db(x, nearly, is_real) > reconstruction.temporal_psnr_db(x, still, is_real) + 20


def test_flicker_is_nought_for_what_changes_steadily_and_two_for_what_jumps_back_and_forth() -> None:
    is_real = torch.ones(1, 5, dtype=torch.bool)
    steady = torch.linspace(-1, 1, 5).view(1, 1, 5, 1, 1).expand(1, 3, 5, 4, 4)
    jumping = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]).view(1, 1, 5, 1, 1).expand(1, 3, 5, 4, 4)
    ratios = [float(jerk / change) for jerk, change in (reconstruction.flicker(x, is_real) for x in (steady, jumping))]
    assert ratios == [pytest.approx(0.0, abs=1e-6), pytest.approx(2.0)]


@pytest.mark.parametrize("how", [{"memory": "full"}, {"memory": "selective"}, {"compiled": True, "backend": "eager"}])
def test_its_blocks_may_be_computed_again_or_compiled_whole(how: dict[str, Any]) -> None:
    task = task_of()
    inputs = task.inputs(squares(2, seed=0))
    gradients = []
    for told in ({}, how):
        model = task.build()
        for block in model.blocks():
            torch.nn.init.normal_(block.time.mix.weight, std=0.1, generator=torch.Generator().manual_seed(1))
        arrange(task.blocks(model), **told)
        task.clip_losses(model, inputs, 0).sum().backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for plain, arranged in zip(*gradients, strict=True):
        torch.testing.assert_close(arranged, plain)


def test_two_shares_judge_as_one_process_does() -> None:
    """What each process sums is added up: here both sums are made by hand."""
    held_out = squares(6, seed=5)
    task = task_of(held_out)
    model = task.build()
    whole = task.validate(model, 0)
    halves: list[Inputs] = [task.inputs(held_out).cut(0, 2, 2), task.inputs(held_out).cut(2, 6, 5)]
    apart = task_of(held_out)
    apart._fixed = halves  # the second is filled up with a clip that must not count
    told = apart.validate(model, 0)
    assert told == {name: pytest.approx(value, rel=1e-5) for name, value in whole.items()}


def test_pictures_that_do_not_divide_are_refused_with_the_job() -> None:
    with pytest.raises(ValueError, match="20x16 pixels do not divide into latents of 8x8"):
        job(recipe={"batch_size": 4, "frame": {"height": 20, "width": 16}})


def test_a_job_that_is_never_judged_is_refused() -> None:
    with pytest.raises(ValueError, match="held-out figures is refused by every run"):
        job(validation={"every_steps": 0})
