"""What a plan is, in one name: format, data, recipe and seed in, a fingerprint out; and what differs between two.

A checkpoint or a cache keeps the whole identity (`to_dict`), not only its fingerprint, so that a refusal can say what
changed. Equal fingerprints mean equal batches at every step; whatever changes a batch changes the fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import blake3

PLAN_FORMAT = 1
"""Raised whenever the code makes other batches from the same data, recipe and seed. tests/golden tells when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanIdentity:
    """Everything that a plan follows from."""

    catalogs: tuple[str, ...]
    """The fingerprint of each dataset's catalog: its version, split and filter."""
    recipe: Mapping[str, Any]
    """`Recipe.shaping()`."""
    seed: int
    decoding: str = ""
    """How clips become pixels, where that is not the usual way: `decoder=torchcodec`. Nothing is said of the usual."""
    plan_format: int = PLAN_FORMAT

    @property
    def fingerprint(self) -> str:
        """64 hex digits."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return blake3.blake3(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint's JSON."""
        told = {
            "plan_format": self.plan_format,
            "catalogs": list(self.catalogs),
            "recipe": dict(self.recipe),
            "seed": self.seed,
        }
        return told | ({"decoding": self.decoding} if self.decoding else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PlanIdentity:
        """The inverse of `to_dict`."""
        return cls(
            plan_format=values["plan_format"],
            catalogs=tuple(values["catalogs"]),
            recipe=values["recipe"],
            seed=values["seed"],
            decoding=values.get("decoding", ""),
        )


def explain_difference(a: PlanIdentity, b: PlanIdentity) -> str:
    """One line for each thing that differs, as `what: in a -> in b`; empty when both are the same plan."""
    before, after = dict(_leaves(a.to_dict())), dict(_leaves(b.to_dict()))
    names = [name for name in before if name in after] + [name for name in before if name not in after]
    names += [name for name in after if name not in before]
    lines = []
    for name in names:
        if before.get(name, _ABSENT) != after.get(name, _ABSENT):
            lines.append(f"{name}: {_shown(before.get(name, _ABSENT))} -> {_shown(after.get(name, _ABSENT))}")
    return "\n".join(lines)


_ABSENT = object()


def _shown(value: Any) -> str:
    return "(nothing)" if value is _ABSENT else json.dumps(value)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and value:
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{number}]")
    else:
        yield name, list(value) if isinstance(value, tuple) else value
