"""The table at the demo's end: an evaluation's facts go in; motion beside its controls, and the losses, come out.

A number says something only beside what it is for real clips (the best there can be) and for clips that cannot be good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from cineray.cli.output import facts_table

ROWS = {
    "direction_accuracy": "direction right",
    "speed_error": "speed error",
    "trajectory_error": "trajectory error, px",
    "one_object": "one object",
    "motion_ok": "all of it right",
}
CONTROLS = {
    "real": "real",
    "labels permuted": "permuted",
    "frames shuffled": "shuffled",
    "untrained": "untrained",
}
NEW = "new: combinations of shape, colour and direction that no training clip has"
NOISY_BINS = 4
"""The noisiest of the losses' noise levels: where motion is decided."""


def demo_tables(facts: Mapping[str, Any]) -> list[Table]:
    """Motion with intervals and controls, and below it what the losses say."""
    table = Table(title="\nmotion of generated clips", title_justify="left", box=None, header_style="bold")
    table.caption, table.caption_justify = NEW, "left"
    table.add_column("", no_wrap=True)
    table.add_column("generated", no_wrap=True)
    for name in ("new", *CONTROLS.values()):
        table.add_column(name, justify="right")
    scores = _by_name(facts["metrics"])
    new = _by_name(facts["parts"].get("held_out", {}).get("metrics", ()))
    for name, title in ROWS.items():
        if name in scores:
            score, controls = scores[name], scores[name]["controls"]
            others = [new.get(name, {}), *(controls.get(control, {}) for control in CONTROLS)]
            table.add_row(title, with_interval(score), *(number(one.get("value")) for one in others))
    return [table, facts_table({**_losses(facts["loss"]), "verdict": facts["verdict"]}, title="\nwhat it has learnt")]


def with_interval(score: Mapping[str, Any]) -> str:
    """`0.98 [0.95, 1.00]`; the bracket is text, not markup."""
    if score["low"] is None or score["high"] is None:
        return number(score["value"])
    return f"{number(score['value'])} \\[{number(score['low'])}, {number(score['high'])}]"


def number(value: float | None) -> str:
    """Two digits; a number that does not exist is a dash."""
    return "-" if value is None else f"{value:.2f}"


def _by_name(scores: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {score["name"]: score for score in scores}


def _losses(loss: Mapping[str, Any]) -> dict[str, str]:
    """How much better than the best linear denoiser, and whether the words are heeded."""
    told = {}
    noisy = list(loss.get("skill_linear", ()))[:NOISY_BINS]
    if noisy:
        told["skill over the best linear denoiser"] = f"{number(sum(noisy) / len(noisy))} (1 is perfect; noisiest half)"
    if loss.get("wrong_over_right") is not None:
        told["loss with wrong words over right"] = f"{number(loss['wrong_over_right'])} (1 is not listening)"
    return told
