"""`cineray plan JOB`: what a plan will show, read, decode and cost, before any of it is spent."""

from __future__ import annotations

from typing import Any

import typer
from rich.table import Table

from cineray.cli.job import JOB, SETS, data_spec
from cineray.cli.output import JSON, bytes_text, facts_table, show, wants_json


def plan_command(
    job: str = JOB,
    sets: list[str] = SETS,
    step_seconds: float = typer.Option(1.0, min=1e-6, help="How long a training step takes; for the cores per GPU."),
    gpus: int = typer.Option(1, min=1, help="GPUs that share a step."),
    visits: int = typer.Option(256, min=1, help="How many visits to look at for the estimate."),
    as_json: bool | None = JSON,
) -> None:
    """What the plan will show, read, decode and cost: nothing is decoded."""
    facts = plan_facts(job, sets, step_seconds=step_seconds, gpus=gpus, visits=visits)
    if not wants_json(as_json):
        typer.echo(facts["tree"] + "\n")
    show(facts, as_json=as_json, table=plan_tables(facts))


def plan_facts(
    job: str, sets: list[str], *, step_seconds: float = 1.0, gpus: int = 1, visits: int = 256
) -> dict[str, Any]:
    """What `--json` prints of a job's plan."""
    with data_spec(job, sets) as (told, spec):
        plan = spec.open().plan
    cost = plan.cost(visits=visits)
    return {
        "job": told.name,
        "fingerprint": plan.fingerprint,
        **cost.to_dict(),
        "step_seconds": step_seconds,
        "cpu_cores_per_gpu": cost.cpu_cores_per_gpu(step_seconds, gpus),
        "tree": plan.tree(),
    }


def plan_tables(facts: dict[str, Any]) -> list[Table]:
    """What a person wants to know of a plan."""
    buckets = Table(title="\nbuckets", title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in ("frames", "height", "width", "clips per step", "clips", "tokens per step"):
        buckets.add_column(column, justify="right")
    for bucket in facts["buckets"]:
        names = ("frames", "height", "width", "clips_per_step", "clips", "tokens_per_step")
        buckets.add_row(*(f"{bucket[name]:,}" for name in names))
    decoded, least = facts["frames_decoded_per_frame_used"], facts["least_decoded_per_frame_used"]
    alone = facts["alone_decoded_per_frame_used"]
    every = facts["visits_per_epoch"]
    shown = {
        "plan": facts["fingerprint"][:16],
        "clips": facts["clips"],
        "steps per epoch": facts["steps_per_epoch"],
        "decoded per frame used": f"{decoded:.2f} (least possible {least:.2f}; {alone:.2f} if each were alone)",
        "read per epoch": bytes_text(facts["bytes_per_epoch"]),
        "decode per epoch": f"{facts['decode_cpu_seconds_per_epoch']:,.1f} CPU seconds",
        "padding": f"{100 * facts['padding_fraction']:.1f} %",
        "cores per GPU": f"{facts['cpu_cores_per_gpu']:.1f} for steps of {facts['step_seconds']:g} s",
        "estimated from": f"{min(facts['sampled_visits'], every):,} of {every:,} visits",
    }
    return [facts_table(shown), buckets]
