"""The fault table: a test measures what a fault costs, and the page says it with what was lost and what did not run.

The marks, the hooks and the page are tried with a small test file of their own, run by a pytest of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cineray.testing.fault_table import Fault, FaultRow, as_lines, as_markdown, as_text, brought_up_to_date, rows_of

FAULTS = Path(__file__).resolve().parents[2] / "faults" / "conftest.py"


def test_what_was_lost_or_came_twice_is_named() -> None:
    fault = Fault()
    with pytest.raises(AssertionError, match="2 of 4 batches lost: b, d"):
        fault.same("batches", found=["a", "c"], expected=["a", "b", "c", "d"])
    with pytest.raises(AssertionError, match="1 batches came more often than wanted, or were never wanted: a"):
        fault.same("batches", found=["a", "a"], expected=["a"])
    with pytest.raises(AssertionError, match="1 of 1 batches lost: a"):
        fault.same("batches", found=["b"], expected=["a"])
    with pytest.raises(AssertionError, match="1 of 2 batches lost: b"):
        fault.same("batches", found={"a": 7}, expected={"a": 1, "b": 1})
    with pytest.raises(AssertionError, match="no batches were expected"):
        fault.same("batches", found=[], expected=[])


def test_seconds_are_from_each_strike_to_its_end() -> None:
    fault = Fault()
    with fault.hit():
        time.sleep(0.02)
        fault.strikes()  # again, before it is over
    assert fault.lost(3.5, than=3.0) == 0.5
    assert fault.lost(1.0, than=3.0) == 0.0
    assert len(fault.seconds) == 3
    assert fault.seconds[0] >= 0.02
    with pytest.raises(ValueError, match=r"no fault.strikes\(\) before it"):
        fault.over()


def test_with_beats_the_longest_pause_since_the_strike_is_lost_less_what_is_usual(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, fault = 100.0, Fault()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for at in (100.0, 101.0, 102.0, 104.0):  # a second is usual
        now = at
        fault.beat()
    now = 104.5
    fault.strikes()
    for at in (105.0, 112.0, 113.0):
        now = at
        fault.beat()
    now = 150.0
    assert fault.over() == 6.0
    fault.strikes()
    now = 152.0
    assert fault.over() == 2.0, "no beat since: until now"


def test_a_test_that_did_not_measure_is_told_what_is_missing() -> None:
    fault = Fault()
    assert fault.missing().startswith("no seconds")
    fault.strikes()
    assert "without fault.over()" in fault.missing()
    fault.over()
    assert fault.missing().startswith("no data")
    fault.same("videos", found=[1], expected=[1])
    assert fault.missing() == ""


def row(**told: object) -> FaultRow:
    given = {"file": "tests/faults/test_a.py", "test": "test_x_y", "cause": "a | b", "happens": "it goes on"}
    given["measured"] = "on a day"
    return FaultRow(**(given | {"state": "passed"} | told))  # type: ignore[arg-type]


def test_the_page_has_a_line_for_each_test_by_file_and_says_what_did_not_run() -> None:
    rows = [
        row(seconds=(2.14,), data=((0, 28, "batches"),)),
        row(test="test_z", seconds=(1.0, 7.06), data=((0, 5, "steps"), (0, 6, "steps"), (0, 1, "run")), tries=2),
        row(file="tests/faults/test_b.py", state="skipped: needs root"),
        row(file="tests/faults/test_b.py", state="failed", seconds=(1.0,)),
    ]
    page = as_markdown(rows, {"tests/faults/test_a.py": "Feeds"})
    of_a, of_b = "[x y](../tests/faults/test_a.py) |", "[x y](../tests/faults/test_b.py) |"
    assert [line for line in page.splitlines() if line.startswith(("## ", "| a"))] == [
        "## Feeds",
        f"| a \\| b | it goes on | 2.1 | 0 of 28 batches | {of_a}",
        "| a \\| b | it goes on | 7.1 (longest of 2) | 0 of 11 steps, 0 of 1 run (at try 2) | "
        + of_a.replace("x y", "z"),
        "## tests/faults/test_b.py",
        f"| a \\| b | it goes on | - | skipped: needs root | {of_b}",
        f"| a \\| b | it goes on | - | failed | {of_b}",
    ]
    assert "\n2 of 4 rows measured:\n\n- 2: on a day\n" in page
    assert "0 of 28 batches" in as_text(rows)[1]


def test_a_run_of_a_part_brings_its_own_rows_up_to_date_and_leaves_the_others() -> None:
    known = [
        row(test="test_1", seconds=(9.0,), data=((0, 3, "steps"),)),
        row(test="test_2"),
        row(test="test_gone"),
        row(file="tests/faults/test_b.py", test="test_3", measured="on another day"),
    ]
    ran = [
        row(test="test_1", measured="today"),
        row(test="test_2", state="skipped: no root"),
        row(test="test_new", state="failed"),
    ]
    assert rows_of(as_lines(known)) == known
    part, whole = (brought_up_to_date(known, ran, whole=whole) for whole in (False, True))
    assert part == [ran[0], known[1], known[2], ran[2], known[3]]
    assert whole == [ran[0], known[1], ran[2]]


TESTS = '''
"""Made troubles: for the table's own test."""
import pytest

@pytest.mark.fault(cause="measured {n}", happens="it goes on")
@pytest.mark.parametrize("n", [1, 2])
def test_measured(fault, n):
    with fault.hit():
        pass
    fault.same("things", found=[n], expected=[n])

@pytest.mark.fault(cause="nothing measured", happens="it fails")
def test_nothing():
    pass

@pytest.mark.fault(cause="long", happens="it waits to be asked for", long=True)
def test_long(fault):
    fault.lost(1.0)
    fault.same("things", found=[1], expected=[1])

@pytest.mark.fault(cause="no root", happens="it is skipped")
def test_root(fault):
    pytest.skip("needs root")
'''


def run(folder: Path, tests: str, asked: str = "tests/faults", **environment: str) -> tuple[str, str]:
    """What a pytest of its own says of these tests with the table's conftest.py, and the page that it writes."""
    here = folder / "tests" / "faults"
    here.mkdir(parents=True, exist_ok=True)
    (here / "conftest.py").write_text(FAULTS.read_text())
    (here / "test_made.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    fault: of the table\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CINERAY_FAULTS", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", asked]
    done = subprocess.run(
        command, cwd=folder, env=clean | environment, capture_output=True, text=True, check=False, timeout=120
    )
    page = folder / "page.md"
    return done.stdout + done.stderr, page.read_text() if page.exists() else ""


def test_the_marks_make_the_rows_and_what_did_not_measure_fails(tmp_path: Path) -> None:
    asked = {"CINERAY_FAULTS": "1", "CINERAY_FAULTS_TABLE": "page.md"}
    said, page = run(tmp_path, TESTS, **asked)
    assert "a fault test says what was lost. no seconds" in said
    assert "1 failed, 3 passed, 1 skipped" in said
    assert [line.rpartition(" | [")[0] for line in page.splitlines() if line.startswith("| ")][1:] == [
        "| measured 1 | it goes on | 0.0 | 0 of 1 things",
        "| measured 2 | it goes on | 0.0 | 0 of 1 things",
        "| nothing measured | it fails | - | failed",
        "| long | it waits to be asked for | 1.0 | 0 of 1 things",
        "| no root | it is skipped | - | skipped: needs root",
    ]
    assert "\n## Made troubles\n" in page

    part = TESTS.replace("[n], expected=[n]", "[n, 3], expected=[n, 3]").replace('"long"', '"longer"')
    _, page = run(tmp_path, part, "tests/faults/test_made.py::test_measured", **asked)
    assert [line.rpartition(" | [")[0] for line in page.splitlines() if line.startswith("| ")][1:] == [
        "| measured 1 | it goes on | 0.0 | 0 of 2 things",
        "| measured 2 | it goes on | 0.0 | 0 of 2 things",
        "| nothing measured | it fails | - | failed",
        "| long | it waits to be asked for | 1.0 | 0 of 1 things",
        "| no root | it is skipped | - | skipped: needs root",
    ], "a part that was run alone changes its own rows"


def test_long_ones_are_skipped_with_their_reason_and_no_page_is_written_unasked(tmp_path: Path) -> None:
    said, page = run(tmp_path, TESTS)
    assert "takes long: CINERAY_FAULTS=1 runs it" in said
    assert "seconds lost" not in said
    assert page == ""


def test_a_test_without_a_row_is_refused(tmp_path: Path) -> None:
    said, _ = run(tmp_path, TESTS + "\ndef test_of_nothing():\n    pass\n")
    assert "tests in tests/faults have a row in the table" in said
    assert "test_made.py::test_of_nothing" in said
