"""Scores of parts of the clips: what the training has seen, and what it never saw, apart. Rows go in, parts come out.

A combination is what several facts say together (a red disk that goes up). A model that has only learnt its training
clips by heart does well on combinations that it has seen and badly on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cineray.evaluate.clip_set import ClipSet
from cineray.evaluate.evaluation import RowsOf
from cineray.evaluate.metric import Metric
from cineray.evaluate.truth import combination

HELD_OUT, SEEN = "held_out", "seen"
LEAST_CLIPS = 2


def names_of_parts(clips: ClipSet, known: set[tuple[Any, ...]], facts: Sequence[str]) -> dict[str, list[str]]:
    """The clips whose combination no training clip has, and those whose combination some have; nothing where the lake
    tells neither."""
    if not known:
        return {}
    shown = {name: combination(one, facts) for name, one in zip(clips.names, clips.facts, strict=True)}
    told = {name: what for name, what in shown.items() if what is not None}
    return {
        HELD_OUT: [name for name, what in told.items() if what not in known],
        SEEN: [name for name, what in told.items() if what in known],
    }


def scores_of_part(
    metrics: Sequence[Metric], generated: RowsOf, real: RowsOf, names: Sequence[str], *, bootstrap: int, seed: int
) -> dict[str, Any]:
    """As an evaluation's record has it. Distances are left out: of so few clips they say nothing."""
    scores = []
    for metric in metrics:
        if metric.needs_real:
            continue
        beside = real[metric.name]
        beside = beside.only([name for name in beside.names if name in set(names)])
        found = metric.score(generated[metric.name].only(names), beside, bootstrap=bootstrap, seed=seed)
        if not found.skipped:
            scores.append(found.to_dict())
    return {"n": len(names), "metrics": scores}
