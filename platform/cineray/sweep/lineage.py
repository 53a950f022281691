"""How a trial of a population came to its weights: trials go in; stretches of training come out, the first one first.

    trial 1, steps 0 to 40, lr 0.1   ->   trial 1, steps 40 to 80, lr 0.05   ->   trial 3, steps 80 to 120, lr 0.06

No single set of values makes such a trial again: a job of its last values, from the start, is another training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cineray.sweep.trial_record import TrialRecord


def lineages(records: Sequence[TrialRecord]) -> dict[int, list[dict[str, Any]]]:
    """Of each trial that has not trained from its beginning to its end: `trial`, `values`, `from_step` and `to_step`
    (None: its end) of each stretch."""
    generations = list(_generations(records))
    newest = {number: uri for number, uri, _ in generations}
    runs = {uri: (number, one) for number, uri, one in generations}
    found = {number: _stretches(uri, dict(runs)) for number, uri in newest.items()}
    return {number: stretches for number, stretches in found.items() if len(stretches) > 1}


def _stretches(run: str, runs: dict[str, tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
    """From the newest run back to one that began at the beginning, or that is not there any more."""
    found: list[dict[str, Any]] = []
    to_step: int | None = None
    while run in runs:
        number, generation = runs.pop(run)  # each at most once: a damaged record may go round in a circle
        begins = generation["begins_from"] or {}
        from_step = int(begins.get("step", 0))
        told = {"trial": number, "values": dict(generation["values"]), "from_step": from_step, "to_step": to_step}
        found.insert(0, told)
        run, to_step = run_key(str(begins.get("run", ""))), from_step
    return found


def taken_over(records: Sequence[TrialRecord]) -> set[str]:
    """The runs that others went on from, as `run_key` names them."""
    return {run_key(str(one["begins_from"]["run"])) for _, _, one in _generations(records) if one["begins_from"]}


def lineage_text(stretches: Sequence[Mapping[str, Any]]) -> str:
    """`trial 1 to step 40 (lr 0.1), then trial 3 to its end (lr 0.06)`."""
    parts = []
    for one in stretches:
        values = ", ".join(f"{name} {value}" for name, value in one["values"].items())
        end = "its end" if one["to_step"] is None else f"step {one['to_step']}"
        parts.append(f"trial {one['trial']} to {end} ({values})")
    return ", then ".join(parts)


def run_key(uri: str) -> str:
    """A run within its sweep, wherever that was moved: `0003/run-0002`."""
    return uri.rstrip("/").rpartition("/trials/")[2]


def _generations(records: Sequence[TrialRecord]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """(trial, run, what is known of it), the newest of a trial last."""
    for record in records:
        if record.place is not None:
            for one in record.place.generations():
                yield record.number, run_key(record.place.run_uri(int(one["generation"]))), one
