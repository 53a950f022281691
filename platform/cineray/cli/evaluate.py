"""`cineray evaluate RUN`: is a checkpoint good? `--against RUN2`: is it better? `--pipeline A B`: is it the data?"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from cineray.cli.output import JSON, facts_table, plain, show, visible, words
from cineray.errors import UsageError

_CONTROLS = {"real": "real", "labels permuted": "permuted", "frames shuffled": "shuffled", "untrained": "untrained"}
"""Name in a record -> head of a column."""
_A_PATH = re.compile(r"weights\.\w+=")
_HALVES = ("real halves", "as few samples")
_GOOD = {"higher": "up", "lower": "down", "like real": "as real"}

SETS: Any = typer.Option([], "--set", help="Replace a field: --set clips=256, --set weights.fvd=i3d.pt; repeat.")


def evaluate_command(
    run: str = typer.Argument("", help="The folder of a run; with --pipeline, the first of two jobs or runs."),
    other: str = typer.Argument("", help="With --pipeline: the second job or run."),
    sets: list[str] = SETS,
    step: int | None = typer.Option(None, min=0, help="The checkpoint of this step. Default: the newest whole one."),
    against: str = typer.Option("", help="Another run: say whether it differs from RUN by more than noise."),
    against_step: int | None = typer.Option(None, min=0, help="The other run's checkpoint. Default: its newest."),
    pipeline: bool = typer.Option(False, help="Hold two recipes against each other: the same clips through both."),
    out: Path = typer.Option(Path("pipeline-out"), help="With --pipeline: where the clips and the record go."),
    as_json: bool | None = JSON,
) -> None:
    """Judge a run's checkpoint: its clips beside real ones and beside what cannot be good, with 95 % intervals."""
    _check_told(run, other, against=against, pipeline=pipeline, against_step=against_step)
    if pipeline:
        facts = _pipeline(run, other, sets, out)
        show(facts, as_json=as_json, table=_pipeline_tables(facts))
    elif against:
        facts = _comparison(run, against, sets, step, against_step)
        show(facts, as_json=as_json, table=_comparison_tables(facts))
    else:
        facts = _evaluation(run, sets, step)
        show(facts, as_json=as_json, table=_evaluation_tables(facts))


def _check_told(run: str, other: str, *, against: str, pipeline: bool, against_step: int | None) -> None:
    if not run or (pipeline and not other):
        wanted = "two jobs or runs: cineray evaluate --pipeline A B" if pipeline else "a run: cineray evaluate RUN"
        raise UsageError(f"{'one was' if run else 'none was'} given; wanted {wanted}")
    if other and not pipeline:
        raise UsageError(f"{run} and {other} were given; say --against {other} to compare two runs, or --pipeline")
    if pipeline and against:
        raise UsageError("--pipeline compares recipes and --against compares runs; say one of them")
    if against_step is not None and not against:
        raise UsageError("--against-step names a checkpoint of the run of --against; give that too")


def _evaluation(uri: str, sets: list[str], step: int | None) -> dict[str, Any]:
    from cineray.config import override
    from cineray.evaluate.config import EvaluateConfig
    from cineray.evaluate.procedure import evaluate
    from cineray.train.run_folder import RunFolder

    with _telling() as tell:
        found = evaluate(RunFolder.open(uri), override(EvaluateConfig(), sets), step=step, tell=tell)
    return {"folder": found.uri, **found.facts}


def _comparison(uri: str, against: str, sets: list[str], step: int | None, other_step: int | None) -> dict[str, Any]:
    from cineray.config import override
    from cineray.evaluate.compare import compare_runs
    from cineray.evaluate.config import EvaluateConfig
    from cineray.train.run_folder import RunFolder

    a, b, config = RunFolder.open(uri), RunFolder.open(against), override(EvaluateConfig(), sets)
    with _telling() as tell:
        found = compare_runs(a, b, config, step_a=step, step_b=other_step, tell=tell)
    return {"run": a.uri, "checkpoint": found.facts["a"]["checkpoint"], "folder": found.uri, **found.facts}


def _pipeline(one: str, other: str, sets: list[str], out: Path) -> dict[str, Any]:
    from cineray.cli.job import data_job
    from cineray.config import override
    from cineray.decode import DecodeOptions
    from cineray.evaluate.config import PipelineConfig
    from cineray.evaluate.pipeline_check import check_pipelines
    from cineray.evaluate.pipeline_files import write_check
    from cineray.feed import FeedSpec

    config = override(PipelineConfig(), sets)
    a, b = (
        FeedSpec(recipe=data_job(where, []).recipe, seed=config.seed, decode=DecodeOptions(decoder=decoder)).pinned()
        for where, decoder in ((one, config.decoder_a), (other, config.decoder_b))
    )
    facts, exported = check_pipelines(a, b, config)
    told = write_check(out, {"a": one, "b": other, **facts}, exported.pairs, config.shown)
    return {**told, "folder": str(out.absolute())}


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """What is being done, on one line that is written over; silent where nobody is watching."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with words.status("") as line:
        yield line.update


# ---- tables ----------------------------------------------------------------------------------------------------------


def _evaluation_tables(facts: Mapping[str, Any]) -> list[Table]:
    record, loss = facts["record"], facts["loss"]
    sampler = record["sampler"]
    shown = {
        "run": facts["run"],
        "checkpoint": f"{facts['checkpoint']:,} steps, {facts['weights']} weights",
        "clips": _clips(record),
        "sampler": f"{sampler['method']}, {sampler['steps']} steps, guidance {sampler['guidance']:g}",
        "losses": _losses(loss),
        "not measured": _skipped(facts["metrics"]),
        "metrics that notice": _noticed(facts["sensitivity"]),
        "folder": facts["folder"],
        "verdict": facts["verdict"],
    }
    tables = [_metrics_table("metrics", facts["metrics"])]
    for part, title in (("held_out", "combinations that no training clip has"), ("seen", "combinations seen")):
        found = facts["parts"].get(part)
        if found:
            tables.append(_metrics_table(f"{title} ({found['n']} clips)", _of_words(found["metrics"])))
    return [*tables, facts_table({name: value for name, value in shown.items() if value})]


def _clips(record: Mapping[str, Any]) -> str:
    """How many of which, and whether the real ones are different videos or the same ones again and again."""
    real = "held out" if record["real_from"] == "held_out" else "real (of training: none are held out)"
    rows = f" (of {record['real_rows']} clips of the lake)" if record["real_rows"] < record["real_clips"] else ""
    return f"{record['clips']} generated, {record['real_clips']} {real}{rows}, {record['training_clips']} of training"


def _metrics_table(title: str, metrics: Sequence[Mapping[str, Any]]) -> Table:
    """Metric, value [low, high], which way is good, and what it is read against."""
    measured = [one for one in metrics if not one["skipped"]]
    columns = [name for name in _CONTROLS if any(name in one["controls"] for one in measured)]
    halves = any(_HALVES[0] in one["controls"] for one in measured)
    table = Table(title=f"\n{title}", title_justify="left", box=None, header_style="bold", pad_edge=False)
    for head in ("metric", "value \\[95 %]", "good"):
        table.add_column(head, no_wrap=True)
    for column in columns:
        table.add_column(_CONTROLS[column], justify="right", no_wrap=True)
    if halves:
        table.add_column("halves: real, own", justify="right")
    for one in measured:
        told = {name: _short(control["value"]) for name, control in one["controls"].items()}
        cells = [told.get(name, "") for name in columns]
        cells += [", ".join(told[name] for name in _HALVES if name in told)] if halves else []
        table.add_row(plain(one["name"]), _value(one), _GOOD[one["better"]], *cells)
    return table


def _value(one: Mapping[str, Any]) -> str:
    """`0.98 [0.93, 1.00]`; the bracket is text, not markup."""
    if one["low"] is None or one["high"] is None:
        return _short(one["value"])
    return f"{_short(one['value'])} \\[{_short(one['low'])}, {_short(one['high'])}]"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _of_words(metrics: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [one for one in metrics if one["group"] == "motion"]


def _losses(loss: Mapping[str, Any]) -> str:
    if "skipped" in loss:
        return str(loss["skipped"])
    named = (
        ("headline", loss["headline"]),
        ("wrong over right", loss["wrong_over_right"]),
        ("skill over the best linear denoiser", loss["skill_over_linear"]),
    )
    return ", ".join(f"{name} {value:.3g}" for name, value in named if value is not None)


def _skipped(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Each with its reason; those of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for one in metrics:
        if one["skipped"]:
            by_reason.setdefault(_A_PATH.sub("weights.NETWORK=", one["skipped"]), []).append(one["name"])
    return "\n".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())


def _noticed(rows: Sequence[Mapping[str, Any]]) -> str:
    """Of the sensitivity test."""
    if not rows:
        return ""
    blind = [f"{row['metric']} ({row['corruption']})" for row in rows if not row["ranks"]]
    told = f"{len(rows) - len(blind)} of {len(rows)} rank what is spoilt on purpose"
    return f"{told}; not {', '.join(blind)}" if blind else told


def _comparison_tables(facts: Mapping[str, Any]) -> list[Table]:
    title = f"\nA: {facts['a']['name']}    B: {facts['b']['name']}"
    table = Table(title=visible(title), title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in ("metric", "A", "B", "B less A [95 % interval]", "beyond noise", "better", "note"):
        table.add_column(column, no_wrap=column in {"metric", "B less A [95 % interval]"}, overflow="fold")
    for row in facts["metrics"]:
        if row["a"]["skipped"] and row["b"]["skipped"]:
            continue
        difference = _value({"value": row["difference"], "low": row["low"], "high": row["high"]})
        sure = "" if row["difference"] is None else plain(row["beyond_noise"])
        cells = (_short(row["a"]["value"]), _short(row["b"]["value"]), difference, sure, row["winner"].upper())
        table.add_row(plain(row["name"]), *cells, row["note"] and plain(row["note"]))
    return [table, facts_table({"folder": facts["folder"], "verdict": facts["verdict"]})]


def _pipeline_tables(facts: Mapping[str, Any]) -> list[Table]:
    measures = Table(title="\nclips as A and as B show them", title_justify="left", box=None, header_style="bold")
    for column in ("measure", "A", "B", "B less A [95 % interval]", "what it is"):
        measures.add_column(column, overflow="fold")
    for row in facts["measures"]:
        apart = _value({"value": row["difference"], "low": row["low"], "high": row["high"]})
        measures.add_row(plain(row["name"]), _short(row["a"]), _short(row["b"]), apart, plain(row["says"]))
    findings = Table(title="\nfindings", title_justify="left", box=None, header_style="bold")
    for column in ("part", "severity", "finding"):
        findings.add_column(column, overflow="fold")
    for found in facts["findings"]:
        colour = {"red flag": "red", "change": "yellow"}.get(found["severity"], "green")
        findings.add_row(plain(found["part"]), f"[{colour}]{found['severity']}[/]", plain(found["text"]))
    shown = {"clips": facts["clips"], "differ in": facts["differ_in"], "folder": facts["folder"]}
    return [measures, findings, facts_table({**shown, "verdict": facts["verdict"]})]
