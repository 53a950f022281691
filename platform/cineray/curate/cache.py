"""What was measured already, so that nothing is measured twice. Finished rows go in; columns of any video come out.

    staging/curate/<run id>/part-<digest>.parquet     rows of this and of killed or dry runs, put if absent
    layers/quality, layers/embeddings of the head     rows of earlier curations: one per video and stage
    layers/curation of the head                       videos whose bytes do not decode

A result is known by its video's content, the stage's name, version and config (of a network also its file), and what is
said of the video. A part is cleared once all its rows are in a version; one that another run cleared meanwhile is
measured again, no more. That a video cannot be looked at is believed again only where its bytes are to blame.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from cineray import storage
from cineray.curate.homes import AUTHOR, CURATION_LAYER
from cineray.curate.looker import Looked, Todo
from cineray.curate.stage import Columns, columns_from_json
from cineray.curate.vectors import EMBEDDINGS_LAYER
from cineray.curate.videos import Listed
from cineray.errors import PlaceMissing
from cineray.lake import Lake, Version, unpack_text
from cineray.lake.measured import QUALITY_LAYER

PART_LIMIT_BYTES = 1 << 30
LASTING_REASONS = frozenset({"decode_failed"})
"""Rejects that are the fault of a video's bytes. All others may be the machine's, the place's or a stage's: the next
run looks again."""
_SCHEMA = pa.schema([(name, pa.string()) for name in ("video_id", "said", "columns", "reason", "detail")])


class Cache:
    """Results of stages by video, of this run, of those before it and of the head."""

    def __init__(
        self, lake: Lake, head: Version, keys: Mapping[str, str], vectors: frozenset[str] = frozenset()
    ) -> None:
        self.keys, self.vectors = dict(keys), vectors
        """By stage and network; those of which the results are no columns."""
        self._own = {key: key for key in self.keys.values()}
        """Each key once: as many texts as there are videos would be a kilobyte of each."""
        self.folder = storage.join_uri(lake.uri, "staging", "curate")
        self.own = storage.join_uri(self.folder, uuid.uuid4().hex[:12])
        self._found = self._parts(self.folder)
        self._held: dict[tuple[str, str], dict[str, str]] = {}
        self._rejects: dict[tuple[str, str], Looked] = {}
        """Both by video and what was said of it: a part of an older day says nothing against the head."""
        for looked in (*_of_head(lake, head), *_refused(lake, head), *self._of_parts(self._found)):
            if not looked.reason or looked.reason in LASTING_REASONS:
                self.add(looked)

    def add(self, looked: Looked) -> None:
        """Take in a finished row; other versions of a stage are forgotten."""
        at = looked.video_id, looked.said
        if looked.reason:
            self._rejects[at] = looked
            return
        self._rejects.pop(at, None)
        new = {self._own[key]: text for key, text in looked.columns.items() if key in self._own}
        if new:
            self._held.setdefault(at, {}).update(new)

    def refresh(self) -> None:
        """Take in what other processes wrote for this run."""
        for looked in self._of_parts(self._parts(self.own)):
            self.add(looked)

    def todo(self, listed: Iterable[Listed]) -> Iterator[Todo]:
        """The videos of which something is not known, and what."""
        for one in listed:
            texts = self.texts(one)
            missing = tuple(name for name, key in self.keys.items() if key not in texts)
            if missing and not self.reject(one):
                yield Todo(one, missing)

    def texts(self, listed: Listed) -> dict[str, str]:
        """The columns of each stage as text, by the stage's key."""
        return self._held.get((listed.video_id, listed.said), {})

    def columns(self, listed: Listed) -> list[Columns]:
        """The columns of each stage and network, in their order."""
        texts, keys = self.texts(listed), (key for name, key in self.keys.items() if name not in self.vectors)
        return [columns_from_json(texts[key]) for key in keys if key in texts]

    def reject(self, listed: Listed) -> Looked | None:
        """Why this video could not be looked at, if this run tried it, or one before it that made no version."""
        return self._rejects.get((listed.video_id, listed.said))

    def write(self, rows: list[Looked]) -> None:
        """One finished batch, durable when this returns."""
        for looked in rows:
            self.add(looked)
        write_part(self.own, rows)

    def clear(self, committed: Iterable[Listed]) -> None:
        """Drop the parts whose rows are now in a version, in which these videos are with all our stages.

        What else was measured (of other videos, for other stages, by a run that is still at work) stays.
        """
        said = {one.video_id: one.said for one in committed}
        left = False
        for uri in sorted({*self._found, *self._parts(self.own)}):
            if all(self._is_in(said, looked) for looked in self._of_parts([uri])):
                storage.delete_object(uri)
            else:
                left = left or uri.startswith(self.own)
        if not left:
            storage.delete_object(self.own, recursive=True)

    def _is_in(self, said: Mapping[str, str], looked: Looked) -> bool:
        return said.get(looked.video_id) == looked.said and looked.columns.keys() <= self._own.keys()

    def _parts(self, folder: str) -> list[str]:
        return sorted(info.uri for info in storage.list_objects(folder) if info.uri.endswith(".parquet"))

    def _of_parts(self, uris: Iterable[str]) -> Iterator[Looked]:
        for uri in uris:
            try:
                data = storage.read_object(uri, limit_bytes=PART_LIMIT_BYTES)
            except PlaceMissing:
                continue  # cleared by another run: its rows are in a version, or measured again
            for row in pq.ParquetFile(io.BytesIO(data)).read().to_pylist():
                yield Looked(**row | {"columns": json.loads(row["columns"])})


def write_part(folder: str, rows: list[Looked]) -> None:
    """Named by what it holds: two tries at one batch (a Ray task that is run again) leave one part."""
    if not rows:
        return
    told = [
        {
            "video_id": looked.video_id,
            "said": looked.said,
            "columns": json.dumps(looked.columns, sort_keys=True),
            "reason": looked.reason,
            "detail": looked.detail,
        }
        for looked in rows
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(told, schema=_SCHEMA), sink, compression="zstd")
    name = blake3(json.dumps(told).encode()).hexdigest()[:24]
    storage.put_if_absent(storage.join_uri(folder, f"part-{name}.parquet"), sink.getvalue())


def _of_head(lake: Lake, head: Version) -> Iterator[Looked]:
    """Rows that curation wrote; those of other authors are none of ours."""
    layers = [layer for layer in (QUALITY_LAYER, EMBEDDINGS_LAYER) if layer in head.tables]
    wanted = ["video_id", "author", "source", "value"]
    for batch in chain.from_iterable(lake.scan(head, layer, wanted, "clip_id IS NULL") for layer in layers):
        for row in batch.to_pylist():
            if row["video_id"] and row["source"] and "@" in (row["author"] or ""):
                columns = {row["author"]: row["value"]}
                yield Looked(video_id=row["video_id"], said=row["source"], columns=columns)


def _refused(lake: Lake, head: Version) -> Iterator[Looked]:
    """Videos that an earlier curation could not look at."""
    if CURATION_LAYER not in head.tables:
        return
    where = f"author = '{AUTHOR}' AND source IS NOT NULL"
    for batch in lake.scan(head, CURATION_LAYER, ["video_id", "source", "value"], where):
        for row in batch.to_pylist():
            told = json.loads(unpack_text(row["value"]))
            if told.get("reason"):
                yield Looked(
                    video_id=row["video_id"],
                    said=row["source"],
                    columns={},
                    reason=told["reason"],
                    detail=told.get("detail", ""),
                )
