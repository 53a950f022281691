"""The one adapter over pylance. Arrow batches go in; exact table versions come out, and rows of any of them.

What the rest of the lake relies on, and what this file is for:
- `write` makes fragments that nobody sees until a `commit` names them; a killed writer leaves files, never rows.
- `commit(fragments)` makes a Lance version that holds exactly those fragments, whoever else writes: it is an
  Overwrite that lists again the fragments it keeps, so neither racing nor abandoned versions of the table can slip
  into ours.
- Old versions stay as they are. A deletion is a new fragment without those rows (an Overwrite refuses deletion
  files).
- Rows are counted by reading them: counts with a filter have been wrong in this ecosystem."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cineray.errors import CommitConflict, LakeError, UsageError
from cineray.lake.schema import with_all_columns
from cineray.storage import is_remote, lance_options, lance_uri

DATA_FORMAT = "2.2"
_COMMIT_TRIES = 60
_STORE_TRIES = 7
"""Some ten seconds."""
_SCAN_ROWS = 4096
_ROW_NUMBER = "cineray_row_number"


def _pylance() -> Any:
    """The library, loaded when a table is first touched: it takes a second, and `cineray --help` need not wait."""
    # Lance logs every creation of a table as a warning; errors reach us as exceptions anyway.
    os.environ.setdefault("LANCE_LOG", "error")
    import lance
    import lance.commit
    import lance.fragment

    return lance


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """One file of a table, as the store lists it."""

    path: str
    size_bytes: int
    modified: datetime


class Table:
    """One Lance table by its uri. Cheap to make; nothing is opened until a method needs it."""

    def __init__(self, uri: str, schema: pa.Schema) -> None:
        self.uri, self.schema = lance_uri(uri), schema
        self._options = lance_options(uri) or None
        self._kept: tuple[int, int, Any] = (0, 0, None)

    def write(self, batches: Iterable[pa.RecordBatch]) -> list[Any]:
        """Rows to new, still invisible fragments, a batch at a time. No rows, no fragment."""
        raised: list[BaseException] = []

        def stream() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except BaseException as error:  # Lance would turn it into an OSError with a traceback as its text
                raised.append(error)
                raise

        reader = pa.RecordBatchReader.from_batches(self.schema, stream())
        try:
            written: list[Any] = _pylance().fragment.write_fragments(
                reader,
                self.uri,
                schema=self.schema,
                mode="overwrite",  # "append" would refuse columns that the newest table version does not have
                data_storage_version=DATA_FORMAT,
                storage_options=self._options,
            )
        except Exception as error:
            if raised:
                raise raised[0] from None
            raise LakeError(f"rows could not be written to {self.uri}: {_short(error)}") from error
        return written

    def commit(self, fragments: Sequence[Any]) -> int:
        """A new version that holds exactly these fragments; its number.

        Lance asks a store again for anything but this, for it cannot know whether its version landed when the answer is
        lost. Here another one does no harm: what counts is the one that a manifest names.
        """
        lance, failed = _pylance(), 0
        operation = lance.LanceOperation.Overwrite(self.schema, list(fragments))
        for attempt in range(_COMMIT_TRIES):
            before = self.latest()
            try:
                made = lance.LanceDataset.commit(
                    self.uri, operation, read_version=before, storage_options=self._options
                )
                return int(made.version)
            except lance.commit.CommitConflictError:
                pass  # somebody committed since `before` was read: look again
            except OSError as error:
                if before or self.latest() == 0:  # else two writers made the table at once: the other was first
                    failed += 1
                    if failed == _STORE_TRIES or not is_remote(self.uri):
                        raise LakeError(f"{self.uri} could not be committed: {_short(error)}") from error
                    time.sleep(random.uniform(0.5, 1) * 0.1 * 2**failed)  # noqa: S311
            time.sleep(random.uniform(0, min(0.5, 0.01 * 2 ** min(attempt, 8))))  # noqa: S311
        raise CommitConflict(f"{self.uri} was committed by others {_COMMIT_TRIES} times in a row; try again later")

    def latest(self) -> int:
        """The newest Lance version, 0 where there is no table yet."""
        try:
            with _panics_told(self.uri):
                return int(_pylance().dataset(self.uri, storage_options=self._options).latest_version)
        except ValueError as error:
            if "not found" in str(error):
                return 0
            raise LakeError(f"{self.uri} cannot be opened: {_short(error)}") from error

    def open(self, version: int) -> Any:
        """The Lance dataset at a version."""
        try:
            with _panics_told(self.uri):
                return _pylance().dataset(self.uri, version=version, storage_options=self._options)
        except (ValueError, OSError) as error:
            raise LakeError(f"{self.uri} has no readable table version {version}: {_short(error)}") from error

    def is_of_todays_schema(self, version: int) -> bool:
        """Whether the fragments of a version can be listed again beside new ones: Lance knows columns by position."""
        held = self.open(version).schema
        newer = [name for name in held.names if name not in self.schema.names]
        if newer:
            raise LakeError(f"{self.uri} has the columns {newer}, made by a newer cineray; install that to write to it")
        return bool(held.equals(self.schema))

    def fragments(self, version: int) -> list[Any]:
        """Metadata of the fragments of a version, as `commit` takes it."""
        return [fragment.metadata for fragment in self.open(version).get_fragments()]

    def scan(
        self,
        version: int,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        batch_rows: int | None = None,
        fragments: Sequence[Any] | None = None,
        row_address: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Rows of a version in batches, in a fixed order; `fragments` (metadata of that version) narrows it."""
        dataset = self.open(version)
        chosen = [dataset.get_fragment(fragment.id) for fragment in fragments] if fragments is not None else None
        if chosen == []:
            return
        names = self.known_columns(columns)
        address = [pa.field("_rowaddr", pa.uint64())] if row_address else []
        wanted = pa.schema([*(self.schema.field(name) for name in names), *address])
        # A version may be older than a column; then any column stands in for the number of rows.
        held = [name for name in names if name in dataset.schema.names] or dataset.schema.names[:1]
        options = {"batch_size": batch_rows or _SCAN_ROWS, "fragments": chosen, "with_row_address": row_address}
        try:
            for batch in dataset.scanner(columns=held, filter=where, **options).to_batches():
                yield with_all_columns(batch, wanted)
        except (ValueError, OSError, pa.ArrowException) as error:
            raise self._refused(error, where) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            raise LakeError(f"{self.uri} is damaged: Lance stopped reading it ({_short(error)})") from error

    def positions(
        self, version: int, *, columns: Sequence[str], where: str | None = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], pa.RecordBatch]]:
        """Rows of a version as `scan` gives them, each with its number among all rows: what `take` asks for."""
        held = {fragment.fragment_id: fragment.count_rows() for fragment in self.open(version).get_fragments()}
        before = dict(zip(held, np.cumsum([0, *held.values()]).tolist(), strict=False))
        for batch in self.scan(version, columns=columns, where=where, row_address=True):
            address = batch["_rowaddr"].to_numpy()
            fragments, inside = np.divmod(address.astype(np.int64), 1 << 32)
            numbers = inside + np.array([before[fragment] for fragment in fragments.tolist()], dtype=np.int64)
            yield numbers, batch.drop_columns(["_rowaddr"])

    def take(self, version: int, numbers: Sequence[int], *, columns: Sequence[str]) -> pa.Table:
        """These rows of a version, in this order, by their numbers among all its rows."""
        dataset = self._opened(version)
        names = self.known_columns(columns)
        held = [name for name in names if name in dataset.schema.names] or dataset.schema.names[:1]
        wanted = pa.schema([self.schema.field(name) for name in names])
        try:
            with _panics_told(self.uri):
                found = dataset.take(list(numbers), columns=held).combine_chunks()
        except (ValueError, OSError, pa.ArrowException) as error:
            raise LakeError(f"{self.uri} cannot be read: {_short(error)}") from error
        batches = [with_all_columns(batch, wanted) for batch in found.to_batches()]
        return pa.Table.from_batches(batches, schema=wanted)

    def _opened(self, version: int) -> Any:
        """The Lance dataset at a version, opened once per process: a fork must not use what its parent opened."""
        if self._kept[:2] != (os.getpid(), version):
            self._kept = (os.getpid(), version, self.open(version))
        return self._kept[2]

    def known_columns(self, columns: Sequence[str] | None) -> list[str]:
        """These columns, or all; refused if the table has no such column."""
        names: list[str] = self.schema.names
        unknown = [name for name in columns or () if name not in names]
        if unknown:
            raise UsageError(f"no column {unknown[0]!r}; the table's columns are {', '.join(names)}")
        return list(columns) if columns is not None else names

    def _refused(self, error: Exception, where: str | None) -> Exception:
        asked = (
            "Schema error",
            "parsing",
            "tokenizing",
            "planning",
            "filter expression",
            "Cast error",
            "Invalid user input",
        )
        if where is not None and any(word in str(error) for word in asked):
            known = ", ".join(self.schema.names)
            return UsageError(f"the filter {where!r} cannot be used: {_short(error)}. The table's columns are {known}")
        return LakeError(f"{self.uri} cannot be read: {_short(error)}")

    def tag(self, version: int) -> bool:
        """Tag a version so that Lance's own clean-up keeps it. True when the tag is new."""
        dataset = self.open(version)
        name = tag_name(version)
        if name in dataset.tags.list():
            return False
        try:
            dataset.tags.create(name, version)
        except (ValueError, OSError):
            if name not in dataset.tags.list():  # else another process was quicker
                raise
            return False
        return True

    def untag(self, version: int) -> None:
        """Take the tag of a version away, if it has one."""
        tags = self.open(self.latest()).tags
        if tag_name(version) in tags.list():
            tags.delete(tag_name(version))

    def tags(self) -> dict[str, int]:
        """All tags, ours and anybody's, and the versions that they keep."""
        return {name: int(tag["version"]) for name, tag in self.open(self.latest()).tags.list().items()}

    def versions(self) -> dict[int, datetime]:
        """All Lance versions of the table and when each was made."""
        listed = self.open(self.latest()).versions()
        return {int(v["version"]): v["timestamp"].astimezone() for v in listed}

    def files_by_version(self) -> dict[int, set[str]]:
        """Paths (relative to the table) that each version needs."""
        needed: dict[int, set[str]] = {}
        for batch in self.open(self.latest()).tracked_files():
            for version, path in zip(batch["version"].to_pylist(), batch["path"].to_pylist(), strict=True):
                needed.setdefault(version, set()).add(path)
        return needed

    def files(self) -> Iterator[TableFile]:
        """Every file that lies under the table, needed or not."""
        for batch in self.open(self.latest()).all_files():
            for row in batch.to_pylist():
                yield TableFile(path=row["path"], size_bytes=row["size_bytes"], modified=row["last_modified"])

    def drop_versions(self, versions: Sequence[int]) -> None:
        """Remove these versions and the files that only they need. Lance refuses tagged ones and the newest."""
        if versions:
            self.open(self.latest()).cleanup_old_versions(versions=list(versions))


def matching(rows: pa.Table, filters: Sequence[str]) -> list[npt.NDArray[np.bool_]]:
    """For each SQL filter the rows for which it is true; the language is that of `scan`, because Lance reads both.

    For rows that are in no table of a lake: they lie in a temporary one meanwhile.
    """
    lance = _pylance()
    numbered = rows.append_column(_ROW_NUMBER, pa.array(np.arange(rows.num_rows)))
    found = []
    with tempfile.TemporaryDirectory(prefix="cineray-rows-") as folder:
        dataset = lance.write_dataset(numbered, folder, data_storage_version=DATA_FORMAT)
        for where in filters:
            held = np.zeros(rows.num_rows, np.bool_)
            try:
                numbers = dataset.scanner(columns=[_ROW_NUMBER], filter=where).to_table()[_ROW_NUMBER].to_numpy()
            except (ValueError, OSError, pa.ArrowException) as error:
                known = ", ".join(rows.column_names)
                raise UsageError(
                    f"the filter {where!r} cannot be used: {_short(error)}. The columns are {known}"
                ) from error
            held[numbers] = True
            found.append(held)
    return found


def tag_name(version: int) -> str:
    """The tag that keeps a Lance version: one per table version, whichever manifests name it."""
    return f"cineray-{version}"


@contextmanager
def _panics_told(uri: str) -> Iterator[None]:
    """Of a damaged file Lance's Rust may panic, and its exception is none that `except Exception` sees."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise LakeError(f"{uri} is damaged: {_short(error)}; restore its files from a backup") from error


def _short(error: BaseException) -> str:
    """Lance's message without the place in its own source, and on one line."""
    first = str(error).split(", /")[0].split(". Detail:")[0].split(". Valid fields are")[0]
    return " ".join(first.removeprefix("Invalid user input: ").split())[:300].rstrip(".")
