"""The lake: what we agree on. Rows of media, places, clips and layers go in; immutable versions come out.

    lake.json                      format and identity, written once
    tables/<name>.lance            media, places, clips, layers/<layer>: Lance tables, each with its own versions
    versions/00000001.json         immutable manifests, put-if-absent: the truth, in the order of their numbers
    names/<name>/00000001.json     append-only pointers from a name to a version, the last one wins
    staging/, media/, shards/      unfinished work, remuxed videos, standardised ones
    readers/                       leases of whoever is at work

Importing this package imports neither Lance nor pyarrow: names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cineray.lake.commit import Changes
    from cineray.lake.diff import TableDiff, VersionDiff
    from cineray.lake.gc import Garbage, GcReport
    from cineray.lake.lake import Lake
    from cineray.lake.layers import LAYER_KINDS, check_layer_rows
    from cineray.lake.manifest import TableState, Version
    from cineray.lake.rows import (
        clip_row,
        layer_row,
        media_row,
        place_from_row,
        place_id,
        place_row,
        reject_id,
        reject_row,
        sidecars_from_row,
        video_from_row,
    )
    from cineray.lake.schema import (
        CLIPS,
        LAYER,
        MEDIA,
        PLACES,
        batches_of,
        pack_text,
        sql_in,
        sql_text,
        table_schema,
        unpack_text,
    )
    from cineray.lake.splits import SplitRule, assign_splits, check_leakage
    from cineray.lake.verify import Problem, VerifyReport

_HOME = {
    "commit": ("Changes",),
    "diff": ("TableDiff", "VersionDiff"),
    "gc": ("Garbage", "GcReport"),
    "lake": ("Lake",),
    "layers": ("LAYER_KINDS", "check_layer_rows"),
    "manifest": ("TableState", "Version"),
    "rows": (
        *("clip_row", "layer_row", "media_row", "place_from_row", "place_id", "place_row"),
        *("reject_id", "reject_row", "sidecars_from_row", "video_from_row"),
    ),
    "schema": (
        *("CLIPS", "LAYER", "MEDIA", "PLACES", "batches_of", "pack_text"),
        *("sql_in", "sql_text", "table_schema", "unpack_text"),
    ),
    "splits": ("SplitRule", "assign_splits", "check_leakage"),
    "verify": ("Problem", "VerifyReport"),
}

__all__ = [
    "CLIPS",
    "LAYER",
    "LAYER_KINDS",
    "MEDIA",
    "PLACES",
    "Changes",
    "Garbage",
    "GcReport",
    "Lake",
    "Problem",
    "SplitRule",
    "TableDiff",
    "TableState",
    "VerifyReport",
    "Version",
    "VersionDiff",
    "assign_splits",
    "batches_of",
    "check_layer_rows",
    "check_leakage",
    "clip_row",
    "layer_row",
    "media_row",
    "pack_text",
    "place_from_row",
    "place_id",
    "place_row",
    "reject_id",
    "reject_row",
    "sidecars_from_row",
    "sql_in",
    "sql_text",
    "table_schema",
    "unpack_text",
    "video_from_row",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
