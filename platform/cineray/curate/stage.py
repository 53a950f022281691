"""The seam of everything that looks at a video: a `Footage` goes in, columns leave.

A stage is a small frozen dataclass. `name`, `version` and `gives` are class variables; its fields are its config, plain
scalars with a docstring each. Its columns begin with its subject (`black_fraction`, `black_spans`). A column that
cannot be known (the loudness of a video without sound) is None; a list of `Span`s tells when.

Promises that a stage keeps: the same footage and the same fields give the same columns, on any machine; it opens no
file and draws no random number. Whoever changes what it gives raises its `version`, and it is measured anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from cineray.curate.footage import Footage
from cineray.errors import UsageError
from cineray.records import Scalar


class Span(NamedTuple):
    """A stretch `[start_pts, end_pts)` of a video, in its time base, and what is to be said of it."""

    start_pts: int
    end_pts: int
    value: Scalar = None


Columns = dict[str, Scalar | list[Span]]


class Stage(Protocol):
    """Anything that can be asked for the columns of a video."""

    name: ClassVar[str]
    version: ClassVar[int]
    gives: ClassVar[Mapping[str, type]]
    """Its columns, and what their values are: float, int, bool, str, or list for spans. A rule may name each of them,
    and means the same by it where no video has a value."""

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""


def stage_key(stage: Stage) -> str:
    """Names what a stage gives: its name, its version and its config. Results are kept, and found again, by it."""
    told = json.dumps(dataclasses.asdict(stage), sort_keys=True)  # type: ignore[call-overload]
    return f"{stage.name}@{stage.version}-{hashlib.blake2b(told.encode(), digest_size=4).hexdigest()}"


def build_stages(told: Mapping[str, Mapping[str, Any]], known: Mapping[str, type[Stage]]) -> tuple[Stage, ...]:
    """The stages of a job, in the order of their names, each with its fields; wrong names and fields are refused."""
    return tuple(_build(name, told[name], known) for name in sorted(told))


def _build(name: str, values: Mapping[str, Any], known: Mapping[str, type[Stage]]) -> Stage:
    if name not in known:
        raise UsageError(f"there is no stage `{name}`; the stages are {', '.join(sorted(known))}")
    fields = {field.name: field for field in dataclasses.fields(known[name])}  # type: ignore[arg-type]
    for field, value in values.items():
        if field not in fields:
            raise UsageError(f"stage `{name}` has no field `{field}`; it has: {', '.join(fields) or 'no fields'}")
        default = fields[field].default
        fits = isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)
        if not fits and not (isinstance(default, float) and type(value) is int):
            raise UsageError(
                f"stage `{name}`: {field} got {value!r}; wanted a {type(default).__name__} like {default!r}"
            )
    return known[name](**values)


def columns_to_json(columns: Columns) -> str:
    """Columns as text, in the order of their names; spans as lists of three."""
    return json.dumps(columns, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def columns_from_json(text: str) -> Columns:
    """The inverse."""
    told: dict[str, Any] = json.loads(text)
    return {name: [Span(*one) for one in value] if isinstance(value, list) else value for name, value in told.items()}


def scalars_of(columns: Sequence[Columns]) -> dict[str, Scalar]:
    """The plain columns of several stages, side by side."""
    return {name: value for one in columns for name, value in one.items() if not isinstance(value, list)}
