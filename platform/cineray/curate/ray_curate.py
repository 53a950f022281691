"""The large engine, and curation's only seam to Ray: chunks of videos become Ray Data tasks that write their own parts.

    videos not known -> chunks of row numbers -> one Ray Data row each -> one task -> a part of the cache, and a count

Only row numbers and counts travel through Ray's object store, so memory is flat however much is looked at. A task that
is run again (its worker or node died) writes the same part again, which changes nothing. Videos are decoded in child
processes of the task's worker, so a decoder that crashes costs a video and never a Ray worker.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from cineray import storage
from cineray.curate.cache import Cache, write_part
from cineray.curate.config import CurateEngine, CurateJob
from cineray.curate.looker import Looker, Todo
from cineray.curate.videos import Listed
from cineray.errors import CinerayError
from cineray.lake import Lake, Version
from cineray.telemetry.ray_session import connected

CHUNK_VIDEOS = 16
"""Looking at a video takes a second or so: a task of some seconds hides what a task costs Ray."""
CHUNK_TRIES = 4
"""Ray Data runs a task again whenever its worker dies, without end; a chunk that keeps killing it ends the run."""

_lookers: dict[tuple[str, int, str], Looker] = {}
"""This worker process's looker, kept between its tasks."""


def run_on_ray(
    todo: Iterator[Todo],
    *,
    lake: Lake,
    version: Version,
    job: CurateJob,
    engine: CurateEngine,
    cache: Cache,
    on_done: Callable[[int], None],
) -> None:
    """Let Ray work off the chunks, and report as they are finished."""
    chunks = [json.dumps([_told(one) for one in some]) for some in _chunks(todo)]
    if not chunks:
        return
    told = {"lake": lake.uri, "version": version.number, "job": job.model_dump_json(), "parts": cache.own}
    with connected(engine.address):
        for looked_at in _counts(chunks, told, engine):
            on_done(looked_at)
    cache.refresh()


def _counts(chunks: list[str], told: dict[str, Any], engine: CurateEngine) -> Iterator[int]:
    import ray
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.verbose_progress = False
    # A video may take its whole time-out; a watchdog on Ray's side would end a healthy run.
    context.execution_no_progress_timeout_s = -1
    rows = [{"number": number, "chunk": chunk} for number, chunk in enumerate(chunks)]
    dataset = ray.data.from_items(rows, override_num_blocks=len(chunks)).map_batches(
        look_at_chunk,
        fn_kwargs=told,
        batch_size=None,
        num_cpus=1,
        compute=ray.data.TaskPoolStrategy(size=min(engine.workers, len(chunks)) or None),
    )
    try:
        for row in dataset.iter_rows():
            yield int(row["videos"])
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise CinerayError(
            f"a Ray task of the curation failed: {cause}; what was finished is kept, run the same command to go on"
        ) from error


def look_at_chunk(batch: dict[str, Any], *, lake: str, version: int, job: str, parts: str) -> dict[str, list[int]]:
    """One Ray Data task: look at a chunk's videos, write a part, return a count."""
    counts = []
    for number, chunk in zip(batch["number"], batch["chunk"], strict=True):
        _count_try(storage.join_uri(parts, f"chunk-{int(number):06d}"))
        todo = [Todo(Listed(*listed), tuple(stages)) for listed, stages in json.loads(str(chunk))]
        rows = list(_looker(lake, version, job).look(todo))
        write_part(parts, rows)
        counts.append(len(rows))
    return {"videos": counts}


def _chunks(todo: Iterator[Todo]) -> Iterator[list[Todo]]:
    while some := list(islice(todo, CHUNK_VIDEOS)):
        yield some


def _told(one: Todo) -> list[Any]:
    return [[one.listed.row, one.listed.video_id, one.listed.said], list(one.stages)]


def _count_try(chunk: str) -> None:
    if not any(storage.put_if_absent(f"{chunk}.try-{number}", b"") for number in range(CHUNK_TRIES)):
        raise CinerayError(
            f"the worker of {chunk} died {CHUNK_TRIES} times, most likely for want of memory; give workers more "
            "memory, or run with fewer at once: --workers"
        )


def _looker(lake: str, version: int, job: str) -> Looker:
    key = (lake, version, job)
    if key not in _lookers:
        opened = Lake.open(lake)
        _lookers[key] = Looker(opened, opened.resolve(version), CurateJob.model_validate_json(job), workers=1)
    return _lookers[key]
