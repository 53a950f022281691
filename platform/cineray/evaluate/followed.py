"""What the flow of clips shows: frames go in; warping error, speeds, and followed points with their looks come out.

Flow is large (two numbers per pixel and pair) and several metrics need it, so it is computed here once, a few pairs at
a time, reduced to what they need, and let go. Points begin on a grid in the first frame and are carried from frame to
frame by the flow; a point is lost for good where it leaves the picture or going back does not lead to where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cineray.evaluate.intervals import Reals
from cineray.evaluate.shared import Frames, once_per_frames
from cineray.evaluate.tracks import ground_of

if TYPE_CHECKING:
    from torch import Tensor

POINTS_A_SIDE = 12
PATCH_PX = 5
FASTEST_SHARE = 0.05
"""Dynamic degree looks at the fastest twentieth of the pixels, as VBench does: an object is a small part of a frame."""
PIXELS_AT_ONCE = 1 << 21
"""Pixels of all pairs that are computed together."""


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """N clips of T frames and P = T - 1 pairs; K points."""

    warping_NP: Reals
    """Mean difference between a frame and the next one brought back by the flow, where both see it; in levels. nan
    where that is hardly anywhere."""
    fastest_NP: Reals
    """Mean speed of the fastest of the pixels that both see, px per pair."""
    points_NTKX: Reals
    """Where each point is; one that was lost stays where it was."""
    alive_NTK: npt.NDArray[np.bool_]
    """It has not been lost yet."""
    lost_looks_NT: Reals
    """How much of the points' first look (contrast to the ground) is gone: 0 all there, 1 nothing."""


@once_per_frames
def followed(frames_NTHWC: Frames) -> Followed:
    """A few clips at a time."""
    n, t, height, width = frames_NTHWC.shape[:4]
    few = max(1, PIXELS_AT_ONCE // max(1, (t - 1) * height * width))
    parts = [_few(frames_NTHWC[first : first + few]) for first in range(0, max(n, 1), few)]
    return Followed(*(np.concatenate([getattr(part, name) for part in parts]) for name in Followed.__slots__))


def _few(frames_NTHWC: Frames) -> Followed:
    """What the flow of these clips shows."""
    import torch

    from cineray.evaluate.flow import flow_between, mean_of_visible, warped

    n, t, height, width = frames_NTHWC.shape[:4]
    with torch.inference_mode():
        clips_NTCHW = torch.from_numpy(np.ascontiguousarray(frames_NTHWC)).permute(0, 1, 4, 2, 3).float() / 255
        first, second = clips_NTCHW[:, :-1].flatten(0, 1), clips_NTCHW[:, 1:].flatten(0, 1)
        flow = flow_between(first, second)
        away_PHW = (warped(second, flow.there_P2HW) - first).abs().mean(dim=1) * 255
        warping_P = mean_of_visible(away_PHW, flow.visible_PHW)
        speed_PS = (flow.there_P2HW.square().sum(dim=1).sqrt() * flow.visible_PHW).flatten(1)
        fastest_P = speed_PS.topk(max(1, round(FASTEST_SHARE * height * width)), dim=1).values.mean(dim=1)
        there_NP2HW = flow.there_P2HW.reshape(n, t - 1, 2, height, width)
        visible_NPHW = flow.visible_PHW.reshape(n, t - 1, height, width)
        points_NTKX, alive_NTK = _carried(there_NP2HW, visible_NPHW)
        ground_NC = torch.from_numpy(ground_of(frames_NTHWC)) / 255
        lost_NT = _lost_looks(clips_NTCHW - ground_NC[:, None, :, None, None], points_NTKX, alive_NTK)
    warping_NP, fastest_NP = (_reals(each).reshape(n, t - 1) for each in (warping_P, fastest_P))
    return Followed(warping_NP, fastest_NP, _reals(points_NTKX), alive_NTK.numpy(), _reals(lost_NT))


def _reals(values: Tensor) -> Reals:
    return values.double().numpy()


def _carried(there_NP2HW: Tensor, visible_NPHW: Tensor) -> tuple[Tensor, Tensor]:
    """Where the points of a grid are in each frame, and until when they are alive."""
    import torch

    n, pairs, _, height, width = there_NP2HW.shape
    side = (torch.arange(POINTS_A_SIDE) + 0.5) / POINTS_A_SIDE
    y, x = torch.meshgrid(side * height - 0.5, side * width - 0.5, indexing="ij")
    point_NKX = torch.stack([x, y], dim=-1).reshape(1, -1, 2).repeat(n, 1, 1)
    points, alive = [point_NKX], [torch.ones(n, POINTS_A_SIDE**2, dtype=torch.bool)]
    for at in range(pairs):
        step_NKX = _looked_up(there_NP2HW[:, at], point_NKX[:, :, None])[:, :, :, 0].transpose(1, 2)
        seen_NK = _looked_up(visible_NPHW[:, at, None].float(), point_NKX[:, :, None])[:, 0, :, 0] > 0.5
        alive.append(alive[-1] & seen_NK)
        point_NKX = point_NKX + step_NKX * alive[-1][..., None]
        points.append(point_NKX)
    return torch.stack(points, dim=1), torch.stack(alive, dim=1)


def _lost_looks(stands_out_NTCHW: Tensor, points_NTKX: Tensor, alive_NTK: Tensor) -> Tensor:
    """(N, T): how much of what stood out around the points at first has gone or changed, or came where nothing was."""
    import torch

    n, t = stands_out_NTCHW.shape[:2]
    reach = torch.arange(PATCH_PX) - PATCH_PX // 2
    offset_SX = torch.cartesian_prod(reach, reach).flip(-1)
    places_NTKSX = points_NTKX[:, :, :, None] + offset_SX
    look_FCKS = _looked_up(stands_out_NTCHW.flatten(0, 1), places_NTKSX.flatten(0, 1))
    look_NTCKS = look_FCKS.reshape(n, t, *look_FCKS.shape[1:]) * alive_NTK[:, :, None, :, None]
    first_N1CKS = look_NTCKS[:, :1]
    changed_NT = (look_NTCKS - first_N1CKS).abs().flatten(2).sum(dim=2)
    most_NT = (look_NTCKS.abs() + first_N1CKS.abs()).flatten(2).sum(dim=2)
    return torch.where(most_NT > 0, changed_NT / most_NT.clamp(min=1e-9), 0.0)


def _looked_up(pictures_BCHW: Tensor, places_BKSX: Tensor) -> Tensor:
    """(B, C, K, S): what lies at places between pixels; beyond the edge, the edge."""
    import torch.nn.functional as F

    height, width = pictures_BCHW.shape[-2:]
    grid_BKSX = (2 * places_BKSX + 1) / places_BKSX.new_tensor([width, height]) - 1
    return F.grid_sample(pictures_BCHW, grid_BKSX, mode="bilinear", padding_mode="border", align_corners=False)
