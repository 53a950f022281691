"""`cineray`: the commands, and what happens when one fails.

An error that cineray raised on purpose is printed as its sentence, without a traceback, and ends with its exit code:
1 failed, 2 usage or configuration, 3 finished with rejects above the limit. Anything else is a defect, and keeps its
traceback.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

import typer

from cineray import __version__
from cineray.cli import cluster as cluster_cli
from cineray.cli import doctor as doctor_cli
from cineray.cli import lake as lake_cli
from cineray.cli.batch import batch_command
from cineray.cli.bench import bench_command
from cineray.cli.curate import curate_command, explain_command
from cineray.cli.demo import demo
from cineray.cli.evaluate import evaluate_command
from cineray.cli.export import export_command
from cineray.cli.ingest import ingest_command
from cineray.cli.jobs import app as jobs_app
from cineray.cli.latents import latents_command
from cineray.cli.output import visible, words
from cineray.cli.plan import plan_command
from cineray.cli.report import report_command
from cineray.cli.sample import sample_command
from cineray.cli.standardise import card_command, splits_command, standardise_command
from cineray.cli.submit import submit_command
from cineray.cli.sweep import sweep_command
from cineray.cli.top import top_command
from cineray.cli.train import train_command
from cineray.errors import CinerayError, Interrupted
from cineray.telemetry.log_lines import log_lines

app = typer.Typer(
    name="cineray",
    help="Index video once, address every batch, train and sweep by what it costs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("doctor")(doctor_cli.doctor)
app.command("ingest")(ingest_command)
app.command("curate")(curate_command)
lake_cli.app.command("explain")(explain_command)
app.command("standardise")(standardise_command)
lake_cli.app.command("card")(card_command)
lake_cli.app.command("splits")(splits_command)
app.add_typer(lake_cli.app, name="lake")
app.command("plan")(plan_command)
app.command("batch")(batch_command)
app.command("bench")(bench_command)
app.command("latents")(latents_command)
app.command("train")(train_command)
app.command("export")(export_command)
app.command("evaluate")(evaluate_command)
app.command("sample")(sample_command)
app.command("sweep")(sweep_command)
app.command("report")(report_command)
app.command("submit", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(submit_command)
app.add_typer(jobs_app, name="jobs")
app.command("top")(top_command)
app.add_typer(cluster_cli.app, name="cluster")
app.command("demo")(demo)


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    """Index video once, address every batch, train and sweep by what it costs."""


def main() -> None:
    """Run the command line; every way out has its exit code."""
    # Before torch is loaded: its threads wait for each other by spinning. On two cores that decoded at the same time a
    # small model trained 14 times faster when they wait asleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _stop)  # a job that is told to end puts its work away, as with Ctrl-C
    try:
        log_lines()
        app()
    except CinerayError as error:
        words.print("[bold red]error[/]: " if not isinstance(error, Interrupted) else "", end="")
        words.print(visible(str(error)), markup=False, soft_wrap=True)
        _leave(error.exit_code)
    except KeyboardInterrupt:
        words.print("stopped")
        _leave(Interrupted.exit_code)
    except BrokenPipeError:
        _leave(0)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _leave(code: int) -> NoReturn:
    """End at once. What Ray's and Arrow's threads would do at a slow end can only go wrong after an interruption."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
