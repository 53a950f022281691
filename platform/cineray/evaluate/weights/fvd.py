"""The Frechet video distance, as StyleGAN-V's protocol `fvd2048_16f` has it: clips go in, a distance comes out.

The network is the I3D of Kinetics-400 as the TorchScript file that this protocol shares. It takes clips as (N, C, T, H,
W) with values 0 to 255 and is told to rescale and to resize them itself, and to give its 400 features. The protocol is
of 2048 clips of 16 frames: of longer clips the first 16 are taken, shorter ones are not judged, and with fewer clips
the score says that it does not compare with published ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cineray.evaluate.distances import FrechetMetric
from cineray.evaluate.intervals import Reals
from cineray.evaluate.metric import Rows
from cineray.evaluate.weights.files import Weights, path_of, torchscript

if TYPE_CHECKING:
    from cineray.evaluate.clip_set import ClipSet
    from cineray.evaluate.metric import Metric
    from cineray.evaluate.registry import Setting
    from cineray.evaluate.scores import Score

CLIPS, FRAMES = 2048, 16
OPTIONS = {"rescale": True, "resize": True, "return_features": True}
AT_ONCE = 8


class Fvd(FrechetMetric):
    """The Frechet distance of I3D features."""

    name = "fvd"
    group = "weights"
    says = "Frechet distance of I3D features; it sees content more than motion"
    most_resamples = 50
    nothing = f"fvd{CLIPS}_{FRAMES}f is of clips of {FRAMES} frames, and these are shorter"

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    @classmethod
    def make(cls, setting: Setting) -> Metric:
        """Needs its TorchScript file."""
        return cls(torchscript(path_of(setting, "fvd"), setting.device))

    def facts(self) -> dict[str, Any]:
        """The file, and what it is told."""
        told = "values 0 to 255, the network rescales and resizes (rescale, resize, return_features)"
        return {**self.weights.facts(), "preprocessing": told}

    def rows(self, clips: ClipSet) -> Reals:
        """400 features per clip."""
        import torch

        if clips.num_frames < FRAMES or len(clips) == 0:
            return np.full((len(clips), 1), np.nan)
        rows = []
        with torch.inference_mode():
            for first in range(0, len(clips), AT_ONCE):
                few = np.ascontiguousarray(clips.frames_NTHWC[first : first + AT_ONCE, :FRAMES])
                x_NCTHW = torch.from_numpy(few).permute(0, 4, 1, 2, 3).float().to(self.weights.device)
                rows.append(self.weights.network(x_NCTHW, **OPTIONS).flatten(1).double().cpu().numpy())
        return np.concatenate(rows)

    def score(self, rows: Rows, real: Rows | None = None, *, bootstrap: int = 1000, seed: int = 0) -> Score:
        """With a word where it is not the protocol."""
        score = super().score(rows, real, bootstrap=bootstrap, seed=seed)
        if score.value is None or score.n >= CLIPS:
            return score
        return score.with_note(f"not fvd{CLIPS}_{FRAMES}f: {score.n} clips, and published numbers are of {CLIPS}")
