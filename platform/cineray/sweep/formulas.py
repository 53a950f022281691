"""What a validation says, in one list: a number of noise levels goes in; each figure's name, and how it follows from
the losses of clips, come out. Objectives know figures by it, and trials are held against each other by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cineray.train.clip_losses import HEADLINE_BINS


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """How a figure of the validation follows from the losses of clips."""

    bins: Sequence[int]
    """Noise levels whose means are averaged."""
    over: Literal["", "mean", "linear", "right"] = ""
    """`mean`, `linear`: one less the loss over that of a baseline. `right`: losses told wrong over those told right."""

    @property
    def more_is_better(self) -> bool:
        """All others are losses."""
        return bool(self.over)


def formulas_of(bins: int) -> dict[str, Formula]:
    """Figure -> formula, of a validation by so many noise levels; a report has each as `validation/<figure>`."""
    headline, everything = tuple(range(min(HEADLINE_BINS, bins))), tuple(range(bins))
    known = {"headline": Formula(bins=headline), "loss": Formula(bins=everything)}
    known["wrong_over_right"] = Formula(bins=headline, over="right")
    known |= {"skill_mean": Formula(bins=headline, over="mean"), "skill_linear": Formula(bins=headline, over="linear")}
    known |= {f"bin{level}": Formula(bins=(level,)) for level in everything}
    return known | {f"skill_linear{level}": Formula(bins=(level,), over="linear") for level in everything}


def formula_of(key: str, bins: int) -> Formula | None:
    """Of `validation/<figure>`; None for what does not follow from losses."""
    group, _, figure = key.partition("/")
    return formulas_of(bins).get(figure) if group == "validation" else None


def figures_in_words(bins: int) -> str:
    """`headline, loss, ..., and by noise level (base.validation.bins=4) bin0 to bin3 and ...`."""
    by_level = [name.removesuffix(str(bins - 1)) for name in formulas_of(bins) if name.endswith(str(bins - 1))]
    whole = [name for name in formulas_of(bins) if not name[-1].isdigit()]
    ranges = [f"{name}0 to {name}{bins - 1}" for name in by_level]
    return f"{', '.join(whole)}, and by noise level (base.validation.bins={bins}) {' and '.join(ranges)}"
