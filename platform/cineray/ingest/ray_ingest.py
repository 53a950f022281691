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

from cineray import storage
from cineray.ingest.config import EngineConfig, IngestConfig
from cineray.ingest.journal import Journal, write_part
from cineray.ingest.summary import Summary
from cineray.ingest.tasks import Task, task_from_json, task_to_json
from cineray.ingest.work import Checker
from cineray.telemetry.ray_chunks import Rows, count_try, worked_off
from cineray.telemetry.ray_session import connected

CHUNK_TASKS = 128
"""About a second of work or more: each task slot of Ray Data loses some 0.1 s per task."""
CHUNK_LIMIT_BYTES = 1 << 28

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
    told = {"config_json": config.model_dump_json(), "parts": parts}
    rows = [{"chunk": chunk} for chunk in chunks]
    for row in worked_off(rows, check_chunk, told=told, workers=engine.workers, what="the ingest"):
        yield Summary(**json.loads(row["summary"]))


def check_chunk(batch: Rows, *, config_json: str, parts: str) -> dict[str, list[str]]:
    """One Ray Data task: read a chunk, check its videos, write a part, return counts."""
    summaries = []
    for chunk in batch["chunk"]:
        count_try(str(chunk))
        lines = storage.read_object(str(chunk), limit_bytes=CHUNK_LIMIT_BYTES).decode().splitlines()
        rows = list(_checker(config_json).check(task_from_json(line) for line in lines))
        write_part(parts, rows)
        summaries.append(json.dumps(Summary.of(rows).to_dict()))
    return {"summary": summaries}


def _checker(config_json: str) -> Checker:
    if config_json not in _checkers:
        config = IngestConfig.model_validate_json(config_json)
        # Local reading is bound by the core; remote reading waits, so several videos share one.
        workers = 4 if storage.is_remote(storage.normalise_uri(config.source)) else 1
        _checkers[config_json] = Checker(config, workers=workers)
    return _checkers[config_json]
