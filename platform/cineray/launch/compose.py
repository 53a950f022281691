"""From what a user types to what is sent: a command, a job and options go in; a submission and its package come out.

The job is read here, with its `--set`, before anything is sent: a wrong field is found in a second, not on a cluster.
What would mean something else there is made definite (`places.py`); a training decodes on the cluster's nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cineray.config import Config, override
from cineray.errors import UsageError
from cineray.launch.package import Package, make_package, why_left_out
from cineray.launch.places import placed, placed_word
from cineray.launch.references import Secret
from cineray.launch.submission import Submission
from cineray.launch.working_tree import project_root
from cineray.storage import join_uri

COMMANDS: Mapping[str, Literal["job", "place"]] = {
    "ingest": "place",
    "curate": "job",
    "plan": "job",
    "bench": "job",
    "latents": "job",
    "train": "job",
    "sweep": "job",
    "evaluate": "place",
    "sample": "place",
    "report": "place",
}
"""What may be sent, and what it is given: a job (or a run, which is one), or a place."""
_PLACES = frozenset({"--lake", "-l", "--run", "--out", "--against"})
"""Options whose value is a place."""
_DIGITS = 8

ReadJob = Callable[[str, list[str]], Config]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a user typed."""

    command: str
    job: str
    sets: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()
    """Options of the command itself."""
    places: str = ""
    code: str = "here"
    only: tuple[str, ...] = ()
    secrets: tuple[Secret, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    python: str = "python"


@dataclass(frozen=True, slots=True)
class Composed:
    """What is sent; `added` are the fields that were set beside the user's."""

    submission: Submission
    package: Package
    added: tuple[str, ...] = ()


def compose(wish: Wish, read: ReadJob) -> Composed:
    """Make the submission of a wish; `read` reads a job from a file."""
    kind = COMMANDS.get(wish.command)
    if kind is None:
        raise UsageError(f"`{wish.command}` cannot be submitted; wanted one of {', '.join(COMMANDS)}")
    rest = placed_options(wish.rest, wish.places)
    if kind == "job" and Path(wish.job).is_file():
        return _of_file(wish, rest, read)
    return _of_place(wish, rest)


def _of_file(wish: Wish, rest: tuple[str, ...], read: ReadJob) -> Composed:
    file = Path(wish.job).resolve()
    root = project_root(file)
    package = make_package(root, code=wish.code, only=wish.only)
    name = file.relative_to(root).as_posix()
    _check_travels(name, package)
    job = read(str(file), list(wish.sets))
    added = [*placed(job, wish.places, package.names), *_on_the_cluster(wish, job)]
    job = override(job, added)
    called, own_run = str(getattr(job, "name", file.stem)), "--run" in rest
    run = rest[rest.index("--run") + 1] if own_run else _run_of(wish, job)
    words = (wish.command, name, *rest, *(("--run", run) if run and not own_run else ()))
    sets = (word for one in (*wish.sets, *added) for word in ("--set", one))
    told: dict[str, Any] = {"name": called, "run": run, "continues": bool(run) and not own_run}
    return Composed(_submission(wish, (*words, *sets), package, **told), package, tuple(added))


def _of_place(wish: Wish, rest: tuple[str, ...]) -> Composed:
    """A run or a source: it is where it is, and only code travels."""
    if wish.only:
        raise UsageError(f"--only chooses files that travel with a job's file, and {wish.job} is a place; leave it out")
    place = placed_word(
        "JOB" if COMMANDS[wish.command] == "job" else "what the command is given", wish.job, wish.places
    )
    package = make_package(None, code=wish.code)
    sets = (word for one in wish.sets for word in ("--set", one))
    run = place if wish.command == "train" else ""
    words = (wish.command, place, *rest, *sets)
    return Composed(_submission(wish, words, package, name=place.rstrip("/").rsplit("/", 1)[-1], run=run), package)


def _submission(wish: Wish, words: tuple[str, ...], package: Package, **told: Any) -> Submission:
    return Submission(
        words=words,
        package=package.digest(),
        secrets=wish.secrets,
        environment=wish.environment,
        label=wish.label,
        python=wish.python,
        **told,
    )


def _on_the_cluster(wish: Wish, job: Config) -> list[str]:
    """A laptop's job decodes in the trainer's own process, which on a cluster is the head node."""
    feed = getattr(job, "feed", None)
    if wish.command != "train" or feed is None or feed.driver == "ray":
        return []
    return [] if any(one.startswith("feed.driver=") for one in wish.sets) else ["feed.driver=ray"]


def _run_of(wish: Wish, job: Config) -> str:
    """Where a training's run is: it follows from the job, so that the job sent again goes on with it, though its code
    has been mended since."""
    runs = getattr(job, "runs", None)
    if wish.command != "train" or runs is None:
        return ""
    named = "-".join(filter(None, [str(getattr(job, "name", "run")), wish.label, job.digest()[:_DIGITS]]))
    return join_uri(str(runs), named)


def placed_options(rest: Sequence[str], places: str) -> tuple[str, ...]:
    """The command's own options, with their places made definite."""
    told = list(rest)
    for at, word in enumerate(told):
        name, sign, value = word.partition("=")
        if name in _PLACES and sign:
            told[at] = f"{name}={placed_word(name, value, places)}"
        elif word in _PLACES and at + 1 < len(told):
            told[at + 1] = placed_word(word, told[at + 1], places)
    return tuple(told)


def _check_travels(name: str, package: Package) -> None:
    if name in package.names:
        return
    why = next((why for why, names in package.left_out.items() if name in names), why_left_out(name))
    raise UsageError(
        f"the job {name} would not travel: {why or 'git ignores it, or --only leaves it out'}; give a file that may "
        "travel, or the folder of a run that the cluster sees"
    )
