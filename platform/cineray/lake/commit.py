"""How a version is made. A caller's `prepare(head)` goes in; the next manifest comes out, or the head where nothing
changed.

    prepare(head) -> fragments -> a Lance version per changed table -> checks -> versions/N+1.json -> Lance tags
                     invisible    named by no manifest                            put-if-absent       re-creatable

Promises: only the manifest makes a version, so a writer killed anywhere leaves the last version whole; nobody
overwrites anybody, because whoever loses the race for N+1 prepares again on the new head; rows stream through in
batches; and a table version holds exactly the parent's rows, less those removed, plus those added, whatever abandoned
writers left in the table.
"""

from __future__ import annotations

import logging
import platform
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from cineray import __version__
from cineray.errors import CinerayError, CommitConflict, LakeError, UsageError
from cineray.lake import digest
from cineray.lake.checks import Holds, checked
from cineray.lake.layers import check_layer_rows, kind_of
from cineray.lake.layout import manifest_uri
from cineray.lake.manifest import Provenance, TableState, Version, version_fingerprint, version_to_json
from cineray.lake.schema import table_schema
from cineray.lake.splits import SplitRule
from cineray.lake.tables import DATA_FORMAT, Table
from cineray.storage import put_if_absent, read_object

MAX_TRIES = 30
SMALL_FRAGMENT_ROWS = 10_000
MAX_SMALL_FRAGMENTS = 64
"""Many small commits leave many small fragments; a commit that finds more than this writes them again as one."""

_log = logging.getLogger("cineray.lake")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a commit does to its parent: rows leave by SQL predicate, then rows come. A split rule replaces the old."""

    add: Mapping[str, Iterable[pa.RecordBatch]] = field(default_factory=dict)
    remove: Mapping[str, str] = field(default_factory=dict)
    split_rule: SplitRule | None = None


class Writer(Protocol):
    """What a commit needs of the lake that it is made in."""

    uri: str

    def head(self) -> Version | None:
        """The newest version."""

    def table(self, name: str) -> Table:
        """The adapter of one table."""

    def on_step(self, step: str) -> None:
        """Told after each step of the protocol."""


def commit(
    lake: Writer,
    prepare: Callable[[Version | None], Changes],
    provenance: Provenance,
    *,
    may_land: Callable[[], None] = lambda: None,
) -> Version:
    """The new version, or the head if `prepare` changes nothing. The first commit makes a version even of nothing.

    `may_land` is called before the manifest is put, and raises where the writer's lease ran out.
    """
    for attempt in range(MAX_TRIES):
        head = lake.head()
        changes = prepare(head)
        lake.on_step("prepared")
        tables = {**(head.tables if head else {}), **_staged(lake, head, changes)}
        rule = changes.split_rule or (head.split_rule if head else None)
        if head and tables == head.tables and rule == head.split_rule:
            return head
        holds = checked(lake, head, tables)
        lake.on_step("checked")
        made = _version(head, tables, rule, holds, provenance)
        may_land()
        if _put(lake.uri, made):
            lake.on_step("manifest")
            _tag(lake, head, made)
            lake.on_step("tagged")
            return made
        time.sleep(random.uniform(0, min(2.0, 0.02 * 2 ** min(attempt, 8))))  # noqa: S311
    raise CommitConflict(
        f"other writers committed to {lake.uri} first, {MAX_TRIES} times in a row; nothing was written, try again later"
    )


def _staged(lake: Writer, head: Version | None, changes: Changes) -> dict[str, TableState]:
    """The next state of every table that changes, each committed to Lance, none yet named by a manifest."""
    states: dict[str, TableState] = {}
    for name in sorted({*changes.add, *changes.remove}):
        parent = head.tables.get(name) if head else None
        staged = _Staged(name, lake.table(name), parent)
        if name in changes.remove:
            staged.remove(changes.remove[name])
        if name in changes.add:
            staged.add(changes.add[name])
        if staged.changed:
            lake.on_step(f"fragments {name}")
            states[name] = staged.commit()
            lake.on_step(f"table {name}")
    return states


class _Staged:
    """One table's next state in the making."""

    def __init__(self, name: str, table: Table, parent: TableState | None) -> None:
        self.name, self.table, self.parent = name, table, parent
        self.fingerprint = digest.from_hex(parent.fingerprint) if parent else digest.EMPTY
        self.rows = parent.rows if parent else 0
        self.kept: list[Any] = table.fragments(parent.version) if parent else []
        self.outdated = parent is not None and not table.is_of_todays_schema(parent.version)
        self.rewritten: list[Any] = []
        self.fresh: list[Any] = []
        self.changed = False

    def remove(self, predicate: str) -> None:
        """Leave out the rows that match: fragments that hold any are written again without them."""
        if self.parent is None:
            return
        touched: set[int] = set()
        removed = 0
        for batch in self.table.scan(self.parent.version, where=predicate, row_address=True):
            touched.update(pc.unique(pc.shift_right(batch["_rowaddr"], pa.scalar(32, pa.uint64()))).to_pylist())
            rows = batch.drop_columns(["_rowaddr"])
            removed += rows.num_rows
            self.fingerprint = digest.remove(self.fingerprint, digest.batch_digests(self.name, rows))
        if not removed:
            return
        held = [fragment for fragment in self.kept if fragment.id in touched]
        self.kept = [fragment for fragment in self.kept if fragment.id not in touched]
        # IS NOT TRUE, because NOT (NULL) is NULL and would lose the rows for which the predicate says nothing
        rest = self.table.scan(self.parent.version, where=f"({predicate}) IS NOT TRUE", fragments=held)
        self.rewritten = self.table.write(rest)
        self.rows -= removed
        self.changed = True

    def add(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Let rows come, counted and fingerprinted as they pass."""
        self.fresh = self.table.write(self._counted(batches))
        self.changed = self.changed or bool(self.fresh)

    def _counted(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        kind = kind_of(self.name)
        for given in batches:
            batch = _fitting(self.name, given)
            if not batch.num_rows:
                continue
            if kind:
                check_layer_rows(kind, batch)
            self.fingerprint = digest.add(self.fingerprint, digest.batch_digests(self.name, batch))
            self.rows += batch.num_rows
            yield batch

    def commit(self) -> TableState:
        """The Lance version of what was staged."""
        self._rewrite(self.kept if self.outdated else self._too_many_small())
        fragments = [*self.kept, *self.rewritten, *self.fresh]
        found = sum(_rows_of(fragment) for fragment in fragments)
        if found != self.rows:
            raise LakeError(
                f"{self.table.uri} would hold {found} rows where {self.rows} were meant; nothing was written"
            )
        version = self.table.commit(fragments)
        return TableState(version=version, rows=self.rows, fingerprint=digest.to_hex(self.fingerprint))

    def _too_many_small(self) -> list[Any]:
        small = [fragment for fragment in self.kept if _rows_of(fragment) < SMALL_FRAGMENT_ROWS]
        return small if len(small) > MAX_SMALL_FRAGMENTS else []

    def _rewrite(self, fragments: list[Any]) -> None:
        """Write the rows of these fragments again, as one and in today's schema."""
        if self.parent and fragments:
            ids = {fragment.id for fragment in fragments}
            self.kept = [fragment for fragment in self.kept if fragment.id not in ids]
            self.rewritten += self.table.write(self.table.scan(self.parent.version, fragments=fragments))


def _rows_of(fragment: Any) -> int:
    return int(fragment.num_rows)


def _fitting(table: str, batch: pa.RecordBatch) -> pa.RecordBatch:
    schema = table_schema(table)
    if batch.schema.equals(schema):
        return batch
    if set(batch.schema.names) != set(schema.names):
        lacking, unknown = set(schema.names) - set(batch.schema.names), set(batch.schema.names) - set(schema.names)
        raise UsageError(
            f"a batch for {table} lacks columns {sorted(lacking)} and has unknown columns {sorted(unknown)}; "
            f"make batches with cineray.lake.batches_of({table!r}, rows)"
        )
    try:
        return batch.select(schema.names).cast(schema)
    except pa.ArrowInvalid as error:
        raise UsageError(f"a batch for {table} does not fit its schema: {error}") from error


def _version(
    head: Version | None,
    tables: Mapping[str, TableState],
    rule: SplitRule | None,
    holds: Holds,
    provenance: Provenance,
) -> Version:
    return Version(
        number=head.number + 1 if head else 1,
        parent=head.number if head else None,
        fingerprint=version_fingerprint(tables, rule),
        tables=dict(tables),
        counts=holds.counts,
        splits=holds.splits,
        split_rule=rule,
        author=provenance.author,
        command=provenance.command,
        source=provenance.source,
        created_at=datetime.now(UTC).isoformat(),
        processing=dict(provenance.processing),
        software={
            "cineray": __version__,
            "pylance": version("pylance"),
            "data_format": DATA_FORMAT,
            "python": platform.python_version(),
        },
        message=provenance.message,
        commit_id=uuid.uuid4().hex,
    )


def _put(lake: str, made: Version) -> bool:
    """Put the manifest, unless this number is taken. An answer lost on the network is not taken for a defeat."""
    uri, data = manifest_uri(lake, made.number), version_to_json(made)
    try:
        if put_if_absent(uri, data):
            return True
    except CinerayError:
        if not _is_ours(uri, data):
            raise
        return True
    return _is_ours(uri, data)


def _is_ours(uri: str, data: bytes) -> bool:
    try:
        return read_object(uri, limit_bytes=1 << 26) == data
    except CinerayError as error:
        _log.warning("%s could not be read back: %s", uri, error)
        return False


def _tag(lake: Writer, head: Version | None, made: Version) -> None:
    """Tags guard table versions against Lance's own clean-up. The version stands without; gc makes missing ones."""
    before = head.tables if head else {}
    for name, state in made.tables.items():
        if state != before.get(name):
            try:
                lake.table(name).tag(state.version)
            except (CinerayError, OSError, ValueError) as error:
                _log.warning("table %s version %d was not tagged: %s; `lake gc` will do it", name, state.version, error)
