"""The ledger of a run: a row per step goes in, Parquet parts come to lie beside the run, and a kill loses none or few.

    ledger/00002-000003.parquet    the third part of the second attempt
    ledger/00002-000004.jsonl      its rows since then, each written at once: on a local disk SIGKILL loses no row

In an object store, where nothing can be appended, the part under way is put again every half minute by a thread of its
own. A step that an attempt did again counts once, as the last attempt did it; what was done in vain is still there to
be counted (`goodput.py`).
"""

from __future__ import annotations

import io
import math
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cineray.errors import CinerayError
from cineray.storage import delete_object, is_remote, join_uri, list_objects, put_object, read_object
from cineray.train.append_log import AppendLog, open_log, read_logs
from cineray.train.ledger_row import COLUMNS

SCHEMA = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])

PART_ROWS = 2000
PUT_EVERY_SECONDS = 30.0
_LIMIT_BYTES = 1 << 30


class Ledger:
    """The rows of one attempt; written by one process of it."""

    def __init__(self, folder: str, attempt: int, *, part_rows: int = PART_ROWS, every_seconds: float = 0) -> None:
        self._folder, self._attempt, self._part_rows = folder, attempt, part_rows
        self._rows: list[dict[str, Any]] = []
        self._part, self._put_rows = 1, 0
        self._lock, self._putting, self._stop = threading.Lock(), threading.Lock(), threading.Event()
        self._tail = self._new_tail()
        self._thread: threading.Thread | None = None
        if is_remote(folder):
            args = (every_seconds or PUT_EVERY_SECONDS,)
            self._thread = threading.Thread(target=self._run, args=args, name="ledger", daemon=True)
            self._thread.start()

    def add(self, row: Mapping[str, Any]) -> None:
        """One step's row."""
        with self._lock:
            self._rows.append(dict(row))
            if self._tail is not None:
                self._tail.add(row)
            full = len(self._rows) >= self._part_rows
        if full and self._thread is None:
            self._put()

    def flush(self) -> None:
        """Whoever reads the ledger now finds every row; on a local disk that is so at any time."""
        if self._thread is not None:
            self._put()

    def close(self) -> None:
        """All rows are in Parquet parts now."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
        self._put()
        if self._tail is not None:
            self._tail.close()
            if self._put_rows == len(self._rows):  # else the tail is all that there is
                delete_object(join_uri(self._folder, f"{self._name(self._part)}.jsonl"))

    def _run(self, every_seconds: float) -> None:
        while not self._stop.wait(every_seconds):
            self._put()

    def _put(self) -> None:
        """Put the part under way, whole; a full one is then closed, and the next one begins."""
        with self._putting:
            self._put_part()

    def _put_part(self) -> None:
        with self._lock:
            rows, part = list(self._rows), self._part
        if len(rows) == self._put_rows:
            return
        try:
            put_object(join_uri(self._folder, f"{self._name(part)}.parquet"), parquet_bytes(rows))
        except CinerayError as error:
            warnings.warn(
                f"the ledger cannot be written: {error}; the run goes on, and it is tried again", stacklevel=2
            )
            return
        with self._lock:
            self._put_rows = len(rows)
            if len(rows) >= self._part_rows:
                self._rows, self._part, self._put_rows = self._rows[len(rows) :], part + 1, 0
                self._next_tail(part)

    def _new_tail(self) -> AppendLog | None:
        return None if is_remote(self._folder) else open_log(self._folder, self._name(self._part))

    def _next_tail(self, done: int) -> None:
        if self._tail is None:
            return
        self._tail.close()
        delete_object(join_uri(self._folder, f"{self._name(done)}.jsonl"))
        self._tail = self._new_tail()

    def _name(self, part: int) -> str:
        return f"{self._attempt:05d}-{part:06d}"


def parquet_bytes(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as one Parquet file."""
    table = pa.Table.from_pylist([{name: row.get(name) for name in COLUMNS} for row in rows], schema=SCHEMA)
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def read_all_rows(folder: str) -> list[dict[str, Any]]:
    """Every row of every attempt, steps that were done again too, by attempt and step."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for _, line in read_logs(folder):
        found[int(line["attempt"]), int(line["step"])] = line
    for one in list_objects(folder):
        if one.uri.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(read_object(one.uri, limit_bytes=_LIMIT_BYTES)))
            found |= {(int(row["attempt"]), int(row["step"])): row for row in table.to_pylist()}
    return [found[key] for key in sorted(found)]


def last_of_each_step(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows by step, each step as the last attempt that did it.

    An attempt that began at step 500 has taken back whatever others did from there on, also what it did not do again.
    """
    by_attempt: dict[int, dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        by_attempt.setdefault(int(row["attempt"]), {})[int(row["step"])] = row
    kept: dict[int, dict[str, Any]] = {}
    taken_back = math.inf
    for attempt in sorted(by_attempt, reverse=True):
        own = by_attempt[attempt]
        kept |= {step: dict(row) for step, row in own.items() if step < taken_back}
        taken_back = min(taken_back, *own)
    return [kept[step] for step in sorted(kept)]


def training_seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Of a run whose rows these are, one per step: without checkpoints and validations."""
    told = rows[-1].get("training_seconds") if rows else 0.0
    if told is not None and math.isfinite(told):
        return float(told)  # also what a run that it began from had taken
    return sum(float(row["step_s"]) - _between(row) for row in rows)


def _between(row: Mapping[str, Any]) -> float:
    return float(row["checkpoint_s"]) + float(row["validation_s"])


def read_ledger(folder: str) -> pa.Table:
    """The run's ledger: one row per step."""
    rows = last_of_each_step(read_all_rows(folder))
    return pa.Table.from_pylist([{name: row.get(name) for name in COLUMNS} for row in rows], schema=SCHEMA)
