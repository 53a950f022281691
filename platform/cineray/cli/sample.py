"""`cineray sample RUN`: what a checkpoint makes of its run's fixed prompts, as clips, a grid and a contact sheet."""

from __future__ import annotations

from typing import Any

import typer
from rich.table import Table

from cineray.cli.output import JSON, facts_table, show

SETS: Any = typer.Option(
    [], "--set", help="Replace a field: --set guidance=3, method=heun, frames=16, fps=12, first_frame=true; repeat."
)


def sample_command(
    run: str = typer.Argument(help="The folder of a run."),
    sets: list[str] = SETS,
    step: int | None = typer.Option(None, min=0, help="The checkpoint of this step. Default: the newest whole one."),
    out: str = typer.Option("", help="Where the files go. Default: samples/step-N in the run's folder."),
    device: str = typer.Option("", help="Where it is computed: cpu, cuda, cuda:1. Default: a GPU where there is one."),
    as_json: bool | None = JSON,
) -> None:
    """Make clips: the same prompts and noise at every checkpoint, so that two grids can be laid side by side."""
    import torch

    from cineray.config import override
    from cineray.evaluate.sample_config import SampleConfig
    from cineray.evaluate.sample_files import sample_run
    from cineray.storage import normalise_uri
    from cineray.train.run_folder import RunFolder

    config = override(SampleConfig(), sets)
    facts = sample_run(
        RunFolder.open(run),
        config,
        step=step,
        out=normalise_uri(out) if out else "",
        device=torch.device(device) if device else None,
    )
    show(facts, as_json=as_json, table=_tables(facts))


def _tables(facts: dict[str, Any]) -> list[Table]:
    shown = {name: facts[name] for name in ("run", "checkpoint", "clips", "seconds", "folder")}
    names = [uri.rsplit("/", 1)[-1] for uri in facts["samples"]]
    named = [name for name in names if not name[:4].isdecimal()]
    return [facts_table({**shown, "files": ", ".join([*named, f"{len(names) - len(named)} clips"])})]
