"""The line of versions: found, resolved and let go. A lake's uri goes in; manifests come out.

Promises: the order of versions is the order of their numbers; a file left by a killed writer is never taken for a
version; and a version that was retired is named as such instead of being read half.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

from cineray.errors import LakeError
from cineray.lake.layout import manifest_uri, numbered
from cineray.lake.manifest import Version, version_from_json
from cineray.lake.names import read_names, read_pointer
from cineray.storage import join_uri, list_objects, put_if_absent, read_object

_MANIFEST_LIMIT = 64 << 20
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")


def numbers(lake: str, *, suffix: str = "json") -> list[int]:
    """Numbers of the manifests (or of the `retired` markers) that lie there, ascending."""
    found = (numbered(entry.uri) for entry in list_objects(join_uri(lake, "versions")))
    return sorted(entry[0] for entry in found if entry and entry[1] == suffix)


def load(lake: str, number: int) -> Version:
    """One version by its number."""
    uri = manifest_uri(lake, number)
    return version_from_json(read_object(uri, limit_bytes=_MANIFEST_LIMIT), where=uri)


def versions(lake: str) -> Iterator[Version]:
    """All versions, newest first, each read when it is asked for."""
    for number in reversed(numbers(lake)):
        yield load(lake, number)


def retired(lake: str) -> set[int]:
    """Numbers of the versions that were let go; a name given at the same moment keeps its version."""
    return set(numbers(lake, suffix="retired")) - set(read_names(lake).values())


def resolve(lake: str, ref: str | int) -> Version:
    """The version that a person means."""
    known = numbers(lake)
    if not known:
        raise LakeError(f"the lake {lake} has no version yet; `cineray ingest SOURCE --lake {lake}` makes the first")
    found = _meant(lake, str(ref).strip(), known)
    if isinstance(found, Version):
        return found
    if found not in known:
        raise LakeError(f"the lake {lake} has no version {ref!r}; it has {known[0]} to {known[-1]} {_named(lake)}")
    if found in retired(lake):
        raise LakeError(f"version {found} of {lake} was retired: it stays in the log, but its rows may be gone")
    return load(lake, found)


def _meant(lake: str, ref: str, known: list[int]) -> int | Version | None:
    if ref in ("latest", "head"):
        return known[-1]
    if re.fullmatch(r"v?[0-9]+", ref) and int(ref.removeprefix("v")) in known:
        return int(ref.removeprefix("v"))
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,99}", ref) and (pointer := read_pointer(lake, ref)).version is not None:
        return pointer.version
    if _FINGERPRINT.fullmatch(ref):
        return _by_fingerprint(lake, ref)
    return None


def _by_fingerprint(lake: str, prefix: str) -> Version | None:
    gone = retired(lake)
    found = [v for v in versions(lake) if v.fingerprint.startswith(prefix) and v.number not in gone]
    if len({version.fingerprint for version in found}) > 1:
        told = ", ".join(f"{v.number} ({v.fingerprint[:16]})" for v in found)
        raise LakeError(f"the fingerprint {prefix} fits several versions: {told}; give more digits")
    return found[0] if found else None  # of versions with the same data, the newest


def _named(lake: str) -> str:
    known = read_names(lake)
    return f"and the names {', '.join(known)}" if known else "and no names"


def retire(lake: str, version: Version) -> None:
    """Put the marker that lets gc remove what only this version needs."""
    held = [name for name, number in read_names(lake).items() if number == version.number]
    if held:
        raise LakeError(
            f"version {version.number} is named {', '.join(held)}; remove or move the name before retiring it"
        )
    if version.number == numbers(lake)[-1]:
        raise LakeError(
            f"version {version.number} is the newest; the next commit builds on it, so it cannot be retired"
        )
    told = json.dumps({"retired": time.time()}).encode()
    put_if_absent(manifest_uri(lake, version.number, suffix="retired"), told)


def retired_since(lake: str) -> dict[int, float]:
    """When each retired version was let go, in seconds since 1970."""
    since = {}
    for number in retired(lake):
        told = json.loads(read_object(manifest_uri(lake, number, suffix="retired"), limit_bytes=1 << 16))
        since[number] = float(told["retired"])
    return since


def log(lake: str) -> Iterator[dict[str, Any]]:
    """One row per version, newest first."""
    gone, pointing = retired(lake), read_names(lake)
    newer: Version | None = None
    for version in versions(lake):
        if newer is not None:
            yield _log_row(newer, version, gone, pointing)
        newer = version
    if newer is not None:
        yield _log_row(newer, None, gone, pointing)


def _log_row(version: Version, parent: Version | None, gone: set[int], pointing: dict[str, int]) -> dict[str, Any]:
    before = parent.tables if parent else {}
    more = {name: state.rows - (before[name].rows if name in before else 0) for name, state in version.tables.items()}
    return {
        "version": version.number,
        "parent": version.parent,
        "created_at": version.created_at,
        "author": version.author,
        "command": version.command,
        "source": version.source,
        "message": version.message,
        "rows_added": {name: count for name, count in sorted(more.items()) if count},
        "videos": version.counts.get("videos", 0),
        "rejected": version.counts.get("rejected", 0),
        "tags": sorted(name for name, number in pointing.items() if number == version.number),
        "retired": version.number in gone,
        "fingerprint": version.fingerprint,
    }
