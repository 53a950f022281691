"""Typed configs: what a job or a command was told, checked before anything starts.

Every config derives from `Config`: frozen, keyword-only, unknown fields refused. `check` turns plain values into one
and turns pydantic's complaint into ours: which field, what it got, what it wants, and the field that was probably
meant.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cineray.errors import UsageError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of all configs; a docstring under each field says what it decides."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    def digest(self) -> str:
        """A short name of exactly these values: the same config has the same digest on every machine."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def check(kind: type[C], values: Mapping[str, Any]) -> C:
    """Build a config, or raise one UsageError that names every field that is wrong."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        lines = [_complaint(kind, problem) for problem in error.errors()]
        raise UsageError("\n".join(lines)) from None


def _complaint(kind: type[Config], problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"]) or kind.__name__
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path.split(".")[-1], kind.model_fields, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"it has: {', '.join(kind.model_fields)}"
        return f"{kind.__name__} has no field `{path}`; {hint}"
    return f"{kind.__name__}.{path} got {problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"
