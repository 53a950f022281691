"""Small lakes for the lake's tests: an empty one, one-line commits, and videos written out by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cineray.lake import Changes, Lake, SplitRule, Version, batches_of, clip_row
from cineray.records import AudioStream, FrameTable, IndexedVideo

Clips = Callable[..., list[pa.RecordBatch]]
Commit = Callable[..., Version]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A new lake without versions."""
    return Lake.create(str(tmp_path / "lake"))


@pytest.fixture
def clips() -> Clips:
    """`clips("a", "b")`: one clip each of videos a and b, each its own group, in split train."""

    def make(*videos: str, split: str | None = "train", group: str | None = None, label: str | None = None) -> Any:
        rows = (
            clip_row(video_id=v, start_pts=0, end_pts=90, split=split, group_id=group or f"group-{v}", label=label)
            for v in videos
        )
        return list(batches_of("clips", rows))

    return make


@pytest.fixture
def commit() -> Commit:
    """`commit(lake, add={"clips": batches}, remove={"clips": "video_id = 'a'"})`, by a test author."""

    def make(
        lake: Lake,
        *,
        add: dict[str, Iterable[pa.RecordBatch]] | None = None,
        remove: dict[str, str] | None = None,
        rule: SplitRule | None = None,
    ) -> Version:
        changes = Changes(add=add or {}, remove=remove or {}, split_rule=rule)
        return lake.commit(lambda head: changes, author="tester", command="test", source="here", processing={"n": 1})

    return make


@pytest.fixture
def video() -> IndexedVideo:
    """Four frames of B-frame video at 30 frames a second, with audio that begins 10 ms late."""
    frames = FrameTable(
        pts=np.array([0, 512, 1024, 1536]),
        duration=np.array([512] * 4),
        decode_order=np.array([0, 2, 1, 3]),
        key=np.array([True, False, False, False]),
        disposable=np.array([False, True, False, False]),
        position=np.array([48, 900, 700, 1000]),
        size_bytes=np.array([652, 100, 200, 80]),
        hidden_packets=1,
    )
    audio = AudioStream(
        stream_index=1,
        codec="aac",
        sample_rate=48000,
        channels=2,
        time_base=Fraction(1, 48000),
        start_pts=480,
        duration_pts=None,
    )
    return IndexedVideo(
        video_id="0123456789abcdef" * 2,
        content_hash="blake3:" + "0123456789abcdef" * 4,
        size_bytes=1080,
        version_tag="1080-1",
        container="mov,mp4,m4a,3gp,3g2,mj2",
        codec="h264",
        profile="High",
        stream_index=0,
        width=320,
        height=240,
        rotation_degrees=90,
        sample_aspect_ratio=Fraction(4, 3),
        pixel_format="yuv420p10le",
        bit_depth=10,
        color_range="limited",
        color_space="bt709",
        color_primaries="bt709",
        color_transfer="smpte2084",
        time_base=Fraction(1, 15360),
        average_rate=Fraction(30000, 1001),
        nominal_rate=None,
        variable_rate=True,
        frames=frames,
        audio=(audio,),
        bytes_read=900,
        requests=2,
    )


@pytest.fixture
def other(video: IndexedVideo) -> Callable[[str], IndexedVideo]:
    """`other("ab")`: the same video under another content hash, whose hex digits begin so."""

    def make(begins: str) -> IndexedVideo:
        digits = (begins + "0" * 64)[:64]
        return dataclasses.replace(video, video_id=digits[:32], content_hash=f"blake3:{digits}")

    return make
