"""Where the object is: frames of clips with one thing on a plain ground go in; its centre, size and colour come out.

The ground is the clip's median colour, whatever it is. What stands out from it by enough is cut into connected pieces,
and the heaviest piece of a frame is the object: specks of haze elsewhere do not pull its centre. Each pixel weighs by
how far it stands out, so soft edges give the centre to a hundredth of a pixel. In clips whose object leaves through one
edge and comes back through the opposite one, both parts are one object, and its path goes on beyond the frame; unless
somebody knows that nothing does so in the world that the clip shows: then they are two pieces.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from cineray.evaluate.intervals import Reals
from cineray.evaluate.shared import Frames, once_per_frames

Singles = npt.NDArray[np.float32]
Number = TypeVar("Number", np.float32, np.uint8)

LEAST_CONTRAST = 16.0
"""Levels (of 255) by which something must stand out from the ground; codecs' noise is a few."""
CONTRAST_SHARE = 0.25
"""And this share of how far the clip's object stands out."""
GROUND_PIXELS = 8192
"""As many pixels of a clip tell its ground."""
_IN_ONE_FRAME = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])
"""Neighbours of a pixel: the eight around it, none in other frames."""


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """N clips of T frames. A frame in which nothing stands out has nan."""

    centre_NTX: Reals
    """X = (x, y) in pixels; goes on beyond the frame where the object came round."""
    area_NT: Reals
    """Pixels, a pixel half covered counts as half."""
    share_NT: Reals
    """Which part of all that stands out is the object: 1 when there is nothing else."""
    spread_NT: Reals
    """How far its parts lie from its centre, against a disk of its area: 1 for a disk, 1.05 square, 1.8 for a ring."""
    colour_NTC: Reals
    """Mean colour, in levels."""
    comes_round_N: npt.NDArray[np.bool_]
    """Opposite edges were joined, for something touches both in one frame."""


@once_per_frames
def tracks_of(frames_NTHWC: Frames) -> Tracks:
    """The object of each clip, frame by frame."""
    return _tracks(frames_NTHWC, _standing_out(frames_NTHWC), joins=True)


def tracks_within(frames_NTHWC: Frames, wraps_N: npt.NDArray[np.bool_]) -> Tracks:
    """The same, but opposite edges are only joined in clips whose world wraps round."""
    tracks = tracks_of(frames_NTHWC)
    apart = np.flatnonzero(tracks.comes_round_N & ~wraps_N)
    if not len(apart):
        return tracks
    some = frames_NTHWC[apart]
    own, told = _tracks(some, _standing_out(some), joins=False), {}
    for each in fields(Tracks):
        told[each.name] = getattr(tracks, each.name).copy()
        told[each.name][apart] = getattr(own, each.name)
    return Tracks(**told)


def _tracks(frames_NTHWC: Frames, weight_NTHW: Singles, *, joins: bool) -> Tracks:
    pictures_NTHWC = frames_NTHWC
    comes_round_NX = _comes_round(weight_NTHW) & joins
    shift_NTX = _to_the_middle(weight_NTHW, comes_round_NX)
    if shift_NTX.any():
        weight_NTHW, pictures_NTHWC = _rolled(weight_NTHW, shift_NTX), _rolled(pictures_NTHWC, shift_NTX)
    piece_NTHW, share_NT = _heaviest_piece(weight_NTHW)
    centre_NTX, area_NT, spread_NT, colour_NTC = _moments(piece_NTHW, pictures_NTHWC)
    height, width = frames_NTHWC.shape[2:4]
    path_NTX = _went_on(centre_NTX + shift_NTX, comes_round_NX, (width, height))
    return Tracks(path_NTX, area_NT, share_NT, spread_NT, colour_NTC, np.asarray(comes_round_NX.any(axis=1)))


def ground_of(frames_NTHWC: Frames) -> Singles:
    """(N, C): the median colour of each clip."""
    n = len(frames_NTHWC)
    pixels_NPC = frames_NTHWC.reshape(n, -1, 3)
    step = max(1, pixels_NPC.shape[1] // GROUND_PIXELS)
    # An odd step walks through all columns; an even one would see the same few columns of every row.
    return np.asarray(np.median(pixels_NPC[:, :: step | 1], axis=1), dtype=np.float32)


def _standing_out(frames_NTHWC: Frames) -> Singles:
    """By how much each pixel stands out, beyond what must be exceeded."""
    ground_NC = ground_of(frames_NTHWC)
    contrast_NTHW = np.abs(frames_NTHWC - ground_NC[:, None, None, None]).max(axis=-1)
    n = len(frames_NTHWC)
    peak_N = np.quantile(contrast_NTHW.reshape(n, -1), 0.995, axis=1) if contrast_NTHW.size else np.zeros(n)
    cut_N = np.maximum(LEAST_CONTRAST, CONTRAST_SHARE * peak_N).astype(np.float32)
    return np.asarray(np.maximum(contrast_NTHW - cut_N[:, None, None, None], 0), dtype=np.float32)


def _comes_round(weight_NTHW: Singles) -> npt.NDArray[np.bool_]:
    """(N, X): does something touch opposite edges in one frame, at the same height (or column)?"""
    touches_NTHW = weight_NTHW > 0
    across_N = (touches_NTHW[:, :, :, 0] & touches_NTHW[:, :, :, -1]).any(axis=(1, 2))
    along_N = (touches_NTHW[:, :, 0] & touches_NTHW[:, :, -1]).any(axis=(1, 2))
    return np.stack([across_N, along_N], axis=1)


def _to_the_middle(weight_NTHW: Singles, comes_round_NX: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(N, T, X): by how many whole pixels the frame's origin moves so that the object lies in its middle."""
    n, t, height, width = weight_NTHW.shape
    shift_NTX = np.zeros((n, t, 2), dtype=np.int64)
    for axis, size in ((0, width), (1, height)):
        chosen = comes_round_NX[:, axis]
        if not chosen.any():
            continue
        profile_NTS = weight_NTHW[chosen].sum(axis=2 if axis == 0 else 3)
        turn_S = np.exp(2j * np.pi * np.arange(size) / size)
        middle_NT = np.angle(profile_NTS @ turn_S) * size / (2 * np.pi)
        shift_NTX[chosen, :, axis] = np.rint(middle_NT).astype(np.int64) - size // 2
    return shift_NTX


def _rolled(pictures_NTHW_: npt.NDArray[Number], shift_NTX: npt.NDArray[np.int64]) -> npt.NDArray[Number]:
    """Each frame with its origin moved, edges joined to their opposites."""
    n, t, height, width = pictures_NTHW_.shape[:4]
    row_NTHW = (np.arange(height) + shift_NTX[:, :, 1, None]) % height
    column_NTW = (np.arange(width) + shift_NTX[:, :, 0, None]) % width
    at_N, at_T = np.arange(n)[:, None, None, None], np.arange(t)[None, :, None, None]
    rolled: npt.NDArray[Number] = pictures_NTHW_[at_N, at_T, row_NTHW[:, :, :, None], column_NTW[:, :, None, :]]
    return rolled


def _heaviest_piece(weight_NTHW: Singles) -> tuple[Singles, Reals]:
    """The weights of each frame's heaviest connected piece alone, and its share of the frame's."""
    from scipy import ndimage

    n, t, height, width = weight_NTHW.shape
    weight_FHW = weight_NTHW.reshape(n * t, height, width)
    label_FHW, pieces = ndimage.label(weight_FHW > 0, structure=_IN_ONE_FRAME)
    weight_P = np.bincount(label_FHW.ravel(), weights=weight_FHW.ravel(), minlength=pieces + 1)
    frame_P = np.zeros(pieces + 1, dtype=np.int64)
    frame_P[label_FHW.ravel()] = np.repeat(np.arange(n * t), height * width)
    # In ascending order of weight, the last that is written for a frame is its heaviest.
    order_P = 1 + np.argsort(weight_P[1:], kind="stable")
    heaviest_F = np.full(n * t, -1)
    heaviest_F[frame_P[order_P]] = order_P
    piece_FHW = np.where(label_FHW == heaviest_F[:, None, None], weight_FHW, 0)
    whole_F = weight_FHW.sum(axis=(1, 2), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        share_F = piece_FHW.sum(axis=(1, 2), dtype=np.float64) / whole_F
    return piece_FHW.reshape(weight_NTHW.shape), share_F.reshape(n, t)


def _moments(piece_NTHW: Singles, pictures_NTHWC: Frames) -> tuple[Reals, Reals, Reals, Reals]:
    """Centre, area, spread and colour of each frame's object."""
    height, width = piece_NTHW.shape[2:]
    x_W, y_H = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
    over_x_NTW, over_y_NTH = piece_NTHW.sum(axis=2, dtype=np.float64), piece_NTHW.sum(axis=3, dtype=np.float64)
    mass_NT = over_x_NTW.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre_NTX = np.stack([over_x_NTW @ x_W, over_y_NTH @ y_H], axis=-1) / mass_NT[..., None]
        square_NT = (over_x_NTW @ x_W**2 + over_y_NTH @ y_H**2) / mass_NT - (centre_NTX**2).sum(axis=-1)
        area_NT = mass_NT / piece_NTHW.max(axis=(2, 3))
        spread_NT = 2 * np.pi * square_NT / area_NT
        colour_NTC = np.einsum("nthw,nthwc->ntc", piece_NTHW, pictures_NTHWC, dtype=np.float64, casting="unsafe")
        colour_NTC = colour_NTC / mass_NT[..., None]
    return centre_NTX, area_NT, spread_NT, colour_NTC


def _went_on(centre_NTX: Reals, comes_round_NX: npt.NDArray[np.bool_], size_X: tuple[int, int]) -> Reals:
    """Paths without the jump by a whole frame where an object came round: each step is the shorter of the two."""
    path_NTX = centre_NTX.copy()
    for at, axis in np.argwhere(comes_round_NX):
        seen_T = np.isfinite(path_NTX[at, :, axis])
        path_NTX[at, seen_T, axis] = np.unwrap(path_NTX[at, seen_T, axis], period=size_X[axis])
    return path_NTX
