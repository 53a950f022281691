"""Where a token is, in seconds and pixels: coordinates go in, rotations of queries and keys come out.

Rotary positions over three axes. A token's time is its frame's presentation time, so variable frame rates and strides
need no care; its place is in pixels of the video whatever the patch or the autoencoder, so sizes can be mixed. Heads
are split into pairs of values; time gets what rows and columns leave over. Angles are float32 always: seconds times a
frequency do not fit into 8 bits. B clips, F token rows in time, S = h x w places, P pairs, H heads, E = 2 P values.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Rotation(NamedTuple):
    """Cosine and sine of each token's angles, the same for all heads."""

    cos_BN1P: Tensor
    sin_BN1P: Tensor


def rotation_of(
    seconds_BF: Tensor,
    grid: tuple[int, int],
    *,
    head_width: int,
    token_pixels: tuple[float, float],
    seconds_wavelengths: tuple[float, float],
    pixel_wavelengths: tuple[float, float],
) -> Rotation:
    """The rotation of all tokens, frame after frame, row after row."""
    time_pairs, space_pairs = split_pairs(head_width)
    device = seconds_BF.device
    rows, columns = (
        torch.arange(count, device=device, dtype=torch.float32) * step
        for count, step in zip(grid, token_pixels, strict=True)
    )
    time = seconds_BF.float()[..., None] * frequencies(time_pairs, seconds_wavelengths, device)
    row = rows[:, None] * frequencies(space_pairs, pixel_wavelengths, device)
    column = columns[:, None] * frequencies(space_pairs, pixel_wavelengths, device)
    clips, steps = seconds_BF.shape
    over = (clips, steps, *grid)
    angles = torch.cat(
        [
            time[:, :, None, None].expand(*over, time_pairs),
            row[None, None, :, None].expand(*over, space_pairs),
            column[None, None, None].expand(*over, space_pairs),
        ],
        dim=-1,
    ).flatten(1, 3)[:, :, None]
    return Rotation(angles.cos(), angles.sin())


def time_rotation_of(seconds_BT: Tensor, *, head_width: int, wavelengths: tuple[float, float]) -> Rotation:
    """The rotation of sequences of frames alone: all pairs turn with time."""
    angles = seconds_BT.float()[..., None] * frequencies(head_width // 2, wavelengths, seconds_BT.device)
    return Rotation(angles[:, :, None].cos(), angles[:, :, None].sin())


def split_pairs(head_width: int) -> tuple[int, int]:
    """Pairs for time, and for rows and columns each: a head of 64 has 32 pairs, 12 + 10 + 10."""
    pairs = head_width // 2
    return pairs - 2 * (pairs // 3), pairs // 3


def frequencies(count: int, wavelengths: tuple[float, float], device: torch.device) -> Tensor:
    """Radians per unit, from the shortest wavelength to the longest, evenly in their logarithm."""
    shortest, longest = (math.log(2 * math.pi / wavelength) for wavelength in wavelengths)
    return torch.linspace(shortest, longest, count, device=device, dtype=torch.float32).exp()


def rotate(x_BNHE: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (value p of the first half, value p of the second) by its angle; in float32, back in x's type."""
    first, second = x_BNHE.float().chunk(2, dim=-1)
    cos, sin = rotation
    turned = torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
    return turned.to(x_BNHE.dtype)
