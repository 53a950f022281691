"""The tables at a sweep's end: its facts go in; trials from the best on, each figure with its interval and how it was
measured, what one should know before believing them, and what to do next come out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from cineray.cli.output import facts_table, plain

MOST_ROWS = 24
ONE_EACH = "each trial is one training: small differences in quality may be its seed's"
_NOTICED = 0.03
"""Budgets that differ by less are as equal as they can be."""


def sweep_tables(facts: Mapping[str, Any]) -> list[Table]:
    """The trials, who ended early and why, the notes, and below them what the sweep comes to."""
    shown = in_order(facts)
    names = list(dict.fromkeys(name for trial in shown for name in trial["values"]))
    table = Table(title="\ntrials", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.padding = (0, 1, 0, 0)  # with two spaces a common sweep has no room in 80 columns
    table.add_column("trial", justify="right")
    for column in ("", *names):
        table.add_column(plain(column.replace("_", " ")) if column else "")
    for one in facts["objectives"]:
        wide = max((len(_figure(trial["objectives"].get(one["name"]))) for trial in shown), default=1)
        # No digit is lost, nor goes to another line.
        table.add_column(plain(one.get("label") or one["name"]), justify="right", overflow="fold", min_width=wide)
    table.add_column("bound by")
    for trial in shown[:MOST_ROWS]:
        table.add_row(*_cells(trial, names, facts["objectives"]))
    table.caption, table.caption_justify = _caption(shown, facts.get("concurrent")), "left"
    return [table, *_early(shown[:MOST_ROWS]), *_notes(facts), facts_table(_summary(facts, len(shown)))]


def in_order(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The best, the Pareto set, those that had their whole budget, the others; each by the first objective."""
    first = facts["objectives"][0]
    sign = 1 if first.get("goal") == "min" else -1

    def key(trial: Mapping[str, Any]) -> tuple[int, bool, float, int]:
        value = (trial["objectives"].get(first["name"]) or {}).get("value")
        place = 0 if trial["best"] else 1 if trial["pareto"] else 2 if trial["state"] == "done" else 3
        return place, value is None, sign * value if value is not None else 0.0, trial["number"]

    return sorted(facts["trials"], key=key)


def _caption(trials: Sequence[Mapping[str, Any]], concurrent: int | None) -> str:
    """How to read the figures. What was measured in one training says nothing of how much trainings differ."""
    figures = [figure for trial in trials for figure in trial["objectives"].values()]
    told = ["± is half of the 95 % interval"] if any(figure.get("low") is not None for figure in figures) else []
    if any(figure.get("measured") == "alone" for figure in figures):
        repeats = min(int((trial.get("alone") or {}).get("repeats") or 1) for trial in trials if trial.get("alone"))
        trainings = "one training, and its ± is within that" if repeats == 1 else f"{repeats} trainings"
        beside = "one trial at a time, with its first seconds" if concurrent == 1 else "beside other trials"
        told.append(f"* was measured again, alone, in {trainings}; all else in the sweep, {beside}")
    return "; ".join([*told, ONE_EACH])


def _notes(facts: Mapping[str, Any]) -> list[Table]:
    """What keeps these figures from being what they seem."""
    notes = facts.get("notes") or []
    table = Table(title="\nto know before choosing", title_justify="left", box=None, pad_edge=False, show_header=False)
    for note in notes:
        table.add_row("[yellow]![/]", plain(note))
    return [table] if notes else []


def _cells(trial: Mapping[str, Any], names: Sequence[str], objectives: Sequence[Mapping[str, Any]]) -> list[str]:
    standing = "[bold green]best[/]" if trial["best"] else "Pareto" if trial["pareto"] else f"[dim]{trial['state']}[/]"
    figures = [_figure(trial["objectives"].get(one["name"])) for one in objectives]
    values = [plain(trial["values"].get(name)) for name in names]
    return [str(trial["number"]), standing, *values, *figures, plain(trial.get("bound"))]


def _figure(told: Mapping[str, Any] | None) -> str:
    """`0.70±0.02`, the half of its 95 % interval; with a star where it was measured alone."""
    if told is None or told.get("value") is None:
        return "-"
    value, low, high = told["value"], told.get("low"), told.get("high")
    about = 0.0 if low is None or high is None else max(high - value, value - low)
    spread = f"±{about:.2g}" if about < 100 else f"±{about:,.0f}"
    return f"{plain(value)}{spread if about > 0 else ''}{'*' if told.get('measured') == 'alone' else ''}"


def _early(trials: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Those that had less than their budget, with the reason."""
    found = [trial for trial in trials if trial["state"] not in ("done", "running")]
    table = Table(title="\nended early", title_justify="left", box=None, pad_edge=False, show_header=False)
    for trial in found:
        table.add_row(plain(trial["number"]), plain(trial["state"]), plain(trial.get("why")))
    return [table] if found else []


def values_text(values: Mapping[str, Any]) -> str:
    """`stride 2, learning rate 0.00285`."""
    return ", ".join(f"{plain(name.replace('_', ' '))} {plain(value)}" for name, value in values.items())


def _summary(facts: Mapping[str, Any], trials: int) -> dict[str, Any]:
    wasted, leaks = facts.get("wasted") or {}, facts.get("leaks") or {}
    share, best = wasted.get("share"), facts.get("best")
    shown = {
        "sweep": facts["sweep"],
        "trials": _states(facts["trials"]) + (f"; {trials - MOST_ROWS} not shown" if trials > MOST_ROWS else ""),
        "took": f"{facts['wall_seconds']:,.0f} s",
        "budget": _budget(facts),
        "paid": _paid(facts),
        "measured alone": _alone(facts),
        "clip by clip": _compared(facts),
        "mattered most": _mattered(facts),
        "ended early": f"{share:.0%} of all seconds of training" if share else None,
        "left behind": _left(leaks),
        "best": "none: no trial with the whole budget has all figures"
        if best is None
        else f"trial {best}: cineray train {facts['sweep']}/{facts['best_job']}",
        "report": facts["report"],
    }
    return {name: value for name, value in shown.items() if value}


def _budget(facts: Mapping[str, Any]) -> str:
    """`600 seconds each; the trials had 97 % to 112 % of it`: the second only where it is not as good as equal."""
    told = facts.get("budget") or {}
    if not told:
        return ""
    done = [trial for trial in facts["trials"] if trial["state"] == "done"]
    shares = [float(trial["budget_share"]) for trial in done if trial.get("budget_share")]
    off = any(abs(share - 1) > _NOTICED for share in shares)
    spent = f"; the trials had {min(shares):.0%} to {max(shares):.0%} of it" if off else ""
    unit = {"seconds": "s of training", "cost": f"{_currency(facts)} of training"}.get(told["unit"], told["unit"])
    return f"{told['amount']:,g} {unit} each{spent}"


def _paid(facts: Mapping[str, Any]) -> str:
    """A machine is paid also while it starts, is judged and saves."""
    bill = facts.get("bill") or {}
    if not bill:
        return ""
    whole, training = plain(float(bill["whole"])), plain(float(bill["training"]))
    return f"about {whole} {_currency(facts)}, {training} of it for seconds of training; without evaluations"


def _currency(facts: Mapping[str, Any]) -> str:
    return plain((facts.get("prices") or {}).get("currency") or "of cost")


def _mattered(facts: Mapping[str, Any]) -> str:
    """`stride for skill, batch size for clips per s`: of each objective the parameter by which the better half of the
    trials differs most from all of them."""
    known = {name: told for name, told in (facts.get("importance") or {}).items() if told}
    most = {name: max(told, key=lambda key: told[key]) for name, told in known.items()}
    return ", ".join(f"{parameter} for {name.rpartition('/')[2]}" for name, parameter in most.items()).replace("_", " ")


def _alone(facts: Mapping[str, Any]) -> str:
    """`trial 4 118±4, trial 1 78±4 clips per second`: where trials were not chosen by that, so it has no column."""
    if any(one["name"] == "clips_per_s" for one in facts["objectives"]):
        return ""
    found = [(trial["number"], (trial.get("figures") or {}).get("clips_per_s")) for trial in in_order(facts)]
    told = [f"trial {number} {_figure(figure).rstrip('*')}" for number, figure in found if figure]
    return f"{', '.join(told)} clips per second" if told else ""


def _compared(facts: Mapping[str, Any]) -> str:
    """`skill: trials 1, 7 surely worse than the best, trial 6 within chance`, of what was held against the best on the
    same clips."""
    pairs = (facts.get("comparisons") or {}).get("pairs") or []
    labels = {one["name"]: one.get("label") or one["name"] for one in facts["objectives"]}
    told = []
    for name in dict.fromkeys(pair["objective"] for pair in pairs):
        ways: dict[str, list[str]] = {}
        for pair in (one for one in pairs if one["objective"] == name):
            way = "worse than the best" if pair["better"] == "best" else "better than the best"
            ways.setdefault(f"surely {way}" if pair["is_sure"] else "within chance", []).append(str(pair["trial"]))
        said = (f"{'trial' if len(some) == 1 else 'trials'} {', '.join(some)} {way}" for way, some in ways.items())
        told.append(f"{plain(labels.get(name, name))}: {', '.join(said)}")
    return f"{'; '.join(told)}; on the same clips, by one training each" if told else ""


def _left(leaks: Mapping[str, int]) -> str:
    told = {name.replace("_", " "): count for name, count in leaks.items() if count}
    return ", ".join(f"{count} {name if count != 1 else name.removesuffix('s')}" for name, count in told.items())


def _states(trials: Sequence[Mapping[str, Any]]) -> str:
    found = [trial["state"] for trial in trials]
    return f"{len(found)}: " + ", ".join(f"{found.count(state)} {state}" for state in dict.fromkeys(found))
