"""What is recorded of a command: all that was typed but secrets, and not where the program lies."""

from __future__ import annotations

from cineray.telemetry.typed import command_line, typed


def test_commands_are_recorded_without_secrets() -> None:
    given = ["cineray", "train", "job.py", "--set", "text.tokens=77", "--api-key", "abc", "--set", "x.token=abc"]
    given += ["s3://user:pass@host/x", "https://host/video.mp4?X-Amz-Signature=abc"]

    shown = command_line(given)

    assert shown[:7] == ["cineray", "train", "job.py", "--set", "text.tokens=77", "--api-key", "***"]
    assert shown[7:] == ["--set", "x.token=***", "s3://***@host/x", "https://host/video.mp4?***"]


def test_a_line_names_the_program_and_not_where_it_lies() -> None:
    assert typed(["/opt/tools/bin/cineray", "ingest", "my videos"]) == "cineray ingest 'my videos'"
    assert (
        typed(["/opt/tools/cineray/__main__.py", "ingest", "s3://me:pw@host/x"]) == "cineray ingest 's3://***@host/x'"
    )
