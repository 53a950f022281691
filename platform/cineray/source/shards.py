"""Which shards a spelling names: a file, a folder, a glob or braces in, one `Shard` after another out, in fixed order.

    clips.tar                    one shard
    clips/                       every *.tar below a folder or prefix
    clips/*-train.tar            a glob: `*` and `?` stay within a folder, `**` crosses folders
    clips/shard-{000..012}.tar   braces: exactly those, whether they exist or not, as webdataset spells them
    clips/{a,b}/{0..9}.tar       several, the last one turning fastest

A shard's name within the source is its path behind the part that all share, so that it survives moving the folder.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cineray.errors import PlaceError, SourceError
from cineray.records import Reject
from cineray.source.base import reject, unlisted
from cineray.source.links import target_inside
from cineray.source.naming import is_hidden, printable_name
from cineray.storage import Unlisted, is_remote, normalise_uri, walk_objects

SHARD_ENDINGS = (".tar",)
COMPRESSED_ENDINGS = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.lz4")
MAX_SHARDS = 10_000_000

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar: its place, its name within the source, and where its index would lie ("" if a listing shows none)."""

    uri: str
    name: str
    index_uri: str


def is_shard_name(path: str) -> bool:
    """Whether the name ends like a tar; compressed ones count, so that they can be refused by name."""
    return path.lower().endswith(SHARD_ENDINGS + COMPRESSED_ENDINGS)


def is_pattern(text: str) -> bool:
    """Whether the text holds braces or a glob. A web address has no globs: there `?` begins the query."""
    special = _BRACES.search(text) is not None or (not _is_web(text) and _GLOB.search(text) is not None)
    return special and not _lies_there(text)


def find_shards(uri: str, *, pass_over: Callable[[str], None] = lambda _: None) -> Iterator[Shard | Reject]:
    """The shards that a spelling names; SourceError if it names none. `pass_over` is told each other file met."""
    if is_pattern(uri):
        return _from_braces(uri) if _BRACES.search(uri) else _from_glob(uri, pass_over)
    if is_shard_name(uri.split("?", 1)[0]):
        return iter([Shard(uri, uri.split("?", 1)[0].rpartition("/")[2], index_uri_of(uri))])
    everything = re.compile(re.escape(uri.rstrip("/")) + "/.*", re.DOTALL)
    return _from_listing(uri, everything, uri.rstrip("/") + "/", pass_over)


def index_uri_of(uri: str) -> str:
    """`a/clips.tar` -> `a/clips.idx`: up to the first dot of the name, as DALI's wds2idx writes it."""
    folder, slash, name = uri.rpartition("/")
    return "" if _is_web(uri) and "?" in uri else f"{folder}{slash}{name[: name.find('.', 1)]}.idx"


def _from_braces(pattern: str) -> Iterator[Shard]:
    """Counted, not collected: the shard of a number is found by division, so ten million take no memory."""
    pieces = _BRACES.split(pattern)  # text, braces, text, braces, ..., text
    choices = [_choices(body, pattern) for body in pieces[1::2]]
    total = math.prod(map(len, choices))
    if total > MAX_SHARDS:
        raise SourceError(f"{printable_name(pattern)} names {total:,} shards; at most {MAX_SHARDS:,} are taken")
    shared = len(pieces[0].rpartition("/")[0])
    for number in range(total):
        words: list[str] = []
        rest = number
        for choice in reversed(choices):
            rest, at = divmod(rest, len(choice))
            words.insert(0, choice[at])
        text = pieces[0] + "".join(word + text for word, text in zip(words, pieces[2::2], strict=True))
        uri = normalise_uri(text)
        yield Shard(uri, text[shared:].lstrip("/"), index_uri_of(uri))


def _choices(body: str, pattern: str) -> Sequence[str]:
    found = _RANGE.fullmatch(body)
    if found:
        width = len(found[1]) if found[1].startswith("0") else 0
        return _Numbers(int(found[1]), int(found[2]), width)
    if "," not in body:
        shown = printable_name(body)
        raise SourceError(f"{printable_name(pattern)} has {{{shown}}}; wanted {{000..012}} or {{a,b}} in braces")
    return list(dict.fromkeys(body.split(",")))


class _Numbers(Sequence[str]):
    """`{000..012}`: numbers as text, all as wide as the first, up or down."""

    def __init__(self, first: int, last: int, width: int) -> None:
        self._range = range(first, last + 1) if first <= last else range(first, last - 1, -1)
        self._width = width

    def __len__(self) -> int:
        return len(self._range)

    def __getitem__(self, at: Any) -> Any:
        return f"{self._range[at]:0{self._width}d}"


def _from_glob(pattern: str, pass_over: Callable[[str], None]) -> Iterator[Shard | Reject]:
    fixed = pattern[: _GLOB.search(pattern).start()].rpartition("/")[0]  # type: ignore[union-attr]
    return _from_listing(fixed, re.compile(_glob_expression(pattern), re.DOTALL), fixed + "/", pass_over)


def _glob_expression(pattern: str) -> str:
    """The pattern as a regular expression over whole uris; sets in brackets are as in a shell."""
    out, at = "", 0
    while at < len(pattern):
        rest = pattern[at:]
        found = re.match(r"\*\*/?|\*|\?|\[[!^]?\]?[^\]]*\]", rest)
        piece = found[0] if found else rest[0]
        at += len(piece)
        if piece.startswith("**"):
            out += "(?:.*/)?" if piece.endswith("/") else ".*"
        elif piece in ("*", "?"):
            out += "[^/]" + ("*" if piece == "*" else "")
        elif piece.startswith("[") and len(piece) > 2:
            body = piece[1:-1].replace("\\", "\\\\")
            out += f"[{'^' + body[1:] if body[0] in '!^' else body}]"
        else:
            out += re.escape(piece)
    return out


def _from_listing(
    folder: str, wanted: re.Pattern[str], prefix: str, pass_over: Callable[[str], None]
) -> Iterator[Shard | Reject]:
    """Tars of a listing. An index sorts right before its shard (`.idx` < `.tar`), so one name need be remembered."""
    seen_index, found_any = "", False
    for entry in walk_objects(folder):
        name = entry.uri.removeprefix(prefix)
        if is_hidden(name):
            continue
        if isinstance(entry, Unlisted):
            yield unlisted(entry, prefix)
            continue
        if entry.uri.endswith(".idx"):
            seen_index = entry.uri
        if not wanted.fullmatch(entry.uri):
            continue
        if not is_shard_name(name):
            if entry.uri != seen_index:
                pass_over(name)
            continue
        found_any = True
        index_uri = index_uri_of(entry.uri)
        try:
            uri = target_inside(folder, entry.uri) if entry.is_link else entry.uri
            yield Shard(uri, name, index_uri if index_uri == seen_index else "")
        except PlaceError as error:
            yield reject(name, error.reason, str(error))
    if not found_any:
        raise SourceError(f"no .tar shards in {printable_name(folder)}; look at the path, or name another kind")


def _lies_there(uri: str) -> bool:
    return not is_remote(uri) and os.path.lexists(uri)


def _is_web(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))
