"""Two trials that were judged on the same clips: their losses clip by clip go in; by how much they differ, how sure
that is, and if it is more than chance come out. Pure arithmetic.

    interval    the bootstrap: clips are drawn again, each noise level's own, the same ones for both trials. One fewer
                is drawn than there are, or the interval would be too narrow: by a fifteenth with eight clips a level
    p           were the trials alike, each clip's two losses could as well be the other way round: how often a random
                half of them changed over makes a difference as large. That holds for few clips, too
    Holm        of many comparisons one in twenty is beyond chance by chance: p is raised so that with nothing to be
                found one in twenty sweeps finds anything at all

Both are about the clips. How much two trainings of the same job differ by their seeds, nobody can see in one of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cineray.evaluate.intervals import Integers, Reals, middle
from cineray.train.clip_losses import HEADLINE_BINS, ClipLosses

TIMES = 5000
"""Draws; the least p is one in so many."""
_LEAST_CLIPS = 2
"""Of a noise level: one clip says nothing of how clips differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """How a figure of the validation follows from the losses of clips."""

    bins: Sequence[int]
    """Noise levels whose means are averaged."""
    over: Literal["", "mean", "linear", "right"] = ""
    """`mean`, `linear`: one less the loss over that of a baseline. `right`: losses told wrong over those told right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The second trial's figure less the first one's."""

    difference: float
    low: float
    high: float
    p: float
    clips: int


def formula_of(key: str, bins: int) -> Formula | None:
    """Of `validation/<figure>`; None for what does not follow from losses."""
    group, _, figure = key.partition("/")
    levels = {str(level): (level,) for level in range(bins)}
    headline, everything = tuple(range(min(HEADLINE_BINS, bins))), tuple(range(bins))
    known = {f"bin{level}": Formula(bins=one) for level, one in levels.items()}
    known |= {f"skill_linear{level}": Formula(bins=one, over="linear") for level, one in levels.items()}
    known |= {"headline": Formula(bins=headline), "loss": Formula(bins=everything)}
    known |= {f"skill_{name}": Formula(bins=headline, over=name) for name in ("mean", "linear")}
    known["wrong_over_right"] = Formula(bins=headline, over="right")
    return known.get(figure) if group == "validation" else None


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
    low, high = middle(_apart(_sums(drawn_RC, a_2C), _sums(drawn_RC, b_2C)))
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
    )


def holm(by_chance: Sequence[float]) -> list[float]:
    """Each p raised by how many comparisons were made beside it (Holm, 1979)."""
    raised, least = [0.0] * len(by_chance), 0.0
    for place, at in enumerate(sorted(range(len(by_chance)), key=lambda at: by_chance[at])):
        least = max(least, min(1.0, (len(by_chance) - place) * by_chance[at]))
        raised[at] = least
    return raised


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


def _drawn(generator: np.random.Generator, counts: Sequence[int]) -> Reals:
    """How much more or less each clip counts in each draw."""
    parts: list[Integers] = [generator.multinomial(n - 1, np.full(n, 1 / n), TIMES) for n in counts]
    return np.concatenate([part * (n / (n - 1)) for part, n in zip(parts, counts, strict=True)], axis=1)
