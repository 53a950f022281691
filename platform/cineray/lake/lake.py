"""A lake by its uri: versions made, found, read and compared. The verbs are here; each one's work is in its own file.

Promises: nothing that a version names is ever rewritten; reading a version never depends on what was committed after
it; opening a lake that a newer cineray wrote is refused before anything is touched.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cineray import __version__
from cineray.errors import LakeError, PlaceMissing, UsageError
from cineray.lake import commit as commits
from cineray.lake import history, leases, names
from cineray.lake.layout import marker_uri, remuxed_uri, table_uri
from cineray.lake.manifest import FORMAT, Provenance, Version, check_format
from cineray.lake.schema import SCHEMAS, table_schema
from cineray.lake.tables import Table
from cineray.storage import normalise_uri, put_if_absent, read_object
from cineray.telemetry.typed import without_secrets

if TYPE_CHECKING:
    from cineray.lake.diff import VersionDiff
    from cineray.lake.gc import GcReport
    from cineray.lake.verify import VerifyReport

Ref = str | int | Version
Ints = npt.NDArray[np.int64]
_LIMIT = 1 << 20


class Lake:
    """An open lake. Cheap to hold, safe to make again in another process; it keeps no state but its uri and id."""

    def __init__(self, uri: str, lake_id: str) -> None:
        self.uri, self.id = uri, lake_id

    @classmethod
    def create(cls, uri: str) -> Lake:
        """A new, empty lake at a place that has none."""
        uri = normalise_uri(uri)
        told = {"format": FORMAT, "id": uuid.uuid4().hex, "created_at": datetime.now(UTC).isoformat()}
        told["software"] = f"cineray {__version__}"
        if not put_if_absent(marker_uri(uri), json.dumps(told, indent=1).encode()):
            raise LakeError(f"there is already a lake at {uri}; open it, or choose another place")
        return cls.open(uri)

    @classmethod
    def open(cls, uri: str) -> Lake:
        """The lake at a place."""
        uri = normalise_uri(uri)
        marker = marker_uri(uri)
        try:
            told = json.loads(read_object(marker, limit_bytes=_LIMIT))
            check_format(told["format"], marker)
            return cls(uri, str(told["id"]))
        except PlaceMissing:
            raise LakeError(f"there is no lake at {uri}; `cineray ingest SOURCE --lake {uri}` makes one") from None
        except (ValueError, TypeError, KeyError) as error:
            raise LakeError(f"{marker} is damaged ({error}); restore it from a backup") from error

    @classmethod
    def open_or_create(cls, uri: str) -> Lake:
        """The lake at a place, made if there is none; of two who make it at once, both get the same."""
        uri = normalise_uri(uri)
        try:
            read_object(marker_uri(uri), limit_bytes=_LIMIT)
        except PlaceMissing:
            try:
                return cls.create(uri)
            except LakeError:
                return cls.open(uri)  # made by somebody else between our look and our put
        return cls.open(uri)

    def table(self, name: str) -> Table:
        """The adapter of one of the lake's tables; for the lake's own files."""
        return Table(table_uri(self.uri, name), table_schema(name))

    def on_step(self, step: str) -> None:
        """Called at each step of a commit, for whoever subclasses: progress, and tests that kill a writer there."""

    # versions

    def head(self) -> Version | None:
        """The newest version; None in a lake without any."""
        return next(self.versions(), None)

    def versions(self) -> Iterator[Version]:
        """All versions, newest first."""
        return history.versions(self.uri)

    def resolve(self, ref: Ref) -> Version:
        """The version meant by `latest`, 7, "7", "v7", a name, or the first 8 or more digits of a fingerprint."""
        return ref if isinstance(ref, Version) else history.resolve(self.uri, ref)

    def commit(
        self,
        prepare: Callable[[Version | None], commits.Changes],
        *,
        author: str,
        command: str,
        source: str,
        processing: Mapping[str, Any],
        message: str = "",
    ) -> Version:
        """A new version of what `prepare(head)` changes, or the head if nothing. It may be called several times."""
        told = Provenance(
            author=author, command=command, source=without_secrets(source), processing=processing, message=message
        )
        with self.writing() as held:
            return commits.commit(self, prepare, told, may_land=held.check)

    def names(self) -> dict[str, int]:
        """Names and the versions that they point to."""
        return names.read_names(self.uri)

    def set_name(self, name: str, version: Ref, *, move: bool = False, author: str = "") -> None:
        """Name a version. A name that points elsewhere is moved only with `move`."""
        found = self.resolve(version)
        names.write_pointer(self.uri, name, found.number, move=move, author=author)

    def remove_name(self, name: str, *, author: str = "") -> None:
        """Take a name away; the version stays."""
        names.write_pointer(self.uri, name, None, move=True, author=author)

    def retire(self, version: Ref) -> None:
        """Let go of a version, not the head or a named one: it stays in the log, gc may remove what only it needs."""
        history.retire(self.uri, self.resolve(version))

    def retired(self) -> set[int]:
        """Numbers of the versions that were let go."""
        return history.retired(self.uri)

    def lease(self, version: Ref, *, seconds: float | None = None) -> AbstractContextManager[leases.Held]:
        """While inside, gc keeps what this version needs, even if it is retired meanwhile.

        A thread renews it; `seconds` (10 minutes) is how long it outlives a process that was killed.
        """
        return leases.lease(self.uri, version=self.resolve(version).number, seconds=seconds)

    def writing(self, *, seconds: float | None = None) -> AbstractContextManager[leases.Held]:
        """While inside, gc removes nothing that was written since, no staging and no remuxed videos.

        A commit does this itself. `seconds` as for `lease`.
        """
        return leases.lease(self.uri, version=None, seconds=seconds)

    def log(self) -> Iterator[dict[str, Any]]:
        """Newest first: number, when, who, which command, which parent, how many rows more."""
        return history.log(self.uri)

    def show(self, version: Ref = "latest") -> dict[str, Any]:
        """What one version holds, as `cineray lake show --json` prints it."""
        from cineray.lake.show import show

        return show(self, self.resolve(version))

    # rows

    def layers(self, version: Ref) -> list[str]:
        """Names of the annotation layers that a version has."""
        return self.resolve(version).layers()

    def scan(
        self,
        version: Ref,
        table: str,
        columns: Sequence[str] | None = None,
        filter: str | None = None,
        batch_size: int = 4096,
    ) -> Iterator[pa.RecordBatch]:
        """Rows of a table in batches. `filter` is SQL: `codec = 'h264' AND num_frames > 100`."""
        found = self.resolve(version)
        state = found.tables.get(table)
        if state is None:
            _check_known(found, table)
            self.table(table).known_columns(columns)
            return iter(())
        return self.table(table).scan(state.version, columns=columns, where=filter, batch_rows=batch_size)

    def read(
        self,
        version: Ref,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        filter: str | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """Rows of a table at once; at most `limit` of them."""
        if limit is not None and limit < 0:
            raise UsageError(f"limit is {limit}; wanted 0 or more")
        schema = table_schema(table)
        chosen = [schema.field(name) for name in columns if name in schema.names] if columns is not None else schema
        batches, rows = [], 0
        if limit is None or limit > 0:
            for batch in self.scan(version, table, columns, filter, batch_size=min(limit or 4096, 4096)):
                batches.append(batch if limit is None else batch.slice(0, limit - rows))
                rows += batches[-1].num_rows
                if limit is not None and rows >= limit:
                    break
        return pa.Table.from_batches(batches, schema=batches[0].schema if batches else pa.schema(chosen))

    def query(
        self,
        version: Ref = "latest",
        filter: str | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        table: str = "media",
    ) -> pa.Table:
        """Rows that match an SQL filter. The packed frame tables are left out unless asked for; media is never read.

        Of `media`, filter and columns may also name what was measured: `motion_speed > 0.1 AND codec = 'h264'`.
        """
        shown = columns if columns is not None else [name for name in table_schema(table).names if name != "frames"]
        if table == "media":
            from cineray.lake.measured import query_media

            measured = query_media(self, self.resolve(version), filter, shown, limit)
            if measured is not None:
                return measured
        return self.read(version, table, columns=shown, filter=filter, limit=limit)

    def ready(
        self, version: Ref, filter: str | None = None, columns: Sequence[str] = ("video_id",)
    ) -> Iterator[tuple[Ints, pa.RecordBatch]]:
        """Media rows of the videos that may be used, with their numbers. The filter may name measures, too."""
        from cineray.lake.measured import media_where

        where = "state = 'ready'" + (f" AND ({filter})" if filter else "")
        return media_where(self, self.resolve(version), where, columns)

    def count(self, version: Ref, table: str = "media", filter: str | None = None) -> int:
        """How many rows match, counted by reading one column of them."""
        from cineray.lake.schema import key_of

        return sum(batch.num_rows for batch in self.scan(version, table, [key_of(table)], filter))

    def remuxed_uri(self, video_id: str) -> str:
        """Where ingest puts the lossless MP4 of a video that decoders get wrong."""
        return remuxed_uri(self.uri, video_id)

    # the larger verbs

    def diff(self, a: Ref, b: Ref, *, limit: int = 100) -> VersionDiff:
        """What changed from version a to version b."""
        from cineray.lake.diff import diff

        return diff(self, self.resolve(a), self.resolve(b), limit=limit)

    def verify(self, version: Ref = "latest", media: str = "none") -> VerifyReport:
        """Does all that a version names exist, and hash right? `media`: none, stat (size and tag) or hash (bytes)."""
        from cineray.lake.verify import verify

        return verify(self, self.resolve(version), media=media)

    def gc(self, dry_run: bool = True, older_than_seconds: float = 7 * 86400.0) -> GcReport:
        """Remove what no version, name or running reader needs. Dry first: what it would remove, and how many bytes."""
        from cineray.lake.gc import collect

        return collect(self, dry_run=dry_run, older_than_seconds=older_than_seconds)

    def export(self, version: Ref, out_uri: str) -> list[str]:
        """A version as Parquet files and its manifest, readable without cineray and without Lance; the uris written."""
        from cineray.lake.export import export

        return export(self, self.resolve(version), out_uri)

    def import_(self, uri: str, *, author: str, replace: bool = False) -> Version:
        """An export as the next version: the same rows, the same fingerprint."""
        from cineray.lake.export import import_export

        return import_export(self, uri, author=author, replace=replace)


def _check_known(version: Version, table: str) -> None:
    table_schema(table)
    if table not in SCHEMAS:
        known = ", ".join(version.layers()) or "none"
        raise UsageError(f"version {version.number} has no {table}; its layers are: {known}")
