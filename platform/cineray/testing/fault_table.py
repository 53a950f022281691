"""The fault table: what is done to cineray on purpose, what happens then, and what it cost, as measured by the tests.

A test in tests/faults says its cause and what happens in a mark, and measures with a `Fault` what was lost. What the
tests measured goes in here as `FaultRow`s; text for a terminal and the page cluster/FAULTS.md come out, always in the
order of the files. A test that measured nothing has no row to show: `Fault.missing` says what it still has to say.

Rows are kept beside the page, as lines of JSON, each with the day and the machine that it was measured on: a part of
the tests can be run alone, and the rows of the others stay (`brought_up_to_date`).
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise

VERSIONS = ("cineray", "ray", "torch", "pylance", "av")
NOT_RUN = "not run"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRow:
    """One test: what it does, what it saw, and what it measured."""

    file: str
    """As `tests/faults/test_feed_kill.py`."""
    test: str
    cause: str
    happens: str
    seconds: tuple[float, ...] = ()
    """Lost, each time that the fault struck."""
    data: tuple[tuple[int, int, str], ...] = ()
    """(lost, of, unit), as (0, 28, "batches")."""
    state: str = NOT_RUN
    """`passed`, `failed`, `skipped: <why>` or `not run`."""
    tries: int = 1
    measured: str = ""
    """When, on what machine and with what, as `measured_where` says it."""


@dataclass(slots=True)
class Fault:
    """What one test measures of one fault."""

    seconds: list[float] = field(default_factory=list)
    data: list[tuple[int, int, str]] = field(default_factory=list)
    _struck_at: float | None = None
    _beats: list[float] = field(default_factory=list)

    def beat(self) -> None:
        """Now: a sign of ordinary work, a batch or a step. Where there are any, what is lost is the longest pause."""
        self._beats.append(time.monotonic())

    def strikes(self) -> None:
        """Now: the clock of what it costs begins. What struck before and is not over counts from then."""
        if self._struck_at is None:
            self._struck_at = time.monotonic()

    def over(self) -> float:
        """Now: the first sign that work goes on as before. The seconds since it struck are lost.

        With beats: by how much the longest pause between two since it struck is longer than is usual.
        """
        if self._struck_at is None:
            raise ValueError("fault.over() has no fault.strikes() before it: say when the fault struck")
        struck_at, self._struck_at = self._struck_at, None
        since = [struck_at, *(beat for beat in self._beats if beat > struck_at)]
        if len(since) == 1:
            return self.lost(time.monotonic() - struck_at)
        before = _pauses([beat for beat in self._beats if beat <= struck_at])
        return self.lost(max(_pauses(since)), than=statistics.median(before) if before else 0.0)

    @contextmanager
    def hit(self) -> Iterator[None]:
        """Around all that is between the fault and the first sign that work goes on."""
        self.strikes()
        yield
        self.over()

    def lost(self, seconds: float, *, than: float = 0.0) -> float:
        """So many seconds, measured otherwise; `than` is what it takes undisturbed."""
        self.seconds.append(max(0.0, seconds - than))
        return self.seconds[-1]

    def same(self, unit: str, *, found: Iterable[Hashable], expected: Iterable[Hashable]) -> None:
        """Everything expected was found, once, and nothing else; an error names what was not."""
        has, wants = Counter(iter(found)), Counter(iter(expected))  # of a mapping, its keys
        lost, more = wants - has, has - wants
        self.data.append((lost.total(), wants.total(), unit))
        assert not lost, f"{lost.total()} of {wants.total()} {unit} lost: {_some(lost)}"
        assert not more, f"{more.total()} {unit} came more often than wanted, or were never wanted: {_some(more)}"
        assert wants, f"no {unit} were expected, so that nothing could be lost: compare with what there is to lose"

    def missing(self) -> str:
        """What a test that passed has not measured; empty when it said all."""
        if self._struck_at is not None:
            return "fault.strikes() without fault.over(): say when work went on"
        if not self.seconds:
            return "no seconds: use fault.hit(), fault.strikes() and fault.over(), or fault.lost(seconds)"
        return "" if self.data else "no data: use fault.same(unit, found=..., expected=...)"


def _pauses(beats: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(beats)]


def _some(counted: Counter[Hashable]) -> str:
    shown = ", ".join(str(one) for one in list(counted)[:5])
    return shown + (", ..." if len(counted) > 5 else "")


# ---- the table -------------------------------------------------------------------------------------------------------


def seconds_lost(row: FaultRow) -> str:
    """As `2.1`, or `2.1 (longest of 3)`."""
    if row.state != "passed" or not row.seconds:
        return "-"
    longest = f"{max(row.seconds):.1f}"
    return longest if len(row.seconds) == 1 else f"{longest} (longest of {len(row.seconds)})"


def data_lost(row: FaultRow) -> str:
    """As `0 of 28 batches`, or what became of the test."""
    if row.state != "passed":
        return row.state
    added: dict[str, tuple[int, int]] = {}
    for lost, of, unit in row.data:
        before = added.get(unit, (0, 0))
        added[unit] = (before[0] + lost, before[1] + of)
    told = ", ".join(f"{lost} of {of} {unit}" for unit, (lost, of) in added.items())
    return told + (f" (at try {row.tries})" if row.tries > 1 else "")


def as_text(rows: Sequence[FaultRow]) -> list[str]:
    """Lines for a terminal."""
    lines = [f"{'seconds lost':>20}  {'data lost':<24}  cause: what happens"]
    for row in rows:
        lines.append(f"{seconds_lost(row):>20}  {data_lost(row):<24}  {row.cause}: {row.happens}")
        lines.append(f"{'':>20}  {'':<24}  {row.file}::{row.test}")
    return lines


def as_markdown(rows: Sequence[FaultRow], titles: dict[str, str], *, up: str = "../") -> str:
    """The page; `titles` has a heading for each file, and `up` leads from the page to the repository's root."""
    passed = [row for row in rows if row.state == "passed"]
    lines = [
        "# What was done to cineray, and what it cost",
        "",
        "Written by `make faults`; do not edit. Each row is a test that does what its cause says to real processes and",
        "real files, counts what came out against what an undisturbed run makes, and fails where anything is lost,",
        "repeated or different. Seconds are from the fault to the first sign that work goes on, on the machine named",
        "here; where a fault only slows work down, they are what it took longer.",
        "",
        f"{len(passed)} of {len(rows)} rows measured:",
        "",
    ]
    lines += [f"- {count}: {where}" for where, count in Counter(row.measured for row in passed).items()]
    for file in dict.fromkeys(row.file for row in rows):
        lines += ["", f"## {titles.get(file) or file}", "", _HEAD, _RULE]
        lines += [_line(row, up) for row in rows if row.file == file]
    return "\n".join(lines) + "\n"


_HEAD = "| cause | what happens | seconds lost | data lost | shown by |"
_RULE = "|---|---|--:|---|---|"


def _line(row: FaultRow, up: str) -> str:
    test = f"[{row.test.removeprefix('test_').replace('_', ' ')}]({up}{row.file})"
    cells = (row.cause, row.happens, seconds_lost(row), data_lost(row), test)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def brought_up_to_date(known: Sequence[FaultRow], ran: Sequence[FaultRow], *, whole: bool) -> list[FaultRow]:
    """The rows that are known with those of a run in their places. What it skipped keeps what it had measured before;
    `whole`: all tests were asked for, so what is not among them is no more."""
    before, now = {(row.file, row.test): row for row in known}, {(row.file, row.test): row for row in ran}
    names = list(now) if whole else list(before | now)
    rows = (
        now[name] if name in now and (_came_out(now[name]) or name not in before) else before[name] for name in names
    )
    return sorted(rows, key=lambda row: row.file)  # within a file as they stand there


def _came_out(row: FaultRow) -> bool:
    return row.state in ("passed", "failed")


def as_lines(rows: Iterable[FaultRow]) -> str:
    """A line of JSON for each row; seconds to the millisecond."""
    rounded = (replace(row, seconds=tuple(round(one, 3) for one in row.seconds)) for row in rows)
    return "".join(json.dumps(asdict(row)) + "\n" for row in rounded)


def rows_of(lines: str) -> list[FaultRow]:
    """What `as_lines` wrote."""
    rows = []
    for told in map(json.loads, lines.splitlines()):
        seconds, data = tuple(told.pop("seconds")), tuple((lost, of, unit) for lost, of, unit in told.pop("data"))
        rows.append(FaultRow(seconds=seconds, data=data, **told))
    return rows


def measured_where() -> str:
    """When, on what, with what: no name of a machine or of a user."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    software = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in VERSIONS)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {len(os.sched_getaffinity(0))} cores ({platform.machine()}), "
        f"{memory_gb:.0f} GB, Linux {'.'.join(platform.release().split('.')[:2])}, "
        f"Python {platform.python_version()}, {software}."
    )
