"""The large engine, and curation's only seam to Ray: chunks of videos become Ray Data tasks that write their own parts.

    videos not known -> chunks of row numbers -> one Ray Data row each -> one task -> a part of the cache, and a count
        where the job has networks, the task also gives pictures -> an actor with the networks -> a part, and a count

Only row numbers, counts and the few pictures that networks are shown travel through Ray's object store, which holds
back tasks while actors are busy: memory is flat however much is looked at. What is run again (its worker or node died)
writes the same part again, which changes nothing. Videos are decoded in child processes of the task's worker, so a
decoder that crashes costs a video and never a Ray worker.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import astuple
from itertools import islice
from typing import Any

import numpy as np

from cineray import storage
from cineray.curate.cache import Cache, write_part
from cineray.curate.config import CurateEngine, CurateJob
from cineray.curate.looker import Looked, Looker, Todo
from cineray.curate.networks import Networks
from cineray.curate.videos import Listed
from cineray.lake import Lake, Version
from cineray.telemetry.ray_chunks import Rows, count_try, worked_off
from cineray.telemetry.ray_session import connected

CHUNK_VIDEOS = 16
"""Looking at a video takes a second or so: a task of some seconds hides what a task costs Ray."""

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
    some = list(todo)
    chunks = [json.dumps([_told(one) for one in few]) for few in _chunks(iter(some))]
    if not chunks:
        return
    told = {"lake": lake.uri, "version": version.number, "job": job.model_dump_json(), "parts": cache.own}
    asked = {name for one in some for name in one.stages} & job.models.keys()
    with connected(engine.address):
        for looked_at in _counts(chunks, told, engine, {name: cache.keys[name] for name in sorted(asked)}):
            on_done(looked_at)
    cache.refresh()


def _counts(chunks: list[str], told: dict[str, Any], engine: CurateEngine, networks: dict[str, str]) -> Iterator[int]:
    def judged(dataset: Any) -> Any:
        import ray.data

        return dataset.map_batches(
            Judge,
            fn_constructor_kwargs={"job": told["job"], "parts": told["parts"], "keys": networks, "gpus": engine.gpus},
            batch_size=CHUNK_VIDEOS,
            num_cpus=0,  # an actor that held the only core of a small machine would wait for tasks that wait for it
            num_gpus=engine.gpus or None,
            compute=ray.data.ActorPoolStrategy(size=engine.actors),
        )

    rows = [{"number": number, "chunk": chunk} for number, chunk in enumerate(chunks)]
    how: dict[str, Any] = {"workers": engine.workers, "what": "the curation", "then": judged if networks else None}
    for row in worked_off(rows, look_at_chunk, told=told, **how):
        yield int(row["videos"])


def look_at_chunk(batch: Rows, *, lake: str, version: int, job: str, parts: str) -> dict[str, list[Any]]:
    """One Ray Data task: look at a chunk's videos and write a part. A row per video comes out: that it was looked at,
    and, where networks wait for them, its pictures."""
    told: dict[str, list[Any]] = {"videos": [], "video_id": [], "said": [], "names": [], "pictures": []}
    for number, chunk in zip(batch["number"], batch["chunk"], strict=True):
        count_try(storage.join_uri(parts, f"chunk-{int(number):06d}"))
        todo = [Todo(Listed(*listed), tuple(stages)) for listed, stages in json.loads(str(chunk))]
        rows = list(_looker(lake, version, job).look(todo))
        write_part(parts, [row for row in rows if row.columns or row.reason])
        for row in rows:
            names = sorted(row.pictures)
            told["videos"].append(1)
            told["video_id"].append(row.video_id)
            told["said"].append(row.said)
            told["names"].append(json.dumps({name: row.pictures[name].shape for name in names}))
            told["pictures"].append(b"".join(row.pictures[name].tobytes() for name in names))
    return told


class Judge:
    """One Ray actor: shows pictures to the job's networks, a video after the other, and writes parts."""

    def __init__(self, *, job: str, parts: str, keys: dict[str, str], gpus: float) -> None:
        self.parts = parts
        self.networks = Networks(CurateJob.model_validate_json(job).models, keys, on_gpu=gpus > 0)

    def __call__(self, batch: Rows) -> dict[str, list[int]]:
        """Rows of `look_at_chunk` in; how many videos they were out."""
        shown = [self.networks.told(row) for row in map(_with_pictures, *(batch[name] for name in _SHOWN))]
        write_part(self.parts, [row for row in shown if row.columns])
        return {"videos": [len(shown)]}


_SHOWN = ("video_id", "said", "names", "pictures")


def _with_pictures(video_id: Any, said: Any, names: Any, data: Any) -> Looked:
    pictures, at = {}, 0
    for name, shape in json.loads(str(names)).items():
        pictures[name] = np.frombuffer(data, np.uint8, math.prod(shape), at).reshape(shape)
        at += pictures[name].nbytes
    return Looked(video_id=str(video_id), said=str(said), columns={}, pictures=pictures)


def _chunks(todo: Iterator[Todo]) -> Iterator[list[Todo]]:
    while some := list(islice(todo, CHUNK_VIDEOS)):
        yield some


def _told(one: Todo) -> list[Any]:
    return [astuple(one.listed), one.stages]


def _looker(lake: str, version: int, job: str) -> Looker:
    key = (lake, version, job)
    if key not in _lookers:
        opened = Lake.open(lake)
        _lookers[key] = Looker(opened, opened.resolve(version), CurateJob.model_validate_json(job), workers=1)
    return _lookers[key]
