"""`cineray top ADDR`: a cluster's runs and nodes on a terminal, renewed every few seconds; for programs, one object."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from cineray.cli.output import JSON, bytes_text, facts_table, plain, show, wants_json

if TYPE_CHECKING:
    from cineray.launch.observe.figures import Figures, RunFigures

_COLUMNS = ("run", "step", "loss", "clips/s", "waits", "goodput", "MFU", "decoded/used", "replaced", "newest", "saved")


def top_command(
    address: str = typer.Argument(envvar="CINERAY_ADDRESS", help="The cluster's dashboard: http://HOST:8265."),
    every: float = typer.Option(2.0, min=0.2, help="Seconds between two looks."),
    once: bool = typer.Option(False, help="Look once and end; the default where no terminal is."),
    core_hour: float = typer.Option(0.0, min=0, help="The price of a core for an hour, for the cost."),
    gpu_hour: float = typer.Option(0.0, min=0, help="The price of a GPU for an hour."),
    as_json: bool | None = JSON,
) -> None:
    """Show what a cluster's runs do now: speed, waiting for data, goodput, queues, memory, cost."""
    from cineray.launch.clients import open_cluster
    from cineray.launch.observe.figures import figures

    cluster = open_cluster(address)
    prices = {"core_hour": core_hour, "gpu_hour": gpu_hour}
    if once or wants_json(as_json):
        now = figures(cluster)
        show(facts_of(now, **prices), as_json=as_json, table=tables_of(now, **prices))
        return
    with _screen() as live:
        while True:
            live.update(Group(*tables_of(figures(cluster), **prices)), refresh=True)
            time.sleep(every)


def facts_of(now: Figures, *, core_hour: float, gpu_hour: float) -> dict[str, Any]:
    """What `--json` prints; what is not known is null."""
    facts = asdict(now)
    facts["runs"] = [{name: _null(value) for name, value in asdict(run).items()} for run in now.runs]
    cost = now.dollars_per_hour(core_hour=core_hour, gpu_hour=gpu_hour)
    return {name: _null(value) for name, value in facts.items()} | {"dollars_per_hour": cost}


def tables_of(now: Figures, *, core_hour: float, gpu_hour: float) -> list[Table]:
    """The runs, and below them the cluster that they share."""
    runs = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        runs.add_column(column, overflow="fold", justify="left" if column == "run" else "right")
    for run in now.runs:
        runs.add_row(*_cells(run))
    cost = now.dollars_per_hour(core_hour=core_hour, gpu_hour=gpu_hour)
    speed = sum(run.clips_per_s for run in now.runs if not math.isnan(run.clips_per_s))
    shared = {
        "runs": _runs(now),
        "nodes": f"{now.nodes}",
        "cores": f"{_number(now.cores_used, '{:g}')} of {now.cores:g} in use",
        "GPUs": f"{_number(now.gpus_used, '{:g}')} of {now.gpus:g} in use",
        "rows": "{} to decode, {} at it, {} ahead".format(
            *(_number(one, "{:g}") for one in (now.rows_waiting, now.rows_decoding, now.rows_ahead))
        ),
        "object store": f"{_bytes(now.object_store_bytes)}, {_bytes(now.spilled_bytes)} spilled",
        "fullest disk": _number(now.fullest_disk_percent, "{:.0f} %"),
        **({"cost": _cost(cost, speed)} if cost else {}),
        **({"not reached": ", ".join(now.silent)} if now.silent else {}),
    }
    return [*([runs] if now.runs else []), facts_table(shared)]


def _runs(now: Figures) -> str:
    """How many; where ports that may know of some do not answer, that is no news of none."""
    if now.runs:
        return f"{len(now.runs)}"
    if not now.silent:
        return "none is under way"
    return (
        f"not known: {len(now.silent)} of {now.ports} metrics ports do not answer from here. They are open to the "
        "cluster's own network; look from its head: kubectl exec, or ray exec FILE 'cineray top ...'"
    )


def _cells(run: RunFigures) -> list[str]:
    return [
        plain(run.run),
        f"{run.step:,}",
        _number(run.loss, "{:.4g}"),
        _number(run.clips_per_s, "{:,.1f}"),
        _number(run.data_wait_fraction, "{:.0%}"),
        _number(run.goodput, "{:.0%}"),
        _number(run.mfu, "{:.0%}"),
        _number(run.decode_waste, "{:.2f}"),
        f"{run.substituted:,}",
        _ago(run.step_age_s),
        _ago(run.checkpoint_age_s),
    ]


def _cost(per_hour: float, clips_per_s: float) -> str:
    per_thousand = f", ${per_hour / 3.6 / clips_per_s:,.4f} per 1000 clips" if clips_per_s else ""
    return f"${per_hour:,.2f} an hour{per_thousand}"


def _ago(seconds: float) -> str:
    if math.isnan(seconds):
        return "-"
    return f"{seconds:.0f} s ago" if seconds < 100 else f"{seconds / 60:.0f} min ago"


def _bytes(value: float) -> str:
    return "-" if math.isnan(value) else bytes_text(int(value))


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else form.format(value)


def _null(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


@contextmanager
def _screen() -> Iterator[Live]:
    """The terminal's other screen; Ctrl-C leaves it."""
    with Live(console=Console(), screen=True, auto_refresh=False) as live:
        yield live
