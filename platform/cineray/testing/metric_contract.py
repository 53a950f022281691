"""What every metric promises, as tests to inherit: a new metric says how it is made and one answer that it must give.

class TestMyMetric(MetricContract):
    def metric(self) -> Metric:
        return MyMetric()

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=two_still_clips(), value=0.0)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
import pytest

from cineray.evaluate.clip_set import ClipSet
from cineray.evaluate.metric import Metric
from cineray.evaluate.scores import Score
from cineray.evaluate.sensitivity import sensitivity
from cineray.testing.made_clips import made_clips


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAnswer:
    """Clips of which one knows what the metric must say."""

    clips: ClipSet
    value: float
    within: float = 1e-6
    real: ClipSet | None = None


class MetricContract:
    """Inherit in a class whose name begins with Test."""

    frames = 8
    """Of the clips here."""
    side_px = 32
    count = 12
    spoilt_count = 32
    """Clips that the sensitivity test spoils, and real ones beside them."""

    def metric(self) -> Metric:
        """One, ready to judge."""
        raise NotImplementedError("a metric's contract test says how the metric is made")

    def known_answer(self) -> KnownAnswer:
        """Clips whose value is known without the metric."""
        raise NotImplementedError("a metric's contract test knows one answer")

    def clips(self, count: int | None = None, *, seed: int = 0) -> ClipSet:
        """Clips that the metric can judge."""
        return _made(self.count if count is None else count, self.frames, self.side_px, seed)

    def test_the_row_of_a_clip_follows_from_the_clip_alone(self) -> None:
        """Whatever stands beside it, before it or after it."""
        metric, clips = self.metric(), self.clips()
        together = metric.measure(clips)
        backwards = metric.measure(clips.select(range(len(clips) - 1, -1, -1)))
        alone = [metric.measure(clips.select([at])).values_ND for at in range(len(clips))]
        assert together.names == backwards.names == clips.names
        for rows_ND in (backwards.values_ND, np.concatenate(alone)):
            np.testing.assert_allclose(rows_ND, together.values_ND, rtol=1e-4, atol=1e-5)

    def test_rows_merge_in_any_order(self) -> None:
        """And to the score of all clips at once."""
        metric, clips = self.metric(), self.clips()
        whole, real = metric.measure(clips), metric.measure(self.clips(seed=1))
        parts = [whole.only(clips.names[first::3]) for first in range(3)]
        merged = [a.merge(b).merge(c) for a, b, c in permutations(parts)]
        merged.append(parts[0].merge(parts[1].merge(parts[2])).merge(parts[1]))
        for rows in merged:
            assert rows.names == whole.names
            assert metric.score(rows, real, bootstrap=50) == metric.score(whole, real, bootstrap=50)

    def test_no_clips_give_no_value_and_the_reason(self) -> None:
        """Neither a number nor an error."""
        metric = self.metric()
        score = metric.score(metric.measure(self.clips(0)), metric.measure(self.clips(0)))
        assert (score.value, score.n, score.skipped) == (None, 0, "there are no clips")

    def test_it_gives_the_known_answer(self) -> None:
        """Which this test knows without the metric."""
        metric, known = self.metric(), self.known_answer()
        real = metric.measure(known.real) if known.real is not None else None
        score = metric.score(metric.measure(known.clips), real, bootstrap=0)
        assert score.value == pytest.approx(known.value, abs=known.within), score

    def test_a_score_says_all_that_it_should_and_is_json(self) -> None:
        """What files hold is the whole score, and the same seed gives it again."""
        metric, clips = self.metric(), self.clips()
        rows, real = metric.measure(clips), metric.measure(self.clips(seed=1))
        score = metric.score(rows, real, bootstrap=50)
        assert score == metric.score(rows, real, bootstrap=50)
        assert (score.name, score.group, score.unit, score.better) == (
            metric.name,
            metric.group,
            metric.unit,
            metric.better,
        )
        assert score.value is not None
        assert score.low is not None
        assert score.high is not None
        assert score.low <= score.high
        assert 0 < score.n <= len(clips)
        assert metric.says
        assert Score.from_dict(json.loads(json.dumps(score.to_dict(), allow_nan=False))) == score

    def test_judging_leaves_clips_as_they_were(self) -> None:
        """Metrics share what they look at, and none may write into it."""
        clips = self.clips()
        before = clips.frames_NTHWC.copy()
        self.metric().measure(clips)
        assert np.array_equal(clips.frames_NTHWC, before)

    def test_it_ranks_the_corruptions_that_it_is_for(self) -> None:
        """The stronger, the further from the value of clean clips."""
        metric = self.metric()
        clips, real = self.clips(self.spoilt_count), self.clips(self.spoilt_count, seed=1)
        told = sensitivity([metric], clips, real)
        assert {row["corruption"] for row in told} == set(metric.ranks)
        assert [row for row in told if not row["ranks"]] == []


@lru_cache(maxsize=16)
def _made(count: int, frames: int, side_px: int, seed: int) -> ClipSet:
    """Kept, since all metrics' contracts look at the same clips."""
    return made_clips(count, frames=frames, side_px=side_px, seed=seed)
