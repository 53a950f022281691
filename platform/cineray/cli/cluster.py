"""`cineray cluster render|check`: a cluster's files as they are applied, fitted to a job, and what is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from cineray.cli.job import SETS, data_spec, read_job
from cineray.cli.output import JSON, facts_table, plain, show, words
from cineray.errors import UsageError

if TYPE_CHECKING:
    from cineray.config import Config
    from cineray.launch.cluster.files import ClusterFiles
    from cineray.launch.cluster.size import DecodeNeed

app = typer.Typer(no_args_is_help=True, help="Clusters to run on: print and check the files under cluster/.")

WHERE: Any = typer.Argument(
    help="An overlay (cluster/kuberay/overlays/gke) or a file of `ray up` (cluster/vm/aws.yaml)."
)
FOR: Any = typer.Option("", "--job", help="The job that it is for: a Python file, a YAML record, or a run's folder.")
RUN: Any = typer.Option("", "--measured", help="A run whose steps say how long the GPUs take for one.")
SECONDS: Any = typer.Option(0.0, min=0, help="Or that, in seconds, on all --gpus together.")
GPUS: Any = typer.Option(0, min=0, help="GPUs that train; by default as many as the job has workers.")
HEADROOM: Any = typer.Option(1.25, min=1, help="Decoding cores over what the training needs, for nodes that go.")
VISITS: Any = typer.Option(256, min=1, help="How many visits of the plan to look at for the estimate.")


@app.command("render")
def render(
    where: str = WHERE,
    job: str = FOR,
    sets: list[str] = SETS,
    measured: str = RUN,
    step_seconds: float = SECONDS,
    gpus: int = GPUS,
    headroom: float = HEADROOM,
    visits: int = VISITS,
    places: str = typer.Option(
        "", envvar="CINERAY_PLACES", help="Where the relative places of a RayJob's job lie for all pods."
    ),
    out: str = typer.Option("", "--out", help="Write to this file; by default to standard output."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object with the documents and what the job needs."),
) -> None:
    """Print a cluster's files as they are applied; with --job its pools as large as the job can use, and where it is a
    RayJob, the command that trains this job."""
    from cineray.launch.cluster.files import read_cluster
    from cineray.launch.cluster.fit import fitted
    from cineray.launch.cluster.job import with_command
    from cineray.launch.references import refuse_values

    refuse_values([("--set", one) for one in sets] + [("--places", places)], os.environ, ())

    files, need = read_cluster(where), None
    if job:
        config, need = needed(job, sets, measured, step_seconds, gpus, headroom, visits)
        files = with_command(fitted(files, need, config), job, sets, places, read_job)
        words.print(said(need), markup=False, soft_wrap=True)
        tell_command(files)
    if as_json:
        show({"documents": files.documents, "decode": need.to_dict() if need else None}, as_json=True)
    elif out:
        Path(out).write_text(files.to_yaml(), encoding="utf-8")
    else:
        typer.echo(files.to_yaml(), nl=False)


@app.command("check")
def check(
    where: str = WHERE,
    job: str = FOR,
    sets: list[str] = SETS,
    measured: str = RUN,
    step_seconds: float = SECONDS,
    gpus: int = GPUS,
    headroom: float = HEADROOM,
    visits: int = VISITS,
    crds: str = typer.Option("", "--crds", help="A folder with KubeRay's CRDs; by default $CINERAY_KUBERAY_CRDS."),
    as_json: bool | None = JSON,
) -> None:
    """Check a cluster's files: their schemas, what must be so, and with --job whether it is large enough. 1 if not."""
    from cineray.launch.cluster.check import checked
    from cineray.launch.cluster.files import read_cluster
    from cineray.launch.cluster.fit import shortages
    from cineray.launch.cluster.job import carried_files, mismatches
    from cineray.launch.cluster.schemas import Problem, crds_told

    files, need = read_cluster(where), None
    looked = checked(files, crds_told(crds))
    if job:
        config, need = needed(job, sets, measured, step_seconds, gpus, headroom, visits)
        unfit = [*shortages(files, need, config), *mismatches(files, config, carried_files(job))]
        looked.problems += [Problem(*one) for one in unfit]
    facts = {
        "where": where,
        "kind": files.kind,
        "pools": [pool_facts(pool) for pool in files.pools()],
        "decode": need.to_dict() if need else None,
        "problems": [{"where": one.where, "what": one.what} for one in looked.problems],
        "checked": looked.checked,
        "skipped": looked.skipped,
    }
    show(facts, as_json=as_json, table=check_tables(facts, need))
    raise typer.Exit(1 if looked.problems else 0)


def needed(
    job: str, sets: list[str], measured: str, step_seconds: float, gpus: int, headroom: float, visits: int
) -> tuple[Config, DecodeNeed]:
    """The job, and what its decoding takes: the cost is its plan's, the seconds are measured or told."""
    from cineray.launch.cluster.size import decode_need, measured_gpu_seconds
    from cineray.train.config import LearningJob
    from cineray.train.run_folder import is_run

    if step_seconds and measured:
        raise UsageError("--measured and --step-seconds both say how long a step takes; give one")
    measured = measured or (job if is_run(job) and not step_seconds else "")
    if not step_seconds and not measured:
        raise UsageError(
            "how many cores decode for a GPU depends on how long it takes for a step: name a run of such a job by "
            "--measured RUN, or say --step-seconds"
        )
    config = read_job(job, sets)
    gpus = gpus or (config.parallel.most_workers if isinstance(config, LearningJob) else 1)
    with data_spec(job, sets) as (_, spec):
        cost = spec.open().plan.cost(visits=visits)
    seconds = measured_gpu_seconds(measured) if measured else step_seconds * gpus
    told = f"the run {measured}" if measured else f"--step-seconds {step_seconds:g} on {gpus} GPUs"
    return config, decode_need(cost, gpus=gpus, gpu_seconds_per_step=seconds, measured=told, headroom=headroom)


def tell_command(files: ClusterFiles) -> None:
    """What a RayJob will run: its job's file must be in the image."""
    from cineray.launch.cluster.job import command_of

    command = " ".join(command_of(files))
    if command:
        words.print(f"the RayJob runs: {command}", markup=False, soft_wrap=True)
        words.print("its image must have the job's file, as that of cluster/image has jobs/", soft_wrap=True)


def said(need: DecodeNeed) -> str:
    """What a job needs, in a sentence."""
    return (
        f"{need.cores_per_gpu:.2f} decoding cores per GPU ({need.decode_cpu_seconds_per_step:.3g} CPU seconds of "
        f"decoding for {need.gpu_seconds_per_step:.3g} GPU seconds of a step, by {need.measured}); {need.cores} for "
        f"{need.gpus} GPUs with {need.headroom:g} times for room"
    )


def pool_facts(pool: Any) -> dict[str, Any]:
    """Plain values of a pool."""
    names = ("name", "role", "cpus", "gpus", "least", "most", "is_spot")
    return {name: getattr(pool, name) for name in names} | {"labels": dict(pool.labels)}


def check_tables(facts: dict[str, Any], need: DecodeNeed | None) -> list[Table]:
    """What a person wants to know of a cluster."""
    pools = Table(title="pools", title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in ("name", "role", "cpus", "gpus", "least", "most", "spot", "labels"):
        pools.add_column(column)
    for one in facts["pools"]:
        pools.add_row(
            *(
                plain(one["is_spot" if name == "spot" else name])
                for name in ("name", "role", "cpus", "gpus", "least", "most", "spot", "labels")
            )
        )
    shown = {"checked": ", ".join(facts["checked"]), "skipped": "; ".join(facts["skipped"])}
    shown |= {"decoding": said(need)} if need else {}
    tables = [pools, facts_table(shown)]
    if not facts["problems"]:
        return [*tables, facts_table({"problems": "none"})]
    wrong = Table(title="problems", title_justify="left", box=None, header_style="bold", pad_edge=False)
    wrong.add_column("where")
    wrong.add_column("what", overflow="fold")
    for one in facts["problems"]:
        wrong.add_row(plain(one["where"]), plain(one["what"]))
    return [*tables, wrong]
