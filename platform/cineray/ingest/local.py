"""The small engine: tasks are checked from this process, by a few child processes; finished rows go to the journal.

A batch is written when it is full or old enough, so a kill costs a second or two of work and never a finished batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from cineray.ingest import staged
from cineray.ingest.config import EngineConfig, IngestConfig
from cineray.ingest.journal import Journal
from cineray.ingest.summary import Summary
from cineray.ingest.tasks import Task
from cineray.ingest.work import Checker

BATCH_ROWS = 256
BATCH_SECONDS = 2.0


def run_local(
    tasks: Iterable[Task],
    *,
    config: IngestConfig,
    engine: EngineConfig,
    journal: Journal,
    on_progress: Callable[[Summary], None],
) -> None:
    """Check every task and write what comes of it."""
    workers = engine.workers or len(os.sched_getaffinity(0))
    with Checker(config, workers=workers) as checker:
        batch: list[staged.Row] = []
        written_at = time.monotonic()
        try:
            for row in checker.check(tasks):
                batch.append(row)
                on_progress(Summary.of([row]))
                if len(batch) >= BATCH_ROWS or time.monotonic() - written_at > BATCH_SECONDS:
                    journal.write(batch)
                    batch, written_at = [], time.monotonic()
        finally:
            journal.write(batch)  # also when the user stops it: finished is finished
