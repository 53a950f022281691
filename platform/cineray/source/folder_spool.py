"""The files of a folder and the rows of its metadata, joined on disk: a listing and rows in, a join in order out.

Metadata names files in any order, may name one twice, and sidecars need not stand beside their video in a sorted
listing (`a.json`, `a.b.mp4`, `a.mp4`). Joining in memory would hold every file; a temporary SQLite table on disk holds
them in flat memory, at some ten microseconds a file. It is deleted when the listing ends.
"""

from __future__ import annotations

import json
import posixpath
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import TracebackType

from cineray.source.annotations import Annotations, BadSplitError
from cineray.source.naming import is_video

_SCHEMA = """
CREATE TABLE files (path BLOB PRIMARY KEY, stem BLOB, is_video INT, uri BLOB, size INT, tag TEXT) WITHOUT ROWID;
CREATE INDEX stems ON files (stem, is_video);
CREATE TABLE rows (number INTEGER PRIMARY KEY, path BLOB, origin TEXT, said TEXT);
CREATE INDEX row_paths ON rows (path);
"""
_PRAGMAS = "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=FILE; PRAGMA cache_size=-8192;"


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """One file of the folder: its path within it, and its place."""

    path: str
    uri: str
    size_bytes: int
    version_tag: str


class FolderSpool:
    """A private temporary database; a context manager."""

    def __init__(self) -> None:
        # "" is SQLite's name for a database on disk that is deleted when it is closed. A listing may be drawn from
        # another thread than the one that began it, and never from two at once.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.executescript(_PRAGMAS + _SCHEMA + "BEGIN;")

    def __enter__(self) -> FolderSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def add_file(self, file: SpooledFile) -> None:
        """Keep a video or a sidecar."""
        path, stem, uri = _pack(file.path), _stem(file.path), _pack(file.uri)
        values = (path, stem, is_video(file.path), uri, file.size_bytes, file.version_tag)
        self._db.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)", values)

    def add_row(self, path: str, origin: str, said: Annotations | BadSplitError) -> None:
        """Keep what a metadata row says of the file at `path`, or what is wrong with its split; `origin` names it."""
        text = json.dumps(f"{origin}: {said}" if isinstance(said, BadSplitError) else asdict(said))
        self._db.execute("INSERT INTO rows (path, origin, said) VALUES (?, ?, ?)", (_pack(path), origin, text))

    def videos(self) -> Iterator[SpooledFile]:
        """Every video by the byte order of its path."""
        return self._files("SELECT path, uri, size, tag FROM files WHERE is_video ORDER BY path")

    def sidecars(self, path: str) -> Iterator[SpooledFile]:
        """The files beside a video that share its name up to the last dot."""
        sql = "SELECT path, uri, size, tag FROM files WHERE NOT is_video AND stem = ? ORDER BY path"
        return self._files(sql, _stem(path))

    def sidecars_without_video(self) -> Iterator[str]:
        """The paths of sidecars that lie beside no video."""
        sql = (
            "SELECT path FROM files AS side WHERE NOT is_video "
            "AND NOT EXISTS (SELECT 1 FROM files WHERE stem = side.stem AND is_video)"
        )
        return (_unpack(path) for (path,) in self._db.execute(sql))

    def said_of(self, path: str) -> Annotations:
        """What all rows together say of a file: captions of each, and for the rest the first that says it.

        BadSplitError if one of them names a split that cannot be.
        """
        said = Annotations()
        for (text,) in self._db.execute("SELECT said FROM rows WHERE path = ? ORDER BY number", (_pack(path),)):
            values = json.loads(text)
            if isinstance(values, str):
                raise BadSplitError(values)
            said = said.over(Annotations(**{**values, "captions": tuple(values["captions"])}))
        return said

    def rows_without_video(self) -> Iterator[tuple[str, str]]:
        """(path, origin) of each row whose file is not there or is no video, in the rows' order."""
        sql = (
            "SELECT rows.path, rows.origin FROM rows LEFT JOIN files ON files.path = rows.path AND files.is_video "
            "WHERE files.path IS NULL ORDER BY rows.number"
        )
        return ((_unpack(path), origin) for path, origin in self._db.execute(sql))

    def _files(self, sql: str, *values: bytes) -> Iterator[SpooledFile]:
        for path, uri, size, tag in self._db.execute(sql, values):
            yield SpooledFile(_unpack(path), _unpack(uri), size, tag)


def _pack(text: str) -> bytes:
    """Names as the bytes they are on disk: SQLite's text cannot hold every name, and byte order is our order."""
    return text.encode("utf-8", "surrogateescape")


def _unpack(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _stem(path: str) -> bytes:
    return _pack(posixpath.splitext(path)[0])
