"""Two trials that were judged on the same clips: their losses clip by clip go in; by how much they differ, how sure
that is, and if it is more than chance come out. Pure arithmetic.

    interval    the bootstrap: clips are drawn again, each noise level's own, the same ones for both trials. One fewer
                is drawn than there are, or the interval would be too narrow: by a fifteenth with eight clips a level
    p           were the trials alike, each clip's two losses could as well be the other way round: how often a random
                half of them changed over makes a difference as large. That holds for few clips, too
    corrected   the best was chosen by these same clips: of twenty trials that are all alike one is the luckiest, and
                seems surely better than many. So p is raised to how often, of as many trials that are all alike, the
                best is as many standard errors away from any other: with nothing to be found about one sweep in twenty
                finds anything at all. Means of clips are taken to follow the bell curve, as they nearly do

Both are about the clips. How much two trainings of the same job differ by their seeds, nobody can see in one of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cineray.evaluate.intervals import Integers, Reals, middle
from cineray.sweep.formulas import Formula
from cineray.train.clip_losses import ClipLosses

TIMES = 5000
"""Draws; the least p is one in so many."""
_LEAST_CLIPS = 2
"""Of a noise level: one clip says nothing of how clips differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The second trial's figure less the first one's."""

    difference: float
    low: float
    high: float
    p: float
    """Of two that nobody chose by these clips."""
    clips: int
    errors: float
    """By how many standard errors they differ."""
    free: int
    """Clips, less one for each noise level: the more, the better the standard error is known."""


def compared(
    one: ClipLosses, other: ClipLosses, formula: Formula, *, baselines: tuple[float, float] = (1.0, 1.0), seed: int = 0
) -> Pair | None:
    """None where the two were not judged on the same number of clips and levels, or on too few. `baselines`: the loss
    that each one's skill is over."""
    if (one.bins, len(one.right), len(one.wrong)) != (other.bins, len(other.right), len(other.wrong)):
        return None
    levels = [np.arange(level, len(one.right), one.bins) for level in formula.bins]
    if min(map(len, levels)) < _LEAST_CLIPS or (formula.over == "right" and not one.wrong):
        return None
    kept = np.concatenate(levels)
    weights_C = np.concatenate([np.full(len(level), 1 / len(level) / len(levels)) for level in levels])
    # A trial is two rows: what is told, and what it is over.
    a_2C, b_2C = (_rows(losses, formula, base)[:, kept] for losses, base in zip((one, other), baselines, strict=True))
    if not (np.isfinite(a_2C).all() and np.isfinite(b_2C).all()):
        return None
    whole_1C = weights_C[None]
    difference = float(_apart(_sums(whole_1C, a_2C), _sums(whole_1C, b_2C))[0])
    generator = np.random.Generator(np.random.Philox(key=[seed, 0]))
    drawn_RC = weights_C * _drawn(generator, [len(level) for level in levels])
    drawn_R = _apart(_sums(drawn_RC, a_2C), _sums(drawn_RC, b_2C))
    low, high = middle(drawn_R)
    theirs_RC = weights_C * generator.integers(0, 2, (TIMES, len(kept))).astype(np.float64)
    own_RC = weights_C - theirs_RC
    by_chance_R = _apart(_sums(own_RC, a_2C) + _sums(theirs_RC, b_2C), _sums(own_RC, b_2C) + _sums(theirs_RC, a_2C))
    as_far = np.abs(by_chance_R) >= abs(difference) * (1 - 1e-9)
    return Pair(
        difference=difference,
        low=min(low, difference),
        high=max(high, difference),
        p=float((1 + as_far.sum()) / (1 + TIMES)),
        clips=len(kept),
        errors=_in_errors(difference, float(drawn_R.std())),
        free=len(kept) - len(levels),
    )


def beside_the_best(trials: int, free: int, *, seed: int = 0) -> Reals:
    """Trials that are all alike, many times over: how far, in standard errors, the one that seems best is from the one
    that it seems surest to beat. Each standard error is of so many clips, less one for each noise level (`free`)."""
    generator = np.random.Generator(np.random.Philox(key=[seed, 1]))
    seemed_RT = generator.standard_normal((TIMES, trials))
    apart_RT = seemed_RT - seemed_RT.min(axis=1, keepdims=True)
    errors_RT = np.sqrt(2 * generator.chisquare(free, (TIMES, trials)) / free)
    found: Reals = (apart_RT / errors_RT).max(axis=1)
    return found


def corrected(pairs: Sequence[Pair], *, trials: int, objectives: int) -> list[float]:
    """Each p of the best of so many trials beside another, as it is where the best was chosen by these clips, and is
    held against others by so many objectives."""
    known = {free: beside_the_best(trials, free) for free in {pair.free for pair in pairs}}
    found = []
    for pair in pairs:
        as_far = (known[pair.free] >= pair.errors * (1 - 1e-9)).sum()
        found.append(min(1.0, objectives * max(pair.p, float((1 + as_far) / (1 + TIMES)))))
    return found


def baseline_of(formula: Formula, key: str, report: Mapping[str, float | None]) -> float:
    """The loss that a report's skill is over, from the skill and the loss that it tells; 1 where there is none."""
    if formula.over not in ("mean", "linear"):
        return 1.0
    level = key.removeprefix("validation/skill_linear")
    loss = report.get(f"validation/bin{level}" if level.isdigit() else "validation/headline")
    skill = report.get(key)
    return math.nan if loss is None or skill is None or skill == 1 else loss / (1 - skill)


def _rows(losses: ClipLosses, formula: Formula, baseline: float) -> Reals:
    right_C = np.array(losses.right, dtype=np.float64)
    if formula.over == "right":
        return np.stack([np.array(losses.wrong, dtype=np.float64), right_C])
    return np.stack([-right_C / baseline if formula.over else right_C, np.ones_like(right_C)])


def _sums(weights_RC: Reals, rows_2C: Reals) -> Reals:
    return weights_RC @ rows_2C.T


def _apart(a_R2: Reals, b_R2: Reals) -> Reals:
    """The second's figure less the first's."""
    found: Reals = b_R2[:, 0] / b_R2[:, 1] - a_R2[:, 0] / a_R2[:, 1]
    return found


def _in_errors(difference: float, error: float) -> float:
    """What differs by the same on every clip is sure, what is the same is not."""
    if abs(difference) < 1e-12:
        return 0.0
    return abs(difference) / error if error > 1e-9 * abs(difference) else math.inf


def _drawn(generator: np.random.Generator, counts: Sequence[int]) -> Reals:
    """How much more or less each clip counts in each draw."""
    parts: list[Integers] = [generator.multinomial(n - 1, np.full(n, 1 / n), TIMES) for n in counts]
    return np.concatenate([part * (n / (n - 1)) for part, n in zip(parts, counts, strict=True)], axis=1)
