"""What a path is: a uri goes in, the kind of thing that lies there comes out, by the files in it and never by its name.

    lake.json            a lake                evaluation.json   an evaluation
    run.json             a run                 comparison.json   a comparison
    sweep-result.json    a sweep               pipeline.json     a pipeline check
    batch*.npz           a batch

A JSON file by itself is told by what it holds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cineray.errors import UsageError
from cineray.report.json_file import read_json
from cineray.storage import is_remote, join_uri, list_objects, normalise_uri, object_exists

Kind = Literal["lake", "run", "batch", "evaluation", "comparison", "pipeline", "sweep"]

_MARKS: dict[str, Kind] = {
    "lake.json": "lake",
    "run.json": "run",
    "evaluation.json": "evaluation",
    "comparison.json": "comparison",
    "pipeline.json": "pipeline",
    "sweep-result.json": "sweep",
}
"""A file that lies in the folder -> what the folder is; the first that is found."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a report is of."""

    kind: Kind
    uri: str
    """The folder; of a JSON file by itself, the folder that it lies in."""
    told: Mapping[str, Any]
    """What the JSON file holds; {} for a lake, a run and a batch."""


def subject_of(path: str) -> Subject:
    """What lies there; UsageError where it is nothing that a report can be of."""
    uri = normalise_uri(path)
    if uri.endswith(".json"):
        told = read_json(uri)
        return Subject(_kind_of(told, uri), uri.rpartition("/")[0], told)
    for mark, kind in _MARKS.items():
        place = join_uri(uri, mark)
        if object_exists(place):
            told = {} if kind in ("lake", "run") else read_json(place)
            return Subject(kind, uri, told)
    if any(_is_batch(one.uri) for one in _files(uri)):
        return Subject("batch", uri, {})
    if object_exists(join_uri(uri, "sweep.json")):
        raise UsageError(
            f"the sweep at {uri} has no sweep-result.json yet: no trial of it has ended; `cineray sweep {uri}` goes on "
            "with it and writes one"
        )
    wanted = "a lake, a run, an evaluation, a comparison, a pipeline check, a sweep, or a folder of `cineray batch`"
    there = "nothing" if not _exists(uri) else f"none of {', '.join(_MARKS)} or batch.npz"
    raise UsageError(f"cineray report {path}: {there} lies there; wanted {wanted}")


def _kind_of(told: Mapping[str, Any], uri: str) -> Kind:
    if "findings" in told and "measures" in told:
        return "pipeline"
    if "trials" in told and "objectives" in told:
        return "sweep"
    if "metrics" in told and "a" in told and "b" in told:
        return "comparison"
    if "metrics" in told and "checkpoint" in told:
        return "evaluation"
    keys = ", ".join(list(told)[:6]) or "nothing"
    raise UsageError(f"{uri} holds {keys}; wanted an evaluation, a comparison, a pipeline or a sweep-result.json")


def _files(uri: str) -> list[Any]:
    """Of a folder itself: a batch is never looked for deeper."""
    if not is_remote(uri) and not os.path.isdir(uri):
        return []
    depth = uri.rstrip("/").count("/") + 1
    return [one for one in list_objects(uri) if one.uri.count("/") == depth]


def _is_batch(uri: str) -> bool:
    name = uri.rpartition("/")[2]
    return name.startswith("batch") and name.endswith(".npz")


def _exists(uri: str) -> bool:
    return is_remote(uri) or os.path.exists(uri)
