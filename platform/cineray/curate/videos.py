"""Which videos there are to look at, and each of them as a child wants it. A lake's version goes in, `Video`s come out.

`survey` reads ids and what is said of each video, nothing else; `take_videos` fetches whole rows, some at a time, so
that frame tables of all videos are never held at once. Captions are those that came with a video and those that were
added since, to all of it or to a part (`cineray lake annotate LAKE captions`), each text once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from blake3 import blake3

from cineray.errors import UsageError
from cineray.lake import Lake, Version, place_from_row, sql_text, unpack_text, video_from_row
from cineray.records import IndexedVideo, Place, Reject, Scalar, VideoFile
from cineray.storage import join_uri

Answer = TypeVar("Answer")
CAPTIONS_LAYER = "layers/captions"
_SAID = ["label", "captions", "columns"]
_ELSEWHERE = frozenset({"missing", "changed", "refused"})
"""Reasons for which another place of the same bytes is tried."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One video that may be looked at."""

    row: int
    """Its row of the version's `media`."""
    video_id: str
    said: str
    """A digest of its label, captions and columns: what was measured of others is not known of these."""
    annotated: tuple[int, ...] = ()
    """Rows of the captions layer that are of this video, one for each text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One video with all that looking at it needs."""

    listed: Listed
    video: IndexedVideo
    file: VideoFile
    captions: tuple[str, ...]
    """Those that came with it."""
    annotated: tuple[str, ...]
    """Those that were added since."""
    label: str | None
    columns: dict[str, Scalar]


def survey(lake: Lake, version: Version, where: str | None) -> list[Listed]:
    """All ready videos that match the filter, in the order of their ids."""
    ready = "state = 'ready'" + (f" AND ({where})" if where else "")
    state = version.tables.get("media")
    if state is None:
        return []
    found = []
    texts = annotated(lake, version)
    try:
        for rows, batch in lake.table("media").positions(state.version, columns=["video_id", *_SAID], where=ready):
            for row, values in zip(rows.tolist(), batch.to_pylist(), strict=True):
                own = sorted(texts.get(values["video_id"], {}).items())
                said = said_of(values, [digest for digest, _ in own])
                found.append(Listed(row, values["video_id"], said, tuple(at for _, at in own)))
    except UsageError as error:
        raise UsageError(f"the job's filter {where!r}: {error}") from None
    return sorted(found, key=lambda listed: listed.video_id)


def said_of(row: dict[str, Any], annotated: Sequence[str] = ()) -> str:
    """Names what a media row says of its video beside its bytes, and the texts that were added since."""
    told = [row[name] for name in _SAID] + list(annotated)
    return blake3(json.dumps(told).encode()).hexdigest()[:16]


def annotated(lake: Lake, version: Version) -> dict[str, dict[str, int]]:
    """By video the digests of the captions that were added to it or to a clip of it, each with a row that has it."""
    state = version.tables.get(CAPTIONS_LAYER)
    found: dict[str, dict[str, int]] = {}
    if state is None:
        return found
    video_of: dict[str, str] = {}  # of rows that name a clip and no video
    for batch in lake.scan(version, "clips", ["clip_id", "video_id"]):
        video_of.update(zip(batch["clip_id"].to_pylist(), batch["video_id"].to_pylist(), strict=True))
    columns = ["video_id", "clip_id", "value"]
    for rows, batch in lake.table(CAPTIONS_LAYER).positions(state.version, columns=columns):
        for at, row in zip(rows.tolist(), batch.to_pylist(), strict=True):
            owner = row["video_id"] or video_of.get(row["clip_id"])
            if owner and row["value"]:
                digest = blake3(row["value"].encode()).hexdigest()[:16]
                found.setdefault(owner, {}).setdefault(digest, at)
    return found


def take_videos(lake: Lake, version: Version, listed: Sequence[Listed]) -> Iterator[Video]:
    """These videos whole, in this order."""
    names = [name for name in lake.table("media").schema.names if name != "detail"]
    state = version.tables["media"]
    rows = lake.table("media").take(state.version, [one.row for one in listed], columns=names).to_pylist()
    texts = _texts(lake, version, [at for one in listed for at in one.annotated])
    for one, row in zip(listed, rows, strict=True):
        video = video_from_row(row | {"reason": None})
        yield Video(
            listed=one,
            video=video,
            file=_file(lake, row),
            captions=tuple(unpack_text(text) for text in row["captions"] or ()),
            annotated=tuple(texts[at] for at in one.annotated),
            label=None if row["label"] is None else unpack_text(row["label"]),
            columns=json.loads(row["columns"]) if row["columns"] else {},
        )


def _texts(lake: Lake, version: Version, rows: Sequence[int]) -> dict[int, str]:
    """What these rows of the captions layer say."""
    if not rows:
        return {}
    layer = lake.table(CAPTIONS_LAYER).take(version.tables[CAPTIONS_LAYER].version, rows, columns=["value"])
    return dict(zip(rows, map(unpack_text, layer["value"].to_pylist()), strict=True))


def _file(lake: Lake, row: dict[str, Any]) -> VideoFile:
    """Where to read it: the remuxed copy, or where it was first found."""
    if row["remuxed_uri"]:
        uri = unpack_text(row["remuxed_uri"])
        whole = uri if uri.startswith("/") or "://" in uri else join_uri(lake.uri, *uri.split("/"))
        # Written once under the video's id: a copied lake gives it a new tag.
        return VideoFile(name=row["video_id"], place=Place(uri=whole))
    return VideoFile(name=row["video_id"], place=place_from_row(row), version_tag=row["version_tag"] or "")


def asked_of_places(
    ask: Callable[[VideoFile], Answer | Reject], lake: Lake, version: Version, video: Video
) -> Answer | Reject:
    """What `ask` says of the video at the first of its places where the same bytes still lie."""
    answer = ask(video.file)
    if _is_elsewhere(answer):
        for file in _other_places(lake, version, video):
            answer = ask(file)
            if not _is_elsewhere(answer):
                break
    return answer


def _is_elsewhere(answer: object) -> bool:
    return isinstance(answer, Reject) and answer.reason in _ELSEWHERE


def _other_places(lake: Lake, version: Version, video: Video) -> list[VideoFile]:
    where = f"video_id = {sql_text(video.video.video_id)}"
    rows = lake.read(version, "places", columns=["uri", "offset", "length", "version_tag"], filter=where).to_pylist()
    files = [
        VideoFile(name=video.file.name, place=place_from_row(row), version_tag=row["version_tag"] or "") for row in rows
    ]
    return sorted((file for file in files if file.place != video.file.place), key=lambda file: str(file.place))
