"""Is a version still what its manifest says? A version goes in; a report of every difference comes out.

    none    every table version is there, and its rows and fingerprints, counted again, are those of the manifest
    stat    and every place has the size and the version tag that it had
    hash    and every place has the bytes that it had (BLAKE3 of all of them)

A video that was indexed remotely by its header alone (`blake3-header:`) cannot be hashed against; the report says
how many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import blake3

from cineray.errors import CinerayError, PlaceError, UsageError
from cineray.lake import digest
from cineray.lake.manifest import TableState, Version, version_fingerprint
from cineray.lake.rows import place_from_row
from cineray.lake.schema import unpack_text
from cineray.lake.tables import Table
from cineray.records import Place
from cineray.storage import is_remote, join_uri, open_place, place_stat

LEVELS = ("none", "stat", "hash")
_THREADS = 16
_READ_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is not as it was."""

    what: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was looked at, what is wrong, and what could not be looked at."""

    version: int
    ok: bool
    checked: dict[str, int]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()


class Reader(Protocol):
    """What these functions need of a lake."""

    uri: str

    def table(self, name: str) -> Table:
        """The adapter of one table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """Bytes that should lie at a place. Empty or None: nobody said."""

    what: str
    place: Place
    size_bytes: int | None
    version_tag: str
    hash_begins: str


def verify(lake: Reader, version: Version, *, media: str) -> VerifyReport:
    """Check one version."""
    if media not in LEVELS:
        raise UsageError(f"verify media={media!r} is not a level; wanted one of {', '.join(LEVELS)}")
    problems: list[Problem] = []
    checked = {"tables": 0, "rows": 0, "places": 0}
    if version.fingerprint != version_fingerprint(version.tables, version.split_rule):
        problems.append(
            _problem(f"version {version.number}", "fingerprint", "the manifest's own fingerprints do not fit")
        )
    for name, state in sorted(version.tables.items()):
        checked["tables"] += 1
        checked["rows"] += state.rows
        problems += _check_table(lake.table(name), name, state)
    notes: list[str] = []
    if media != "none" and not problems:
        unhashed = _header_only(lake, version) if media == "hash" else set()
        if unhashed:
            notes.append(
                f"{len(unhashed)} videos are known by the hash of size and header only; sizes and tags were checked"
            )
        for found in _checked_claims(_claims(lake, version, unhashed), hash_bytes=media == "hash"):
            checked["places"] += 1
            problems += [found] if found else []
    elif media != "none":
        notes.append("places were not looked at, because the tables that name them are not whole")
    return VerifyReport(
        version=version.number, ok=not problems, checked=checked, problems=tuple(problems), notes=tuple(notes)
    )


def _problem(what: str, reason: str, detail: str) -> Problem:
    return Problem(what=what, reason=reason, detail=detail)


def _check_table(table: Table, name: str, state: TableState) -> list[Problem]:
    rows, fingerprint = 0, digest.EMPTY
    try:
        for batch in table.scan(state.version):
            rows += batch.num_rows
            fingerprint = digest.add(fingerprint, digest.batch_digests(name, batch))
    except CinerayError as error:
        return [_problem(name, "unreadable", str(error))]
    if rows != state.rows:
        return [_problem(name, "rows", f"the table has {rows} rows; the manifest says {state.rows}")]
    if digest.to_hex(fingerprint) != state.fingerprint:
        return [
            _problem(
                name, "fingerprint", f"the rows hash to {digest.to_hex(fingerprint)[:16]}..., not as the manifest says"
            )
        ]
    return []


def _scan(lake: Reader, version: Version, table: str, columns: list[str], where: str) -> Iterator[dict[str, Any]]:
    state = version.tables.get(table)
    if state is not None:
        for batch in lake.table(table).scan(state.version, columns=columns, where=where):
            yield from batch.to_pylist()


def _header_only(lake: Reader, version: Version) -> set[str]:
    where = "state = 'ready' AND content_hash NOT LIKE 'blake3:%'"
    return {row["video_id"] for row in _scan(lake, version, "media", ["video_id"], where)}


def _claims(lake: Reader, version: Version, unhashed: set[str]) -> Iterator[_Claim]:
    """Every place of a ready video, and every remuxed object."""
    rejected = {row["video_id"] for row in _scan(lake, version, "media", ["video_id"], "state <> 'ready'")}
    columns = ["uri", "offset", "length", "size_bytes", "version_tag", "video_id"]
    for row in _scan(lake, version, "places", columns, "true"):
        if row["video_id"] in rejected:
            continue
        place = place_from_row(row)
        begins = "" if row["video_id"] in unhashed else row["video_id"]
        yield _Claim(
            what=str(place),
            place=place,
            size_bytes=row["size_bytes"],
            version_tag=row["version_tag"] or "",
            hash_begins=begins,
        )
    columns = ["remuxed_uri", "remuxed_hash", "remuxed_size_bytes"]
    for row in _scan(lake, version, "media", columns, "remuxed_uri IS NOT NULL"):
        uri = resolve_remuxed(lake.uri, unpack_text(row["remuxed_uri"]))
        wanted = (row["remuxed_hash"] or "").removeprefix("blake3:")
        size = row["remuxed_size_bytes"]
        yield _Claim(what=uri, place=Place(uri=uri), size_bytes=size, version_tag="", hash_begins=wanted)


def resolve_remuxed(lake: str, uri: str) -> str:
    """A remuxed object's uri; one that is relative (`media/<id>.mp4`) lies in the lake, wherever the lake is now."""
    return uri if uri.startswith("/") or "://" in uri else join_uri(lake, *uri.split("/"))


def _checked_claims(claims: Iterator[_Claim], *, hash_bytes: bool) -> Iterable[Problem | None]:
    """Claims in order, many at a time where a network is waited for; a bounded number is under way."""
    with ThreadPoolExecutor(_THREADS) as pool:
        while chunk := list(islice(claims, 64)):
            remote = any(is_remote(claim.place.uri) for claim in chunk)
            run = pool.map if remote else map
            yield from run(lambda claim: _check_claim(claim, hash_bytes), chunk)


def _check_claim(claim: _Claim, hash_bytes: bool) -> Problem | None:
    try:
        size_bytes, tag = place_stat(claim.place)
        if claim.size_bytes is not None and size_bytes != claim.size_bytes:
            return _problem(claim.what, "changed", f"{size_bytes} bytes lie there; {claim.size_bytes} were indexed")
        if hash_bytes and claim.hash_begins:
            found = _hash(claim.place)
            if found.startswith(claim.hash_begins):
                return None  # a new time stamp on the same bytes is no change
            return _problem(
                claim.what, "changed", f"the bytes hash to {found[:32]}; {claim.hash_begins[:32]} was indexed"
            )
        if claim.version_tag and tag != claim.version_tag:
            return _problem(claim.what, "changed", f"the version tag is {tag}; {claim.version_tag} was indexed")
    except PlaceError as error:
        return _problem(claim.what, error.reason, str(error))
    return None


def _hash(place: Place) -> str:
    hasher = blake3.blake3()
    with open_place(place) as reader:
        for offset in range(0, reader.size_bytes, _READ_BYTES):
            hasher.update(reader.read_at(offset, min(_READ_BYTES, reader.size_bytes - offset)))
    return hasher.hexdigest()
