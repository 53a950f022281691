"""A folder of videos, local or remote: a path in, one `VideoFile` per video below it out, in the order of their paths.

    clips/
      train/walk/0001.mp4      split train, label walk; any depth, or all flat
      train/walk/0001.json     a sidecar: same folder, same name up to the last dot
      train/metadata.csv       Hugging Face's convention: `file_name` relative to this folder, and any columns
      test/run/0002.mp4

What metadata says goes before what folders say. A row whose file is not there is a Reject that names it, and so is a
folder that cannot be read. Hidden files are passed over, and so are files that are not videos by their extension, which
are counted; links that lead out of the folder are refused.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator

from cineray.errors import PlaceError, SourceError
from cineray.records import Place, Reject, Sidecar, VideoFile
from cineray.source.annotations import Annotations, BadSplitError
from cineray.source.base import Source, reject, unlisted
from cineray.source.folder_metadata import METADATA_NAMES, named_files
from cineray.source.folder_spool import FolderSpool, SpooledFile
from cineray.source.links import target_inside
from cineray.source.naming import SIDECAR_KINDS, extension, is_hidden, is_video, printable_name, split_of
from cineray.storage import ObjectInfo, Unlisted, is_remote, place_stat, walk_objects


class VideoFolder(Source):
    """All videos below one folder or prefix."""

    kind = "folder"

    def list_videos(self) -> Iterator[VideoFile | Reject]:
        """What cannot be looked at and bad rows first, then the videos, then the rows whose videos are missing."""
        self.passed_over.clear()
        if not is_remote(self.uri) and not os.path.isdir(self.uri):
            raise SourceError(f"{printable_name(self.uri)} is no folder; wanted a folder with videos, look at the path")
        with FolderSpool() as spool:
            yield from self._spool_files(spool)
            for file in spool.videos():
                yield _video(file, spool)
            for path, origin in spool.rows_without_video():
                yield _without_video(path, origin)

    def _spool_files(self, spool: FolderSpool) -> Iterator[Reject]:
        metadata, found_any, prefix = [], False, self.uri.rstrip("/") + "/"
        for entry in walk_objects(self.uri):
            found_any = True
            path = entry.uri.removeprefix(prefix)
            if is_hidden(path):
                continue
            if isinstance(entry, Unlisted):
                yield unlisted(entry, prefix)
                continue
            try:
                file = self._followed(entry, path)
            except PlaceError as error:
                yield reject(path, error.reason, str(error))
                continue
            if file and posixpath.basename(path) in METADATA_NAMES:
                metadata.append(file)
            elif file:
                spool.add_file(file)
        if not found_any and is_remote(self.uri):  # a store has no empty folders
            raise SourceError(f"nothing lies below {printable_name(self.uri)}; look at the bucket and the prefix")
        for path in spool.sidecars_without_video():
            self.pass_over(path)
        for table in metadata:
            yield from named_files(table, spool, policy=self.policy)

    def _followed(self, entry: ObjectInfo, path: str) -> SpooledFile | None:
        """The file of a listed entry; None for a link to a folder, and for what is no video, sidecar or metadata."""
        wanted = is_video(path) or extension(path) in SIDECAR_KINDS or posixpath.basename(path) in METADATA_NAMES
        if not wanted and not (entry.is_link and os.path.isdir(entry.uri)):
            self.pass_over(path)
            return None
        if not entry.is_link:
            return SpooledFile(path, entry.uri, entry.size_bytes, entry.version_tag)
        target = target_inside(self.uri, entry.uri)
        if os.path.isdir(target):
            return None  # what is in it is listed under its own name
        return SpooledFile(path, target, *place_stat(Place(uri=target), policy=self.policy))


def _video(file: SpooledFile, spool: FolderSpool) -> VideoFile | Reject:
    try:
        said = spool.said_of(file.path).over(_from_path(file.path))
    except BadSplitError as error:  # without its split it might be trained on although it is meant for a test
        return reject(file.path, "bad_row", str(error))
    sidecars = (
        Sidecar(kind=extension(side.path), place=Place(uri=side.uri), version_tag=side.version_tag)
        for side in spool.sidecars(file.path)
    )
    return VideoFile(
        name=printable_name(file.path),
        place=Place(uri=file.uri),
        size_bytes=file.size_bytes,
        version_tag=file.version_tag,
        split=said.split,
        label=said.label,
        group=said.group,
        captions=said.captions,
        sidecars=tuple(sidecars),
        columns=said.columns,
    )


def _from_path(path: str) -> Annotations:
    """`train/walk/1.mp4`: the split, if the first folder has a split's name, and the last folder below it as label."""
    folders = path.split("/")[:-1]
    split = split_of(folders[0]) if folders else None
    labels = folders[1:] if split else folders
    return Annotations(split=split, label=printable_name(labels[-1]) if labels else None)


def _without_video(path: str, origin: str) -> Reject:
    named = f"{origin} names '{path}'"
    if not is_video(path):
        return reject(path, "not_video", f"{named}, which is no video by its extension; correct the row")
    return reject(path, "missing", f"{named}, and there is no such video; add the file or drop the row")
