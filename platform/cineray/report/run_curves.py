"""A run's curves: its ledger and validations go in, plots of loss, skill and the learning rate come out.

What a run learns is seen by noise level: the mean over all levels hides that motion is decided at the noisiest ones.
Metrics that this file does not know are plotted too, each family on its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from cineray.report import palette
from cineray.report.content import Figure, Grid, Note, Part
from cineray.report.evaluation_page import LEVELS, level_names
from cineray.report.plots import Axes, Series, bars, lines
from cineray.report.run_record import RunRecord, column
from cineray.report.wording import number, percent

_FAMILY = re.compile(r"^(.*?)(\d+)$")
_STEPS = "step"
_FACES: dict[str, tuple[str, str, bool]] = {
    "bin": ("Validation loss by noise level", "0 is nearest to noise: there it is decided what moves where.", False),
    "skill_linear": (
        "Skill by noise level",
        "How much better than the best linear denoiser: 0 is no better, 100 % is perfect.",
        True,
    ),
    "skill_mean": ("Skill over the mean clip", "Beating the mean is easy.", True),
    "wrong_over_right": (
        "Does it heed its text?",
        "Loss with wrong text over that with the right one: 1 means that text is ignored.",
        False,
    ),
}
"""Family of metrics -> title, what is seen, and whether it is a share; others are called as they are."""
_WIDE = 5.0
_DRAWN_APART = ("headline", "loss")


def loss_parts(record: RunRecord) -> tuple[Part, ...]:
    """Loss over steps; then, where there were validations, what they said."""
    if not record.rows:
        return (Note(text="No step is in the ledger yet."),)
    families = families_of(record.validations)
    order = [*(name for name in _FACES if name in families), *(name for name in families if name not in _FACES)]
    found = [_family(name, families[name], record) for name in order if name not in _DRAWN_APART]
    return (
        Grid(figures=(_training_loss(record), *_validation_loss(record), *found, *_levels(record), *_rates(record))),
    )


def families_of(validations: Mapping[int, Mapping[str, float]]) -> dict[str, list[str]]:
    """Metrics by their name without a number at its end: `bin` -> `validation/bin0`, `validation/bin1`, ..."""
    found: dict[str, list[str]] = {}
    names = dict.fromkeys(name for metrics in validations.values() for name in metrics)
    for name in names:
        match = _FAMILY.match(name.removeprefix("validation/"))
        found.setdefault(match[1] if match else name.removeprefix("validation/"), []).append(name)
    return found


def _training_loss(record: RunRecord) -> Figure:
    steps, loss = column(record.rows, "step"), column(record.rows, "loss")
    smooth = moving_mean(loss, max(len(loss) // 40, 1))
    drawn = [
        Series(name="each step", x=steps, y=loss, colour=palette.GREY, faint=True),
        Series(name="smoothed", x=steps, y=smooth, colour=palette.BLUE),
    ]
    says = f"{number(smooth[0])} at first, {number(smooth[-1])} at the end, over {len(steps):,} steps."
    return lines("Training loss", says, drawn, Axes(x=_STEPS, log_y=_wide(loss)))


def _validation_loss(record: RunRecord) -> tuple[Figure, ...]:
    told = {"headline": "two noisiest levels", "loss": "mean of all levels"}
    found = record.validations
    drawn = [
        Series(name=title, x=x, y=y, markers=True)
        for name, title in told.items()
        if (x := _steps_with(found, name)) and (y := [found[int(step)][f"validation/{name}"] for step in x])
    ]
    if not drawn:
        return ()
    first, last = drawn[0].y[0], drawn[0].y[-1]
    says = f"Held-out clips, {drawn[0].name}: {number(first)} at first, {number(last)} at the end."
    return (lines("Validation loss", says, drawn, Axes(x=_STEPS, whole_y=True)),)


def _family(name: str, members: Sequence[str], record: RunRecord) -> Figure:
    """One figure for metrics that belong together."""
    told, found = record.validations, sorted(members, key=_place)
    levels = sum(bool(_FAMILY.match(member)) for member in found)
    colours = [palette.GREY] * (len(found) - levels) + palette.ramp(levels) if levels else [palette.BLUE]
    drawn = []
    for member, colour in zip(found, colours, strict=True):
        x = [step for step, metrics in told.items() if member in metrics]
        y = [told[step][member] for step in x]
        level = member.removeprefix(f"validation/{name}")
        whole = not level and len(found) > 1
        label = level or ("noisiest levels" if whole else name.replace("_", " "))
        drawn.append(Series(name=label, x=x, y=y, colour=colour, markers=True, dashed=whole))
    title, says, share = _FACES.get(name, (name.replace("_", " "), "", False))
    values = [value for one in drawn for value in one.y]
    axes = Axes(x=_STEPS, share=share, log_y=not share and _wide(values))
    last, text = sorted(one.y[-1] for one in drawn), percent if share else number
    ends = text(last[0]) if len(last) == 1 else f"{text(last[0])} to {text(last[-1])}"
    return lines(title, f"{says} At the end: {ends}.".strip(), drawn, axes)


def _levels(record: RunRecord) -> tuple[Figure, ...]:
    """The newest validation by noise level, beside what needs no learning."""
    newest = next(reversed(record.validations.values()), {})
    bins = [newest[name] for name in sorted(newest, key=_place) if name.startswith("validation/bin")]
    if not bins:
        return ()
    groups = {"this model": bins}
    names = {"linear": "best linear denoiser", "mean": "the mean clip"}
    groups |= {names.get(k, k): v for k, v in record.baselines.items() if len(v) == len(bins)}
    says = (
        "The newest validation beside two that learn nothing but means: beating the mean is easy, the linear one not."
    )
    colours = (palette.BLUE, palette.OCHRE, palette.GREY)
    axes = Axes(x=LEVELS, log_y=True)
    return (bars("Loss beside what needs no learning", says, groups, level_names(len(bins)), axes, colours=colours),)


def _rates(record: RunRecord) -> tuple[Figure, ...]:
    steps = column(record.rows, "step")
    lr = Series(name="learning rate", x=steps, y=column(record.rows, "lr"), colour=palette.PURPLE)
    norm = Series(name="gradient norm", x=steps, y=column(record.rows, "grad_norm"), colour=palette.TEAL)
    highest = max((y for y in lr.y if math.isfinite(y)), default=0.0)
    return (
        lines("Learning rate", f"At most {number(highest)}.", [lr], Axes(x=_STEPS, whole_y=True)),
        lines("Gradient norm", "Before it is clipped.", [norm], Axes(x=_STEPS, log_y=_wide(norm.y))),
    )


def moving_mean(values: Sequence[float], width: int) -> list[float]:
    """The mean of the last `width` values at each place."""
    found, total, known = [], 0.0, 0
    for at, value in enumerate(values):
        gone = values[at - width] if at >= width else float("nan")
        if math.isfinite(value):
            total, known = total + value, known + 1
        if math.isfinite(gone):
            total, known = total - gone, known - 1
        found.append(total / known if known else float("nan"))
    return found


def _steps_with(found: Mapping[int, Mapping[str, float]], name: str) -> list[int]:
    return [step for step, metrics in found.items() if f"validation/{name}" in metrics]


def _place(name: str) -> tuple[int, str]:
    match = _FAMILY.match(name)
    return (int(match[2]) if match else -1, name)


def _wide(values: Sequence[float]) -> bool:
    """Do values span so much that a line of their logarithms says more?"""
    known = [value for value in values if math.isfinite(value)]
    return bool(known) and min(known) > 0 and max(known) > _WIDE * min(known)
