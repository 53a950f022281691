"""How one row of each table is made, and read back. Records go in, plain dicts come out, and the other way round.

Promises: `video_from_row(media_row(video)) == video`; ids are derived from what a row says, never drawn at random, so
that the same fact ingested twice is one row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import blake3

from cineray.errors import UsageError
from cineray.lake.schema import Row, pack_text, unpack_text
from cineray.records import AudioStream, FrameTable, IndexedVideo, Place, Reject, Scalar, Sidecar, VideoFile


def media_row(
    video: IndexedVideo,
    *,
    place: Place | None = None,
    label: str | None = None,
    captions: Iterable[str] = (),
    columns: Mapping[str, Scalar] | None = None,
    remuxed: IndexedVideo | None = None,
    remuxed_uri: str | None = None,
    remux_reason: str | None = None,
) -> Row:
    """A video to train on. With `remuxed`, identity stays the original's and the frames are those of the remux."""
    told = remuxed or video
    row = _technical(told)
    row.update(video_id=video.video_id, content_hash=video.content_hash, size_bytes=video.size_bytes)
    row.update(state="ready", bytes_read=video.bytes_read, requests=video.requests)
    if remuxed is not None:
        row.update(remuxed_hash=remuxed.content_hash, remuxed_size_bytes=remuxed.size_bytes)
    row.update(remuxed_uri=pack_text(remuxed_uri), remux_reason=remux_reason)
    return row | _said(label, captions, columns) | (_place_columns(place) if place else {})


def reject_row(
    reject: Reject,
    *,
    source: str,
    place: Place | None = None,
    video_id: str | None = None,
    label: str | None = None,
    captions: Iterable[str] = (),
    columns: Mapping[str, Scalar] | None = None,
) -> Row:
    """A video that is left out, and why. Unread bytes have no hash: the id is then made of source and name."""
    row: Row = {"video_id": video_id or reject_id(source, reject.name), "state": "rejected", "reason": reject.reason}
    row["detail"] = pack_text(reject.detail)
    return row | _said(label, captions, columns) | (_place_columns(place) if place else {})


def reject_id(source: str, name: str) -> str:
    """The id of a video whose bytes were never read: made of where it was listed and under which name."""
    return "rejected-" + _digest(pack_text(source) or "", pack_text(name) or "")


def _said(label: str | None, captions: Iterable[str], columns: Mapping[str, Scalar] | None) -> Row:
    text = json.dumps(dict(columns), sort_keys=True) if columns else None
    return {"label": pack_text(label), "captions": [pack_text(c) for c in captions], "columns": text}


def _technical(video: IndexedVideo) -> Row:
    same = (
        *("version_tag", "container", "codec", "profile", "stream_index", "width", "height", "rotation_degrees"),
        *("pixel_format", "bit_depth", "color_range", "color_space", "color_primaries", "color_transfer"),
        *("variable_rate", "num_frames", "times_from", "validated"),
    )
    row: Row = {name: getattr(video, name) for name in same}
    for name in ("sample_aspect_ratio", "time_base", "average_rate", "nominal_rate"):
        row |= _ratio(name, getattr(video, name))
    frames, rate = video.frames, video.average_rate
    row.update(frames=frames.to_bytes(), num_key_frames=int(frames.key.sum()))
    if len(frames):  # a remote file indexed at level `header` only may have an empty table
        row.update(start_pts=frames.start_pts, end_pts=frames.end_pts, duration_seconds=float(video.duration_seconds))
    row["frames_per_second"] = float(rate) if rate is not None else None
    row["audio"] = [_audio_row(stream) for stream in video.audio]
    return row


def _audio_row(stream: AudioStream) -> Row:
    same = ("stream_index", "codec", "sample_rate", "channels", "start_pts", "duration_pts")
    return {name: getattr(stream, name) for name in same} | _ratio("time_base", stream.time_base)


def _ratio(name: str, value: Fraction | None) -> Row:
    return {f"{name}_num": value and value.numerator, f"{name}_den": value and value.denominator}


def _fraction(row: Mapping[str, Any], name: str) -> Fraction | None:
    num = row[f"{name}_num"]
    return None if num is None else Fraction(num, row[f"{name}_den"] or 1)


def video_from_row(row: Mapping[str, Any]) -> IndexedVideo:
    """The indexed video of a ready media row. Where it was remuxed, hash and size are those of the bytes to decode."""
    if row["state"] != "ready":
        raise UsageError(f"video {row['video_id']} is {row['state']} ({row['reason']}): it has no frames")
    same = (
        *("video_id", "version_tag", "container", "codec", "profile", "stream_index", "width", "height"),
        *("rotation_degrees", "pixel_format", "bit_depth", "color_range", "color_space", "color_primaries"),
        *("color_transfer", "variable_rate", "times_from", "validated", "bytes_read", "requests"),
    )
    return IndexedVideo(
        **{name: row[name] for name in same},
        content_hash=row["remuxed_hash"] or row["content_hash"],
        size_bytes=row["remuxed_size_bytes"] if row["remuxed_hash"] else row["size_bytes"],
        sample_aspect_ratio=_fraction(row, "sample_aspect_ratio") or Fraction(0),
        time_base=_fraction(row, "time_base") or Fraction(0),
        average_rate=_fraction(row, "average_rate"),
        nominal_rate=_fraction(row, "nominal_rate"),
        frames=FrameTable.from_bytes(row["frames"]),
        audio=tuple(_audio_from(stream) for stream in row["audio"] or ()),
    )


def _audio_from(row: Mapping[str, Any]) -> AudioStream:
    same = ("stream_index", "codec", "sample_rate", "channels", "start_pts", "duration_pts")
    return AudioStream(**{name: row[name] for name in same}, time_base=_fraction(row, "time_base") or Fraction(0))


def place_id(place: Place) -> str:
    """Names a place, whatever lies there."""
    return _digest(pack_text(place.uri) or "", str(place.offset), str(place.length))


def place_row(file: VideoFile, *, video_id: str, source: str, signature: str = "") -> Row:
    """Where one video lies, and what its source calls it there. The same place listed again has the same id."""
    place = file.place
    sidecars = [_place_columns(s.place) | {"kind": s.kind} for s in file.sidecars]
    return {
        **_place_columns(place),
        "place_id": place_id(place),
        "size_bytes": file.size_bytes,
        "version_tag": file.version_tag,
        "signature": signature,
        "video_id": video_id,
        "name": pack_text(file.name),
        "source": pack_text(source),
        "sidecars": sidecars,
    }


def _place_columns(place: Place) -> Row:
    return {"uri": pack_text(place.uri), "offset": place.offset, "length": place.length}


def place_from_row(row: Mapping[str, Any]) -> Place:
    """The place of a places row or of one of its sidecars."""
    return Place(uri=unpack_text(row["uri"]), offset=row["offset"], length=row["length"])


def sidecars_from_row(row: Mapping[str, Any]) -> tuple[Sidecar, ...]:
    """The sidecars of a places row."""
    return tuple(Sidecar(kind=s["kind"], place=place_from_row(s)) for s in row["sidecars"] or ())


def clip_row(
    *,
    video_id: str,
    start_pts: int,
    end_pts: int,
    split: str | None,
    group_id: str,
    label: str | None = None,
    weight: float = 1.0,
) -> Row:
    """A span `[start_pts, end_pts)` of one video, in the video's time base."""
    row: Row = {"clip_id": _digest(video_id, str(start_pts), str(end_pts)), "video_id": video_id}
    row.update(start_pts=start_pts, end_pts=end_pts, split=split, group_id=pack_text(group_id))
    return row | {"label": pack_text(label), "weight": weight}


def layer_row(
    *,
    value: str,
    author: str,
    video_id: str | None = None,
    clip_id: str | None = None,
    start_pts: int | None = None,
    end_pts: int | None = None,
    frame: int | None = None,
    source: str | None = None,
) -> Row:
    """One annotation of a video or clip: of all of it, of a span, or of one frame."""
    row: Row = {"video_id": video_id, "clip_id": clip_id, "start_pts": start_pts, "end_pts": end_pts, "frame": frame}
    row |= {"value": pack_text(value), "author": pack_text(author), "source": pack_text(source)}
    return row | {"row_id": _digest(json.dumps(row, sort_keys=True))}


def _digest(*parts: str) -> str:
    return blake3.blake3("\0\0".join(parts).encode()).hexdigest()[:32]
