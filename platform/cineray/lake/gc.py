"""What nobody needs any more. A lake goes in; a list of garbage comes out, and is removed if that was asked.

Roots are all versions that are not retired, those retired only just now, those that a running reader holds, and Lance
tags that somebody else made. Garbage is, when older than the grace period: table versions that no root names and the
files that only they need; fragments that were written and never committed; staging of abandoned ingests and
standardisings; remuxed videos and the lake's own shards that no root names; files that a killed writer left
half-written; leases that ran out. Shards that lie elsewhere, as `standardise --out` puts them, are never looked at.

Promises: nothing that a root needs and nothing younger than the grace period, or than the oldest running writer, is
touched; while any writer runs, no staging, no remuxed video and no shard is, because it may go on with those of one
that was killed long ago; tags that a killed commit did not get to are made; and a gc that is killed is finished by the
next one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from cineray.errors import LakeError, UsageError
from cineray.lake import history, leases
from cineray.lake.layout import table_uri
from cineray.lake.manifest import Version
from cineray.lake.schema import is_table, unpack_text
from cineray.lake.tables import Table, tag_name
from cineray.storage import delete_object, filesystem, is_remote, join_uri, list_objects

_UNFINISHED = ".cineray-unfinished-"
_CLOCK_SLACK_SECONDS = 300.0
"""Stores tell times in whole seconds, by clocks of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """One thing to remove: a `table_version` (with the files that only it needs), or a file."""

    kind: str
    uri: str
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GcReport:
    """What was, or in a dry run would be, removed."""

    dry_run: bool
    garbage: tuple[Garbage, ...]
    size_bytes: int
    kept_versions: tuple[int, ...]
    tags_made: int
    """Tags that were missing (in a dry run: that are missing)."""
    held_by: tuple[str, ...] = ()
    """Running writers and readers, for whose sake something may have been kept: who, since when, until when."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Collected(Protocol):
    """What gc needs of the lake."""

    uri: str

    def table(self, name: str) -> Table:
        """The adapter of one table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One object below a prefix, with its time: fsspec's listing, which `list_objects` narrows to what readers need."""

    uri: str
    size_bytes: int
    modified: float


def collect(lake: Collected, *, dry_run: bool, older_than_seconds: float) -> GcReport:
    """Find the garbage, and remove it unless `dry_run`."""
    if not older_than_seconds >= 0:  # nor NaN
        raise UsageError(f"gc older_than_seconds is {older_than_seconds}; wanted 0 or more (7 days are 604800)")
    held = leases.live(lake.uri)
    began = [lease.started - _CLOCK_SLACK_SECONDS for lease in held if lease.version is None]
    cutoff = min([time.time() - older_than_seconds, *began])
    roots = _roots(lake.uri, cutoff, held)
    needed = _needed(roots)
    garbage: list[Garbage] = []
    tags_made = 0
    for name in _tables_on_disk(lake.uri) | needed.keys():
        swept = _Sweep(lake, name, needed.get(name, set()), cutoff)
        tags_made += swept.make_tags(dry_run)
        garbage += swept.garbage()
        if not dry_run:
            swept.remove()
    rest = [*_of_writers(lake, cutoff), *_leftovers(lake.uri, cutoff)]
    if not dry_run:
        for item in rest:
            delete_object(item.uri)
    garbage += rest
    return GcReport(
        dry_run=dry_run,
        garbage=tuple(garbage),
        size_bytes=sum(item.size_bytes for item in garbage),
        kept_versions=tuple(version.number for version in roots),
        tags_made=tags_made,
        held_by=tuple(str(lease) for lease in held),
    )


def _roots(lake: str, cutoff: float, held: list[leases.Lease]) -> list[Version]:
    leased = {lease.version for lease in held}
    gone = {number for number, since in history.retired_since(lake).items() if since < cutoff and number not in leased}
    return [version for version in history.versions(lake) if version.number not in gone]


def _needed(roots: list[Version]) -> dict[str, set[int]]:
    needed: dict[str, set[int]] = {}
    for version in roots:
        for name, state in version.tables.items():
            needed.setdefault(name, set()).add(state.version)
    return needed


def _tables_on_disk(lake: str) -> set[str]:
    """Names of all tables, also of those that no manifest ever named."""
    prefix = join_uri(lake, "tables") + "/"
    inside = (entry.uri[len(prefix) :] for entry in list_objects(prefix.rstrip("/")))
    return {name for name in {path.split(".lance/")[0] for path in inside if ".lance/" in path} if is_table(name)}


class _Sweep:
    """The garbage of one table."""

    def __init__(self, lake: Collected, name: str, needed: set[int], cutoff: float) -> None:
        self.table, self.uri, self.cutoff, self.needed = lake.table(name), table_uri(lake.uri, name), cutoff, needed
        self.latest = self.table.latest()
        made = self.table.versions() if self.latest else {}
        lost = needed - made.keys()
        if lost:
            raise LakeError(
                f"{self.uri} lacks the table versions {sorted(lost)} that manifests name; run `cineray lake verify` "
                "and restore them, or retire those versions. Nothing was removed from this table"
            )
        self.tags = self.table.tags() if self.latest else {}
        foreign = {version for tag, version in self.tags.items() if tag != tag_name(version)}
        keep = needed | foreign | {self.latest}
        self.doomed = sorted(v for v, when in made.items() if v not in keep and when.timestamp() < cutoff)
        self.files = self._unneeded(made.keys() - set(self.doomed))

    def _unneeded(self, kept: set[int]) -> list[Garbage]:
        if not self.latest:  # fragments of writers that were killed before the table's first commit
            return [_file("fragment", e, "written, never committed") for e in _listing(self.uri, self.cutoff)]
        by_version = self.table.files_by_version()
        held = {path for version in kept for path in by_version.get(version, ())}
        doomed = {path for version in self.doomed for path in by_version.get(version, ())}
        found: list[Garbage] = []
        for file in self.table.files():
            sweepable = file.path.startswith(("data/", "_transactions/", "_versions/", "_deletions/"))
            if file.path in held or not sweepable or file.path.endswith("latest_version_hint.json"):
                continue
            if file.modified.timestamp() < self.cutoff:
                reason = "no version that is kept needs it" if file.path in doomed else "written, never committed"
                uri = join_uri(self.uri, *file.path.split("/"))
                found.append(Garbage(kind="fragment", uri=uri, size_bytes=file.size_bytes, reason=reason))
        return found

    def make_tags(self, dry_run: bool) -> int:
        """Make the tags that a killed commit did not get to."""
        missing = [version for version in sorted(self.needed) if tag_name(version) not in self.tags]
        return len(missing) if dry_run else sum(self.table.tag(version) for version in missing)

    def garbage(self) -> list[Garbage]:
        """Versions first, then the files; a version's files count for themselves, so it has no bytes of its own."""
        reason = "named by no version that is kept"
        listed = [
            Garbage(kind="table_version", uri=f"{self.uri}?version={version}", size_bytes=0, reason=reason)
            for version in self.doomed
        ]
        return listed + self.files

    def remove(self) -> None:
        """Versions through Lance, then what is left of their files and the orphans."""
        for version in self.doomed:
            if tag_name(version) in self.tags:
                self.table.untag(version)
        self.table.drop_versions(self.doomed)
        for item in self.files:
            delete_object(item.uri)


def _of_writers(lake: Collected, cutoff: float) -> list[Garbage]:
    """Staging, remuxed videos and shards. Who resumes needs older ones than itself, so any running writer keeps all.

    Leases first, then versions: a writer that began since gc did is either still at work or has made its version.
    """
    held = leases.live(lake.uri)
    if any(lease.version is None for lease in held):
        return []
    return [*_staging(lake.uri, cutoff), *_media(lake, held, cutoff), *_shards(lake, held, cutoff)]


def _staging(lake: str, cutoff: float) -> Iterator[Garbage]:
    """Staging of work of which nothing was touched since the cutoff."""
    prefix = join_uri(lake, "staging") + "/"
    by_key: dict[str, list[_Found]] = {}
    for entry in _listing(prefix.rstrip("/")):
        by_key.setdefault(entry.uri[len(prefix) :].split("/")[0], []).append(entry)
    for entries in by_key.values():
        if max(entry.modified for entry in entries) < cutoff:
            yield from (_file("staging", entry, "of work that was abandoned") for entry in entries)


def _media(lake: Collected, held: list[leases.Lease], cutoff: float) -> Iterator[Garbage]:
    """Remuxed videos that no kept version names, by their file name: a lake may have been moved."""
    found = list(_listing(join_uri(lake.uri, "media"), cutoff))
    if not found:
        return
    uris = _uris(lake, _roots(lake.uri, cutoff, held), "media", "remuxed_uri", "remuxed_uri IS NOT NULL")
    named = {uri.rsplit("/", 1)[-1] for uri in uris}
    for entry in found:
        if entry.uri.rsplit("/", 1)[-1] not in named:
            yield _file("media", entry, "no version that is kept names it")


def _shards(lake: Collected, held: list[leases.Lease], cutoff: float) -> Iterator[Garbage]:
    """Shards in the lake's own folder of which no kept version names a video, and their indices. By their names within
    it, which end in the hash of what is in them."""
    found = [one for one in _listing(join_uri(lake.uri, "shards"), cutoff) if _UNFINISHED not in one.uri]
    if not found:
        return
    roots = _roots(lake.uri, cutoff, held)
    named = {
        _shard_name(uri)
        for table in ("media", "places")
        for uri in _uris(lake, roots, table, "uri", "uri LIKE '%.tar'")
    }
    for entry in found:
        if _shard_name(entry.uri) not in named:
            yield _file("shard", entry, "no version that is kept names a video in it")


def _shard_name(uri: str) -> str:
    """`train/000000-9f86d081884c7d65` of that shard's tar and of its index."""
    return "/".join(uri.rsplit("/", 2)[-2:]).rpartition(".")[0]


def _uris(lake: Collected, roots: list[Version], name: str, column: str, where: str) -> set[str]:
    """What a column of a table says in any of these versions; a fragment that versions share is read once."""
    table = lake.table(name)
    seen: set[tuple[str, ...]] = set()
    found: set[str] = set()
    for lance_version in {version.tables[name].version for version in roots if name in version.tables}:
        fresh = []
        for fragment in table.fragments(lance_version):
            key = tuple(file.path for file in fragment.files)
            fresh += [fragment] if key not in seen else []
            seen.add(key)
        for batch in table.scan(lance_version, columns=[column], where=where, fragments=fresh):
            found.update(unpack_text(uri) for uri in batch[column].to_pylist())
    return found


def _leftovers(lake: str, cutoff: float) -> Iterator[Garbage]:
    """Half-written files of killed writers, and leases that ran out."""
    over = {lease.uri for lease in leases.leases(lake) if lease.expires + _CLOCK_SLACK_SECONDS < time.time()}
    for folder in ("versions", "names", "readers", "media", "shards"):
        for entry in _listing(join_uri(lake, folder), cutoff):
            if _UNFINISHED in entry.uri:
                yield _file("unfinished", entry, "left by a writer that was killed")
            elif entry.uri in over:
                yield _file("lease", entry, "ran out")


def _file(kind: str, entry: _Found, reason: str) -> Garbage:
    return Garbage(kind=kind, uri=entry.uri, size_bytes=entry.size_bytes, reason=reason)


def _listing(prefix: str, cutoff: float | None = None) -> Iterator[_Found]:
    """Every object below a prefix, half-written ones too; with a cutoff, those modified before it."""
    found = _remote(prefix) if is_remote(prefix) else _local(prefix)
    return (entry for entry in found if cutoff is None or entry.modified < cutoff)


def _local(prefix: str) -> Iterator[_Found]:
    """By our own walk, because fsspec's goes through links, out of the lake."""
    for folder, _, names in os.walk(prefix):
        for name in sorted(names):
            with suppress(FileNotFoundError):  # its writer was quicker
                told = os.lstat(os.path.join(folder, name))
                yield _Found(uri=os.path.join(folder, name), size_bytes=told.st_size, modified=told.st_mtime)


def _remote(prefix: str) -> Iterator[_Found]:
    client = filesystem(prefix)
    root = client._strip_protocol(prefix).rstrip("/")
    if not client.exists(root):
        return
    for path, entry in sorted(client.find(root, detail=True).items()):
        yield _Found(uri=prefix + path[len(root) :], size_bytes=int(entry["size"] or 0), modified=_modified(entry))


def _modified(entry: Mapping[str, Any]) -> float:
    for name in ("mtime", "LastModified", "updated", "last_modified"):
        value = entry.get(name)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    raise LakeError(
        f"the store tells no modification time of {entry.get('name')!r}; gc cannot know whether it is in use"
    )
