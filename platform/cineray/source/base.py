"""The seam of the source station: a `Source` lists videos, unopened, one by one.

Enters a URI; leaves `VideoFile` for what can be read and `Reject(stage="source")` for what must not or cannot be.
Promised by every source and checked by `cineray.testing.source_contract`: names are stable and unique within the
source, the order is the same on every listing, memory stays flat however long the list, what is missing is named.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from cineray.errors import PlaceRefused
from cineray.records import Reject, VideoFile
from cineray.source.naming import extension, printable_name, printable_text
from cineray.storage import AccessPolicy, Unlisted, normalise_uri

NAME_LIMIT_CHARS = 300
DETAIL_LIMIT_CHARS = 1000
EXTENSION_LIMIT_CHARS = 20
PASSED_OVER_LIMIT = 50


class Source(ABC):
    """Something that holds videos: a folder, tar shards, a table, a manifest."""

    kind: ClassVar[str]

    def __init__(self, uri: str, *, policy: AccessPolicy | None = None) -> None:
        self.uri = address(uri)
        self.policy = AccessPolicy.from_env() if policy is None else policy
        self.passed_over: dict[str, int] = {}
        """How many files the latest listing took for no video, by extension; "" is none, and what is rare is `other`.

        Counted while the listing is drawn. Hidden files, metadata, and sidecars of a video are not among them.
        """

    @abstractmethod
    def list_videos(self) -> Iterator[VideoFile | Reject]:
        """Every video in its fixed order, lazily; raises SourceError when the source itself cannot be listed."""

    def pass_over(self, path: str) -> None:
        """Count a file that is left out because its name is no video's."""
        kind = printable_name(extension(path))[:EXTENSION_LIMIT_CHARS]
        if kind not in self.passed_over and len(self.passed_over) >= PASSED_OVER_LIMIT:
            kind = "other"
        self.passed_over[kind] = self.passed_over.get(kind, 0) + 1

    def __repr__(self) -> str:
        return f"{type(self).__name__}({printable_name(self.uri)!r})"


def address(text: str, *, base: str | None = None) -> str:
    """The canonical spelling of an address that a person or a manifest wrote; commands in disguise are refused."""
    if text.lstrip().lower().startswith("pipe:"):
        raise PlaceRefused(f"'{text}' would run a command, and that is refused; name a path or an address")
    return normalise_uri(text, base=base)


def reject(name: str, reason: str, detail: str) -> Reject:
    """A Reject of this station, safe to print and to store. Huge names are cut: a reject's name is only shown."""
    return Reject(
        name=printable_name(_cut(name, NAME_LIMIT_CHARS)),
        stage="source",
        reason=reason,
        detail=printable_text(_cut(detail, DETAIL_LIMIT_CHARS)),
    )


def unlisted(found: Unlisted, prefix: str) -> Reject:
    """The Reject of a folder that could not be looked into; the listing goes on behind it."""
    name = found.uri.removeprefix(prefix)
    return reject(name, found.error.reason, f"{found.error}. What lies in it is left out")


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text):,} characters)"
