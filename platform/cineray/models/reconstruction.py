"""How near a decoded clip is to the real one: what training lowers, and what a held-out clip is judged by.

Real and decoded clips in [-1, 1] go in, BCTHW; one number per clip comes out, over real frames only. The loss is L1
and squares of pixels, and L1 of differences to the neighbours in time, rows and columns at three scales: what moves and
what has edges counts, also where it is small. L1 alone stalls where most of a picture is ground (the ground's colour is
then its minimum); squares lead away from there. No network judges, so no weights are downloaded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SCALES = (1, 2, 4)
"""Pixels per side that are averaged before differences are taken."""
SQUARE_WEIGHT = 5.0
GRADIENT_WEIGHT = 0.3
DIVERGENCE_WEIGHT = 1e-6
"""Only holds latents near a scale; they are normalised by statistics anyway."""
PIXEL_RANGE = 2.0


def reconstruction_loss(real_BCTHW: Tensor, again_BCTHW: Tensor, is_real_BT: Tensor) -> Tensor:
    """(B,) float32."""
    error = again_BCTHW.float() - real_BCTHW.float()
    pixels_B = _mean(error.abs() + SQUARE_WEIGHT * error.square(), is_real_BT)
    gradients_B = torch.stack([_gradients(_coarser(error, scale), is_real_BT) for scale in SCALES]).mean(0)
    return pixels_B + GRADIENT_WEIGHT * gradients_B


def _gradients(error_BCTHW: Tensor, is_real_BT: Tensor) -> Tensor:
    """Gradients are linear: those of the error are the error of those."""
    both_BT = is_real_BT[:, 1:] & is_real_BT[:, :-1]
    over_rows = _mean(error_BCTHW.diff(dim=3).abs(), is_real_BT)
    over_columns = _mean(error_BCTHW.diff(dim=4).abs(), is_real_BT)
    over_time = _mean(error_BCTHW.diff(dim=2).abs(), both_BT) if both_BT.shape[1] else torch.zeros_like(over_rows)
    return over_rows + over_columns + over_time


def _coarser(x_BCTHW: Tensor, scale: int) -> Tensor:
    return F.avg_pool3d(x_BCTHW, (1, scale, scale)) if scale > 1 else x_BCTHW


def psnr_db(real_BCTHW: Tensor, again_BCTHW: Tensor, is_real_BT: Tensor) -> Tensor:
    """(B,) in decibels of the full range."""
    return _decibels(_mean((again_BCTHW.float() - real_BCTHW.float()).square(), is_real_BT))


def temporal_psnr_db(real_BCTHW: Tensor, again_BCTHW: Tensor, is_real_BT: Tensor) -> Tensor:
    """(B,) the same of the differences between neighbouring frames: a clip that stands still where it moved is far."""
    both_BT = is_real_BT[:, 1:] & is_real_BT[:, :-1]
    error = (again_BCTHW.float() - real_BCTHW.float()).diff(dim=2)
    return _decibels(_mean(error.square(), both_BT))


def flicker(x_BCTHW: Tensor, is_real_BT: Tensor) -> Tensor:
    """(2, B): how much frames differ from the middle of their neighbours, and from the frame before; sums per clip.

    Their ratio is the flicker: 0 for steady motion of smooth pictures, large where frames jump back and forth.
    """
    change = x_BCTHW.float().diff(dim=2)
    two_BT = is_real_BT[:, 1:] & is_real_BT[:, :-1]
    three_BT = two_BT[:, 1:] & two_BT[:, :-1]
    return torch.stack([_mean(change.diff(dim=2).abs(), three_BT), _mean(change.abs(), two_BT)])


def _decibels(mean_square: Tensor) -> Tensor:
    return 10 * torch.log10(PIXEL_RANGE**2 / mean_square.clamp_min(1e-10))


def _mean(x_BCTHW: Tensor, counted_BT: Tensor) -> Tensor:
    """Per clip, over the frames that count; 0 where none does."""
    per_frame_BT = x_BCTHW.mean((1, 3, 4))
    counted = counted_BT.to(per_frame_BT.dtype)
    return (per_frame_BT * counted).sum(1) / counted.sum(1).clamp_min(1)
