"""Index results as plain data, and how they travel between a parent and its children: never as pickles.

    one message    4 bytes n | 4 bytes m | n bytes of JSON | m bytes as they are        (big-endian)

The lake keeps the same plain data: `indexed_to_dict` gives JSON values and one `bytes`, the packed frame table.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from fractions import Fraction
from typing import Any

from cineray.records import AudioStream, FrameTable, IndexedVideo, Place, Reject, VideoFile

Message = tuple[dict[str, Any], bytes]

_LENGTHS = struct.Struct(">II")
LONGEST_JSON = 64 << 20
LONGEST_RAW = 2 << 30
_RATIOS = ("sample_aspect_ratio", "time_base", "average_rate", "nominal_rate")


def indexed_to_dict(video: IndexedVideo) -> dict[str, Any]:
    """JSON values by field name (ratios as `"1/25"`), and the frame table as bytes under `frames`."""
    values: dict[str, Any] = {item.name: getattr(video, item.name) for item in fields(video)}
    for name in _RATIOS:
        values[name] = _ratio_text(values[name])
    values["audio"] = [asdict(stream) | {"time_base": _ratio_text(stream.time_base)} for stream in video.audio]
    values["frames"] = video.frames.to_bytes()
    return values


def indexed_from_dict(values: Mapping[str, Any]) -> IndexedVideo:
    """The inverse of `indexed_to_dict`."""
    given = dict(values)
    for name in _RATIOS:
        given[name] = _ratio(given[name])
    given["audio"] = tuple(AudioStream(**(item | {"time_base": _ratio(item["time_base"])})) for item in given["audio"])
    given["frames"] = FrameTable.from_bytes(given["frames"])
    return IndexedVideo(**given)


def result_message(result: IndexedVideo | Reject) -> Message:
    """A child's answer."""
    if isinstance(result, Reject):
        return {"reject": asdict(result)}, b""
    values = indexed_to_dict(result)
    raw: bytes = values.pop("frames")
    return {"indexed": values}, raw


def result_of(message: Message) -> IndexedVideo | Reject:
    """A child's answer, unpacked."""
    values, raw = message
    if "reject" in values:
        return Reject(**values["reject"])
    return indexed_from_dict(values["indexed"] | {"frames": raw})


def file_to_dict(file: VideoFile) -> dict[str, Any]:
    """What a child must know of a file: its name, where it lies, and the version that was listed."""
    return {"name": file.name, "place": asdict(file.place), "version_tag": file.version_tag}


def file_from_dict(values: Mapping[str, Any]) -> VideoFile:
    """The inverse of `file_to_dict`."""
    return VideoFile(name=values["name"], place=Place(**values["place"]), version_tag=values["version_tag"])


def pack(message: Message) -> bytes:
    """A message as bytes."""
    values, raw = message
    text = json.dumps(values).encode()
    return _LENGTHS.pack(len(text), len(raw)) + text + raw


def unpack(read_exactly: Callable[[int], bytes]) -> Message:
    """One message from a stream; `read_exactly` raises EOFError at its end."""
    text_bytes, raw_bytes = _LENGTHS.unpack(read_exactly(_LENGTHS.size))
    if text_bytes > LONGEST_JSON or raw_bytes > LONGEST_RAW:
        raise ValueError(f"a message of {text_bytes} + {raw_bytes} bytes is longer than any honest one")
    values = json.loads(read_exactly(text_bytes))
    return values, read_exactly(raw_bytes)


def _ratio_text(ratio: Fraction | None) -> str | None:
    return None if ratio is None else f"{ratio.numerator}/{ratio.denominator}"


def _ratio(text: str | None) -> Fraction | None:
    return None if text is None else Fraction(text)
