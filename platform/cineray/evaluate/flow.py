"""Where each pixel goes: pairs of pictures go in; how far each moves, and where both see it, come out.

Lucas and Kanade's method over a pyramid: at each level, from the coarsest on, the first picture's gradients around a
pixel say which small shift explains the difference to the second best; the answer starts the next finer level. Where a
window has no texture the damping lets the coarser answer stand. All pairs are computed together. A pixel counts as
visible where going there and coming back ends where it began.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_PX, MOST_LEVELS = 8, 5
"""The pyramid stops where the shorter side would fall below this."""
WINDOW_PX, ITERATIONS = 7, 3
DAMPING, DAMPING_SHARE = 1e-3, 0.03
"""Added to the squared gradients of pictures in 0 .. 1, and a share of them: where a window knows motion only across an
edge, the step along it stays small."""
UNCHANGED = (1.5 / 255) ** 2
"""Where a window's mean squared change is below this, nothing moved: plain ground does not go with what crosses it."""
BACK_AGAIN_PX2, BACK_AGAIN_SHARE = 0.05, 0.01
"""Visible: |there + back|^2 below the first, plus the second times |there|^2 + |back|^2. Others (Sundaram) allow 0.5;
this flow is smooth: what is covered is carried along half-way, and comes back to within less than that."""

LEAST_VISIBLE = 0.05
"""Of which share of the pixels a pair's warping error must be known."""


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """Of P pairs. A flow's two channels are (x, y), in pixels."""

    there_P2HW: Tensor
    visible_PHW: Tensor


def flow_between(first_PCHW: Tensor, second_PCHW: Tensor) -> Flow:
    """From each first picture to its second; values in 0 .. 1."""
    there_P2HW = lucas_kanade(first_PCHW, second_PCHW)
    back_P2HW = lucas_kanade(second_PCHW, first_PCHW)
    return Flow(there_P2HW, visible(there_P2HW, back_P2HW))


def visible(there_P2HW: Tensor, back_P2HW: Tensor, *, within_px2: float = BACK_AGAIN_PX2) -> Tensor:
    """Where going and coming back agree, and the way does not leave the picture."""
    back_P2HW = warped(back_P2HW, there_P2HW)
    missed_PHW = (there_P2HW + back_P2HW).square().sum(dim=1)
    length_PHW = there_P2HW.square().sum(dim=1) + back_P2HW.square().sum(dim=1)
    at_P2HW = there_P2HW + _places(there_P2HW)
    height, width = there_P2HW.shape[-2:]
    limit_2 = torch.tensor([width - 1, height - 1]).to(at_P2HW)[:, None, None]
    inside_PHW = ((at_P2HW >= 0) & (at_P2HW <= limit_2)).all(dim=1)
    return inside_PHW & (missed_PHW <= within_px2 + BACK_AGAIN_SHARE * length_PHW)


def mean_of_visible(away_PHW: Tensor, visible_PHW: Tensor) -> Tensor:
    """(P,): the mean where both see the same; nan where that is so little that it says nothing of the pair."""
    seen_P = visible_PHW.flatten(1).sum(dim=1)
    mean_P = (away_PHW * visible_PHW).flatten(1).sum(dim=1) / seen_P
    return torch.where(seen_P >= LEAST_VISIBLE * visible_PHW[0].numel(), mean_P, torch.nan)


def lucas_kanade(first_PCHW: Tensor, second_PCHW: Tensor) -> Tensor:
    """(P, 2, H, W)."""
    pyramid = _pyramid(first_PCHW.mean(dim=1, keepdim=True), second_PCHW.mean(dim=1, keepdim=True))
    flow_P2HW = torch.zeros_like(pyramid[-1][0]).repeat(1, 2, 1, 1)
    for first, second in reversed(pyramid):
        if flow_P2HW.shape[-2:] != first.shape[-2:]:
            flow_P2HW = _finer(flow_P2HW, first.shape[-2], first.shape[-1])
        flow_P2HW = _refined(flow_P2HW, first, second)
    first, second = pyramid[0]
    return flow_P2HW * (_mean((second - first).square(), WINDOW_PX) > UNCHANGED)


def warped(pictures_PCHW: Tensor, flow_P2HW: Tensor) -> Tensor:
    """At each place, what lies where the flow leads; beyond the edge, the edge."""
    height, width = flow_P2HW.shape[-2:]
    size_2 = torch.tensor([width, height]).to(flow_P2HW)[:, None, None]
    grid_P2HW = (2 * (flow_P2HW + _places(flow_P2HW)) + 1) / size_2 - 1
    return F.grid_sample(
        pictures_PCHW, grid_P2HW.permute(0, 2, 3, 1), mode="bilinear", padding_mode="border", align_corners=False
    )


def _places(like_P2HW: Tensor) -> Tensor:
    """(2, H, W): each pixel's own (x, y)."""
    height, width = like_P2HW.shape[-2:]
    y_HW, x_HW = torch.meshgrid(
        torch.arange(height, device=like_P2HW.device), torch.arange(width, device=like_P2HW.device), indexing="ij"
    )
    return torch.stack([x_HW, y_HW]).to(like_P2HW)


def _pyramid(first: Tensor, second: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Both pictures, finest first, each level half the size of the one before."""
    levels = [(_blurred(first), _blurred(second))]
    while len(levels) < MOST_LEVELS and min(levels[-1][0].shape[-2:]) >= 2 * SMALLEST_PX:
        levels.append(tuple(F.avg_pool2d(_blurred(each), 2) for each in levels[-1]))  # type: ignore[arg-type]
    return levels


def _blurred(picture_P1HW: Tensor) -> Tensor:
    """By 1 2 1 in both directions: a gradient means something only of a picture that is smooth over its pixels."""
    kernel = torch.tensor([0.25, 0.5, 0.25]).to(picture_P1HW)
    padded = F.pad(picture_P1HW, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, None, :]), kernel[None, None, :, None])


def _refined(flow_P2HW: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """A few steps at one level. The first picture's gradients serve all of them."""
    padded = F.pad(first, (1, 1, 1, 1), mode="replicate")
    x_P1HW = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    y_P1HW = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    squares_P3HW = torch.cat([x_P1HW * x_P1HW, x_P1HW * y_P1HW, y_P1HW * y_P1HW], dim=1)
    xx, xy, yy = _mean(squares_P3HW, WINDOW_PX).unbind(dim=1)
    damping = DAMPING + DAMPING_SHARE * (xx + yy)
    xx, yy = xx + damping, yy + damping
    determinant = xx * yy - xy * xy
    for _ in range(ITERATIONS):
        change_P1HW = warped(second, flow_P2HW) - first
        xt, yt = _mean(torch.cat([x_P1HW * change_P1HW, y_P1HW * change_P1HW], dim=1), WINDOW_PX).unbind(dim=1)
        step_P2HW = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / determinant[:, None]
        # Smoothed after every step: without it, steps of neighbours play against each other and grow.
        flow_P2HW = _mean(flow_P2HW + step_P2HW.clamp(-1, 1), 3)
    return flow_P2HW


def _mean(values_PCHW: Tensor, window_px: int) -> Tensor:
    """The mean over each pixel's window, of which only what lies in the picture counts."""
    return F.avg_pool2d(values_PCHW, window_px, stride=1, padding=window_px // 2, count_include_pad=False)


def _finer(flow_P2HW: Tensor, height: int, width: int) -> Tensor:
    """The flow of the next finer level to begin with."""
    scale_2 = torch.tensor([width / flow_P2HW.shape[-1], height / flow_P2HW.shape[-2]]).to(flow_P2HW)
    larger = F.interpolate(flow_P2HW, size=(height, width), mode="bilinear", align_corners=False)
    return larger * scale_2[:, None, None]
