"""What is true of clips, as far as a lake says it: clip specs go in; facts such as direction and speed come out.

A lake says it in an annotation layer whose values are JSON objects, one for each video that something is known of:

    layers/truth    {"direction": "up-left", "speed": "fast", "speed_widths_per_second": 0.6, "shape": "disc", ...}

Made data has such a layer, other data may: where there is none, clips have no facts, and measures that need some have
nothing to judge. A clip that is mirrored has none either: left is no longer left.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cineray.errors import CinerayError
from cineray.evaluate.clip_set import Facts
from cineray.lake import Lake, sql_in
from cineray.plan import DatasetSpec, Recipe
from cineray.records import ClipSpec

_COLUMNS = ("video_id", "value")
_OF_THE_WHOLE = "clip_id IS NULL AND start_pts IS NULL AND frame IS NULL"
_VIDEOS_AT_ONCE = 4096


def facts_of(recipe: Recipe, specs: Sequence[ClipSpec], layer: str) -> list[Facts]:
    """The facts of each clip, in order; {} for those of which the lake says nothing."""
    videos: dict[int, set[str]] = {}
    for spec in specs:
        videos.setdefault(spec.dataset, set()).add(spec.video_id)
    known = {number: read_truth(recipe.datasets[number], ids, layer) for number, ids in videos.items()}
    return [{} if spec.crop.flip else known[spec.dataset].get(spec.video_id, {}) for spec in specs]


def read_truth(dataset: DatasetSpec, video_ids: Iterable[str], layer: str) -> dict[str, Facts]:
    """By video id. Rows that speak of a part of a video (a clip, a span, a frame) are not looked at."""
    lake = Lake.open(dataset.lake)
    version = lake.resolve(dataset.version)
    table = f"layers/{layer}"
    if table not in version.tables:
        return {}
    found: dict[str, Facts] = {}
    ids = sorted(set(video_ids))
    for start in range(0, len(ids), _VIDEOS_AT_ONCE):
        where = f"{_OF_THE_WHOLE} AND {sql_in('video_id', ids[start : start + _VIDEOS_AT_ONCE])}"
        for batch in lake.scan(version, table, list(_COLUMNS), where):
            for row in batch.to_pylist():
                found[row["video_id"]] = _parsed(row["value"], table, row["video_id"])
    return found


def combination(facts: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...] | None:
    """What a clip shows, in these words; None where one of them is not known."""
    return tuple(facts[name] for name in names) if all(name in facts for name in names) else None


def _parsed(value: str, table: str, video_id: str) -> Facts:
    try:
        facts = json.loads(value)
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise CinerayError(
            f"{table} says {value[:80]!r} of the video {video_id}; wanted a JSON object such as "
            '{"direction": "up"}. Name another layer with --set truth_layer=NAME, or none with --set truth_layer='
        )
    return facts
