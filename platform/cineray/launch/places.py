"""Places that mean something else on another machine: a job goes in, fields to set come out.

On a cluster a job starts in a folder that holds what has travelled and is removed afterwards. A relative path in the
job means a place in there: right for what travels, wrong for a lake, and a loss for a run. `--places` says what
relative places are meant to lie below.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cineray.config import Config
from cineray.errors import UsageError
from cineray.storage import is_remote, join_uri

FIELDS = frozenset({"lake", "runs", "run", "source", "store", "cache", "path", "export", "image_weights", "sweeps"})
"""Names of fields that hold a place, in whichever config they stand."""
_NOT_USED = frozenset({"base.runs"})
"""The trials of a sweep lie in the sweep's own folder."""
_CHOSEN = ""
_IN_A_VARIANT = re.compile(r"space\.[^.]+\.variants\.")


def is_relative(place: str) -> bool:
    """Does it depend on where a process was started?"""
    return bool(place) and not place.startswith("/") and not is_remote(place) and not place.startswith("file:")


def relative_places(job: Config) -> dict[str, str]:
    """The fields of a job that hold a relative place: `recipe.datasets.0.lake` -> `demo-out/lake`."""
    return {at: place for at, place in _found(job.model_dump(mode="json"), "") if at not in _NOT_USED}


def _found(value: Any, at: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        if _is_place(value.get("field")) and isinstance(value.get("values"), list):  # a sweep's choice between places
            value = {**value, "values": [{_CHOSEN: one} for one in value["values"]]}
        for name, inner in value.items():
            path = at if name == _CHOSEN else f"{at}.{name}" if at else str(name)
            if _is_place(name) and isinstance(inner, str):
                if is_relative(inner):
                    yield path, inner
            else:
                yield from _found(inner, path)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _found(inner, f"{at}.{number}")


def _is_place(name: Any) -> bool:
    """A field that holds a place, by its own name or as a sweep's space writes it: `recipe.datasets.0.lake`."""
    return isinstance(name, str) and (name == _CHOSEN or name.rpartition(".")[2] in FIELDS)


def placed(job: Config, places: str, travelling: Collection[str]) -> list[str]:
    """What to set so that the job means the same places wherever it runs. `travelling`: files that go along."""
    wanted = {name: place for name, place in relative_places(job).items() if place not in travelling}
    if wanted and not places:
        told = ", ".join(f"{name}={place}" for name, place in wanted.items())
        raise UsageError(
            f"the job has relative places ({told}), which on a cluster would lie in a folder that is thrown away; say "
            "below which place all machines have them, --places s3://bucket/project or --places /shared/project, or "
            "replace them by --set"
        )
    for name in filter(_IN_A_VARIANT.match, wanted):
        raise UsageError(
            f"{name} is {wanted[name]}, and --places cannot reach what a variant of a sweep sets; write the whole "
            "place there, or make it a choice"
        )
    return [f"{name}={join_uri(places, place)}" for name, place in wanted.items()]


def placed_word(what: str, place: str, places: str) -> str:
    """The same for a place that was typed: SOURCE, --lake, --run."""
    if not is_relative(place):
        return place
    if not places:
        raise UsageError(
            f"{what} is {place}, which on a cluster would lie in a folder that is thrown away; give an address or an "
            "absolute path that all machines see, or say --places"
        )
    return join_uri(places, place)
