"""`random`: a temporal crop, a piece from anywhere in the span, spaced by `fps` where it is given, else by `stride`."""

from __future__ import annotations

from cineray.plan.samplers.base import Sampler


class Random(Sampler):
    """A run of samples that begins anywhere that it fits, each place as likely as any other."""
