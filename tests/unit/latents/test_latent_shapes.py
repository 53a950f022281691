"""A model that cannot take the latents of its clips is refused before anything is decoded or written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cineray.diffusion import DiffusionConfig
from cineray.errors import UsageError
from cineray.models import StDiTConfig, UNet3dConfig
from cineray.train.config import TrainJob
from cineray.train.diffusion_task import DiffusionTask

JobOf = Callable[..., TrainJob]


@pytest.mark.parametrize(
    ("model", "patches"),
    [(StDiTConfig(patch=(1, 8, 8)), "1x8x8"), (UNet3dConfig(multipliers=(1, 2, 4, 8), heads=1), "1x8x8")],
    ids=["stdit", "unet3d"],
)
def test_latents_that_do_not_divide_into_patches_are_refused(
    job_of: JobOf, model: StDiTConfig | UNet3dConfig, patches: str
) -> None:
    """5 frames of 32 x 32 pixels, which would divide, are 2 x 4 x 4 in latents."""
    with pytest.raises(UsageError) as refused:
        DiffusionTask(job_of(model=model))
    assert str(refused.value) == (
        f"clips of 5x32x32 have latents of 2x4x4, which do not divide into the model's patches of {patches}; change "
        "either (model.patch, recipe.frame, recipe.buckets)"
    )
    DiffusionTask(job_of(model=StDiTConfig(patch=(2, 4, 4))))


def test_a_mean_of_as_many_numbers_as_pixels_have_is_no_mean_of_latents(job_of: JobOf) -> None:
    told = DiffusionConfig(data_mean=(0.0, 0.0, 0.0), data_sd=(1.0, 1.0, 1.0))
    with pytest.raises(UsageError, match=r"data_mean has 3 numbers; the latents have 4 channels"):
        DiffusionTask(job_of(diffusion=told))
