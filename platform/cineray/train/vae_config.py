"""What the training of an autoencoder was told: `TrainVaeJob`, whose model is a `vae_lite`. No torch."""

from __future__ import annotations

from pydantic import model_validator

from cineray.models.autoencoder_config import GateLimits, VaeLiteShape
from cineray.train.config import LearningJob


class TrainVaeJob(LearningJob):
    """A `vae_lite` over clips, judged on clips that it does not learn from, and exported whenever it was judged."""

    shape: VaeLiteShape = VaeLiteShape()
    """How large it is, and what it makes of a clip."""
    gate: GateLimits = GateLimits()
    """What a run on its latents will want of it; here it is only told whether it is there yet."""
    export: str = ""
    """Where the autoencoder is written, beside the run's own `autoencoder.safetensors`; empty: only there."""

    @model_validator(mode="after")
    def _divides(self) -> TrainVaeJob:
        _, rows, columns = self.shape.compression
        for bucket in self.recipe.shapes:
            if bucket.height % rows or bucket.width % columns:
                raise ValueError(
                    f"clips of {bucket.height}x{bucket.width} pixels do not divide into latents of {rows}x{columns} "
                    "pixels; change recipe.frame, or shape.compression"
                )
        if not self.validation.is_on:
            raise ValueError(
                "validation.every_steps is 0, and an autoencoder without held-out figures is refused by every run that "
                "wants latents; set it to the number of steps, at most"
            )
        return self
