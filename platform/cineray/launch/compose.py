"""From what a user types to what is sent: a command, a job and options go in; a submission and its package come out.

The job is read here, with its `--set`, before anything is sent: a wrong field is found in a second, not on a cluster.
What would mean something else there is made definite (`places.py`); a training decodes on the cluster's nodes, on those
that are for decoding where the cluster has such, and trains on its GPUs (`cluster_parts.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cineray.config import Config, override
from cineray.errors import UsageError
from cineray.launch.cluster_parts import Parts
from cineray.launch.package import Package, make_package, why_left_out
from cineray.launch.places import placed, placed_word
from cineray.launch.references import Secret
from cineray.launch.submission import MADE_AT, Submission
from cineray.launch.working_tree import project_root
from cineray.storage import join_uri

COMMANDS: Mapping[str, Literal["job", "place"]] = {
    "ingest": "place",
    "curate": "job",
    "standardise": "place",
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
_PLACES = frozenset({"--lake", "-l", "--run", "--sweep", "--out", "-o", "--against"})
"""Options whose value is a place."""
_DECODE = {"train": "feed.", "bench": "feed.", "sweep": "base.feed."}
"""Commands that decode by Ray, and where their job says how."""
_TRAIN = {"train": "parallel.", "sweep": "base.parallel."}
"""The same of those that train."""
_JOB_FILES = frozenset({".py", ".yaml", ".yml"})
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
    cpus: float = 0.0
    gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class Composed:
    """What is sent; `added` are the fields that were set beside the user's. `decodes` is the one that says on which
    nodes the job decodes, `trains` the one that says whether it trains on GPUs, where these are left to the cluster."""

    submission: Submission
    package: Package
    added: tuple[str, ...] = ()
    decodes: str = ""
    trains: str = ""

    def on(self, parts: Parts) -> Composed:
        """The same for a cluster of such parts; what they say nothing of stays open. It is the same submission still,
        for pools come and go."""
        asked = ((self.decodes, parts.decode), (self.trains, parts.train))
        told = tuple(f"{field}={part.value}" for field, part in asked if field and part.value)
        submission = replace(self.submission, of_cluster=(*self.submission.of_cluster, *told))
        return replace(
            self,
            submission=submission,
            added=(*self.added, *told),
            decodes="" if parts.decode.value else self.decodes,
            trains="" if parts.train.value else self.trains,
        )


def compose(wish: Wish, read: ReadJob) -> Composed:
    """Make the submission of a wish; `read` reads a job from a file."""
    kind = COMMANDS.get(wish.command)
    if kind is None:
        raise UsageError(f"`{wish.command}` cannot be submitted; wanted one of {', '.join(COMMANDS)}")
    rest = placed_options(wish.rest, wish.places)
    if kind == "job" and Path(wish.job).is_file():
        return _of_file(wish, rest, read)
    if kind == "job" and Path(wish.job).suffix in _JOB_FILES:
        raise UsageError(f"there is no job at {wish.job}; give a file of this machine, or a run that the cluster sees")
    return _of_place(wish, rest)


def _of_file(wish: Wish, rest: tuple[str, ...], read: ReadJob) -> Composed:
    file = Path(wish.job).resolve()
    root = project_root(file)
    package = make_package(root, code=wish.code, only=wish.only)
    name = file.relative_to(root).as_posix()
    _check_travels(name, package)
    job = _read(wish, file, read)
    added = [*placed(job, wish.places, package.names), *_by_ray(wish, job)]
    job = override(job, added)
    option = MADE_AT.get(wish.command, "")
    own = value_of(option, rest)
    made = own or _made_at(wish, job)
    words = (wish.command, name, *rest, *((option, made) if made and not own else ()))
    sets = (word for one in (*wish.sets, *added) for word in ("--set", one))
    told: dict[str, Any] = {
        "name": str(getattr(job, "name", file.stem)),
        "run": made,
        "continues": bool(made) and not own,
    }
    submission = _submission(wish, (*words, *sets), package, **told)
    return Composed(submission, package, tuple(added), _decodes(wish, job), _trains(wish, job))


def _read(wish: Wish, file: Path, read: ReadJob) -> Config:
    """The job as it will be there: a sweep's own `quick` settings lie below what is set."""
    job = read(str(file), list(wish.sets))
    quick = getattr(job, "quick", ()) if wish.command == "sweep" and "--quick" in wish.rest else ()
    return read(str(file), [*quick, *wish.sets]) if quick else job


def _of_place(wish: Wish, rest: tuple[str, ...]) -> Composed:
    """A run or a source: it is where it is, and only code travels."""
    if wish.only:
        raise UsageError(f"--only chooses files that travel with a job's file, and {wish.job} is a place; leave it out")
    if "--pipeline" in wish.rest:
        raise UsageError("`evaluate --pipeline` compares two jobs' files and leaves a folder; run it on this machine")
    if any(word.partition("=")[0] == "--advise" for word in wish.rest):
        raise UsageError("`standardise --advise` reads a job's file and leaves nothing; run it on this machine")
    place = placed_word(
        "JOB" if COMMANDS[wish.command] == "job" else "what the command is given", wish.job, wish.places
    )
    package = make_package(None, code=wish.code)
    sets = (word for one in wish.sets for word in ("--set", one))
    run = place if wish.command in MADE_AT else ""
    words = (wish.command, place, *rest, *_on_ray(wish), *sets)
    return Composed(_submission(wish, words, package, name=place.rstrip("/").rsplit("/", 1)[-1], run=run), package)


def _on_ray(wish: Wish) -> tuple[str, ...]:
    """What encodes would do so in the process that was sent, which is the head node's."""
    told = {word.partition("=")[0] for word in wish.rest}
    return ("--engine", "ray") if wish.command == "standardise" and not told & {"--engine", "--address"} else ()


def _submission(wish: Wish, words: tuple[str, ...], package: Package, **told: Any) -> Submission:
    return Submission(
        words=words,
        package=package.digest(),
        secrets=wish.secrets,
        environment=wish.environment,
        label=wish.label,
        python=wish.python,
        cpus=wish.cpus,
        gpus=wish.gpus,
        **told,
    )


def _by_ray(wish: Wish, job: Config) -> list[str]:
    """A laptop's job decodes in the trainer's own process, which on a cluster is the head node. Trials never do."""
    feed = getattr(job, "feed", None)
    if wish.command not in _DECODE or feed is None or feed.driver == "ray":
        return []
    return [] if any(one.startswith("feed.driver=") for one in wish.sets) else ["feed.driver=ray"]


def _decodes(wish: Wish, job: Config) -> str:
    """The field that says on which nodes the job decodes; empty where it decodes by Ray on none, or says so itself."""
    feed = getattr(getattr(job, "base", job), "feed", None)
    if wish.command not in _DECODE or feed is None or feed.driver != "ray" or feed.decode_subcluster:
        return ""
    return _left_open(wish, f"{_DECODE[wish.command]}decode_subcluster")


def _trains(wish: Wish, job: Config) -> str:
    """The field that says whether it trains on GPUs; empty where Ray starts no trainers, or the job says so itself."""
    base = getattr(job, "base", job)
    parallel, feed = getattr(base, "parallel", None), getattr(base, "feed", None)
    if wish.command not in _TRAIN or parallel is None or feed is None or parallel.gpus_per_worker is not None:
        return ""
    return _left_open(wish, f"{_TRAIN[wish.command]}gpus_per_worker") if feed.driver == "ray" else ""


def _left_open(wish: Wish, field: str) -> str:
    return "" if any(one.partition("=")[0].strip() == field for one in wish.sets) else field


def _made_at(wish: Wish, job: Config) -> str:
    """Where a training's run or a sweep is: it follows from the job, so that the job sent again goes on with it, though
    its code has been mended since."""
    folder = getattr(job, {"train": "runs", "sweep": "sweeps"}.get(wish.command, ""), None)
    if folder is None:
        return ""
    named = "-".join(filter(None, [str(getattr(job, "name", "run")), wish.label, job.digest()[:_DIGITS]]))
    return join_uri(str(folder), named)


def value_of(option: str, words: Sequence[str]) -> str:
    """What a command line gives for an option; empty if it does not."""
    for at, word in enumerate(words):
        name, sign, value = word.partition("=")
        if name == option:
            return value if sign else "".join(words[at + 1 : at + 2])
    return ""


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
