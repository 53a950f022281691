"""Videos whose containers make decoders return wrong frames: a lossless MP4 beside the lake's tables, and what it is.

Identity stays with the original bytes; the frame table and the decoding go to the remuxed object. It is named by the
video's id and written once: a second ingest, or a second worker, finds it there.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass

from cineray import storage
from cineray.index import IndexPool, needs_remux
from cineray.lake.layout import remuxed_uri
from cineray.records import IndexedVideo, Reject, VideoFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Remuxed:
    """The rewritten video, where it lies relative to the lake, and why it was needed."""

    video: IndexedVideo
    uri: str
    why: str


def remuxed_if_needed(file: VideoFile, video: IndexedVideo, lake_uri: str, pool: IndexPool) -> Remuxed | Reject | None:
    """None where the video may stay as it is."""
    why = needs_remux(video)
    if why is None:
        return None
    with tempfile.TemporaryDirectory(prefix="cineray-remux-") as folder:
        path = os.path.join(folder, "remuxed.mp4")
        made = pool.remux(file, video, path)
        if isinstance(made, Reject):
            return made
        target = remuxed_uri(lake_uri, video.video_id)
        if not storage.object_exists(target):
            storage.upload_file(path, target)
    # Relative, so that a lake that is copied elsewhere still finds it, and is still the same version.
    return Remuxed(video=made, uri=target.removeprefix(lake_uri).lstrip("/"), why=why)
