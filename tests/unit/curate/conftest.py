"""Footage that one sees being made: pictures drawn with NumPy, 144 x 256, 24 a second unless a test says other.

`film` makes footage of pictures, `landscape` draws one picture with much in it, `shot` decodes a real file as curation
does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cineray.curate.footage import Footage, footage_of
from cineray.index import index_video
from cineray.index.footage import see
from cineray.records import AudioStream, FrameTable, IndexedVideo, Place, VideoFile

TICK = Fraction(1, 24)


def indexed(pts: Sequence[int], **facts: Any) -> IndexedVideo:
    """The index's facts of a video of 144 x 256 whose frames begin at `pts`; the last lasts one tick."""
    times = np.asarray(pts, dtype=np.int64)
    count = len(times)
    frames = FrameTable(
        pts=times,
        duration=np.append(np.diff(times), 1),
        decode_order=np.arange(count),
        key=np.ones(count),
        disposable=np.zeros(count),
        position=np.arange(count),
        size_bytes=np.ones(count),
    )
    colours = ("color_range", "color_space", "color_primaries", "color_transfer")
    base: dict[str, Any] = dict.fromkeys(("container", "codec", "profile", "pixel_format", *colours), "made") | {
        "video_id": "made",
        "content_hash": "made",
        "size_bytes": 1,
        "version_tag": "",
        "stream_index": 0,
        "width": 256,
        "height": 144,
        "rotation_degrees": 0,
        "sample_aspect_ratio": Fraction(1),
        "bit_depth": 8,
        "time_base": TICK,
        "average_rate": None,
        "nominal_rate": None,
        "variable_rate": False,
        "frames": frames,
    }
    return IndexedVideo(**(base | facts))


@pytest.fixture
def film() -> Callable[..., Footage]:
    """`film(pictures_THW, pts=..., audio=samples, streams=..., captions=..., width=...)`: footage of those pictures."""

    def made(pictures_THW: Any, *, pts: Sequence[int] | None = None, **told: Any) -> Footage:
        pictures = np.clip(np.asarray(pictures_THW), 0, 255).round().astype(np.uint8)
        count, height, width = pictures.shape
        own = {name: told.pop(name) for name in ("audio", "captions", "audio_start_seconds") if name in told}
        streams = {"audio": told.pop("streams")} if "streams" in told else {}
        video = indexed(range(count) if pts is None else pts, **told, **streams)
        times = video.frames.pts
        few = np.unique(np.linspace(0, count - 1, 16).round().astype(int))
        small = pictures.reshape(count, 36, height // 36, 64, width // 64).mean(axis=(2, 4))
        return Footage(
            video=video,
            gray_THW=small.round().astype(np.uint8),
            pts_T=times,
            detail_NHW=pictures[few],
            detail_pts_N=times[few],
            **own,
        )

    return made


@pytest.fixture(scope="session")
def landscape() -> Callable[..., Any]:
    """`landscape(seed)`: a picture full of soft shapes, in grey levels; the same seed, the same picture."""

    def draw(seed: int, height: int = 144, width: int = 256, softness: float = 6.0) -> Any:
        noise = np.random.default_rng(seed).standard_normal((height, width))
        soft = gaussian_filter(noise, softness, mode="wrap")
        return np.clip(128 + 40 * soft / soft.std(), 10, 245)

    return draw


@pytest.fixture
def shot(tmp_path: Path, ffmpeg: Callable[..., None]) -> Callable[..., Footage]:
    """`shot("-f", "lavfi", "-i", "testsrc=...")`: encoded by FFmpeg, indexed, and seen as curation sees it."""

    def taken(*words: object, **told: Any) -> Footage:
        path = tmp_path / f"clip{len(list(tmp_path.iterdir()))}.mp4"
        ffmpeg(*words, "-pix_fmt", "yuv420p", path)
        return seen(path, **told)

    def seen(path: Path, **told: Any) -> Footage:
        file = VideoFile(name=path.name, place=Place(uri=str(path)))
        video = index_video(file)
        assert isinstance(video, IndexedVideo), video
        return footage_of(video, see(file, video), **told)

    taken.of = seen  # type: ignore[attr-defined]
    return taken


@pytest.fixture
def sound_stream() -> Callable[..., AudioStream]:
    """A stream's facts: how long it says that it is."""

    def made(seconds: float) -> AudioStream:
        return AudioStream(
            stream_index=1,
            codec="aac",
            sample_rate=16_000,
            channels=1,
            time_base=Fraction(1, 1000),
            start_pts=0,
            duration_pts=round(seconds * 1000),
        )

    return made
