"""What can be had without learning: training clips go in; denoisers come out that any network must beat.

`MeanDenoiser` always answers the mean clip. `LinearDenoiser` is the best that is linear: with data of mean m and
covariance S, the expectation of x given z = t x + (1 - t) e of Gaussian data is

    m + t S (t^2 S + (1 - t)^2 I)^-1 (z - t m)

computed in the directions in which the clips vary (at most as many as there are clips). A network that does not beat
it at middle noise has learnt no more than averages and straight lines.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

_LEAST_VARIANCE = 1e-6
"""Directions that vary less, against the most varied one, are rounding."""


class Denoiser(Protocol):
    """A guess at the data."""

    def clean(self, z_BCTHW: Tensor, t_B: Tensor) -> Tensor:
        """x as it can be seen from z."""


class MeanDenoiser:
    """The mean clip, whatever is asked."""

    def __init__(self, clips_NCTHW: Tensor) -> None:
        self.mean_CTHW = clips_NCTHW.double().mean(0).float()

    def clean(self, z_BCTHW: Tensor, t_B: Tensor) -> Tensor:  # noqa: ARG002
        """The mean, as often as there are clips."""
        return self.mean_CTHW.expand_as(z_BCTHW)


class LinearDenoiser:
    """The best linear one for clips like these (Wiener's filter in their principal directions)."""

    def __init__(self, clips_NCTHW: Tensor) -> None:
        flat_ND = clips_NCTHW.flatten(1).double()
        self.mean_D = flat_ND.mean(0)
        centred_ND = flat_ND - self.mean_D
        # N x N instead of D x D: there are far fewer clips than pixels.
        square_K, left_NK = torch.linalg.eigh(centred_ND @ centred_ND.T)
        keep = square_K > square_K.max() * _LEAST_VARIANCE
        square_K, left_NK = square_K[keep], left_NK[:, keep]
        self.direction_KD = (left_NK.T @ centred_ND) / square_K.sqrt()[:, None]
        self.variance_K = square_K / max(1, len(flat_ND) - 1)

    def clean(self, z_BCTHW: Tensor, t_B: Tensor) -> Tensor:
        """The mean, and of each direction as much as the noise leaves to be seen."""
        t_B1 = t_B.double()[:, None]
        seen_BK = (z_BCTHW.flatten(1).double() - t_B1 * self.mean_D) @ self.direction_KD.T
        gain_BK = t_B1 * self.variance_K / (t_B1.square() * self.variance_K + (1 - t_B1).square())
        clean_BD: Tensor = self.mean_D + (gain_BK * seen_BK) @ self.direction_KD
        return clean_BD.reshape(z_BCTHW.shape).float()
