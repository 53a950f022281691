"""`cineray export RUN OUT`: the averaged weights of a run's checkpoint as one safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from cineray.cli.output import JSON, show
from cineray.errors import CinerayError


def export_command(
    run: str = typer.Argument(help="The folder of a run."),
    out: str = typer.Argument(help="The file to write: a path or an object's address."),
    step: int | None = typer.Option(None, min=0, help="The checkpoint of this step. Default: the newest whole one."),
    best: bool = typer.Option(False, help="The checkpoint with the best checkpoint.best_metric instead."),
    part: Literal["ema", "model"] = typer.Option("ema", help="The average of the weights, or the weights themselves."),
    dtype: Literal["fp32", "bf16"] = typer.Option("fp32", help="What they are written as."),
    as_json: bool | None = JSON,
) -> None:
    """Write a run's weights as safetensors: no code in it, and its metadata says which run, step and data made it."""
    import torch

    from cineray.cli.job import read_job
    from cineray.train.checkpoint import Checkpoints
    from cineray.train.config import LearningJob
    from cineray.train.export import export_weights
    from cineray.train.run_folder import RunFolder

    opened, job = RunFolder.open(run), read_job(run, [])
    if not isinstance(job, LearningJob):
        raise CinerayError(f"{run} is the run of a {type(job).__name__}, which has no weights")
    checkpoints = Checkpoints(opened, job.checkpoint)
    info = checkpoints.best() if best else checkpoints.latest() if step is None else checkpoints.at(step)
    if info is None:
        which = (
            "best-judged checkpoint" if best else "whole checkpoint" if step is None else f"checkpoint of step {step}"
        )
        raise CinerayError(f"the run {run} has no {which}; go on with it: cineray train {run}")
    if "://" not in out:
        out = str(Path(out).absolute())
    export_weights(opened, info, out, part=part, dtype=torch.bfloat16 if dtype == "bf16" else None)
    show({"run": opened.uri, "step": info.step, "part": part, "dtype": dtype, "file": out}, as_json=as_json)
