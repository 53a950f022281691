"""What a version is: the immutable manifest under `versions/`. A `Version` goes in, JSON comes out, and back.

The manifest is the truth about a version: it pins every table at one Lance version and says who made it, from what
and how. Its fingerprint says what data it holds, and depends on the rows and the split rule alone: not on time,
author or layout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import blake3

from cineray.errors import LakeError
from cineray.lake.splits import SplitRule

FORMAT = 1
"""Of lake.json and of manifests. A lake of a higher number was written by a newer cineray and is not touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableState:
    """One table as a version pins it: the Lance version, the rows in it, and the fingerprint of those rows."""

    version: int
    rows: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of the lake's data, as its manifest says."""

    number: int
    parent: int | None
    fingerprint: str
    tables: Mapping[str, TableState]
    counts: Mapping[str, int]
    """`videos` (ready), `rejected`, `places`, `clips`, and rows of each `layers/<name>`."""
    splits: Mapping[str, int]
    """Clips in each split."""
    split_rule: SplitRule | None
    author: str
    command: str
    source: str
    created_at: str
    """UTC, ISO 8601."""
    processing: Mapping[str, Any]
    software: Mapping[str, str]
    message: str = ""
    commit_id: str = ""
    """Drawn for this commit, so that a writer who lost an answer on the network can tell its own manifest."""

    def layers(self) -> list[str]:
        """Names of the annotation layers, sorted."""
        return sorted(name.removeprefix("layers/") for name in self.tables if name.startswith("layers/"))


def version_fingerprint(tables: Mapping[str, TableState], split_rule: SplitRule | None) -> str:
    """BLAKE3 of the tables' fingerprints, by name, and of the split rule. Empty tables say nothing."""
    held = sorted((name, state.fingerprint) for name, state in tables.items() if state.rows)
    told = {"tables": held, "split_rule": split_rule.to_json() if split_rule else None}
    return blake3.blake3(json.dumps(told, sort_keys=True).encode()).hexdigest()


def version_to_json(version: Version) -> bytes:
    """The manifest's bytes."""
    names = Version.__slots__
    told: dict[str, Any] = {"format": FORMAT} | {name: getattr(version, name) for name in names}
    told["tables"] = {
        name: {"version": state.version, "rows": state.rows, "fingerprint": state.fingerprint}
        for name, state in sorted(version.tables.items())
    }
    told["split_rule"] = version.split_rule.to_json() if version.split_rule else None
    return json.dumps(told, indent=1, ensure_ascii=True).encode()


def version_from_json(data: bytes, *, where: str) -> Version:
    """The inverse; `where` names the manifest in errors."""
    try:
        told = json.loads(data)
        check_format(told.pop("format"), where)
        told["tables"] = {name: TableState(**state) for name, state in told["tables"].items()}
        told["split_rule"] = SplitRule.from_json(told["split_rule"]) if told["split_rule"] else None
        return Version(**told)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LakeError(
            f"the manifest {where} is damaged ({error}); restore it from a backup, or retire that version"
        ) from error


def check_format(found: object, where: str) -> None:
    """Refuse what a newer cineray wrote."""
    if not isinstance(found, int) or found > FORMAT:
        raise LakeError(
            f"{where} is of format {found}; this cineray reads format {FORMAT}. Install a newer cineray to use it"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Who makes a version, with which command, from what and how."""

    author: str
    command: str
    source: str
    processing: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
