"""Which metrics there are, and how clips are judged by all of them.

    metrics, skipped = make_metrics(Setting(feature_net=net, train=train_clips, weights={"fvd": "i3d.torchscript"}))
    scores = skipped + judge(metrics, generated, real)

`METRICS` is a plain dict: everything that can be asked for, by name, in the order of reports. A metric whose weights
or whose partner in comparison is not there becomes a `Score` with the reason, and is never replaced by another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cineray.errors import UsageError
from cineray.evaluate.coherence import IdentityPersistence, TemporalCoherence
from cineray.evaluate.distances import FeatureFrechet, FeatureKernel, FrameFrechet
from cineray.evaluate.dynamics import AccelerationFrechet, DynamicDegree, VelocityFrechet
from cineray.evaluate.flicker import Flicker, SecondDifference, void_unless_moving
from cineray.evaluate.memory import CopiedClips, NearestTrain
from cineray.evaluate.metric import Metric, Rows
from cineray.evaluate.motion import (
    ColourConstancy,
    DirectionAccuracy,
    MotionOk,
    OneObject,
    SizeConstancy,
    SpeedError,
    TrajectoryError,
)
from cineray.evaluate.scores import MetricUnavailable, Score
from cineray.evaluate.warping import WarpingError
from cineray.evaluate.weights.registry import NETWORKS, WEIGHTED

if TYPE_CHECKING:
    from cineray.evaluate.clip_set import ClipSet
    from cineray.evaluate.feature_net import FeatureNet

_ALL: tuple[type[Metric], ...] = (
    DirectionAccuracy,
    SpeedError,
    TrajectoryError,
    OneObject,
    SizeConstancy,
    ColourConstancy,
    MotionOk,
    DynamicDegree,
    Flicker,
    SecondDifference,
    WarpingError,
    TemporalCoherence,
    IdentityPersistence,
    VelocityFrechet,
    AccelerationFrechet,
    FeatureFrechet,
    FeatureKernel,
    FrameFrechet,
    NearestTrain,
    CopiedClips,
    *WEIGHTED,
)

METRICS: dict[str, type[Metric]] = {metric.name: metric for metric in _ALL}
"""Everything that can be asked for."""

WITHOUT_WEIGHTS: tuple[str, ...] = tuple(name for name in METRICS if METRICS[name] not in WEIGHTED)
"""Those that need no file from anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What an evaluation has at hand."""

    feature_net: FeatureNet | None = None
    """Trained on the training clips; what feature distances are measured by."""
    train: ClipSet | None = None
    """Clips that the model was trained on: what memorised samples would be copies of."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Network (`weights.NETWORKS`) -> local path of its weights."""
    device: str = "cpu"


def make_metrics(setting: Setting, names: Iterable[str] | None = None) -> tuple[list[Metric], list[Score]]:
    """The metrics that can be had here, and a skipped score with the reason for each that cannot.

    Without `names`: all there are.
    """
    asked = list(METRICS) if names is None else list(names)
    for what, told, there in (("metric", asked, METRICS), ("network", setting.weights, NETWORKS)):
        unknown = sorted(set(told) - set(there))
        if unknown:
            raise UsageError(f"there is no {what} {', '.join(unknown)}; there are: {', '.join(there)}")
    made: list[Metric] = []
    skipped = []
    for name in dict.fromkeys(asked):
        kind = METRICS[name]
        try:
            made.append(kind.make(setting))
        except MetricUnavailable as reason:
            skipped.append(
                Score(name=kind.name, group=kind.group, unit=kind.unit, better=kind.better, skipped=str(reason))
            )
    return made, skipped


def measure(metrics: Sequence[Metric], clips: ClipSet, *, at_once: int = 64) -> dict[str, Rows]:
    """The rows of every metric. Clips are taken a few at a time, by all metrics, which share what they all look at."""
    kept: dict[str, Rows] = {}
    for first in range(0, max(len(clips), 1), at_once):
        few = clips if len(clips) <= at_once else clips.select(range(first, min(first + at_once, len(clips))))
        for metric in metrics:
            rows = metric.measure(few)
            kept[metric.name] = kept[metric.name].merge(rows) if metric.name in kept else rows
    return kept


def score(
    metrics: Sequence[Metric],
    rows: Mapping[str, Rows],
    real: Mapping[str, Rows] | None = None,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> list[Score]:
    """Every metric's score; flicker is void where the samples do not move as real clips do."""
    scores = {
        metric.name: metric.score(
            rows[metric.name], real[metric.name] if real is not None else None, bootstrap=bootstrap, seed=seed
        )
        for metric in metrics
    }
    return list(void_unless_moving(scores).values())


def judge(
    metrics: Sequence[Metric], clips: ClipSet, real: ClipSet | None = None, *, bootstrap: int = 1000, seed: int = 0
) -> list[Score]:
    """Clips judged by all metrics, with real clips beside them."""
    beside = measure(metrics, real) if real is not None else None
    return score(metrics, measure(metrics, clips), beside, bootstrap=bootstrap, seed=seed)
