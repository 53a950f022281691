"""The small engine: videos are looked at from this process, by a few children; finished rows go to the cache.

A batch is written when it is full or old enough, so a kill costs seconds of work and never a finished batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from cineray.curate.cache import Cache
from cineray.curate.config import CurateEngine, CurateJob
from cineray.curate.looker import Looked, Looker, Todo
from cineray.curate.networks import networks_for
from cineray.lake import Lake, Version

BATCH_ROWS = 256
BATCH_SECONDS = 2.0


def run_local(
    todo: Iterable[Todo],
    *,
    lake: Lake,
    version: Version,
    job: CurateJob,
    engine: CurateEngine,
    cache: Cache,
    on_done: Callable[[int], None],
) -> None:
    """Look at every video and keep what comes of it."""
    workers = engine.workers or len(os.sched_getaffinity(0))
    todo = list(todo)
    networks = networks_for(todo, job, cache.keys, on_gpu=engine.gpus > 0)
    with Looker(lake, version, job, workers=workers) as looker:
        batch: list[Looked] = []
        written_at = time.monotonic()
        try:
            for looked in looker.look(todo):
                batch.append(networks.told(looked))
                on_done(1)
                if len(batch) >= BATCH_ROWS or time.monotonic() - written_at > BATCH_SECONDS:
                    cache.write(batch)
                    batch, written_at = [], time.monotonic()
        finally:
            cache.write(batch)  # also when the user stops it: finished is finished
