"""Every metric keeps what metrics promise, and gives one answer that is known without it."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from cineray.evaluate.clip_set import ClipSet
from cineray.evaluate.coherence import IdentityPersistence, TemporalCoherence
from cineray.evaluate.distances import FeatureFrechet, FeatureKernel, FrameFrechet
from cineray.evaluate.dynamics import AccelerationFrechet, DynamicDegree, VelocityFrechet
from cineray.evaluate.feature_net import FeatureNet, train_feature_net
from cineray.evaluate.flicker import Flicker, SecondDifference
from cineray.evaluate.memory import CopiedClips, NearestTrain
from cineray.evaluate.metric import Metric
from cineray.evaluate.motion import (
    ColourConstancy,
    DirectionAccuracy,
    MotionOk,
    OneObject,
    SizeConstancy,
    SpeedError,
    TrajectoryError,
)
from cineray.evaluate.registry import METRICS, WITHOUT_WEIGHTS
from cineray.evaluate.warping import WarpingError
from cineray.testing.made_clips import made_clips
from cineray.testing.metric_contract import KnownAnswer, MetricContract


def clips_of(frames_NTHWC: np.ndarray, **facts: object) -> ClipSet:
    """Eight frames a second, all with the same facts."""
    n, t = frames_NTHWC.shape[:2]
    return ClipSet(
        frames_NTHWC=frames_NTHWC.astype(np.uint8),
        seconds_NT=np.tile(np.arange(t) / 8, (n, 1)),
        names=tuple(f"clip-{at}" for at in range(n)),
        labels=("",) * n,
        captions=("",) * n,
        facts=(facts,) * n,
    )


def levels(*values: float) -> ClipSet:
    """Two clips whose frames are of one grey each."""
    return clips_of(np.tile(np.array(values)[None, :, None, None, None], (2, 1, 32, 32, 3)))


def square(sides_px: list[int], colours: list[int]) -> ClipSet:
    """Two clips of a red square on black, so large and so bright in each frame."""
    frames = np.zeros((2, len(sides_px), 32, 32, 3))
    for t, (side, colour) in enumerate(zip(sides_px, colours, strict=True)):
        frames[:, t, 8 : 8 + side, 8 : 8 + side, 0] = colour
    return clips_of(frames, direction="up")


def told_the_opposite(clips: ClipSet, count: int) -> ClipSet:
    """The first so many clips are said to move the other way."""
    names = [facts["direction"] for facts in made_clips(8).facts]
    facts = [
        {**each, "direction": names[(names.index(each["direction"]) + 4) % 8]} if at < count else each
        for at, each in enumerate(clips.facts)
    ]
    return replace(clips, facts=tuple(facts))


class TestDirectionAccuracy(MetricContract):
    def metric(self) -> Metric:
        return DirectionAccuracy()

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=told_the_opposite(made_clips(16), 4), value=0.75)


class TestSpeedError(MetricContract):
    def metric(self) -> Metric:
        return SpeedError()

    def known_answer(self) -> KnownAnswer:
        clips = made_clips(16)
        return KnownAnswer(clips=replace(clips, seconds_NT=2 * clips.seconds_NT), value=0.5, within=0.003)


class TestTrajectoryError(MetricContract):
    """Every second frame a pixel up, the others a pixel down: the line through that takes a little of it away."""

    def metric(self) -> Metric:
        return TrajectoryError()

    def known_answer(self) -> KnownAnswer:
        clips = made_clips(16)
        frames = clips.frames_NTHWC.copy()
        frames[:, ::2] = np.roll(frames[:, ::2], -1, axis=2)
        frames[:, 1::2] = np.roll(frames[:, 1::2], 1, axis=2)
        return KnownAnswer(clips=replace(clips, frames_NTHWC=frames), value=math.sqrt(1 - 4**2 / 42 / 8), within=0.02)


class TestOneObject(MetricContract):
    def metric(self) -> Metric:
        return OneObject()

    def known_answer(self) -> KnownAnswer:
        clips = made_clips(16)
        frames = clips.frames_NTHWC.copy()
        frames[:4, 3] = np.maximum(frames[:4, 3], np.roll(frames[:4, 3], (16, 16), axis=(1, 2)))
        return KnownAnswer(clips=replace(clips, frames_NTHWC=frames), value=0.75)


class TestSizeConstancy(MetricContract):
    """Sides of 6 and 12 pixels in turn: areas of 36 and 144, which lie 54 from their mean of 90."""

    def metric(self) -> Metric:
        return SizeConstancy()

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=square([6, 12] * 4, [200] * 8), value=54 / 90)


class TestColourConstancy(MetricContract):
    def metric(self) -> Metric:
        return ColourConstancy()

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=square([8] * 8, [200, 100] * 4), value=50.0)


class TestMotionOk(MetricContract):
    def metric(self) -> Metric:
        return MotionOk()

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=told_the_opposite(made_clips(16), 4), value=0.75)


class TestDynamicDegree(MetricContract):
    """Shapes that were told to be fast: 0.6 frame widths per second."""

    def metric(self) -> Metric:
        return DynamicDegree()

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=made_clips(16).select(range(8, 16)), value=0.6, within=0.06)


class TestFlicker(MetricContract):
    def metric(self) -> Metric:
        return Flicker()

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=levels(100, 110, 100, 110), value=10.0)


class TestSecondDifference(MetricContract):
    """A strobe: what comes goes again, which is twice the change."""

    def metric(self) -> Metric:
        return SecondDifference()

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=levels(100, 110, 100, 110), value=2.0)


class TestWarpingError(MetricContract):
    """No flow explains that a grey grows brighter."""

    def metric(self) -> Metric:
        return WarpingError()

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=levels(100, 106, 112, 118), value=6.0, within=1e-4)


class TestTemporalCoherence(MetricContract):
    """A strobe: each frame is the opposite of the one before."""

    def metric(self) -> Metric:
        return TemporalCoherence()

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=levels(100, 110, 100, 110), value=-1.0)


class TestIdentityPersistence(MetricContract):
    """What is there for four of eight frames is lost in four of the seven that follow the first."""

    def metric(self) -> Metric:
        return IdentityPersistence()

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=square([8] * 8, [200] * 4 + [0] * 4), value=3 / 7, within=0.01)


class TestVelocityFrechet(MetricContract):
    """Of clips from themselves."""

    def metric(self) -> Metric:
        return VelocityFrechet()

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=made_clips(16), real=made_clips(16), value=0.0, within=1e-9)


class TestAccelerationFrechet(MetricContract):
    """Of clips from themselves."""

    def metric(self) -> Metric:
        return AccelerationFrechet()

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=made_clips(16), real=made_clips(16), value=0.0, within=1e-9)


@lru_cache(maxsize=1)
def small_net() -> FeatureNet:
    """Trained for a second or two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train_feature_net(made_clips(96, seed=2), steps=60)
    finally:
        torch.set_num_threads(before)


class TestFeatureFrechet(MetricContract):
    """Of clips from themselves."""

    def metric(self) -> Metric:
        return FeatureFrechet(small_net())

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=made_clips(16), real=made_clips(16), value=0.0, within=1e-9)


class TestFeatureKernel(MetricContract):
    """As the definition has it, pair by pair."""

    def metric(self) -> Metric:
        return FeatureKernel(small_net())

    def known_answer(self) -> KnownAnswer:
        a, b = made_clips(5), made_clips(5, seed=1)
        x, y = small_net().features(a.frames_NTHWC), small_net().features(b.frames_NTHWC)

        def k(u: np.ndarray, v: np.ndarray) -> float:
            return float((u @ v / len(u) + 1) ** 3)

        others = [(i, j) for i in range(5) for j in range(5) if i != j]
        within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in others) / len(others)
        between = sum(k(u, v) for u in x for v in y) / 25
        return KnownAnswer(clips=a, real=b, value=within - 2 * between)


class TestFrameFrechet(MetricContract):
    """The order of frames is nothing to it: a clip played backwards has the same ones."""

    def metric(self) -> Metric:
        return FrameFrechet(small_net())

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=made_clips(16), real=made_clips(16), value=0.0, within=1e-9)


class TestNearestTrain(MetricContract):
    """Training clips, ten levels brighter."""

    def metric(self) -> Metric:
        return NearestTrain(made_clips(64, seed=2))

    def known_answer(self) -> KnownAnswer:
        train = made_clips(8, seed=2)
        brighter = replace(train, frames_NTHWC=(train.frames_NTHWC + 10).astype(np.uint8))
        return KnownAnswer(clips=brighter, value=10.0, within=1e-4)


class TestCopiedClips(MetricContract):
    """A quarter of the clips are training clips."""

    def metric(self) -> Metric:
        return CopiedClips(made_clips(64, seed=2))

    def known_answer(self) -> KnownAnswer:
        new, copied = made_clips(16, seed=3), made_clips(4, seed=2)
        clips = ClipSet.concat([copied, new.select(range(4, 16))])
        return KnownAnswer(clips=clips, real=made_clips(64, seed=4), value=0.25, within=0.07)


def test_every_metric_that_needs_no_weights_is_held_to_the_contract() -> None:
    """And those that do are in tests/unit/evaluate/test_metric_weights.py."""
    contracts = [each for each in globals().values() if isinstance(each, type) and issubclass(each, MetricContract)]
    tested = {type(each().metric()) for each in contracts if each is not MetricContract}
    assert tested == {METRICS[name] for name in WITHOUT_WEIGHTS}
