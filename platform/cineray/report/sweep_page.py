"""The page of a sweep: its `sweep-result.json` goes in, a `Page` comes out: which trial to take and what it costs,
which values mattered, how trials learnt over seconds, what bounds each, and what the best of them make.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from typing import Any

from cineray.report.content import Commands, Facts, Fold, Heading, Page, Part, Section, Tile, Verdict
from cineray.report.embed import Embedder
from cineray.report.sweep_choice import choice_parts, importance_parts, trial_parts
from cineray.report.sweep_course import clip_parts, learning_parts, time_parts
from cineray.report.sweep_record import Objective, SweepRecord, Trial, objects_of, read_sweep
from cineray.report.values import pairs_of
from cineray.report.wording import known, moment, number, percent, plural, seconds_text
from cineray.storage import join_uri

_STATES = ("done", "stopped", "data-bound", "failed", "lost")
_TILES_OF_BEST = 3


def sweep_page(uri: str, told: Mapping[str, Any], embed: Embedder, *, clips: int) -> Page:
    """All of it."""
    record = read_sweep(uri, told)
    return Page(
        subject="Sweep",
        title=record.title,
        where=uri,
        made_at=f"made {moment(told.get('made_at'))}",
        verdicts=_verdicts(record),
        tiles=_tiles(record),
        sections=tuple(section for section in _sections(record, embed, clips) if section.parts),
    )


def _sections(record: SweepRecord, embed: Embedder, clips: int) -> list[Section]:
    return [
        Section(
            title="Choice",
            lead="All may spend the same, and are judged on the same clips at the same instants in real time. Each "
            "is one training: a small difference in quality may be its seed's, and the best of many looks better "
            "than it is.",
            parts=choice_parts(record),
        ),
        Section(
            title="Clips",
            lead="What the Pareto set makes of the same prompts, side by side.",
            parts=clip_parts(record, embed, clips=clips),
        ),
        Section(title="Trials", parts=trial_parts(record)),
        Section(
            title="Importance",
            lead=f"What tells the better half of {_compared(record)} from all of them, by Optuna's PED-ANOVA: shares "
            "of that, not of the differences between figures. Few trials give a rough picture.",
            parts=importance_parts(record),
        ),
        Section(
            title="Learning",
            lead="Over seconds of training, which is what a budget is of: a faster recipe takes more steps in them.",
            parts=learning_parts(record),
        ),
        Section(title="Time", lead="What bounds each trial.", parts=time_parts(record)),
        Section(title="How to go on", parts=(_commands(record),)),
        Section(title="Record", lead="What the sweep was told.", parts=_record(record)),
    ]


# ---- the head --------------------------------------------------------------------------------------------------------


def _compared(record: SweepRecord) -> str:
    return f"{plural(sum(trial.whole for trial in record.trials), 'trial')} with the whole budget"


def _verdicts(record: SweepRecord) -> tuple[Verdict, ...]:
    found = [_choice(record), *(Verdict(about="Note", text=note, tone="warn") for note in record.notes)]
    bounds = Counter(trial.bound for trial in record.trials if trial.bound)
    if bounds:
        told = ", ".join(f"{plural(count, 'trial')} by {bound}" for bound, count in bounds.most_common())
        tone = "warn" if bounds["data"] * 2 > bounds.total() else ""
        found.append(Verdict(about="Bottlenecks", text=f"What bounds them: {told}.", tone=tone))  # type: ignore[arg-type]
    leaks = {name.replace("_", " "): count for name, count in record.part("leaks").items() if known(count)}
    if leaks:
        told = ", ".join(f"{number(n)} {name if n != 1 else name.removesuffix('s')}" for name, n in leaks.items())
        found.append(Verdict(about="Leaks", text=f"Left behind on the cluster: {told}.", tone="bad"))
    return tuple(found)


def _choice(record: SweepRecord) -> Verdict:
    best = record.best
    if best is None:
        lacking = " or ".join(one.title for one in record.nobody_knows)
        told = f"a value of {lacking}" if lacking and record.count("done") else "had its whole budget"
        return Verdict(about="Best", text=f"None: no trial has {told}.", tone="bad")
    reached = ", ".join(
        f"{one.title} {one.said(reading.measured.value)} ({reading.said(one.unit)})"
        for one in record.objectives
        if (reading := best.readings.get(one.name)) is not None and reading.measured.value is not None
    )
    return Verdict(about="Best", text=f"Trial {best.number}: {best.told_values()}. It reached {reached}.", tone="good")


def _tiles(record: SweepRecord) -> tuple[Tile, ...]:
    best, wasted = record.best, record.part("wasted")
    ended = ", ".join(f"{count} {state}" for state in _STATES if (count := record.count(state)))
    tiles = [_tile_of_best(best, one) for one in record.objectives[:_TILES_OF_BEST] if best is not None]
    tiles.append(Tile(name="trials", value=str(len(record.trials)), detail=ended))
    tiles.append(
        Tile(name="Pareto set", value=str(len(record.pareto)), detail="trials that no other beats in all objectives")
    )
    tiles.append(Tile(name="took", value=seconds_text(record.told.get("wall_seconds")), detail=_budget(record)))
    tiles += _bill(record)
    share = known(wasted.get("share"))
    if share is not None:
        tiles.append(
            Tile(
                name="ended early", value=percent(share), detail="of all seconds of training went into trials that did"
            )
        )
    return tuple(tiles)


def _bill(record: SweepRecord) -> list[Tile]:
    """Beside the cost of training what all of it came to: machines are paid also while they start, judge and save."""
    whole, training = (known(record.part("bill").get(name)) for name in ("whole", "training"))
    if whole is None or training is None:
        return []
    detail = f"{number(training)} of it for seconds of training; the rest for starts, judgements, checkpoints and "
    detail += "measuring alone; without evaluations"
    return [Tile(name=f"paid, {record.currency}" if record.currency else "paid", value=number(whole), detail=detail)]


def _tile_of_best(best: Trial, one: Objective) -> Tile:
    reading = best.readings.get(one.name)
    value = reading.measured.value if reading is not None else None
    return Tile(name=one.head, value=one.text(value), detail=reading.said(one.unit) if reading else "")


def _budget(record: SweepRecord) -> str:
    told = record.part("budget")
    unit, amount = str(told.get("unit") or ""), known(told.get("amount"))
    if amount is None:
        return ""
    return f"{seconds_text(amount)} of training each" if unit == "seconds" else f"{number(amount)} {unit} each"


# ---- the end ---------------------------------------------------------------------------------------------------------


def _commands(record: SweepRecord) -> Commands:
    lines = [("Go on with the sweep, or start it again after it was ended", f"cineray sweep {_quoted(record.uri)}")]
    lines.append(
        ("The same sweep again, in a new folder", f"cineray sweep {_quoted(join_uri(record.uri, 'sweep.yaml'))}")
    )
    best = record.best
    if best is not None:
        job = str(record.told.get("best_job") or "best.yaml")
        told = "Train the best, from the start"
        if best.generations > 1:
            told = "Train with the best's last values, from the start, which nobody has done yet"
        lines.insert(0, (told, f"cineray train {_quoted(join_uri(record.uri, job))}"))
        if best.run:
            run = best.run if best.run.startswith("/") or "://" in best.run else join_uri(record.uri, best.run)
            lines.insert(1, ("What the best learnt in the sweep", f"cineray report {_quoted(run)}"))
    return Commands(lines=tuple(lines))


def _quoted(uri: str) -> str:
    return shlex.quote(uri)


def _record(record: SweepRecord) -> tuple[Part, ...]:
    parts: list[Part] = []
    for name in ("budget", "prices", "bill", "search", "scheduler", "wasted", "leaks"):
        told = record.part(name)
        if told:
            kept = {key: value for key, value in told.items() if value is not None}
            parts += [Heading(text=name.capitalize()), Facts(pairs=pairs_of(kept))]
    for name in ("objectives", "parameters"):
        pairs = {str(one.get("name")): _told_of(one) for one in objects_of(record.told.get(name))}
        if pairs:
            parts += [Heading(text=name.capitalize()), Facts(pairs=pairs_of(pairs))]
    return (Fold(title="Budget, search, scheduler, objectives, space", parts=tuple(parts)),) if parts else ()


def _told_of(one: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key != "name" and value not in (None, "")}
