"""The large engine, and ingest's only seam to Ray: chunks of tasks become Ray Data tasks that write their own parts.

    listing -> staging/<key>/<run>/todo/chunk-000000.jsonl -> one Ray Data row -> one task -> journal part + a Summary
    row

Only names of chunks and counts travel through Ray's object store, so memory is flat however much is ingested. A task
that is run again (its worker or node died) writes the same part again, which changes nothing. Videos are opened in
child processes of the task's worker, so a decoder that crashes costs a video and never a Ray worker.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cineray import storage
from cineray.errors import CinerayError
from cineray.ingest.config import EngineConfig, IngestConfig
from cineray.ingest.journal import Journal, write_part
from cineray.ingest.summary import Summary
from cineray.ingest.tasks import Task, task_from_json, task_to_json
from cineray.ingest.work import Checker
from cineray.telemetry.ray_session import connected

CHUNK_TASKS = 128
"""About a second of work or more: each task slot of Ray Data loses some 0.1 s per task."""
CHUNK_LIMIT_BYTES = 1 << 28
CHUNK_TRIES = 4
"""Ray Data runs a task again whenever its worker dies, without end; a chunk that keeps killing it ends the run."""

_checkers: dict[str, Checker] = {}
"""This worker process's checker, kept between its tasks."""


def run_on_ray(
    tasks: Iterable[Task],
    *,
    config: IngestConfig,
    engine: EngineConfig,
    journal: Journal,
    on_progress: Callable[[Summary], None],
    on_listed: Callable[[int], None],
) -> None:
    """Write the chunks, let Ray work them off, and report as they are finished."""
    folder = storage.join_uri(journal.own, "todo")
    chunks, total = _write_chunks(tasks, folder)
    on_listed(total)
    if not chunks:
        return
    with connected(engine.address):
        from cineray.ingest.ray_metrics import IngestFigures

        figures = IngestFigures(config.lake, max_reject_fraction=config.max_reject_fraction)
        for summary in _summaries(chunks, config, engine, journal.own):
            figures.add(summary)
            on_progress(summary)
    storage.delete_object(folder, recursive=True)


def _write_chunks(tasks: Iterable[Task], folder: str) -> tuple[list[str], int]:
    rest, total = iter(tasks), 0
    chunks: list[str] = []
    while lines := [task_to_json(task) for task in itertools.islice(rest, CHUNK_TASKS)]:
        uri = storage.join_uri(folder, f"chunk-{len(chunks):06d}.jsonl")
        storage.put_object(uri, "\n".join(lines).encode())
        chunks.append(uri)
        total += len(lines)
    return chunks, total


def _summaries(chunks: list[str], config: IngestConfig, engine: EngineConfig, parts: str) -> Iterator[Summary]:
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.verbose_progress = False
    # A video may take its whole time-out; a watchdog on Ray's side would end a healthy run.
    context.execution_no_progress_timeout_s = -1
    told = config.model_dump_json()
    dataset = ray.data.from_items([{"chunk": chunk} for chunk in chunks], override_num_blocks=len(chunks)).map_batches(
        check_chunk,
        fn_kwargs={"config_json": told, "parts": parts},
        batch_size=None,
        num_cpus=1,
        compute=ray.data.TaskPoolStrategy(size=min(engine.workers, len(chunks)) or None),
    )
    try:
        for row in dataset.iter_rows():
            yield Summary(**json.loads(row["summary"]))
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise CinerayError(
            f"a Ray task of the ingest failed: {cause}; what was finished is kept, run the same command to go on"
        ) from error


def check_chunk(batch: dict[str, Any], *, config_json: str, parts: str) -> dict[str, list[str]]:
    """One Ray Data task: read a chunk, check its videos, write a part, return counts."""
    summaries = []
    for chunk in batch["chunk"]:
        _count_try(str(chunk))
        lines = storage.read_object(str(chunk), limit_bytes=CHUNK_LIMIT_BYTES).decode().splitlines()
        rows = list(_checker(config_json).check(task_from_json(line) for line in lines))
        write_part(parts, rows)
        summaries.append(json.dumps(Summary.of(rows).to_dict()))
    return {"summary": summaries}


def _count_try(chunk: str) -> None:
    if not any(storage.put_if_absent(f"{chunk}.try-{number}", b"") for number in range(CHUNK_TRIES)):
        raise CinerayError(
            f"the worker of {chunk} died {CHUNK_TRIES} times, most likely for want of memory; give workers more "
            "memory, or run with fewer at once: --workers"
        )


def _checker(config_json: str) -> Checker:
    if config_json not in _checkers:
        config = IngestConfig.model_validate_json(config_json)
        # Local reading is bound by the core; remote reading waits, so several videos share one.
        workers = 4 if storage.is_remote(storage.normalise_uri(config.source)) else 1
        _checkers[config_json] = Checker(config, workers=workers)
    return _checkers[config_json]
