"""Where things lie under a lake's uri. Names go in, uris come out; nothing here reads or writes."""

from __future__ import annotations

import re

from cineray.storage import join_uri

_NUMBERED = re.compile(r"(\d{8})\.(json|retired)")


def marker_uri(lake: str) -> str:
    """`lake.json`, which makes a folder a lake."""
    return join_uri(lake, "lake.json")


def table_uri(lake: str, table: str) -> str:
    """Of a Lance table: `tables/media.lance`, `tables/layers/captions.lance`."""
    return join_uri(lake, "tables", *f"{table}.lance".split("/"))


def manifest_uri(lake: str, number: int, *, suffix: str = "json") -> str:
    """Of a version's manifest, or with suffix `retired` of the marker that lets go of it."""
    return join_uri(lake, "versions", f"{number:08d}.{suffix}")


def pointer_uri(lake: str, name: str, number: int) -> str:
    """Of one step in a name's history."""
    return join_uri(lake, "names", name, f"{number:08d}.json")


def lease_uri(lake: str, lease_id: str) -> str:
    """Of a running reader's or writer's lease."""
    return join_uri(lake, "readers", f"{lease_id}.json")


def remuxed_uri(lake: str, video_id: str) -> str:
    """Of the lossless MP4 that ingest made of a video which decoders get wrong."""
    return join_uri(lake, "media", f"{video_id}.mp4")


def numbered(uri: str) -> tuple[int, str] | None:
    """`(7, "json")` of `.../00000007.json`; None for anything else, such as a file left by a killed writer."""
    found = _NUMBERED.fullmatch(uri.rsplit("/", 1)[-1])
    return (int(found[1]), found[2]) if found else None
