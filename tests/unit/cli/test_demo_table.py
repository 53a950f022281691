"""The table at the demo's end: what an evaluation found, beside its controls, on a terminal of 120 columns."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from cineray.cli.demo_table import demo_tables


def score(name: str, value: float | None, spread: float = 0.02, **controls: float) -> dict[str, Any]:
    known = value is not None
    beside = {
        key.replace("_", " "): {"value": number, "low": None, "high": None, "n": 64} for key, number in controls.items()
    }
    low, high = (value - spread, value + spread) if value is not None else (None, None)
    return {"name": name, "value": value, "low": low if known else None, "high": high, "controls": beside}


FACTS: dict[str, Any] = {
    "metrics": [
        score("speed_error", 0.06, real=0.0),
        score("direction_accuracy", 0.97, real=1.0, labels_permuted=0.14, frames_shuffled=0.0, untrained=0.09),
        score("one_object", None),
        score("flicker", 0.5),
    ],
    "parts": {"held_out": {"n": 30, "metrics": [score("direction_accuracy", 0.93)]}},
    "loss": {"skill_linear": [0.3, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9], "wrong_over_right": 1.5},
    "verdict": "The model follows its conditioning.",
}


def printed(facts: dict[str, Any]) -> list[str]:
    out = io.StringIO()
    for part in demo_tables(facts):
        Console(file=out, width=120).print(part)
    return [" ".join(line.split()) for line in out.getvalue().splitlines() if line.strip()]


def test_motion_stands_beside_its_controls_and_new_combinations_apart() -> None:
    assert printed(FACTS)[2:5] == [
        "direction right 0.97 [0.95, 0.99] 0.93 1.00 0.14 0.00 0.09",
        "speed error 0.06 [0.04, 0.08] - 0.00 - - -",
        "one object - - - - - -",
    ]


def test_below_it_stand_the_losses_of_the_noisiest_half_and_the_verdict() -> None:
    assert printed(FACTS)[5:] == [
        "new: combinations of shape, colour and direction that no training clip has",
        "what it has learnt",
        "skill over the best linear denoiser 0.60 (1 is perfect; noisiest half)",
        "loss with wrong words over right 1.50 (1 is not listening)",
        "verdict The model follows its conditioning.",
    ]


def test_an_evaluation_without_truth_or_losses_has_no_rows_that_it_cannot_have() -> None:
    bare = {"metrics": [score("flicker", 0.5)], "parts": {}, "loss": {"skipped": "none"}, "verdict": "Little is known."}
    assert printed(bare)[-2:] == ["what it has learnt", "verdict Little is known."]
