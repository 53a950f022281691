"""A video's sidecars, read into facts and timed layer entries. A bad sidecar costs itself, never the video.

Subtitle times are milliseconds since the video's start; they leave here as integer timestamps in the video's own time
base. What could not be read leaves as an entry of the layer `sidecar_rejects`, with its reason.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from fractions import Fraction

from cineray import storage
from cineray.errors import CinerayError, PlaceError
from cineray.lake import layer_row
from cineray.records import IndexedVideo, Sidecar, VideoFile
from cineray.source.sidecars import (
    CAPTION_SIDECARS,
    MAX_SIDECAR_BYTES,
    SUBTITLE_SIDECARS,
    SidecarError,
    parse_subtitles,
    with_sidecar,
)

AUTHOR = "ingest"
REJECTS_LAYER = "sidecar_rejects"
TimedLine = tuple[int, int, str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SidecarFacts:
    """A video with what its sidecars say of it, and what has to wait for the video's time base."""

    video: VideoFile
    timed: tuple[TimedLine, ...] = ()
    audio: tuple[str, ...] = ()
    rejects: tuple[dict[str, str], ...] = ()

    def layer_entries(self, indexed: IndexedVideo, source: str) -> Iterator[dict[str, object]]:
        """Timed captions, audio files and rejects as rows of layers, in the video's time base."""
        to_pts = Fraction(1, 1000) / indexed.time_base
        start = indexed.frames.start_pts
        for begin_ms, end_ms, text in self.timed:
            begin, end = start + round(begin_ms * to_pts), start + round(end_ms * to_pts)
            yield _entry("captions", indexed, source, text, start_pts=begin, end_pts=end)
        for value in self.audio:
            yield _entry("audio_files", indexed, source, value)
        for reject in self.rejects:
            yield _entry(REJECTS_LAYER, indexed, source, json.dumps(reject, sort_keys=True))


def read_sidecars(video: VideoFile, policy: storage.AccessPolicy) -> SidecarFacts:
    """Read every sidecar within its limits."""
    facts = SidecarFacts(video=video)
    for sidecar in video.sidecars:
        try:
            facts = _with_one(facts, sidecar, policy)
        except (SidecarError, PlaceError) as error:
            reason = error.reason if isinstance(error, PlaceError) else "bad_sidecar"
            reject = {"uri": str(sidecar.place), "reason": reason, "detail": str(error)}
            facts = dataclasses.replace(facts, rejects=(*facts.rejects, reject))
    return facts


def _with_one(facts: SidecarFacts, sidecar: Sidecar, policy: storage.AccessPolicy) -> SidecarFacts:
    if sidecar.kind in CAPTION_SIDECARS:
        data = _read_limited(sidecar, policy)
        return dataclasses.replace(facts, video=with_sidecar(facts.video, sidecar.kind, data))
    if sidecar.kind in SUBTITLE_SIDECARS:
        lines = parse_subtitles(_read_limited(sidecar, policy), sidecar.kind)
        return dataclasses.replace(facts, timed=(*facts.timed, *lines))
    if sidecar.kind == "wav":
        place = {"uri": sidecar.place.uri, "offset": sidecar.place.offset, "length": sidecar.place.length}
        return dataclasses.replace(facts, audio=(*facts.audio, json.dumps(place, sort_keys=True)))
    raise CinerayError(f"no reader for a .{sidecar.kind} sidecar; a source may only list the kinds that it knows")


def _read_limited(sidecar: Sidecar, policy: storage.AccessPolicy) -> bytes:
    reader = storage.open_place(sidecar.place, policy=policy)
    try:
        if reader.size_bytes > MAX_SIDECAR_BYTES:
            raise SidecarError(
                f"a .{sidecar.kind} sidecar has {reader.size_bytes:,} bytes; at most {MAX_SIDECAR_BYTES:,} are read. "
                "Shorten it, or put long annotations into a layer"
            )
        return reader.read_at(0, reader.size_bytes)
    finally:
        reader.close()


def _entry(
    layer: str,
    video: IndexedVideo,
    source: str,
    value: str,
    *,
    start_pts: int | None = None,
    end_pts: int | None = None,
) -> dict[str, object]:
    row = layer_row(
        value=value, author=AUTHOR, video_id=video.video_id, start_pts=start_pts, end_pts=end_pts, source=source
    )
    return {"layer": layer, **row}
