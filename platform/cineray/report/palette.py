"""Colours that are told apart on a light and on a dark page, by most people, and by their names on each plot.

All are of middle lightness (contrast of about 3 to 1 or more with both backgrounds), so that a plot need not be drawn
again when the page turns dark. What is the same thing has the same colour on all plots.
"""

from __future__ import annotations

BLUE, ORANGE, GREEN, RED = "#4C7DF0", "#E07B39", "#2F9E6E", "#D9534F"
PURPLE, TEAL, PINK, OCHRE, BROWN, GREY = "#9467D8", "#1B9AAA", "#D4619F", "#B5891B", "#A0705A", "#8A93A0"

SERIES = (BLUE, ORANGE, GREEN, PURPLE, RED, TEAL, OCHRE, PINK, BROWN, GREY)
"""In this order where nothing else is said."""

CAUSES: dict[str, tuple[str, str]] = {
    "productive": ("computing", BLUE),
    "data": ("waiting for data", ORANGE),
    "compile": ("compiling", PURPLE),
    "checkpoint_save": ("saving checkpoints", TEAL),
    "checkpoint_restore": ("restoring", GREEN),
    "evaluation": ("validating", OCHRE),
    "lost_progress": ("done in vain", RED),
    "init": ("starting", PINK),
    "idle": ("between attempts", GREY),
    "other": ("other", BROWN),
}
"""Where a run's seconds go: `train.goodput`'s causes, in words, from the bottom of the stack to its top."""

CONTROLS: dict[str, str] = {
    "real": GREEN,
    "real halves": TEAL,
    "labels permuted": ORANGE,
    "frames shuffled": PURPLE,
    "untrained": GREY,
}
"""What a metric is seen beside; others take the remaining colours."""

_RAMP = ("#4C7DF0", "#6C74E8", "#8C6AD9", "#AC62C2", "#C65BA3", "#D85A80", "#E0625A", "#E07B39")


def ramp(count: int) -> list[str]:
    """Colours for things that have an order, first to last."""
    if count <= 1:
        return [_RAMP[0]] * count
    return [_RAMP[round(i * (len(_RAMP) - 1) / (count - 1))] for i in range(count)]


def of_control(name: str, at: int) -> str:
    """The colour of a control that is the `at`-th of its plot."""
    return CONTROLS.get(name, (PINK, OCHRE, BROWN, RED)[at % 4])
