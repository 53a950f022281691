"""What neighbours look like to others' networks: clips go in; consistency (DINO) and change (LPIPS) come out.

DINO's vector of each frame is compared with that of the first and that of the one before, as VBench does for subject
consistency. LPIPS says how different neighbouring frames look to people. A frozen clip is perfect by both: read them
beside real clips and the dynamic degree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cineray.evaluate.intervals import Reals
from cineray.evaluate.metric import MeanMetric
from cineray.evaluate.weights.files import Weights, path_of, torchscript, torchscript_or_folder
from cineray.evaluate.weights.prepare import Preparation, preparation_of

if TYPE_CHECKING:
    from torch import Tensor

    from cineray.evaluate.clip_set import ClipSet
    from cineray.evaluate.metric import Metric
    from cineray.evaluate.registry import Setting

LEAST_LPIPS_PX = 64
"""Its network halves pictures five times; smaller ones are enlarged to this."""


class DinoConsistency(MeanMetric):
    """Does the subject stay itself?"""

    name = "dino_consistency"
    group = "weights"
    unit = "cosine"
    better = "like real"
    says = "how alike frames are to DINO, to the first and to the one before"
    classes: ClassVar[dict[str, str]] = {
        "dinov2": "Dinov2Model",
        "dinov2_with_registers": "Dinov2WithRegistersModel",
        "dinov3_vit": "DINOv3ViTModel",
        "vit": "ViTModel",
    }

    def __init__(self, weights: Weights, preparation: Preparation) -> None:
        self.weights, self.preparation = weights, preparation

    @classmethod
    def make(cls, setting: Setting) -> Metric:
        """A folder of `transformers`, or a TorchScript file: (F, C, 224, 224) to (F, D) or (F, tokens, D)."""
        path = path_of(setting, "dino")
        weights = torchscript_or_folder(path, setting.device, cls.classes)
        usual_px = int(getattr(weights.config, "image_size", 224) or 224)
        return cls(weights, preparation_of(path, usual_px))

    def facts(self) -> dict[str, Any]:
        """The weights, and what was done to frames."""
        return {**self.weights.facts(), "preprocessing": str(self.preparation)}

    def rows(self, clips: ClipSet) -> Reals:
        """The mean cosine over all frames but the first."""
        import torch

        value_N = np.full(len(clips), np.nan)
        if clips.num_frames < 2:
            return value_N[:, None]
        with torch.inference_mode():
            for at, frames_THWC in enumerate(clips.frames_NTHWC):
                looks_TD = torch.nn.functional.normalize(self._looks(frames_THWC).double(), dim=1)
                to_first, to_last = looks_TD[1:] @ looks_TD[0], (looks_TD[1:] * looks_TD[:-1]).sum(dim=1)
                value_N[at] = float((to_first.clamp(min=0) + to_last.clamp(min=0)).mean() / 2)
        return value_N[:, None]

    def _looks(self, frames_THWC: Any) -> Tensor:
        """(T, D): the class token."""
        found = self.weights.network(self.preparation(frames_THWC).to(self.weights.device))
        tokens: Tensor = getattr(found, "last_hidden_state", found)
        return tokens if tokens.ndim == 2 else tokens[:, 0]


class LpipsChange(MeanMetric):
    """How much neighbouring frames differ to the eye."""

    name = "lpips_change"
    group = "weights"
    unit = "LPIPS"
    better = "like real"
    says = "how different each frame looks from the one before"

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    @classmethod
    def make(cls, setting: Setting) -> Metric:
        """A TorchScript file of LPIPS: two pictures (F, C, H, W) in -1 .. 1 to one number each."""
        return cls(torchscript(path_of(setting, "lpips"), setting.device))

    def facts(self) -> dict[str, Any]:
        """The weights, and what was done to frames."""
        told = f"values -1 to 1, own size, enlarged to {LEAST_LPIPS_PX} px where smaller"
        return {**self.weights.facts(), "preprocessing": told}

    def rows(self, clips: ClipSet) -> Reals:
        """The mean over pairs of frames."""
        import torch
        import torch.nn.functional as F

        value_N = np.full(len(clips), np.nan)
        if clips.num_frames < 2:
            return value_N[:, None]
        with torch.inference_mode():
            for at, frames_THWC in enumerate(clips.frames_NTHWC):
                x_TCHW = torch.from_numpy(np.ascontiguousarray(frames_THWC)).permute(0, 3, 1, 2).float() / 127.5 - 1
                if min(x_TCHW.shape[-2:]) < LEAST_LPIPS_PX:
                    scale = LEAST_LPIPS_PX / min(x_TCHW.shape[-2:])
                    x_TCHW = F.interpolate(x_TCHW, scale_factor=scale, mode="bilinear", align_corners=False)
                x_TCHW = x_TCHW.to(self.weights.device)
                value_N[at] = float(self.weights.network(x_TCHW[:-1], x_TCHW[1:]).double().mean())
        return value_N[:, None]
