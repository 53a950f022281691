"""What lies beside each video in a shard: what the lake says of all of them in; files of one shape for each out.

    <id>.json     everything, under the same keys with values of the same kinds in every sample of a run
    <id>.txt      captions, a line each; where any video has one
    <id>.cls      the label, where every one is a number: `webdataset` and Hugging Face take it for one, or fail

One shape, because Hugging Face takes the first five samples for the shape of all: what those lack is dropped from the
others without a word, numbers are cut to whole ones, and other kinds of sidecars are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cineray.curate.standardise.staging import Staged
from cineray.curate.videos import Video

Said = Mapping[str, Any]


def said_of(video: Video, staged: Staged, said: Said) -> dict[str, Any]:
    """Of one video: its columns, captions and label, its split and group, and what it was made of."""
    told = dict(video.columns) | {"captions": list(video.captions), "label": video.label, **said}
    return told | {"source_video_id": video.listed.video_id, "source_times": json.loads(staged.source_times)}


def sidecars_of(said: Sequence[Said]) -> list[tuple[tuple[str, bytes], ...]]:
    """Extension and content of the files of every video."""
    texts = ["\n".join(" ".join(text.split()) for text in one["captions"]) for one in said]
    labels = [one["label"] or "" for one in said]
    numbers = all(label.isascii() and label.isdecimal() for label in labels)
    found = []
    for told, text, label in zip(of_one_shape(said), texts, labels, strict=True):
        files = [("json", json.dumps(told, sort_keys=True).encode())]
        files += [("txt", text.encode())] if any(texts) else []
        files += [("cls", label.encode())] if numbers else []
        found.append(tuple(files))
    return found


def of_one_shape(said: Sequence[Said]) -> list[dict[str, Any]]:
    """The same keys everywhere, those left out of which no video says anything; whole numbers and reals are reals.

    What some videos lack, or say in other kinds of values, is text: empty where it is not said. There is no other value
    that means nothing and is of a kind. Captions that are missing are one empty one, for the same reason.
    """
    columns = {
        name: _column([one.get(name) for one in said]) for name in sorted({name for one in said for name in one})
    }
    kept = {name: values for name, values in columns.items() if values is not None}
    return [{name: values[at] for name, values in kept.items()} for at in range(len(said))]


def _column(values: Sequence[Any]) -> list[Any] | None:
    kinds = {type(value) for value in values if value not in (None, [])}
    if not kinds:
        return None
    if kinds == {list}:
        return [value or [""] for value in values]
    if None in values or (len(kinds) > 1 and kinds != {int, float}):
        return [_text(value) for value in values]
    return [float(value) for value in values] if float in kinds else list(values)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
