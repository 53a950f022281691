"""Every kind of source there is, and how the kind is guessed from the way a source is spelled.

A new kind is a subclass of `Source`, a line here, and a test class that inherits `SourceContract`.
"""

from __future__ import annotations

import os
from typing import Any

from cineray.errors import SourceError, UsageError
from cineray.source.base import Source, address
from cineray.source.folder import VideoFolder
from cineray.source.lance_table import LanceTable
from cineray.source.manifest import Manifest
from cineray.source.naming import extension, is_hidden, is_video, printable_name
from cineray.source.rows import ROW_READERS
from cineray.source.shards import is_pattern, is_shard_name
from cineray.source.webdataset_tar import WebDatasetTar
from cineray.storage import AccessPolicy, Unlisted, is_remote, walk_objects

SOURCES: dict[str, type[Source]] = {
    "folder": VideoFolder,
    "webdataset": WebDatasetTar,
    "lance": LanceTable,
    "manifest": Manifest,
}


def open_source(
    uri: str | os.PathLike[str], *, kind: str = "auto", policy: AccessPolicy | None = None, **options: Any
) -> Source:
    """The source at this path, address or pattern; nothing is listed yet. `options` are those of the kind's class."""
    text = os.fsdecode(uri)
    if kind != "auto" and kind not in SOURCES:
        raise UsageError(f"source kind {kind!r}; wanted auto, {', '.join(SOURCES)}")
    chosen = guess_kind(text) if kind == "auto" else kind
    try:
        return SOURCES[chosen](text, policy=policy, **options)
    except TypeError as error:
        if not options:
            raise
        raise UsageError(f"a source of kind {chosen} does not take {', '.join(options)}: {error}") from error


def guess_kind(text: str) -> str:
    """By the spelling where that says it, else by what lies there; SourceError if neither does."""
    uri = address(text)
    path = uri.split("?", 1)[0] if uri.startswith(("http://", "https://")) else uri
    if is_pattern(uri):
        return _of_pattern(uri)
    if extension(path.rstrip("/")) == "lance":
        return "lance"
    if not is_remote(uri) and os.path.isdir(uri):
        return _of_listing(uri)
    if is_shard_name(path):
        return "webdataset"
    if extension(path) in ROW_READERS:
        return "manifest"
    if not is_remote(uri) and not os.path.exists(uri):
        raise SourceError(f"nothing lies at {printable_name(uri)}; look at the path")
    if is_video(path) or not is_remote(uri) or uri.startswith(("http://", "https://")):
        raise SourceError(
            f"{printable_name(uri)} is one file, and a source is a folder, .tar shards, a .lance table or a manifest "
            f"(.{', .'.join(ROW_READERS)}); name its folder, or list it in a manifest"
        )
    return _of_listing(uri)


def _of_pattern(uri: str) -> str:
    if not is_shard_name(uri):
        raise SourceError(f"the pattern {printable_name(uri)} does not end in .tar; patterns name WebDataset shards")
    return "webdataset"


def _of_listing(folder: str) -> str:
    """`webdataset` for a folder of nothing but shards and their indexes; stops at the first file that is neither."""
    shards = 0
    for entry in walk_objects(folder):
        if isinstance(entry, Unlisted):
            continue  # the source's own listing names it
        name = entry.uri[len(folder.rstrip("/")) + 1 :]
        if is_hidden(name) or extension(name) == "idx":
            continue
        if not is_shard_name(name):
            return "folder"
        shards += 1
    return "webdataset" if shards else "folder"
