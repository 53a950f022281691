"""Open videos, kept for the next visit. An index, a place and options in; an open decoder out, this thread's own.

A decoder used by two threads crashes, one used after a fork hangs, and one that was pickled crashes when it is used.
So each thread has its own few, a forked child opens its own, and pickling is refused with a sentence.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from cineray.decode.options import DecodeOptions
from cineray.decode.reasons import DecodeFault
from cineray.decode.registry import decoder_class, decoder_for
from cineray.decode.seam import FrameDecoder
from cineray.decode.visit_file import VisitFile
from cineray.records import FrameTable, IndexedVideo, Place
from cineray.storage import is_remote, open_place

Key = tuple[str, int, int | None, str, str, str]


class OpenVideo:
    """A reader, the file over it and a decoder; they live and die together, in one process."""

    def __init__(self, video: IndexedVideo, place: Place, decoder_name: str, options: DecodeOptions) -> None:
        self._pid = os.getpid()
        self._reader = open_place(place, policy=options.policy, expect_tag=video.version_tag)
        try:
            if self._reader.size_bytes != video.size_bytes:
                raise DecodeFault(
                    "changed",
                    f"{place} has {self._reader.size_bytes} bytes and {video.size_bytes} were indexed; ingest it again",
                )
            remote = is_remote(place.uri)
            self.file = VisitFile(self._reader, remote=remote, media=_media(video.frames), ahead=options.ahead)
            self.decoder: FrameDecoder = decoder_class(decoder_name)(video, self.file)
        except BaseException:
            self._reader.close()
            raise

    @property
    def usable(self) -> bool:
        """False in a forked child: what was opened before the fork belongs to the parent."""
        return self._pid == os.getpid()

    def close(self) -> None:
        """Close what this process opened; a child leaves its parent's alone."""
        if self.usable:
            self.decoder.close()
            self.file.end_visit()
            self._reader.close()

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        # A thread ended, and with it what it kept. When all of Python ends, the modules are gone that closing needs.
        if hasattr(self, "decoder") and not ending():
            self.close()

    def __reduce__(self) -> str:
        raise TypeError(
            "an open video cannot be pickled: it belongs to one thread of one process; send its IndexedVideo and its "
            "Place, and call decode_visit there"
        )


class _Kept(threading.local):
    """This thread's open videos, the one used last at the end."""

    def __init__(self) -> None:
        self.videos: OrderedDict[Key, OpenVideo] = OrderedDict()


_kept = _Kept()


def take(video: IndexedVideo, place: Place, options: DecodeOptions) -> tuple[Key, OpenVideo]:
    """An open video, out of those kept or newly opened; it is the caller's until `keep` or `close`."""
    name = decoder_for(options.decoder, video)
    key = (place.uri, place.offset, place.length, video.version_tag, video.content_hash, name)
    found = _kept.videos.pop(key, None)
    if found is not None and found.usable:
        return key, found
    return key, OpenVideo(video, place, name, options)


def keep(key: Key, opened: OpenVideo, options: DecodeOptions) -> None:
    """Keep it for the next visit, and close the ones that nobody came back to."""
    opened.file.end_visit()
    _kept.videos[key] = opened
    while len(_kept.videos) > options.keep_open:
        _kept.videos.popitem(last=False)[1].close()


def close_all() -> None:
    """Close what this thread keeps open."""
    while _kept.videos:
        _kept.videos.popitem()[1].close()


def _media(table: FrameTable) -> tuple[int, int]:
    """Where the first packet begins and the last one ends; (0, 0) where the container does not say."""
    known = table.position >= 0
    if not bool(known.any()):
        return 0, 0
    ends = table.position[known] + table.size_bytes[known]
    return int(table.position[known].min()), int(np.max(ends))
