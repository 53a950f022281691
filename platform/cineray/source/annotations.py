"""What a row says of its video: columns of any table or keys of any JSON in, captions, split, label, group out.

One set of rules for metadata files, manifests, Lance tables and JSON sidecars, so that a column means the same
wherever it stands. Everything that leaves is a plain scalar that UTF-8 and JSON can hold.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from typing import Any

from cineray.records import Scalar, VideoFile
from cineray.source.naming import printable_name, split_of, utf8_text
from cineray.source.strict_json import StrictJsonError, parse_strict

CAPTION_KEYS = ("caption", "captions", "text")
MAX_SPLIT_CHARS = 64
_SPLIT_NAME = re.compile(rf"[A-Za-z][A-Za-z0-9_-]{{0,{MAX_SPLIT_CHARS - 1}}}")
_INT64 = range(-(2**63), 2**63)


class BadSplitError(ValueError):
    """A row states a split whose name no lake takes. Its video must not slip into another split for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """The part of a row that is not the video's place."""

    captions: tuple[str, ...] = ()
    split: str | None = None
    label: str | None = None
    group: str | None = None
    columns: Mapping[str, Scalar] = field(default_factory=dict)

    def over(self, below: Annotations) -> Annotations:
        """These where they say something, else those below; captions of both, without repeats."""
        return Annotations(
            captions=tuple(dict.fromkeys(self.captions + below.captions)),
            split=self.split or below.split,
            label=self.label or below.label,
            group=self.group or below.group,
            columns={**below.columns, **self.columns},
        )


def annotations_of(file: VideoFile) -> Annotations:
    """What a video says already."""
    return Annotations(
        captions=file.captions, split=file.split, label=file.label, group=file.group, columns=file.columns
    )


def annotated(file: VideoFile, annotations: Annotations) -> VideoFile:
    """The video saying exactly these."""
    return replace(
        file,
        captions=annotations.captions,
        split=annotations.split,
        label=annotations.label,
        group=annotations.group,
        columns=annotations.columns,
    )


def annotations_from(row: Mapping[Any, object], *, caption_keys: Iterable[str] = CAPTION_KEYS) -> Annotations:
    """Read a row's captions, split, label and group; every other column that says something is kept.

    BadSplitError where the split is no name.
    """
    keys = tuple(caption_keys)
    captions = [caption for key in keys for caption in _captions(row.get(key))]
    taken = {*keys, "split", "label", "group"}
    others = {printable_name(str(key)): scalar(value) for key, value in row.items() if key not in taken}
    return Annotations(
        captions=tuple(dict.fromkeys(captions)),
        split=_split(_word(row.get("split"))),
        label=_word(row.get("label")),
        group=_word(row.get("group")),
        columns={key: value for key, value in others.items() if value is not None},
    )


def scalar(value: object) -> Scalar:
    """A value as text, int64, finite float, bool or None; lists and objects become JSON text, raw bytes become None."""
    if isinstance(value, (int, float, bool)):
        return _number(value)
    if value is None or isinstance(value, (bytes, bytearray, memoryview)):
        return None
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, default=scalar)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return utf8_text(str(value)) or None


def _number(value: int | float) -> Scalar:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value in _INT64 else str(value)


def _word(value: object) -> str | None:
    plain = scalar(value)
    return None if plain is None else str(plain).strip() or None


def _split(word: str | None) -> str | None:
    if word is None or _SPLIT_NAME.fullmatch(word):
        return word and (split_of(word) or word)
    raise BadSplitError(
        f"its split is '{printable_name(word[:100])}'; wanted a name of at most {MAX_SPLIT_CHARS} letters, digits, "
        "_ and - that begins with a letter. Correct it, or rename the column if it means something else"
    )


def _captions(value: object) -> list[str]:
    """One caption, or a list of them; in CSV a list is written as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _as_list(value)
    items = value if isinstance(value, (list, tuple)) else [value]
    return [utf8_text(item).strip() for item in items if isinstance(item, str) and item.strip()]


def _as_list(text: str) -> object:
    try:
        parsed = parse_strict(text.encode("utf-8", "surrogatepass"))
    except StrictJsonError:
        return text  # a caption may well begin with a bracket: "[music] a band plays"
    strings = isinstance(parsed, list) and all(isinstance(item, str) for item in parsed)
    return parsed if strings else text
