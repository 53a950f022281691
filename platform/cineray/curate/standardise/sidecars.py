"""What lies beside each video in a shard: what the lake says of all of them in; files of one shape for each out.

    <id>.json     everything, under the same keys with values of the same kinds in every sample of a run
    <id>.txt      captions, a line each; where any video has one
    <id>.cls      the label, where every one is a number: `webdataset` and Hugging Face take it for one, or fail

One shape, because Hugging Face takes the first five samples for the shape of all: what those lack is dropped from the
others without a word, numbers are cut to whole ones, and other kinds of sidecars are refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cineray.curate.standardise.staging import Staged
from cineray.curate.videos import Video

Said = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the sidecars of all videos of a run have in common. Small, and plain values as JSON."""

    kinds: dict[str, str]
    """Of each key of the JSON: `list`, `text`, `real`, or `same`, where all values are of one other kind."""
    texts: bool
    """Whether any video has captions."""
    numbers: bool
    """Whether every label is a number."""

    def to_json(self) -> str:
        """For a task elsewhere."""
        return json.dumps(asdict(self))


def said_of(video: Video, staged: Staged, said: Said) -> dict[str, Any]:
    """Of one video: its columns, captions and label, its split and group, and what it was made of."""
    told = dict(video.columns) | {"captions": list(video.captions), "label": video.label, **said}
    return told | {"source_video_id": video.listed.video_id, "source_times": json.loads(staged.source_times)}


class Shaping:
    """Finds the shape of what is said of many videos, without keeping it."""

    def __init__(self) -> None:
        self.videos, self.texts, self.numbers = 0, False, True
        self.said: Counter[str] = Counter()
        self.kinds: dict[str, set[type]] = {}

    def add(self, said: Said) -> None:
        """One more video."""
        self.videos += 1
        self.texts = self.texts or bool(_text_of(said))
        label = said["label"] or ""
        self.numbers = self.numbers and label.isascii() and label.isdecimal()
        for name, value in said.items():
            if value is not None and value != []:
                self.said[name] += 1
                self.kinds.setdefault(name, set()).add(type(value))

    def shape(self) -> Shape:
        """The same keys everywhere, those left out of which no video says anything; whole numbers and reals are reals.

        What some videos lack, or say in other kinds of values, is text: empty where it is not said. There is no other
        value that means nothing and is of a kind. Captions that are missing are one empty one, for the same reason.
        """
        kinds = {name: self._kind(name) for name in sorted(self.kinds)}
        return Shape(kinds=kinds, texts=self.texts, numbers=self.numbers)

    def _kind(self, name: str) -> str:
        kinds = self.kinds[name]
        if kinds == {list}:
            return "list"
        if self.said[name] < self.videos or (len(kinds) > 1 and kinds != {int, float}):
            return "text"
        return "real" if float in kinds else "same"


def shape_of(many: Iterable[Said]) -> Shape:
    """The shape of all of these."""
    shaping = Shaping()
    for said in many:
        shaping.add(said)
    return shaping.shape()


def sidecars_of(said: Said, shape: Shape) -> tuple[tuple[str, bytes], ...]:
    """Extension and content of the files of one video."""
    told = {name: _VALUES[kind](said.get(name)) for name, kind in shape.kinds.items()}
    files = [("json", json.dumps(told, sort_keys=True).encode())]
    files += [("txt", _text_of(said).encode())] if shape.texts else []
    files += [("cls", (said["label"] or "").encode())] if shape.numbers else []
    return tuple(files)


def _text_of(said: Said) -> str:
    return "\n".join(" ".join(text.split()) for text in said["captions"])


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


_VALUES: dict[str, Callable[[Any], Any]] = {
    "list": lambda value: value or [""],
    "text": _text,
    "real": float,
    "same": lambda value: value,
}
