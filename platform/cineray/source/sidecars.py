"""What lies beside a video under its name: bytes of a small text file in, captions, labels or timed lines out.

    .txt         captions, one per line that is not empty
    .json        an object whose caption, captions, text, description, split, label and group mean just that,
                 other keys become columns; or a list of captions
    .cls         a class label (WebDataset's)
    .srt, .vtt   timed lines, in milliseconds, with their text as it was written
    .wav         sound; listed and never parsed here

Pure functions of bytes: no file is opened, nothing is ever unpickled, and YAML is not read at all. Whatever is too
large, too deep or not in its encoding is a `SidecarError` and costs that sidecar, never the video or the run.
"""

from __future__ import annotations

from cineray.errors import CinerayError
from cineray.records import VideoFile
from cineray.source.annotations import (
    CAPTION_KEYS,
    Annotations,
    BadSplitError,
    annotated,
    annotations_from,
    annotations_of,
)
from cineray.source.strict_json import MAX_BYTES, StrictJsonError, parse_strict
from cineray.source.subtitles import BadCueError, parse_cues

MAX_SIDECAR_BYTES = MAX_BYTES
CAPTION_SIDECARS = ("txt", "json", "cls")
SUBTITLE_SIDECARS = ("srt", "vtt")

_WIDE_BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class SidecarError(CinerayError):
    """A sidecar cannot be read: wrong encoding, too large, not valid. The video is kept and the sidecar is not."""


def with_sidecar(file: VideoFile, kind: str, data: bytes) -> VideoFile:
    """The video with what its .txt, .json or .cls sidecar adds; what the source itself said of it goes first."""
    return annotated(file, annotations_of(file).over(_ANNOTATION_PARSERS[kind](data)))


def parse_captions_txt(data: bytes) -> Annotations:
    """One caption per line that is not empty."""
    lines = (line.strip() for line in _utf8(data, "txt").splitlines())
    return Annotations(captions=tuple(dict.fromkeys(line for line in lines if line)))


def parse_captions_json(data: bytes) -> Annotations:
    """Captions, split, label, group and columns of a JSON object; or a list of captions."""
    _check_size(data, "json")
    try:
        value = parse_strict(data)
    except StrictJsonError as error:
        raise SidecarError(f"a .json sidecar is left out: {error}") from error
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = {"captions": value}
    if not isinstance(value, dict):
        raise SidecarError(
            f"a .json sidecar holds a {type(value).__name__}; wanted an object with a `caption`, or a list of captions"
        )
    try:
        return annotations_from(value, caption_keys=(*CAPTION_KEYS, "description"))
    except BadSplitError as error:
        raise SidecarError(f"a .json sidecar is left out: {error}") from error


def parse_label_cls(data: bytes) -> Annotations:
    """The class label that WebDataset keeps in .cls: one line, a number or a word."""
    text = _utf8(data, "cls").strip()
    if len(text.splitlines()) > 1:
        raise SidecarError(f"a .cls sidecar has {len(text.splitlines())} lines; wanted one, the label")
    return Annotations(label=text or None)


def parse_subtitles(data: bytes, kind: str) -> list[tuple[int, int, str]]:
    """Timed lines as (start_ms, end_ms, text), in the file's order; markup such as `<v Bob>` stays in the text."""
    text = _subtitle_text(data, kind)
    try:
        cues = parse_cues(text, kind)
    except BadCueError as error:
        raise SidecarError(f"a .{kind} sidecar is left out: {error}") from error
    if not cues and text.strip() not in ("", "WEBVTT"):
        raise SidecarError(f"a .{kind} sidecar holds no timed line; wanted lines such as 00:00:01,000 --> 00:00:02,500")
    return cues


_ANNOTATION_PARSERS = {"txt": parse_captions_txt, "json": parse_captions_json, "cls": parse_label_cls}


def _subtitle_text(data: bytes, kind: str) -> str:
    """SRT names no encoding: UTF-16 by its mark, else UTF-8, else Latin-1, as old ones are. VTT is UTF-8 always."""
    if kind not in SUBTITLE_SIDECARS:
        raise SidecarError(f"subtitles of kind {kind!r}; wanted one of {', '.join(SUBTITLE_SIDECARS)}")
    _check_size(data, kind)
    return _srt_text(data) if kind == "srt" else _utf8(data, kind)


def _srt_text(data: bytes) -> str:
    try:
        return data.decode(_WIDE_BOMS.get(data[:2], "utf-8-sig"))
    except UnicodeDecodeError:
        if b"\0" in data:
            raise SidecarError("a .srt sidecar is not text: it holds zero bytes and is not UTF-16") from None
        return data.decode("latin-1")


def _utf8(data: bytes, kind: str) -> str:
    _check_size(data, kind)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SidecarError(
            f"a .{kind} sidecar is not UTF-8: byte {data[error.start]:#04x} at {error.start}; save it as UTF-8"
        ) from error


def _check_size(data: bytes, kind: str) -> None:
    if len(data) > MAX_SIDECAR_BYTES:
        raise SidecarError(f"a .{kind} sidecar has {len(data):,} bytes; at most {MAX_SIDECAR_BYTES:,} are read")
