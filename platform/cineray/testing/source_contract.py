"""What every source promises, as tests to inherit: a new source says how it is made, and gets the rest.

    class TestMySource(SourceContract):
        def make(self, folder, videos): ...           # write these videos; return (source, what it must list)
        def make_with_missing(self, folder, videos): ...  # the same with one thing gone; return (source, its name)

The videos are only bytes here, since a source never looks into one; some are empty, some have names that hurt.
"""

from __future__ import annotations

import gc
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from cineray.errors import PlaceError, SourceError
from cineray.records import Reject, VideoFile
from cineray.source import Source, printable_name, true_name
from cineray.storage import open_place

VIDEOS: dict[str, bytes] = {
    "train/walk/0001.mp4": bytes(range(256)) * 300,
    "train/walk/0002.mp4": b"two" * 5_000,
    "train/a 'quoted' \"run\"/0003.mp4": b"three" * 1_000,
    "test/walk/ü-0004.webm": b"four" * 777,
    "test/run/line\nbreak.mkv": b"five" * 100,
    "other/deep/er/0006.avi": b"",
}


class SourceContract(ABC):
    """Inherit in a class whose name begins with Test."""

    @abstractmethod
    def make(self, folder: Path, videos: dict[str, bytes]) -> tuple[Source, dict[str, bytes]]:
        """Write a source with these videos below `folder`; return it, and the bytes of each name that it must list."""

    @abstractmethod
    def make_with_missing(self, folder: Path, videos: dict[str, bytes]) -> tuple[Source, str]:
        """Write the source, then take one thing away that it needs; return it, and a word that names the thing."""

    @pytest.fixture
    def made(self, tmp_path: Path) -> tuple[Source, dict[str, bytes]]:
        """The source of this class with the contract's videos."""
        return self.make(tmp_path / "source", VIDEOS)

    def test_lists_exactly_the_videos_that_are_there(self, made: tuple[Source, dict[str, bytes]]) -> None:
        """Nothing is lost, nothing is invented, nothing is rejected."""
        source, expected = made
        listed = list(source.list_videos())
        assert [item for item in listed if isinstance(item, Reject)] == []
        assert sorted(item.name for item in listed) == sorted(printable_name(name) for name in expected)

    def test_places_open_and_give_exactly_the_bytes(self, made: tuple[Source, dict[str, bytes]]) -> None:
        """What a name stands for is what was written, also where it is a part of something larger."""
        source, expected = made
        assert {true_name(video.name): _read(video) for video in _videos(source)} == expected

    def test_sizes_are_right_where_they_are_told(self, made: tuple[Source, dict[str, bytes]]) -> None:
        """A listing may not know a size; if it says one, it is true."""
        source, expected = made
        told = {true_name(video.name): video.size_bytes for video in _videos(source) if video.size_bytes is not None}
        assert told == {name: len(data) for name, data in expected.items() if name in told}

    def test_version_tags_are_those_of_the_opened_place(self, made: tuple[Source, dict[str, bytes]]) -> None:
        """A tag that listing tells can be compared with the tag on opening; an empty one claims nothing."""
        source, _ = made
        for video in _videos(source):
            with open_place(video.place, expect_tag=video.version_tag) as reader:
                assert video.version_tag in ("", reader.version_tag)

    def test_names_are_unique_and_fit_for_print_and_store(self, made: tuple[Source, dict[str, bytes]]) -> None:
        """Names go into tables, logs and terminals."""
        names = [video.name for video in _videos(made[0])]
        assert len(set(names)) == len(names)
        assert all(name == printable_name(true_name(name)) and name.encode() and "\n" not in name for name in names)

    def test_every_listing_gives_the_same_in_the_same_order(self, made: tuple[Source, dict[str, bytes]]) -> None:
        """Whatever is derived from the order (shards of work, positions) may rely on it."""
        source, _ = made
        assert list(source.list_videos()) == list(source.list_videos())

    def test_names_and_order_do_not_depend_on_where_the_source_lies(self, tmp_path: Path) -> None:
        """A source that is moved keeps its ids."""
        here, _ = self.make(tmp_path / "here", VIDEOS)
        there, _ = self.make(tmp_path / "some" / "where" / "else", dict(reversed(VIDEOS.items())))
        assert sorted(video.name for video in _videos(here)) == sorted(video.name for video in _videos(there))

    def test_whatever_is_missing_is_named(self, tmp_path: Path) -> None:
        """On listing or, where listing cannot know it, on opening; and the rest is still there."""
        source, name = self.make_with_missing(tmp_path / "source", VIDEOS)
        assert any(name in said for said in _complaints(source))

    def test_a_listing_is_a_stream_and_may_be_left_half_way(self, made: tuple[Source, dict[str, bytes]]) -> None:
        """Taking one video does not need the others, and leaves no file open."""
        source, _ = made
        list(source.list_videos())  # so that what is opened once per process is open
        before = _open_files()
        listing = source.list_videos()
        assert iter(listing) is listing
        assert isinstance(next(listing), VideoFile)
        del listing
        gc.collect()
        assert _open_files() <= before


def _videos(source: Source) -> Iterator[VideoFile]:
    return (item for item in source.list_videos() if isinstance(item, VideoFile))


def _read(video: VideoFile) -> bytes:
    with open_place(video.place) as reader:
        return reader.read_at(0, reader.size_bytes)


def _complaints(source: Source) -> Iterator[str]:
    """What listing and opening everything has to say."""
    try:
        for item in source.list_videos():
            if isinstance(item, Reject):
                yield f"{item.name}: {item.detail}"
                continue
            try:
                _read(item)
            except PlaceError as error:
                yield str(error)
    except SourceError as error:
        yield str(error)


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
