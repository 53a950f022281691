"""What happened to a run, what it was made of, and how to do it again: its record goes in, parts come out."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from cineray.report.content import Cell, Column, Commands, Facts, Fold, Heading, Part, Table, Text, Tone
from cineray.report.run_record import RunRecord
from cineray.report.values import pairs_of, text_of
from cineray.report.wording import bytes_text, moment, number, plural, whole

_USUAL_EVENTS = frozenset({"begin", "built", "validated", "saved", "rest", "end"})
_MOST_EVENTS = 60


def history_parts(record: RunRecord) -> tuple[Part, ...]:
    """Attempts, checkpoints, and whatever was out of the ordinary."""
    parts: list[Part] = [_attempts(record)]
    if record.checkpoints:
        parts.append(_checkpoints(record))
    told = [event for event in record.events if event.get("event") not in _USUAL_EVENTS]
    if told:
        parts.append(Fold(title=f"What else happened: {plural(len(told), 'event')}", parts=(_events(told),)))
    return tuple(parts)


def _attempts(record: RunRecord) -> Table:
    ends = {int(event["attempt"]): str(event.get("reason", "")) for event in record.events if event["event"] == "end"}
    rows = []
    for one in record.attempts:
        number_ = int(one["attempt"])
        done = [int(row["step"]) for row in record.all_rows if int(row["attempt"]) == number_]
        span = f"{done[0]:,} to {done[-1]:,}" if done else "none"
        reason = ends.get(number_, "no end was noted: at work, or killed")
        tone: Tone = "good" if reason == "done" else "bad" if reason.startswith("failed") else "quiet"
        cells = (Cell(moment(one.get("at"))), Cell(whole(one.get("world_size"))), Cell(span), Cell(reason, tone=tone))
        rows.append((Cell(str(number_)), *cells))
    columns = (Column("attempt"), Column("begun"), Column("workers", number=True), Column("steps"), Column("ended"))
    return Table(caption="Starts of the run's processes", columns=columns, rows=tuple(rows))


def _checkpoints(record: RunRecord) -> Table:
    saving = record.job.get("checkpoint")
    best = str(saving.get("best_metric", "")) if isinstance(saving, Mapping) else ""
    rows = tuple(
        (
            Cell(f"{one.step:,}"),
            Cell(moment(one.created)),
            Cell(bytes_text(one.size_bytes)),
            Cell(number(one.metrics.get(best))),
        )
        for one in record.checkpoints
    )
    columns = (Column("step"), Column("saved"), Column("size", number=True), Column(best or "metric", number=True))
    return Table(caption="Checkpoints that are kept", columns=columns, rows=rows)


def _events(told: list[Mapping[str, Any]]) -> Table:
    rows = []
    for event in told[-_MOST_EVENTS:]:
        facts = {k: v for k, v in event.items() if k not in ("at", "event", "attempt")}
        text = "; ".join(f"{name} {value}" for name, value in pairs_of(facts))
        rows.append((Cell(moment(event.get("at"))), Cell(text_of(event.get("event"))), Cell(text)))
    return Table(
        caption="Noted by the run, oldest first",
        columns=(Column("when"), Column("what"), Column("facts")),
        rows=tuple(rows),
    )


# ---- to do it again --------------------------------------------------------------------------------------------------


def repeat_parts(record: RunRecord) -> tuple[Part, ...]:
    """Commands, each with what it is for."""
    uri, facts = shlex.quote(record.run.uri), record.run.facts
    git = facts.get("git")
    lines_ = []
    if isinstance(git, Mapping) and git.get("commit"):
        changed = int(git.get("changed_files") or 0)
        told = f", of which {plural(changed, 'file was', 'files were')} changed and not committed" if changed else ""
        lines_.append((f"The code that it ran{told}", f"git checkout {shlex.quote(str(git['commit']))}"))
    lines_ += [
        ("Train it again, in a new folder", f"cineray train {shlex.quote(record.run.uri + '/run.yaml')}"),
        ("Go on with this run", f"cineray train {uri}"),
        ("See any of its batches, and compare the hash", f"cineray batch {uri} --step 0"),
        ("What its plan reads and costs", f"cineray plan {uri}"),
        ("Judge its newest checkpoint", f"cineray evaluate {uri}"),
        ("Make clips", f"cineray sample {uri}"),
        ("Make this page again", f"cineray report {uri}"),
    ]
    command = facts.get("command")
    if isinstance(command, list):
        lines_.append(("The command that began it", shlex.join(map(str, command))))
    return (Commands(lines=tuple(lines_)),)


def record_parts(record: RunRecord) -> tuple[Part, ...]:
    """Fingerprints, software, machine, configuration."""
    facts = record.run.facts
    plan = facts.get("plan")
    fingerprints = {"plan": facts.get("fingerprint")}
    if isinstance(plan, Mapping):
        catalogs = plan.get("catalogs") or []
        fingerprints |= {f"data {number_}": one for number_, one in enumerate(catalogs, 1)}
        fingerprints |= {"seed": plan.get("seed")}
    git = facts.get("git")
    if isinstance(git, Mapping):
        fingerprints |= {"commit": git.get("commit")}
    return (
        Heading(text="Fingerprints"),
        Facts(pairs=pairs_of(fingerprints), mono=True),
        Heading(text="Software"),
        Facts(pairs=pairs_of(facts.get("software") or {})),
        Heading(text="Machine"),
        Facts(pairs=pairs_of(_machine(facts.get("machine")))),
        Fold(title="Configuration (run.yaml)", parts=(Text(text=record.run.job_text()),)),
    )


def _machine(told: Any) -> Mapping[str, Any]:
    if not isinstance(told, Mapping):
        return {}
    kept = {name: value for name, value in told.items() if name != "memory_bytes"}
    return {**kept, **({"memory": bytes_text(told["memory_bytes"])} if "memory_bytes" in told else {})}
