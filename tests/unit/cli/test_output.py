"""What reaches a terminal: tables for people, and nothing from data that a terminal would obey."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cineray.cli.output import bytes_text, plain, visible


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("turn\u202eed", "turn\\u202eed"),
        ("not utf-8 \udcff", "not utf-8 \\udcff"),
        ("größe 視頻\nnext line", "größe 視頻\nnext line"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(given: str, shown: str) -> None:
    assert visible(given) == shown


def test_markup_and_control_characters_in_lists_and_mappings_are_shown_too() -> None:
    assert plain(["[red]x[/]", "\x1b[2J"]) == "\\[red]x\\[/], \\x1b[2J"
    assert plain({"\x07": 3}) == "\\x07 3"


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (123_456_789, "123 MB")])
def test_sizes_are_said_as_people_say_them(count: int, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_result_that_cannot_be_written_is_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cineray", "doctor", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == 1
    assert "could not be written to standard output" in done.stderr
    assert "Traceback" not in done.stderr
