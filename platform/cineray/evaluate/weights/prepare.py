"""Frames as networks want them: uint8 clips go in, float tensors of a stated size, scale and layout come out.

Each preparation can say itself in one line, which goes into the score's facts: two scores under the same weights but
other preparations do not compare.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cineray.evaluate.shared import Frames

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CONFIGS = ("video_preprocessor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """The shorter side to `short_px`, the middle `crop_px` square of it, then (value / 255 - mean) / std."""

    short_px: int
    crop_px: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __call__(self, frames_FHWC: Frames) -> Tensor:
        """(F, C, crop, crop)."""
        import torch
        import torch.nn.functional as F

        x_FCHW = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(0, 3, 1, 2).float() / 255
        scale = self.short_px / min(x_FCHW.shape[-2:])
        size = [max(self.crop_px, round(side * scale)) for side in x_FCHW.shape[-2:]]
        x_FCHW = F.interpolate(x_FCHW, size=size, mode="bilinear", antialias=True, align_corners=False)
        top, left = ((side - self.crop_px) // 2 for side in size)
        x_FCHW = x_FCHW[..., top : top + self.crop_px, left : left + self.crop_px]
        return (x_FCHW - x_FCHW.new_tensor(self.mean)[:, None, None]) / x_FCHW.new_tensor(self.std)[:, None, None]

    def __str__(self) -> str:
        """One line for the record."""
        mean, std = (",".join(f"{value:g}" for value in each) for each in (self.mean, self.std))
        return f"short side {self.short_px} px bilinear antialiased, middle {self.crop_px} px, mean {mean}, std {std}"


def preparation_of(folder: Path, usual_px: int) -> Preparation:
    """What the folder's own preprocessor config says; else the middle `usual_px` with ImageNet's mean and deviation."""
    told: dict[str, Any] = {}
    for name in _CONFIGS:
        if (folder / name).is_file():
            told = json.loads((folder / name).read_text(encoding="utf-8"))
            break
    crop_px = _side(told.get("crop_size")) or _side(told.get("size")) or usual_px
    return Preparation(
        short_px=max(crop_px, _side(told.get("size")) or crop_px),
        crop_px=crop_px,
        mean=tuple(told.get("image_mean", IMAGENET_MEAN)),
        std=tuple(told.get("image_std", IMAGENET_STD)),
    )


def _side(told: Any) -> int:
    """`{"shortest_edge": 224}`, `{"height": 224, "width": 224}` or `224`; 0 where nothing is said."""
    if isinstance(told, dict):
        return int(told.get("shortest_edge") or told.get("height") or 0)
    return int(told or 0)


def resampled_in_time(frames_NTHWC: Frames, frames: int) -> Frames:
    """So many frames at even places of the clip, the nearest ones; the same clip where it has that many."""
    t = frames_NTHWC.shape[1]
    return frames_NTHWC if t == frames else frames_NTHWC[:, np.rint(np.linspace(0, t - 1, frames)).astype(int)]
