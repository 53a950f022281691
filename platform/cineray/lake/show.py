"""One version in one dictionary: what `cineray lake show --json` prints. A version goes in; plain values come out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Protocol

import pyarrow as pa

from cineray.lake.manifest import Version


class Reader(Protocol):
    """What these functions need of a lake."""

    def names(self) -> dict[str, int]:
        """Names and versions."""

    def scan(self, version: Version, table: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Rows in batches."""


def show(lake: Reader, version: Version) -> dict[str, Any]:
    """Who made it, from what, and what it holds; read from the manifest and from a few columns of `media`."""
    states = {name: asdict(state) for name, state in sorted(version.tables.items())}
    return {
        "version": version.number,
        "parent": version.parent,
        "tags": sorted(name for name, number in lake.names().items() if number == version.number),
        "videos": version.counts.get("videos", 0),
        "splits": dict(version.splits),
        "layers": {name: version.tables[f"layers/{name}"].rows for name in version.layers()},
        "fingerprint": version.fingerprint,
        **_of_media(lake, version),
        "places": version.counts.get("places", 0),
        "clips": version.counts.get("clips", 0),
        "created_at": version.created_at,
        "author": version.author,
        "command": version.command,
        "source": version.source,
        "message": version.message,
        "processing": dict(version.processing),
        "split_rule": version.split_rule.to_json() if version.split_rule else None,
        "software": dict(version.software),
        "tables": states,
    }


def _of_media(lake: Reader, version: Version) -> dict[str, Any]:
    codecs: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    frames, size_bytes, seconds = 0, 0, 0.0
    columns = ["state", "reason", "codec", "num_frames", "size_bytes", "duration_seconds"]
    for batch in lake.scan(version, "media", columns):
        for row in batch.to_pylist():
            if row["state"] != "ready":
                reasons[row["reason"]] += 1
                continue
            codecs[row["codec"]] += 1
            frames += row["num_frames"] or 0
            size_bytes += row["size_bytes"] or 0
            seconds += row["duration_seconds"] or 0.0
    return {
        "hours": round(seconds / 3600, 6),
        "frames": frames,
        "bytes": size_bytes,
        "codecs": dict(sorted(codecs.items())),
        "rejected": dict(sorted(reasons.items())),
    }
