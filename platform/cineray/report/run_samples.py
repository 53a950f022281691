"""Clips over training: the folders of a run's samples go in, a table with a column for each checkpoint comes out.

A row is one prompt with one seed, so that what changes from left to right is the model and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cineray.errors import CinerayError
from cineray.report.content import Film, FilmRow, FilmTable, Part
from cineray.report.embed import Embedder
from cineray.report.json_file import read_json
from cineray.storage import join_uri

MOST_COLUMNS = 6


def sample_parts(samples: Mapping[int, str], embed: Embedder, *, clips: int) -> tuple[Part, ...]:
    """The first prompts at a few checkpoints, the first and the last among them."""
    steps = evenly(list(samples), MOST_COLUMNS)
    told = {step: clips_of(samples[step]) for step in steps}
    newest = next(reversed(told.values()), {})
    if not newest:
        return ()
    names = list(newest)[:clips]
    films: dict[tuple[str, int], Film | None] = {}
    for step in reversed(steps):  # where there is no room for all, the newest are in the page
        for name in names:
            films[name, step] = _film(samples[step], told[step].get(name), f"{name} at step {step:,}", embed)
    rows = tuple(
        FilmRow(
            name=str(newest[name].get("label") or name),
            detail=str(newest[name].get("caption") or ""),
            films=tuple(films[name, step] for step in steps),
        )
        for name in names
    )
    caption = f"{len(names)} of {len(newest)} prompts, each with its own noise at every checkpoint"
    return (FilmTable(caption=caption, columns=tuple(f"step {step:,}" for step in steps), rows=rows),)


def clips_of(folder: str) -> dict[str, Mapping[str, Any]]:
    """Name -> what `samples.json` says of a clip; empty where that cannot be read."""
    try:
        told = read_json(join_uri(folder, "samples.json")).get("clips")
    except CinerayError:
        return {}
    return {str(one["name"]): one for one in told or () if isinstance(one, Mapping) and "name" in one}


def evenly(found: Sequence[int], most: int) -> list[int]:
    """At most that many, the first and the last among them."""
    if len(found) <= most:
        return list(found)
    return [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]


def _film(folder: str, told: Mapping[str, Any] | None, name: str, embed: Embedder) -> Film | None:
    if told is None or not told.get("file"):
        return None
    return Film(source=embed.file(folder, str(told["file"])), name=name)
