"""All that a run's folder knows of the run, read once: plain values. A `RunFolder` goes in, a `RunRecord` comes out.

Nothing here needs torch, and a run that is still at work can be read at any moment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cineray.errors import CinerayError, PlaceMissing
from cineray.report.json_file import read_json
from cineray.storage import join_uri, list_objects
from cineray.train.checkpoint_manifest import CheckpointDamaged, CheckpointInfo, read_manifest, step_uri, steps_in
from cineray.train.ending import read_planned
from cineray.train.goodput import account
from cineray.train.ledger import last_of_each_step, read_all_rows
from cineray.train.run_folder import RunFolder
from cineray.train.verdict import Verdict, judge

_STEP_FOLDER = re.compile(r"/step-(\d+)(?:-[0-9a-f]+)?/([^/]+)$")
"""A second evaluation of a checkpoint, by another config, lies beside the first under a longer name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run, as far as it got."""

    run: RunFolder
    job: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...]
    all_rows: tuple[Mapping[str, Any], ...]
    """Every row of the ledger, also of steps that were done again."""
    rows: tuple[Mapping[str, Any], ...]
    """One row per step."""
    attempts: tuple[Mapping[str, Any], ...]
    checkpoints: tuple[CheckpointInfo, ...]
    baselines: Mapping[str, list[float]]
    """Loss by noise level of the mean clip and of the linear denoiser."""
    samples: Mapping[int, str]
    """Step -> folder of its samples."""
    evaluations: dict[int, tuple[str, Mapping[str, Any]]]
    """Step -> folder, and its `evaluation.json`."""
    goodput: Mapping[str, Any]
    verdict: Verdict
    steps_wanted: int
    """How many steps it is to have; 0 while its budget of seconds has yet to decide that."""

    @property
    def validations(self) -> dict[int, dict[str, float]]:
        """Step -> metrics; a step that was validated twice, as it was the last time."""
        found: dict[int, dict[str, float]] = {}
        for event in self.events:
            if event.get("event") == "validated":
                metrics = event.get("metrics") or {}
                found[int(event["step"])] = {str(k): float(v) for k, v in metrics.items() if v is not None}
        return dict(sorted(found.items()))

    @property
    def ended(self) -> str:
        """How the last attempt ended: `done`, `interrupted`, `failed: ...`; empty for one at work, or killed."""
        ends = [event for event in self.events if event.get("event") == "end"]
        newest = max((int(event["attempt"]) for event in self.events), default=0)
        return str(ends[-1].get("reason", "")) if ends and int(ends[-1]["attempt"]) == newest else ""


def read_run(uri: str) -> RunRecord:
    """The run that lies there."""
    run = RunFolder.open(uri)
    events, all_rows = run.events(), read_all_rows(run.folder("ledger"))
    rows, job = last_of_each_step(all_rows), run.job_facts()
    goodput = account(events, all_rows)
    feed = job.get("feed")
    driver = str(feed.get("driver", "ray")) if isinstance(feed, Mapping) else "ray"
    return RunRecord(
        run=run,
        job=job,
        events=tuple(events),
        all_rows=tuple(all_rows),
        rows=tuple(rows),
        attempts=tuple(run.attempts()),
        checkpoints=tuple(_checkpoints(run.folder("checkpoints"))),
        baselines=_baselines(run),
        samples=_step_folders(run.folder("samples"), "samples.json"),
        evaluations=_evaluations(run),
        goodput=goodput,
        verdict=judge(rows, goodput, driver=driver),
        steps_wanted=_steps_wanted(run, job),
    )


def column(rows: tuple[Mapping[str, Any], ...], name: str) -> list[float]:
    """One column of the ledger as numbers; what was not measured is nan."""
    return [math.nan if row.get(name) is None else float(row[name]) for row in rows]


def _checkpoints(folder: str) -> list[CheckpointInfo]:
    found = []
    for step in steps_in(folder):
        try:
            found.append(read_manifest(step_uri(folder, step)))
        except (CheckpointDamaged, PlaceMissing):
            continue  # taken away meanwhile, or to be told by whoever wants to load it
    return found


def _baselines(run: RunFolder) -> dict[str, list[float]]:
    try:
        told = read_json(run.folder("validation/baselines.json"))
    except CinerayError:
        return {}
    return {str(k): [float(x) for x in v] for k, v in told.items() if isinstance(v, list)}


def _steps_wanted(run: RunFolder, job: Mapping[str, Any]) -> int:
    budget = job.get("budget")
    if not isinstance(budget, Mapping) or budget.get("seconds") is None:
        return int(job.get("steps") or 0)
    planned = read_planned(run)
    return 0 if planned is None else planned.steps


def _step_folders(folder: str, file: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for one in list_objects(folder):
        match = _STEP_FOLDER.search(one.uri)
        if match and match[2] == file:
            found.setdefault(int(match[1]), one.uri.rpartition("/")[0])
    return dict(sorted(found.items()))


def _evaluations(run: RunFolder) -> dict[int, tuple[str, Mapping[str, Any]]]:
    folders = _step_folders(run.folder("evaluations"), "evaluation.json")
    return {step: (folder, read_json(join_uri(folder, "evaluation.json"))) for step, folder in folders.items()}
