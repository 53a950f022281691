"""Names for versions. A name and a number go in; pointers that are never changed come out, and the last one holds.

Promises: moving a name is said out loud (`move=True`) and leaves its history; two writers who move it at once both
see who was last; a name can never be mistaken for a number, a fingerprint or `latest`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from cineray.errors import CommitConflict, LakeError, UsageError
from cineray.lake.layout import numbered, pointer_uri
from cineray.storage import join_uri, list_objects, put_if_absent, read_object

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
_TAKEN = re.compile(r"latest|head|v[0-9]+|[0-9a-f]{8,64}")
_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """One step in a name's history; version None takes the name away."""

    step: int
    version: int | None


def check_name(name: str) -> None:
    """Refuse what is not a name, or what already means something else."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a name for a version; wanted 1 to 100 letters, digits, . _ or -, a letter first"
        )
    if _TAKEN.fullmatch(name.lower()):
        raise UsageError(f"{name!r} already means a version by itself; choose a name such as train-2026-11")


def read_names(lake: str) -> dict[str, int]:
    """Every name that points to a version, and to which."""
    last: dict[str, str] = {}
    for found in list_objects(join_uri(lake, "names")):
        step = numbered(found.uri)
        if step and step[1] == "json":
            last[found.uri.rsplit("/", 2)[-2]] = found.uri  # sorted, so the last step wins
    pointers = {name: _read(uri).version for name, uri in last.items()}
    return {name: version for name, version in sorted(pointers.items()) if version is not None}


def read_pointer(lake: str, name: str) -> Pointer:
    """Where a name points now; step 0 and no version if it never was one."""
    last = ""
    for found in list_objects(join_uri(lake, "names", name)):
        step = numbered(found.uri)
        last = found.uri if step and step[1] == "json" else last
    return _read(last) if last else Pointer(step=0, version=None)


def write_pointer(lake: str, name: str, version: int | None, *, move: bool, author: str = "") -> None:
    """Point a name at a version, or at nothing."""
    check_name(name)
    for _ in range(_TRIES):
        now = read_pointer(lake, name)
        if now.version == version:
            return
        if now.version is not None and not move:
            raise LakeError(
                f"{name!r} already names version {now.version}; to point it at {version}, move it on purpose (--move)"
            )
        told = {"name": name, "version": version, "author": author, "created_at": datetime.now(UTC).isoformat()}
        if put_if_absent(pointer_uri(lake, name, now.step + 1), json.dumps(told).encode()):
            return
    raise CommitConflict(
        f"others moved the name {name!r} first, {_TRIES} times in a row; look where it points and try again"
    )


def _read(uri: str) -> Pointer:
    step = numbered(uri)
    try:
        told = json.loads(read_object(uri, limit_bytes=1 << 20))
        version = told["version"]
        return Pointer(step=step[0] if step else 0, version=None if version is None else int(version))
    except (ValueError, TypeError, KeyError) as error:
        raise LakeError(f"the pointer {uri} is damaged ({error}); point the name at its version again") from error
