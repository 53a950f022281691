"""Every built-in model keeps what models promise."""

from __future__ import annotations

from pathlib import Path

import torch

from cineray.models import Image2VideoConfig, ModelConfig, StDiTConfig, UNet3dConfig, build_model
from cineray.testing.model_contract import ModelContract


class TestStDiT(ModelContract):
    def config(self, folder: Path) -> ModelConfig:
        return StDiTConfig(size="custom", width=32, depth=2, heads=2, patch=(2, 4, 4))


class TestStDiTOfLatents(ModelContract):
    """Patches of one frame, as on latents, and no captions."""

    channels = 3
    text_width = None

    def config(self, folder: Path) -> ModelConfig:
        return StDiTConfig(size="custom", width=24, depth=2, heads=2, patch=(1, 2, 2))


class TestFactorisedStDiT(ModelContract):
    def config(self, folder: Path) -> ModelConfig:
        return StDiTConfig(size="custom", width=32, depth=2, heads=2, patch=(1, 4, 4), factorised=True)


class TestStDiTOfTheCpuRecipe(ModelContract):
    """Learnt positions beside the rotations, a modulation that is awake from the start, and a bottleneck."""

    def config(self, folder: Path) -> ModelConfig:
        return StDiTConfig(
            size="custom",
            width=32,
            depth=2,
            heads=2,
            patch=(1, 4, 4),
            positions="rope+learned",
            modulation_std=0.02,
            bottleneck=12,
        )


class TestUNet3d(ModelContract):
    def config(self, folder: Path) -> ModelConfig:
        return UNet3dConfig(channels=16, multipliers=(1, 2), blocks=1, heads=2)


class TestImage2Video(ModelContract):
    def config(self, folder: Path) -> ModelConfig:
        image = StDiTConfig(size="custom", width=24, depth=2, heads=2, patch=(1, 4, 4))
        path = folder / "image.pt"
        if not path.exists():
            with torch.random.fork_rng(), torch.device("cpu"):
                torch.manual_seed(11)
                told = {"channels": self.channels, "num_classes": self.num_classes, "text_width": self.text_width}
                model = build_model(image, longest=(1, 16, 24), **told)
                # As after a training: what began at zero no longer is.
                state = {name: value + 0.05 * torch.randn(value.shape) for name, value in model.state_dict().items()}
                torch.save(state, path)
        return Image2VideoConfig(base=image, image_weights=str(path))
