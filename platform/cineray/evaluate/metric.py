"""The seam of all metrics: clips go in, a row of numbers per clip is kept, and a score is a statistic of rows.

    rows = metric.measure(clips)                     one row per clip, under the clip's name
    rows = rows.merge(metric.measure(more))          in any order, on any number of machines
    metric.score(rows, real=metric.measure(real))    value, 95 % interval, n, and the same of real clips beside it

Row i follows from clip i alone, so neither batches nor merging can change a score, and any subset of clips, any
resample and any pairing of two sets can be scored from rows without looking at a pixel again. What a metric cannot say
of a clip is nan in its row, and such clips do not count. A new metric inherits `testing.metric_contract.MetricContract`
and is listed in registry.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cineray.errors import UsageError
from cineray.evaluate.intervals import Integers, Reals, clopper_pearson, draws, middle
from cineray.evaluate.scores import Better, Difference, Score, number

if TYPE_CHECKING:
    from cineray.evaluate.clip_set import ClipSet
    from cineray.evaluate.registry import Setting

Span = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What a metric keeps of clips: one row per clip, always in the order of the clips' names."""

    names: tuple[str, ...]
    values_ND: Reals

    def __post_init__(self) -> None:
        if self.values_ND.ndim != 2 or len(self.names) != len(self.values_ND):
            raise ValueError(f"{len(self.names)} names came with rows of shape {self.values_ND.shape}; wanted one each")
        if len(set(self.names)) != len(self.names):
            raise ValueError("two rows have one name; a clip counts once")
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        object.__setattr__(self, "values_ND", np.asarray(self.values_ND, dtype=np.float64)[order])
        object.__setattr__(self, "names", tuple(self.names[at] for at in order))

    def __len__(self) -> int:
        return len(self.names)

    def merge(self, other: Rows) -> Rows:
        """The rows of both; it does not matter which is first, nor that both saw a clip, if they saw the same."""
        if len(other) == 0 or len(self) == 0:
            return self if len(self) else other
        if self.values_ND.shape[1] != other.values_ND.shape[1]:
            widths = f"{self.values_ND.shape[1]} and {other.values_ND.shape[1]}"
            raise UsageError(f"rows of widths {widths} cannot be merged; judge clips of one length and size together")
        known = dict(zip(self.names, self.values_ND, strict=True))
        new = []
        for at, name in enumerate(other.names):
            if name not in known:
                new.append(at)
            elif not np.array_equal(known[name], other.values_ND[at], equal_nan=True):
                raise UsageError(f"clip {name!r} has two different rows; names must tell clips apart")
        return Rows(
            self.names + tuple(other.names[at] for at in new), np.concatenate([self.values_ND, other.values_ND[new]])
        )

    def only(self, names: Sequence[str]) -> Rows:
        """The rows of these clips."""
        place = {name: at for at, name in enumerate(self.names)}
        return Rows(tuple(names), self.values_ND[[place[name] for name in names]])

    def known(self) -> Rows:
        """Without the clips of which the metric could say nothing."""
        kept = np.asarray(np.isfinite(self.values_ND).all(axis=1))
        return Rows(tuple(name for name, keep in zip(self.names, kept, strict=True) if keep), self.values_ND[kept])


class Metric(ABC):
    """One way of judging. Instances hold what they need (a net, the training clips) and nothing of what they judged."""

    name: ClassVar[str]
    unit: ClassVar[str]
    better: ClassVar[Better]
    group: ClassVar[str]
    says: ClassVar[str]
    """One sentence for people."""
    needs_real: ClassVar[bool] = False
    """The value itself is a comparison with real clips."""
    most_resamples: ClassVar[int] = 1000
    repeats_shift: ClassVar[bool] = False
    """Clips that a resample holds twice shift the statistic: the resamples' spread is put round the value."""
    nothing: ClassVar[str] = "the clips are too short to say anything"
    """Why there may be no clip of which it can say something."""
    ranks: ClassVar[tuple[str, ...]] = ()
    """Corruptions (sensitivity.py) that must move its value the further, the stronger they are."""

    @classmethod
    def make(cls, setting: Setting) -> Metric:
        """One for an evaluation. Raises `MetricUnavailable` with the reason where that cannot be."""
        del setting  # most metrics need nothing
        return cls()

    def facts(self) -> dict[str, Any]:
        """What makes its values what they are, for the record: weights, hashes, sizes."""
        return {}

    @abstractmethod
    def rows(self, clips: ClipSet) -> Reals:
        """(N, D); row i follows from clip i alone, and is nan where nothing can be said of the clip."""

    @abstractmethod
    def statistic(self, rows_ND: Reals, real_MD: Reals | None) -> float:
        """The value of rows without nan; nan for no rows."""

    def measure(self, clips: ClipSet) -> Rows:
        """Rows under their clips' names."""
        return Rows(clips.names, np.asarray(self.rows(clips), dtype=np.float64))

    def score(self, rows: Rows, real: Rows | None = None, *, bootstrap: int = 1000, seed: int = 0) -> Score:
        """The value, its interval, and what real clips have."""
        had, real = len(rows), real.known() if real is not None else None
        rows = rows.known()
        if len(rows) == 0:
            return self.skip(self.nothing if had else "there are no clips")
        if self.needs_real and (real is None or len(real) == 0):
            return self.skip("it compares with real clips, and there are none")
        real_MD = real.values_ND if real is not None and len(real) else None
        value = self.statistic(rows.values_ND, real_MD)
        low, high = self.interval(rows.values_ND, real_MD, times=min(bootstrap, self.most_resamples), seed=seed)
        score = Score(
            name=self.name,
            group=self.group,
            unit=self.unit,
            better=self.better,
            value=number(value),
            low=number(low),
            high=number(high),
            n=self.counted(rows.values_ND, real_MD),
            facts=self.facts(),
        )
        return score.with_controls(
            self.controls(rows, real, bootstrap=bootstrap, seed=seed) if real is not None else {}
        )

    def skip(self, reason: str) -> Score:
        """The score that does not exist."""
        return Score(name=self.name, group=self.group, unit=self.unit, better=self.better, skipped=reason)

    def counted(self, rows_ND: Reals, real_MD: Reals | None) -> int:
        """How many clips the value rests on."""
        del real_MD
        return len(rows_ND)

    def controls(self, rows: Rows, real: Rows, *, bootstrap: int, seed: int) -> Mapping[str, Score]:
        """What the value is read against, from the rows of both: the same number of real clips."""
        del rows
        return {"real": self.score(real, bootstrap=bootstrap, seed=seed)} if len(real) else {}

    def interval(self, rows_ND: Reals, real_MD: Reals | None, *, times: int, seed: int) -> Span:
        """The middle 95 % of what resampled clips give."""
        if len(rows_ND) < 2 or times < 2:
            return float("nan"), float("nan")
        real_RM = draws(len(real_MD), times, seed=seed, stream=1) if self.needs_real and real_MD is not None else None
        values_R = self.resampled(rows_ND, real_MD, draws(len(rows_ND), times, seed=seed), real_RM)
        if self.repeats_shift:
            values_R = values_R + (self.statistic(rows_ND, real_MD) - np.nanmean(values_R))
        return middle(values_R)

    def resampled(
        self, rows_ND: Reals, real_MD: Reals | None, index_RN: Integers, real_index_RM: Integers | None
    ) -> Reals:
        """The statistic of each resample. Subclasses that can take all at once do."""
        values = []
        for at, index_N in enumerate(index_RN):
            other = real_MD if real_MD is None or real_index_RM is None else real_MD[real_index_RM[at]]
            values.append(self.statistic(rows_ND[index_N], other))
        return np.array(values)

    def difference(
        self, a: Rows, b: Rows, real: Rows | None = None, *, bootstrap: int = 1000, seed: int = 0
    ) -> Difference:
        """Is `b` above `a`, and by more than noise? Clips of one name (one prompt, one seed) are drawn together."""
        a, b = a.known(), b.known()
        common = sorted(set(a.names) & set(b.names))
        note = ""
        if common:
            note = "" if len(common) == len(a) == len(b) else f"only the {len(common)} clips that both have"
            a, b = a.only(common), b.only(common)
        else:
            note = "no clip is in both: resampled apart"
        real_MD = real.known().values_ND if real is not None else None
        if not len(a) or not len(b) or (self.needs_real and (real_MD is None or not len(real_MD))):
            return Difference(
                name=self.name, a=None, b=None, difference=None, low=None, high=None, n=0, beyond_noise=False, note=note
            )
        value_a, value_b = self.statistic(a.values_ND, real_MD), self.statistic(b.values_ND, real_MD)
        low, high = self._difference_interval(a, b, real_MD, min(bootstrap, self.most_resamples), seed)
        return Difference(
            name=self.name,
            a=number(value_a),
            b=number(value_b),
            difference=number(value_b - value_a),
            low=number(low),
            high=number(high),
            n=len(common),
            beyond_noise=bool(low > 0 or high < 0),
            note=note,
        )

    def _difference_interval(self, a: Rows, b: Rows, real_MD: Reals | None, times: int, seed: int) -> Span:
        """The middle 95 % of resampled differences."""
        if min(len(a), len(b)) < 2 or times < 2:
            return float("nan"), float("nan")
        index_a = draws(len(a), times, seed=seed)
        index_b = index_a if a.names == b.names else draws(len(b), times, seed=seed, stream=2)
        real_RM = draws(len(real_MD), times, seed=seed, stream=1) if self.needs_real and real_MD is not None else None
        values_a = self.resampled(a.values_ND, real_MD, index_a, real_RM)
        values_b = self.resampled(b.values_ND, real_MD, index_b, real_RM)
        values_R = values_b - values_a
        if self.repeats_shift:
            whole = self.statistic(b.values_ND, real_MD) - self.statistic(a.values_ND, real_MD)
            values_R = values_R + (whole - np.nanmean(values_R))
        return middle(values_R)


class MeanMetric(Metric):
    """The mean over clips of one number per clip."""

    def statistic(self, rows_ND: Reals, real_MD: Reals | None) -> float:
        """The mean."""
        del real_MD
        return float(rows_ND[:, 0].mean()) if len(rows_ND) else float("nan")

    def resampled(
        self, rows_ND: Reals, real_MD: Reals | None, index_RN: Integers, real_index_RM: Integers | None
    ) -> Reals:
        """All at once."""
        del real_MD, real_index_RM
        means: Reals = rows_ND[:, 0][index_RN].mean(axis=1)
        return means


class MedianMetric(Metric):
    """The median over clips of one number per clip: a clip that went wholly wrong counts as one clip."""

    def statistic(self, rows_ND: Reals, real_MD: Reals | None) -> float:
        """The median."""
        del real_MD
        return float(np.median(rows_ND[:, 0])) if len(rows_ND) else float("nan")

    def resampled(
        self, rows_ND: Reals, real_MD: Reals | None, index_RN: Integers, real_index_RM: Integers | None
    ) -> Reals:
        """All at once."""
        del real_MD, real_index_RM
        medians: Reals = np.median(rows_ND[:, 0][index_RN], axis=1)
        return medians


class RateMetric(MeanMetric):
    """In which fraction of the clips something holds: 0 or 1 per clip, with the exact interval of a rate."""

    unit = "fraction"

    def interval(self, rows_ND: Reals, real_MD: Reals | None, *, times: int, seed: int) -> Span:
        """Clopper and Pearson's."""
        del real_MD, times, seed
        return clopper_pearson(int(rows_ND[:, 0].sum()), len(rows_ND))
