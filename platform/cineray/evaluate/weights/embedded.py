"""Kernel distances of features of VideoMAE-v2 and V-JEPA: clips go in, how unlike real ones they are comes out.

These networks learnt from video without labels and see motion, which I3D hardly does. The unbiased kernel distance on
V-JEPA features needs a sixth of the clips that a Frechet distance needs (JEDi). Weights are a folder of `transformers`
(with its preprocessor config), or a TorchScript file that takes (N, C, T, 224, 224), normalised as ImageNet, and gives
one vector per clip or one per token; tokens are averaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cineray.evaluate.distances import KernelMetric
from cineray.evaluate.intervals import Reals
from cineray.evaluate.weights.files import Weights, path_of, torchscript_or_folder
from cineray.evaluate.weights.prepare import Preparation, preparation_of, resampled_in_time

if TYPE_CHECKING:
    from torch import Tensor

    from cineray.evaluate.clip_set import ClipSet
    from cineray.evaluate.metric import Metric
    from cineray.evaluate.registry import Setting

AT_ONCE = 4


class _Embedded(KernelMetric):
    group: ClassVar[str] = "weights"
    wanted: ClassVar[str]
    """Which network."""
    classes: ClassVar[dict[str, str]]
    """Model type of a folder's config -> class of `transformers`."""
    usual_px: ClassVar[int] = 224
    frames: ClassVar[int] = 16
    """Where the weights' config does not say how many they want."""

    def __init__(self, weights: Weights, preparation: Preparation) -> None:
        self.weights, self.preparation = weights, preparation

    @classmethod
    def make(cls, setting: Setting) -> Metric:
        """Needs its folder or file."""
        path = path_of(setting, cls.wanted)
        weights = torchscript_or_folder(path, setting.device, cls.classes)
        told_px = getattr(weights.config, "image_size", None) or getattr(weights.config, "crop_size", None)
        return cls(weights, preparation_of(path, int(told_px or cls.usual_px)))

    def wanted_frames(self) -> int:
        """How many frames a clip is brought to."""
        config = self.weights.config
        return int(getattr(config, "num_frames", None) or self.frames)

    def facts(self) -> dict[str, Any]:
        """The weights, and what was done to frames."""
        told = f"{self.wanted_frames()} frames, the nearest ones at even places; {self.preparation}"
        return {**self.weights.facts(), "preprocessing": told}

    def rows(self, clips: ClipSet) -> Reals:
        """One vector per clip."""
        import torch

        if len(clips) == 0:
            return np.empty((0, 1))
        rows = []
        with torch.inference_mode():
            for first in range(0, len(clips), AT_ONCE):
                few_NTHWC = resampled_in_time(clips.frames_NTHWC[first : first + AT_ONCE], self.wanted_frames())
                x_FCHW = self.preparation(few_NTHWC.reshape(-1, *few_NTHWC.shape[2:]))
                x_NTCHW = x_FCHW.reshape(*few_NTHWC.shape[:2], *x_FCHW.shape[1:]).to(self.weights.device)
                found = self.tokens(x_NTCHW)
                rows.append((found if found.ndim == 2 else found.flatten(1, -2).mean(dim=1)).double().cpu().numpy())
        return np.concatenate(rows)

    def tokens(self, x_NTCHW: Tensor) -> Tensor:
        """(N, tokens, D) or (N, D)."""
        if self.weights.kind == "torchscript":
            found: Tensor = self.weights.network(x_NTCHW.transpose(1, 2))
        else:
            found = self.of_folder(x_NTCHW)
        return found

    def of_folder(self, x_NTCHW: Tensor) -> Tensor:
        """By the class of `transformers`."""
        tokens: Tensor = self.weights.network(x_NTCHW).last_hidden_state
        return tokens


class VideoMaeKernel(_Embedded):
    """Of VideoMAE features."""

    name = "videomae_kernel"
    wanted = "videomae"
    says = "kernel distance of VideoMAE features, which see motion"
    classes: ClassVar[dict[str, str]] = {"videomae": "VideoMAEModel"}


class VjepaKernel(_Embedded):
    """Of V-JEPA features."""

    name = "vjepa_kernel"
    wanted = "vjepa"
    says = "kernel distance of V-JEPA features (JEDi)"
    usual_px = 256
    classes: ClassVar[dict[str, str]] = {"vjepa2": "VJEPA2Model"}

    def of_folder(self, x_NTCHW: Tensor) -> Tensor:
        """The encoder's tokens; its predictor is for training."""
        tokens: Tensor = self.weights.network(x_NTCHW, skip_predictor=True).last_hidden_state
        return tokens
