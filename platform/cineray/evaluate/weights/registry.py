"""All metrics that need weights of others; they join the rest in `cineray.evaluate.registry`."""

from __future__ import annotations

from cineray.evaluate.metric import Metric
from cineray.evaluate.weights.embedded import VideoMaeKernel, VjepaKernel
from cineray.evaluate.weights.fvd import Fvd
from cineray.evaluate.weights.looks import DinoConsistency, LpipsChange
from cineray.evaluate.weights.raft import RaftDynamicDegree, RaftWarpingError

WEIGHTED: tuple[type[Metric], ...] = (
    Fvd,
    VideoMaeKernel,
    VjepaKernel,
    DinoConsistency,
    LpipsChange,
    RaftDynamicDegree,
    RaftWarpingError,
)
"""In the order of reports."""

NETWORKS: tuple[str, ...] = ("fvd", "videomae", "vjepa", "raft", "lpips", "dino")
"""What paths are given for; RAFT serves two metrics."""
