"""The large engine, and standardising's only seam to Ray: chunks of videos become Ray Data tasks that fill the staging.

Only row numbers and counts travel through Ray's object store. A task that is run again (its worker or node died) does
not encode what is staged already, and staging it twice changes nothing. FFmpeg runs in child processes of the task's
worker, so what crashes it costs a video and never a Ray worker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple
from typing import Any

from cineray import storage
from cineray.curate.standardise.config import StandardiseConfig
from cineray.curate.standardise.encoder import Encoder, Progress
from cineray.curate.videos import Listed
from cineray.errors import CinerayError
from cineray.lake import Lake, Version
from cineray.telemetry.ray_session import connected

CHUNK_VIDEOS = 8
"""Encoding a video takes seconds: a task costs Ray a tenth of one."""
CHUNK_TRIES = 4
"""Ray Data runs a task again whenever its worker dies, without end; a chunk that keeps killing it ends the run."""

_encoders: dict[tuple[str, int], Encoder] = {}
"""This worker process's encoder, kept between its tasks."""


def encode_on_ray(
    config: StandardiseConfig, version: Version, todo: Sequence[Listed], *, tries_uri: str, workers: int, address: str
) -> Iterator[Progress]:
    """Let Ray encode the videos, and report as chunks are finished. `tries_uri`: a prefix of this run's own."""
    parts = (todo[at : at + CHUNK_VIDEOS] for at in range(0, len(todo), CHUNK_VIDEOS))
    chunks = [json.dumps([astuple(one) for one in some]) for some in parts]
    told = {"config_json": config.model_dump_json(), "version": version.number, "tries_uri": tries_uri}
    with connected(address):
        yield from _progress(chunks, told, workers)


def _progress(chunks: list[str], told: dict[str, Any], workers: int) -> Iterator[Progress]:
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
        encode_chunk,
        fn_kwargs=told,
        batch_size=None,
        num_cpus=1,
        compute=ray.data.TaskPoolStrategy(size=min(workers, len(chunks)) or None),
    )
    try:
        for row in dataset.iter_rows():
            yield Progress(**json.loads(row["progress"]))
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise CinerayError(
            f"a Ray task of standardising failed: {cause}; what was encoded is kept, run the same command to go on"
        ) from error


def encode_chunk(batch: dict[str, Any], *, config_json: str, version: int, tries_uri: str) -> dict[str, list[str]]:
    """One Ray Data task: encode a chunk's videos into the staging, return counts."""
    told = []
    for number, chunk in zip(batch["number"], batch["chunk"], strict=True):
        _count_try(storage.join_uri(tries_uri, f"chunk-{int(number):06d}"))
        encoder = _encoder(config_json, version)
        listed = [Listed(*values) for values in json.loads(str(chunk))]
        left = [one for one in listed if not encoder.staging.is_finished(one.video_id)]
        done = sum(encoder.encode(left), Progress(videos=len(listed) - len(left)))
        told.append(json.dumps(asdict(done)))
    return {"progress": told}


def _count_try(chunk: str) -> None:
    if not any(storage.put_if_absent(f"{chunk}.try-{number}", b"") for number in range(CHUNK_TRIES)):
        raise CinerayError(
            f"the worker of {chunk} died {CHUNK_TRIES} times, most likely for want of memory; give workers more "
            "memory, or run with fewer at once: --workers"
        )


def _encoder(config_json: str, version: int) -> Encoder:
    key = (config_json, version)
    if key not in _encoders:
        config = StandardiseConfig.model_validate_json(config_json)
        lake = Lake.open(config.lake)
        _encoders[key] = Encoder(lake, lake.resolve(version), config, workers=1)
    return _encoders[key]
