"""Dynamic degree and warping error by RAFT's flow instead of our own: clips go in; the same two numbers come out.

Weights are a TorchScript file (two batches of pictures in -1 .. 1 to a flow, or a list of refined flows of which the
last counts), or a state dict of torchvision's `raft_small` or `raft_large`, which needs torchvision. Pictures are
enlarged to 128 px where smaller, to a multiple of 8, as RAFT wants them; speeds are in frame widths, so that does not
change them.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cineray.evaluate.followed import FASTEST_SHARE
from cineray.evaluate.intervals import Reals
from cineray.evaluate.metric import MeanMetric
from cineray.evaluate.scores import Better, MetricUnavailable
from cineray.evaluate.shared import Frames
from cineray.evaluate.warping import WarpingError, mean_over_pairs
from cineray.evaluate.weights.files import Network, Weights, path_of, sha256_of, torchscript

if TYPE_CHECKING:
    from torch import Tensor

    from cineray.evaluate.clip_set import ClipSet
    from cineray.evaluate.metric import Metric
    from cineray.evaluate.registry import Setting

LEAST_PX, MULTIPLE_PX = 128, 8
BACK_AGAIN_PX2 = 0.5
"""As Sundaram et al. have it (flow.py)."""


class _Raft(MeanMetric):
    group: ClassVar[str] = "weights"
    better: ClassVar[Better] = "like real"

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    @classmethod
    def make(cls, setting: Setting) -> Metric:
        """Needs its file."""
        return cls(load_raft(path_of(setting, "raft"), setting.device))

    def facts(self) -> dict[str, Any]:
        """The weights, and what was done to frames."""
        told = f"values -1 to 1, enlarged to {LEAST_PX} px where smaller, sides of a multiple of {MULTIPLE_PX}"
        return {**self.weights.facts(), "preprocessing": told}

    def flow(self, x_TCHW: Tensor) -> Tensor:
        """(T-1, 2, H, W), between neighbours."""
        import torch

        found = self.weights.network(x_TCHW[:-1], x_TCHW[1:])
        flow: Tensor = found if isinstance(found, torch.Tensor) else found[-1]
        return flow


class RaftDynamicDegree(_Raft):
    """How fast the fastest parts of the picture are."""

    name = "raft_dynamic_degree"
    unit = "frame widths per second"
    says = "how much moves, and how fast, by RAFT"

    def rows(self, clips: ClipSet) -> Reals:
        """The mean over pairs of frames."""
        import torch

        value_N = np.full(len(clips), np.nan)
        if clips.num_frames < 2:
            return value_N[:, None]
        with torch.inference_mode():
            for at, frames_THWC in enumerate(clips.frames_NTHWC):
                flow_P2HW = self.flow(enlarged(frames_THWC).to(self.weights.device))
                speed_PS = flow_P2HW.double().square().sum(dim=1).sqrt().flatten(1)
                most = max(1, round(FASTEST_SHARE * speed_PS.shape[1]))
                widths_P = speed_PS.topk(most, dim=1).values.mean(dim=1).cpu().numpy() / flow_P2HW.shape[-1]
                value_N[at] = (widths_P / np.maximum(np.diff(clips.seconds_NT[at]), 1e-3)).mean()
        return value_N[:, None]


class RaftWarpingError(_Raft):
    """What RAFT's flow does not explain of the next frame."""

    name = "raft_warping_error"
    unit = "levels of 255"
    says = "what changes from frame to frame that motion does not explain, by RAFT"
    nothing = WarpingError.nothing

    def rows(self, clips: ClipSet) -> Reals:
        """The mean over pairs of frames, where both see the same."""
        import torch

        from cineray.evaluate.flow import mean_of_visible, visible, warped

        value_N = np.full(len(clips), np.nan)
        if clips.num_frames < 2:
            return value_N[:, None]
        with torch.inference_mode():
            for at, frames_THWC in enumerate(clips.frames_NTHWC):
                x_TCHW = enlarged(frames_THWC).to(self.weights.device)
                there, back = self.flow(x_TCHW), self.flow(x_TCHW.flip(0)).flip(0)
                seen_PHW = visible(there, back, within_px2=BACK_AGAIN_PX2)
                away_PHW = (warped(x_TCHW[1:], there) - x_TCHW[:-1]).abs().mean(dim=1) * 127.5
                away_P = mean_of_visible(away_PHW, seen_PHW).double().cpu().numpy()
                value_N[at] = mean_over_pairs(away_P[None])[0]
        return value_N[:, None]


def enlarged(frames_THWC: Frames) -> Tensor:
    """(T, C, H, W) in -1 .. 1, as RAFT wants it."""
    import torch
    import torch.nn.functional as F

    x_TCHW = torch.from_numpy(np.ascontiguousarray(frames_THWC)).permute(0, 3, 1, 2).float() / 127.5 - 1
    scale = max(1.0, LEAST_PX / min(x_TCHW.shape[-2:]))
    size = [-(-round(side * scale) // MULTIPLE_PX) * MULTIPLE_PX for side in x_TCHW.shape[-2:]]
    if size == list(x_TCHW.shape[-2:]):
        return x_TCHW
    return F.interpolate(x_TCHW, size=size, mode="bilinear", antialias=True, align_corners=False)


def load_raft(path: Path, device: str) -> Weights:
    """A TorchScript file, or a state dict of torchvision's."""
    try:
        return torchscript(path, device)
    except MetricUnavailable:
        return _state_dict(path, device)


def _state_dict(path: Path, device: str) -> Weights:
    """Which of the two it is, its weights tell: the small one has no batch norms."""
    import torch

    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler stumbles over
        told = str(error).strip().splitlines()[0]
        raise MetricUnavailable(f"{path} is neither a TorchScript file nor a state dict: {told}") from None
    try:
        library: Any = importlib.import_module("torchvision.models.optical_flow")
    except (ImportError, RuntimeError) as error:  # RuntimeError: a build for another torch
        told = str(error).strip().splitlines()[0]
        raise MetricUnavailable(f"{path} is a state dict, which torchvision's RAFT is needed for: {told}") from None
    large = any("running_mean" in name for name in state)
    network = (library.raft_large if large else library.raft_small)(weights=None)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        told = str(error).strip().splitlines()[0]
        raise MetricUnavailable(f"{path} does not fit torchvision's RAFT: {told}") from None
    ready: Network = network.eval().to(device)
    return Weights(ready, path, sha256_of(path), "state dict", device)
