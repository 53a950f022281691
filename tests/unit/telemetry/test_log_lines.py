"""Log lines say which run, step and rank they belong to, in both forms, and a message cannot forge another line."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cineray.errors import UsageError
from cineray.telemetry import log_lines as module
from cineray.telemetry.log_lines import belonging, belongs, log_lines

LOG = logging.getLogger("cineray.train")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    logger, before = logging.getLogger("cineray"), dict(module._belongs)
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    module._belongs.clear()
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)
    module._belongs.clear()
    module._belongs.update(before)


def test_a_json_line_has_the_run_the_rank_and_the_step_of_its_moment() -> None:
    stream = io.StringIO()
    log_lines(stream, form="json", level=logging.INFO)
    belongs(run="shapes-1f", rank=3)
    LOG.warning("waits for %s", "rank 2")
    belongs(step=7)
    LOG.info("saved")
    belongs(step=None)
    LOG.info("ended")
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert all(one.pop("at").endswith("Z") for one in told)
    own = {"logger": "cineray.train", "run": "shapes-1f", "rank": 3}
    assert told == [
        {"level": "WARNING", **own, "message": "waits for rank 2"},
        {"level": "INFO", **own, "step": 7, "message": "saved"},
        {"level": "INFO", **own, "message": "ended"},
    ]


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_message_with_line_breaks_stays_one_line(form: str) -> None:
    stream = io.StringIO()
    log_lines(stream, form=form)
    LOG.warning("video %s", 'a\n{"level": "CRITICAL"}\r\n10:00:00 ERROR forged')
    assert len(stream.getvalue().splitlines()) == 1


def test_people_read_the_same_in_brackets() -> None:
    stream = io.StringIO()
    log_lines(stream, form="text")
    belongs(run="shapes-1f", rank=0, step=12)
    LOG.warning("no batch for 60 s")
    assert stream.getvalue()[8:] == " WARNING cineray.train [run shapes-1f, rank 0, step 12] no batch for 60 s\n"


def test_an_error_brings_its_traceback_and_in_json_within_the_line() -> None:
    stream = io.StringIO()
    log_lines(stream, form="json")
    try:
        raise KeyError("gone")
    except KeyError:
        LOG.exception("could not be saved")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["error"].endswith("KeyError: 'gone'")


def test_calling_twice_prints_once_and_only_what_cineray_says() -> None:
    earlier, stream = io.StringIO(), io.StringIO()
    log_lines(earlier, form="text")
    log_lines(stream, form="text")
    LOG.warning("once")
    logging.getLogger("somebody.else").warning("not here")
    assert (earlier.getvalue(), stream.getvalue().count("\n")) == ("", 1)


def test_the_environment_says_which_form_and_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setenv("CINERAY_LOG", "json")
    log_lines(stream)
    LOG.warning("as JSON")
    assert json.loads(stream.getvalue())["message"] == "as JSON"
    monkeypatch.setenv("CINERAY_LOG", "xml")
    with pytest.raises(UsageError, match="CINERAY_LOG is 'xml'; wanted one of text, json"):
        log_lines(stream)


def test_what_a_finished_run_told_is_not_told_of_what_the_process_does_next() -> None:
    belongs(rank=1)
    with belonging(run="shapes-1f", rank=0):
        belongs(step=12)
        assert module._belongs == {"run": "shapes-1f", "rank": 0, "step": 12}
    assert module._belongs == {"rank": 1}
    with pytest.raises(OSError, match="disk"), belonging(run="shapes-2f"):
        raise OSError("disk")
    assert module._belongs == {"rank": 1}


def test_a_name_that_a_line_has_already_is_refused() -> None:
    with pytest.raises(ValueError, match="log lines have level of their own"):
        belongs(level="high")


PROGRAM = """
import logging, sys
from cineray.cli import main as cli
cli.app = lambda: logging.getLogger("cineray.feed").warning("from %s", "anywhere")
cli.main()
"""


def test_every_command_logs_so_and_a_wrong_form_is_a_usage_error() -> None:
    def run(form: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"CINERAY_LOG": form}
        command = [sys.executable, "-c", PROGRAM]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    told = json.loads(run("json").stderr)
    assert (told["logger"], told["message"]) == ("cineray.feed", "from anywhere")
    wrong = run("yaml")
    assert wrong.returncode == 2
    assert "CINERAY_LOG is 'yaml'" in wrong.stderr
