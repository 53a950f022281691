"""Which checkpoints stay, by the rule alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest

from cineray.train.checkpoint_keep import best_of, kept_steps
from cineray.train.checkpoint_manifest import CheckpointInfo


@dataclass
class Rule:
    keep_last: int = 1
    keep_best: int = 0
    keep_every: int | None = None
    best_metric: str = "loss"


def infos(**losses: float | None) -> list[CheckpointInfo]:
    """`s10=0.5`: the checkpoint of step 10 with that loss."""
    told: dict[str, Any] = {"created": "", "folder": "", "files": (), "plan": None}
    return [
        CheckpointInfo(uri="", step=int(name[1:]), metrics={} if loss is None else {"loss": loss}, **told)
        for name, loss in losses.items()
    ]


MADE = infos(s10=0.5, s20=0.1, s30=0.4, s40=0.1, s50=0.9)


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (Rule(), {50}),
        (Rule(keep_last=3), {30, 40, 50}),
        (Rule(keep_last=99), {10, 20, 30, 40, 50}),
        (Rule(keep_best=1), {20, 50}),
        (Rule(keep_best=3), {20, 30, 40, 50}),
        (Rule(keep_every=20), {20, 40, 50}),
        (Rule(keep_every=7), {50}),
        (Rule(keep_best=2, best_metric="another"), {50}),
        (Rule(keep_last=0), {50}),
    ],
)
def test_the_rule_keeps(rule: Rule, kept: set[int]) -> None:
    assert kept_steps(MADE, rule) == kept


def test_a_metric_that_is_no_number_is_never_best() -> None:
    found = infos(s10=math.nan, s20=0.5, s30=-math.inf, s40=None, s50=0.25, s60=math.nan)
    assert [info.step for info in best_of(found, Rule())] == [50, 20]


def test_of_no_checkpoints_none_are_kept() -> None:
    assert kept_steps([], Rule(keep_best=2, keep_every=5)) == set()
