"""`cineray demo`: from nothing to generated video that provably moves as it was told. What `make demo` runs.

    made videos, a few of them broken  ->  lake  ->  plan  ->  run  ->  evaluation  ->  report.html

Each stage is what the command of its name does. What is true of the made videos goes into the lake as the layer
`truth`, so that the evaluation can say of each generated clip whether it shows what was asked for.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import typer
from rich.table import Table

from cineray.cli.demo_table import demo_tables
from cineray.cli.ingest import report_tables
from cineray.cli.lake import version_tables
from cineray.cli.output import JSON, bytes_text, facts_table, show, wants_json, words
from cineray.cli.plan import plan_facts, plan_tables
from cineray.cli.progress import ingest_progress
from cineray.cli.train import train_tables, trained
from cineray.errors import UsageError
from cineray.ingest import EngineConfig, IngestConfig, annotate, ingest, whoami
from cineray.lake import Lake

MARKER = ".cineray-demo"
WorldName = Literal["shapes", "laps"]
VIDEOS: dict[WorldName, dict[str, int]] = {
    # A second, in which no shape leaves the picture, at twice the size that is trained on.
    "shapes": {"frames": 24, "size_px": 64},
    # Even frames, so that every n-th is exactly n twentieths of a second later; enough of them for eight every 0.4 s.
    "laps": {"frames": 72, "rate": 20, "size_px": 32, "variable_rate_every": 0},
}
"""How the videos of each world are made."""

Stage = Literal["ingest", "plan", "train", "evaluate", "report"]
Told = tuple[dict[str, Any], list[Table]]
"""What a stage found: facts for programs, tables for people."""


def demo(
    out: Path = typer.Option(Path("demo-out"), help="Where everything goes; made anew each time."),
    videos: int = typer.Option(800, min=4, help="How many videos of moving shapes to make."),
    world: WorldName = typer.Option("shapes", help="What they show; laps: one disk that goes round and round."),
    until: Stage = typer.Option("report", help="The last stage."),
    job: str = typer.Option("jobs/train_shapes.py", help="What is trained."),
    sets: list[str] = typer.Option([], "--set", help="Replace a field of the job: --set steps=50; repeat."),
    clips: int = typer.Option(128, min=2, help="How many clips are generated, to judge them."),
    as_json: bool | None = JSON,
) -> None:
    """Make videos of moving shapes, ingest them, train on them, and show what the model has learnt."""
    folder = fresh_folder(out)
    here = _Demo(folder, videos, world, job, [f"recipe.datasets.0.lake={folder / 'lake'}", *sets], clips)
    stages: dict[Stage, Callable[[], Told]] = {
        "ingest": here.ingest,
        "plan": here.plan,
        "train": here.train,
        "evaluate": here.evaluate,
        "report": here.report,
    }
    facts: dict[str, Any] = {"seconds": {}}
    for name, stage in stages.items():
        began = time.monotonic()
        told, tables = stage()
        facts["seconds"][name] = round(time.monotonic() - began, 1)
        facts |= told
        if not wants_json(as_json):
            show(told, as_json=False, table=tables)
        words.print(f"[dim]{name}: {facts['seconds'][name]} s[/]\n")
        if name == until:
            break
    if wants_json(as_json):
        show(facts, as_json=True)
    here.say_what_next(facts)


@dataclass(frozen=True, slots=True)
class _Demo:
    """The stages, in order; each finds what the ones before it left in the folder."""

    folder: Path
    videos: int
    world: WorldName
    job: str
    sets: list[str]
    clips: int

    @property
    def lake(self) -> str:
        return str(self.folder / "lake")

    @property
    def run(self) -> str:
        return str(self.folder / "run")

    def ingest(self) -> Told:
        """Videos are made, and brought into a lake with all that is true of them."""
        from cineray.testing import broken_videos, make_shapes, write_splits, write_truth
        from cineray.testing.shape_facts import WORLDS

        source, began = self.folder / "videos", time.monotonic()
        made = make_shapes(source, videos=self.videos, world=WORLDS[self.world], **VIDEOS[self.world])
        broken = broken_videos(source)
        write_splits(source, made)
        words.print(
            f"made {len(made)} videos of moving shapes and {len(broken)} broken files in {source} "
            f"({time.monotonic() - began:.1f} s)",
            soft_wrap=True,
        )
        config = IngestConfig(source=str(source), lake=self.lake, max_reject_fraction=0.5)
        with ingest_progress() as on_progress:
            done = ingest(config, EngineConfig(engine="local"), on_progress=on_progress, message="moving shapes")
        lake, rows = Lake.open(self.lake), write_truth(self.folder / "truth.jsonl", made)
        version = annotate(lake, "truth", rows, author=whoami(), command="cineray demo", message="what they show")
        shown = lake.show(version)
        tables = [*report_tables(done), *version_tables(shown, title="\nthe version with what is true of them")]
        return {"lake": self.lake, "ingest": done.to_dict(), "version": shown}, tables

    def plan(self) -> Told:
        """What the job will read, decode and cost."""
        facts = plan_facts(self.job, self.sets)
        return {"plan": facts}, plan_tables(facts)

    def train(self) -> Told:
        """The job's run."""
        facts = trained(self.job, self.sets, self.run)
        return {"train": facts}, train_tables(facts)

    def evaluate(self) -> Told:
        """The newest checkpoint, judged."""
        from cineray.evaluate import EvaluateConfig, evaluate
        from cineray.train import RunFolder

        config = EvaluateConfig(clips=self.clips)
        facts = dict(evaluate(RunFolder.open(self.run), config, tell=_say).facts)
        return {"evaluate": facts}, demo_tables(facts)

    def report(self) -> Told:
        """Everything about the run, to look at."""
        from cineray.report import write_report

        made = write_report(self.run, str(self.folder / "report.html"))
        return {"report": made.path}, [facts_table({"report": made.path, "size": bytes_text(made.size_bytes)})]

    def say_what_next(self, facts: dict[str, Any]) -> None:
        """Commands to go on with; the report's path, where there is one, comes last."""
        told = f"look closer:\n  cineray lake query {self.lake} --columns label,captions,num_frames,variable_rate"
        told += f"\n  cineray sample {self.run}" if "train" in facts else ""
        told += f"\n\nreport {facts['report']}" if "report" in facts else ""
        words.print(told, markup=False, soft_wrap=True)


def _say(what: str) -> None:
    words.print(f"[dim]{what}[/]")


def fresh_folder(out: Path) -> Path:
    """An empty folder for the demo; one that the demo made before is emptied, anything else is left alone."""
    if out.exists() and any(out.iterdir()):
        if not (out / MARKER).exists():
            raise UsageError(f"--out {out} is not empty and was not made by the demo; name another folder")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).write_text("made by `cineray demo`, which empties this folder when it is run again\n")
    return out
