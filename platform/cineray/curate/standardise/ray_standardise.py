"""The large engine, and standardising's only seam to Ray: chunks of videos become Ray Data tasks that fill the staging,
and parts of what is staged become tasks that write a shard each.

Only row numbers, counts and places travel through Ray's object store. A task that is run again (its worker or node
died) does not encode what is staged already and does not write a shard that is there, and doing either twice changes
nothing. FFmpeg runs in child processes of the task's worker, so what crashes it costs a video and never a Ray worker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, astuple
from typing import Any

from cineray import storage
from cineray.curate.standardise.config import StandardiseConfig
from cineray.curate.standardise.encoder import Encoder, Progress
from cineray.curate.standardise.gather import shards_uri
from cineray.curate.standardise.packing import (
    Packed,
    Packing,
    pack,
    packed_from_json,
    packed_to_json,
    part_from_json,
    part_to_json,
)
from cineray.curate.standardise.sidecars import Shape
from cineray.curate.videos import Listed
from cineray.errors import PlaceMissing
from cineray.lake import Lake, Version
from cineray.telemetry.ray_chunks import Rows, count_try, worked_off
from cineray.telemetry.ray_session import connected

CHUNK_VIDEOS = 8
"""Encoding a video takes seconds: a task costs Ray a tenth of one."""

_encoders: dict[tuple[str, int], Encoder] = {}
"""This worker process's encoder, kept between its tasks."""


class OnRay:
    """In Ray's workers; a context manager, because a Ray that is started here ends here."""

    def __init__(
        self, config: StandardiseConfig, version: Version, *, tries_uri: str, workers: int, address: str
    ) -> None:
        """`tries_uri`: a prefix of this run's own."""
        self.told = {"config_json": config.model_dump_json(), "version": version.number, "tries_uri": tries_uri}
        self.workers, self.address = workers, address
        self.opened = ExitStack()

    def __enter__(self) -> OnRay:
        return self

    def __exit__(self, *error: object) -> None:
        self.opened.close()

    def encode(self, todo: Sequence[Listed]) -> Iterator[Progress]:
        """Let Ray encode the videos, and report as chunks are finished."""
        parts = (todo[at : at + CHUNK_VIDEOS] for at in range(0, len(todo), CHUNK_VIDEOS))
        rows = [{"number": n, "chunk": json.dumps([astuple(one) for one in some])} for n, some in enumerate(parts)]
        for row in self._worked_off(rows, encode_chunk, "standardising", {}):
            yield Progress(**json.loads(row["progress"]))

    def pack(self, parts: Sequence[Packing], shape: Shape) -> Iterator[Packed]:
        """Let Ray write the shards: each is read, packed and stored by one task."""
        rows = [{"number": n, "part": part_to_json(part)} for n, part in enumerate(parts)]
        for row in self._worked_off(rows, pack_parts, "packing shards", {"shape": shape.to_json()}):
            if row["missing"]:
                raise PlaceMissing(row["missing"])
            yield packed_from_json(row["packed"])

    def _worked_off(self, rows: list[dict[str, Any]], task: Any, what: str, told: dict[str, str]) -> Iterator[Any]:
        if rows:
            self.opened.enter_context(connected(self.address))
        return worked_off(rows, task, told=self.told | told, workers=self.workers, what=what)


def encode_chunk(batch: Rows, *, config_json: str, version: int, tries_uri: str) -> dict[str, list[str]]:
    """One Ray Data task: encode a chunk's videos into the staging, return counts."""
    told = []
    for number, chunk in zip(batch["number"], batch["chunk"], strict=True):
        count_try(storage.join_uri(tries_uri, f"chunk-{int(number):06d}"))
        encoder = _encoder(config_json, version)
        listed = [Listed(*values) for values in json.loads(str(chunk))]
        left = [one for one in listed if not encoder.staging.is_finished(one.video_id)]
        done = sum(encoder.encode(left), Progress(videos=len(listed) - len(left)))
        told.append(json.dumps(asdict(done)))
    return {"progress": told}


def pack_parts(batch: Rows, *, config_json: str, version: int, tries_uri: str, shape: str) -> dict[str, list[str]]:
    """One Ray Data task: write a shard, and say where each video lies, or what is missing of its staging."""
    told: dict[str, list[str]] = {"packed": [], "missing": []}
    for number, part in zip(batch["number"], batch["part"], strict=True):
        count_try(storage.join_uri(tries_uri, f"shard-{int(number):06d}"))
        at, packed, missing = _encoder(config_json, version), "", ""
        of_all, out = Shape(**json.loads(shape)), shards_uri(at.lake, at.config)
        try:
            one = pack(at.lake, at.version, at.staging, part_from_json(str(part)), shape=of_all, out_uri=out)
            packed = packed_to_json(one)
        except PlaceMissing as error:  # the driver goes on where the other run that cleared it has got to
            missing = str(error)
        told["packed"].append(packed)
        told["missing"].append(missing)
    return told


def _encoder(config_json: str, version: int) -> Encoder:
    key = (config_json, version)
    if key not in _encoders:
        config = StandardiseConfig.model_validate_json(config_json)
        lake = Lake.open(config.lake)
        _encoders[key] = Encoder(lake, lake.resolve(version), config, workers=1)
    return _encoders[key]
