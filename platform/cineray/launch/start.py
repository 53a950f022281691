"""The first thing that runs on the cluster: `python -m cineray.launch.start [--continue RUN] -- train JOB ...`.

It checks that this machine has what cineray needs and the secrets that the job names, says where and as what it runs,
and then becomes `cineray train JOB ...`, in the same process, so that signals and the exit code are that command's.
With --continue, and where a run lies there, it becomes `cineray train RUN ...`: the run has the versions it began with.
A sweep goes on in the same way, as `cineray sweep SWEEP`.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from cineray.errors import CinerayError
from cineray.launch.references import check_secrets
from cineray.launch.submission import MADE_AT

NEEDED = ("av", "blake3", "lance", "numpy", "pyarrow", "pydantic", "ray", "torch", "torchcodec", "typer", "yaml")


def main(arguments: Sequence[str]) -> None:
    """Become the command."""
    options, words = _split(arguments)
    try:
        check_libraries()
        check_secrets(f"{platform.node()}, where the job starts,")
        run = options[1] if options else ""
        goes_on = bool(run) and _is_there(words[0], run)
    except CinerayError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    if goes_on:
        words = continued(words, run)
    told = f"python {platform.python_version()}" + (f", going on with {run}" if goes_on else "")
    print(f"cineray {words[0]} on {platform.node()}, {told}", file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "cineray", *words])  # noqa: S606 - a shell would eat signals


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    at = list(arguments).index("--")
    return list(arguments[:at]), list(arguments[at + 1 :])


def continued(words: Sequence[str], run: str) -> list[str]:
    """`train JOB --set a=1 --run RUN` -> `train RUN --set a=1`. A sweep's trials are comparable because its job stays
    the same: `sweep JOB --quick --set a=1 --sweep SWEEP` -> `sweep SWEEP`."""
    command, _job, *rest = words
    rest = without(rest, MADE_AT[command])
    if command == "sweep":
        rest = [word for word in without(rest, "--set") if word != "--quick"]
    return [command, run, *rest]


def without(words: Sequence[str], option: str) -> list[str]:
    """The words of a command line without an option and its values."""
    kept: list[str] = []
    left = iter(words)
    for word in left:
        if word == option:
            next(left, None)
        elif not word.startswith(f"{option}="):
            kept.append(word)
    return kept


def check_libraries() -> None:
    """Raise if what cineray is built on is not installed here."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise CinerayError(
            f"{platform.node()}, where the job starts, lacks {', '.join(missing)} in {sys.executable}; use an image "
            "that has cineray's dependencies (cluster/image), or name another Python by --python"
        )


def _is_there(command: str, place: str) -> bool:
    """Is there something to go on with?"""
    from cineray.storage import join_uri, normalise_uri, object_exists

    return object_exists(join_uri(normalise_uri(place), f"{MADE_AT[command].lstrip('-')}.json"))


if __name__ == "__main__":
    main(sys.argv[1:])
