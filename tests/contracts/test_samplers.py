"""The promises of every sampling mode (cineray/testing/sampler_contract.py), kept by each mode in the registry."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from cineray.plan import SAMPLERS, Window
from cineray.records import ClipSpec
from cineray.testing.sampler_contract import SamplerContract


class TestUniform(SamplerContract):
    sampling: ClassVar[dict[str, Any]] = {"mode": "uniform"}


class TestUniformWithJitter(SamplerContract):
    sampling: ClassVar[dict[str, Any]] = {"mode": "uniform", "jitter": 1.0}


class TestRandom(SamplerContract):
    sampling: ClassVar[dict[str, Any]] = {"mode": "random"}


class TestRandomInTrueTime(SamplerContract):
    sampling: ClassVar[dict[str, Any]] = {"mode": "random", "fps": "12.5", "jitter": 0.5}


class TestStride(SamplerContract):
    sampling: ClassVar[dict[str, Any]] = {"mode": "stride", "stride": 3}


class TestStrideFromTheMiddleWithJitter(SamplerContract):
    sampling: ClassVar[dict[str, Any]] = {"mode": "stride", "stride": 4, "start": "middle", "jitter": 1.0}


class TestFps(SamplerContract):
    sampling: ClassVar[dict[str, Any]] = {"mode": "fps", "fps": "10"}


class TestFpsOfAFilm(SamplerContract):
    sampling: ClassVar[dict[str, Any]] = {"mode": "fps", "fps": "24000/1001", "start": "first", "jitter": 1.0}


class TestKeyframes(SamplerContract):
    sampling: ClassVar[dict[str, Any]] = {"mode": "keyframes", "stride": 2}


class TestKeyframesInTrueTime(SamplerContract):
    sampling: ClassVar[dict[str, Any]] = {"mode": "keyframes", "fps": "15"}


class TestScene(SamplerContract):
    sampling: ClassVar[dict[str, Any]] = {"mode": "scene", "stride": 2}


class TestSceneInTrueTime(SamplerContract):
    sampling: ClassVar[dict[str, Any]] = {"mode": "scene", "fps": "12", "jitter": 0.9}


class _Windows(SamplerContract):
    def part_of(self, spec: ClipSpec) -> object:
        return spec.frame_pts[0]


class TestAllWindows(_Windows):
    sampling: ClassVar[dict[str, Any]] = {"mode": "all_windows", "stride": 2}


class TestAllWindowsThatOverlapInTrueTime(_Windows):
    sampling: ClassVar[dict[str, Any]] = {"mode": "all_windows", "fps": "10", "hop": 3}


def test_every_mode_of_the_registry_keeps_the_contract() -> None:
    kept = {cls.sampling["mode"] for name, cls in globals().items() if name.startswith("Test")}
    assert kept == set(SAMPLERS)


def test_the_contract_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mode that draws from a generator of its own, or shares that leave something out, do not get through."""
    calls = iter(range(10_000))
    monkeypatch.setattr("cineray.plan.draws.Draws.below", lambda self, limit, purpose: next(calls) % limit)
    with pytest.raises(AssertionError):
        TestRandom().test_the_same_seed_gives_the_same_plan()
    monkeypatch.undo()
    monkeypatch.setattr(Window, "slots", lambda self, rank=0, world=1: range(rank, rank + self.size // world))
    with pytest.raises(AssertionError):
        TestRandom().test_the_shares_of_all_ranks_are_the_whole_batch(2)
