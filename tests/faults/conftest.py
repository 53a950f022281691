"""The fault table's side of the tests: a mark that says what is done, a fixture that measures, the table at the end.

    @pytest.mark.fault(cause="a decode worker is killed", happens="its tasks run again on another", long=True)
    def test_...(fault: Fault) -> None:
        with fault.hit():              # or fault.strikes() ... fault.over(), or fault.lost(seconds, than=undisturbed)
            ...                        # the fault, until the first sign that work goes on
        fault.same("batches", found=found, expected=expected)

Every test in this folder has the mark, and fails where it did not measure; or it is marked `beside`, and looks at what
else is seen of a long story whose faults have their rows. Texts may name parameters of the test in braces. Tests with
`long=True`, and those beside, run where CINERAY_FAULTS=1 is set, as `make faults` does; CINERAY_FAULTS_TABLE names the
page that is brought up to date at the end, and its rows lie beside it, as `<page>.jsonl`.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cineray.feed import FeedSpec
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing.fault_table import (
    Fault,
    FaultRow,
    as_lines,
    as_markdown,
    as_text,
    brought_up_to_date,
    measured_where,
    rows_of,
)

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
LONG, TABLE = "CINERAY_FAULTS", "CINERAY_FAULTS_TABLE"
MEASURED = "fault"
ASKED_FOR = os.environ.get(LONG, "") not in ("", "0")
rows: dict[str, FaultRow] = {}
"""By node id, in the order of collection: all tests of this folder, also those that do not run."""


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    """Measures what the fault of this test costs."""
    measured: Fault = request.node.stash.setdefault(_FAULT, Fault())
    return measured


_FAULT = pytest.StashKey[Fault]()


@pytest.fixture(scope="session")
def slow_clips() -> Callable[..., FeedSpec]:
    """`slow_clips(folder, videos=24, batch_size=6)`: clips of 8 frames, out of videos of 384 px, so that decoding takes
    long enough for something to happen in it. Any field of the recipe may be given."""
    from cineray.ingest import EngineConfig, IngestConfig, ingest
    from cineray.testing import make_shapes

    def make(folder: Path, *, videos: int = 24, batch_size: int = 6, **recipe: Any) -> FeedSpec:
        make_shapes(folder / "videos", videos=videos, size_px=384)
        ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
        told = Recipe(
            datasets=(DatasetSpec(lake=str(folder / "lake"), split=None),),
            sampling=SamplingSpec(frames=8, stride=2),
            frame=FrameSpec(height=48, width=48),
            batch_size=batch_size,
            clips_per_visit=2,
            **recipe,
        )
        return FeedSpec(recipe=told, seed=5).pinned()

    return make


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A row for each test; the long ones are skipped unless they are asked for."""
    unmarked = []
    for item in (one for one in items if one.path.is_relative_to(HERE)):
        mark, beside = item.get_closest_marker("fault"), item.get_closest_marker("beside")
        if mark is None and beside is None:
            unmarked.append(item.nodeid)
            continue
        if mark is not None:
            rows[item.nodeid] = row_of(item, **mark.kwargs)
        long = beside is not None or (mark is not None and mark.kwargs.get("long"))
        if long and not ASKED_FOR:
            item.add_marker(pytest.mark.skip(reason=f"takes long: {LONG}=1 runs it, as `make faults` does"))
    if unmarked:
        raise pytest.UsageError(
            "tests in tests/faults have a row in the table: add @pytest.mark.fault(cause=..., happens=...) to "
            + ", ".join(unmarked)
        )


def row_of(item: pytest.Item, *, cause: str, happens: str, long: bool = False) -> FaultRow:
    told: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    return FaultRow(
        file=item.path.relative_to(REPO).as_posix(),
        test=item.name,
        cause=cause.format(**told),
        happens=happens.format(**told),
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that passes has measured; what it measured goes with its report."""
    measured = item.stash.setdefault(_FAULT, Fault())
    result = yield
    if item.nodeid not in rows:
        return result
    assert not measured.missing(), f"a fault test says what was lost. {measured.missing()}"
    item.user_properties.append((MEASURED, {"seconds": tuple(measured.seconds), "data": tuple(measured.data)}))
    return result


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A second try measures anew."""
    item.stash[_FAULT] = Fault()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What became of a test. A failure after it (in a fixture's end) is one, too."""
    row = rows.get(report.nodeid)
    if row is None:
        return
    outcome = str(report.outcome)
    if outcome == "rerun":
        row = replace(row, tries=row.tries + 1)
    elif outcome == "skipped":
        row = replace(row, state=f"skipped: {why(report)}")
    elif outcome == "failed":
        row = replace(row, state="failed")
    elif report.when == "call":
        row = replace(row, state="passed", measured=measured_where(), **dict(report.user_properties)[MEASURED])
    rows[report.nodeid] = row


def why(report: pytest.TestReport) -> str:
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(told).removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table, and its page where one is asked for."""
    if not rows or not ASKED_FOR:
        return
    in_order = sorted(rows.values(), key=lambda row: row.file)  # within a file as they stand there
    terminalreporter.section("faults")
    for line in as_text(in_order):
        terminalreporter.write_line(line)
    if os.environ.get(TABLE):
        asked = [Path(str(one)).resolve() for one in terminalreporter.config.args]
        path = write_page(in_order, whole=any(HERE.is_relative_to(one) for one in asked))
        terminalreporter.write_line(f"written to {path.relative_to(REPO)}")


def write_page(ran: list[FaultRow], *, whole: bool) -> Path:
    path = REPO / os.environ[TABLE]
    kept = path.with_suffix(".jsonl")
    known = rows_of(kept.read_text(encoding="utf-8")) if kept.exists() else []
    shown = brought_up_to_date([row for row in known if (REPO / row.file).exists()], ran, whole=whole)
    kept.write_text(as_lines(shown), encoding="utf-8")
    path.write_text(as_markdown(shown, {row.file: title(row.file) for row in shown}), encoding="utf-8")
    return path


def title(file: str) -> str:
    """What a test file's first line says before its colon."""
    told = ast.get_docstring(ast.parse((REPO / file).read_text(encoding="utf-8"))) or ""
    return told.partition("\n\n")[0].replace("\n", " ").partition(":")[0].rstrip(".")
