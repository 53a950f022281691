"""Which videos there are to look at, and each of them as a child wants it. A lake's version goes in, `Video`s come out.

`survey` reads ids and what is said of each video, nothing else; `take_videos` fetches whole rows, some at a time, so
that frame tables of all videos are never held at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from cineray.errors import UsageError
from cineray.lake import Lake, Version, place_from_row, sql_text, unpack_text, video_from_row
from cineray.records import IndexedVideo, Place, Scalar, VideoFile
from cineray.storage import join_uri

_SAID = ["label", "captions", "columns"]


@dataclass(frozen=True, slots=True)
class Listed:
    """One video that may be looked at."""

    row: int
    """Its row of the version's `media`."""
    video_id: str
    said: str
    """A digest of its label, captions and columns: what was measured of others is not known of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One video with all that looking at it needs."""

    listed: Listed
    video: IndexedVideo
    file: VideoFile
    captions: tuple[str, ...]
    label: str | None
    columns: dict[str, Scalar]


def survey(lake: Lake, version: Version, where: str | None) -> list[Listed]:
    """All ready videos that match the filter, in the order of their ids."""
    ready = "state = 'ready'" + (f" AND ({where})" if where else "")
    state = version.tables.get("media")
    if state is None:
        return []
    found = []
    try:
        for rows, batch in lake.table("media").positions(state.version, columns=["video_id", *_SAID], where=ready):
            for row, values in zip(rows.tolist(), batch.to_pylist(), strict=True):
                found.append(Listed(row, values["video_id"], said_of(values)))
    except UsageError as error:
        raise UsageError(f"the job's filter {where!r}: {error}") from None
    return sorted(found, key=lambda listed: listed.video_id)


def said_of(row: dict[str, Any]) -> str:
    """Names what a media row says of its video beside its bytes."""
    return blake3(json.dumps([row[name] for name in _SAID]).encode()).hexdigest()[:16]


def take_videos(lake: Lake, version: Version, listed: Sequence[Listed]) -> Iterator[Video]:
    """These videos whole, in this order."""
    names = [name for name in lake.table("media").schema.names if name != "detail"]
    state = version.tables["media"]
    rows = lake.table("media").take(state.version, [one.row for one in listed], columns=names).to_pylist()
    for one, row in zip(listed, rows, strict=True):
        video = video_from_row(row | {"reason": None})
        yield Video(
            listed=one,
            video=video,
            file=_file(lake, row),
            captions=tuple(unpack_text(text) for text in row["captions"] or ()),
            label=None if row["label"] is None else unpack_text(row["label"]),
            columns=json.loads(row["columns"]) if row["columns"] else {},
        )


def _file(lake: Lake, row: dict[str, Any]) -> VideoFile:
    """Where to read it: the remuxed copy, or where it was first found."""
    if row["remuxed_uri"]:
        uri = unpack_text(row["remuxed_uri"])
        whole = uri if uri.startswith("/") or "://" in uri else join_uri(lake.uri, *uri.split("/"))
        # Written once under the video's id: a copied lake gives it a new tag.
        return VideoFile(name=row["video_id"], place=Place(uri=whole))
    return VideoFile(name=row["video_id"], place=place_from_row(row), version_tag=row["version_tag"] or "")


def other_places(lake: Lake, version: Version, video: Video) -> list[VideoFile]:
    """Where else its bytes lie: asked when they are no longer where they were first found."""
    where = f"video_id = {sql_text(video.video.video_id)}"
    rows = lake.read(version, "places", columns=["uri", "offset", "length", "version_tag"], filter=where).to_pylist()
    files = [
        VideoFile(name=video.file.name, place=place_from_row(row), version_tag=row["version_tag"] or "") for row in rows
    ]
    return sorted((file for file in files if file.place != video.file.place), key=lambda file: str(file.place))
