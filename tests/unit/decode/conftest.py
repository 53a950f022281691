"""What these tests share: the made and real videos of tests/unit/index, specs by hand, and the witness.

The witness is a plain decode from the first frame to the last, without an index, a seek or a skipped packet.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from cineray.decode import close_all
from cineray.decode.colour import colour_of
from cineray.decode.geometry import coded_crop, turned, upright_size
from cineray.decode.scale import Scaler
from cineray.index import index_video
from cineray.records import ClipSpec, Crop, IndexedVideo, Place, VideoFile

# The made videos of the index's tests, by path: with --import-mode=importlib, tests are no package.
_spec = importlib.util.spec_from_file_location(
    "cineray_test_videos", Path(__file__).resolve().parents[1] / "index" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
videos: Any = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = videos
_spec.loader.exec_module(videos)
made, any_video, indexed = videos.made, videos.any_video, videos.indexed
in_memory = videos.in_memory

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """Each test opens what it decodes."""
    yield
    close_all()


@pytest.fixture(scope="session")
def made_names() -> set[str]:
    """What `made` can make; other names are real videos."""
    return set(videos.MADE)


@pytest.fixture(scope="session")
def index_of() -> Callable[[Path | str], IndexedVideo]:
    """The index of a local file, as ingest makes it."""

    def index(path: Path | str) -> IndexedVideo:
        found = index_video(VideoFile(name=str(path), place=Place(uri=str(path))))
        assert isinstance(found, IndexedVideo), found
        return found

    return index


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., ClipSpec]:
    """A spec by hand: `spec_of(video, [3, 5, 7])` shows the whole picture at its own size."""

    def make(
        video: IndexedVideo,
        frames: Sequence[int],
        *,
        crop: Crop | None = None,
        size: tuple[int, int] | None = None,
        real: Sequence[bool] | None = None,
        clip_id: str = "clip",
    ) -> ClipSpec:
        width, height = upright_size(video)
        out_width, out_height = size or (width, height)
        whole = Crop(top=0, left=0, height=height, width=width, out_height=out_height, out_width=out_width)
        return ClipSpec(
            clip_id=clip_id,
            video_id=video.video_id,
            dataset=0,
            clip_number=0,
            epoch=0,
            draw=0,
            frame_numbers=tuple(frames),
            frame_pts=tuple(int(video.frames.pts[n]) for n in frames),
            time_base=video.time_base,
            frame_is_real=tuple(real) if real is not None else (True,) * len(frames),
            crop=crop or whole,
        )

    return make


@pytest.fixture(scope="session")
def in_sequence() -> Callable[..., dict[int, Pixels]]:
    """The witness: `in_sequence(path, video, {3, 9}, crop)` by an ordinary decode of everything before and between."""

    def decode(path: Path, video: IndexedVideo, wanted: set[int], crop: Crop) -> dict[int, Pixels]:
        scaler, shown = Scaler(colour_of(video)), {}
        with av.open(str(path)) as container:
            stream = container.streams[video.stream_index]
            for number, frame in enumerate(islice(container.decode(stream), max(wanted) + 1)):
                if number in wanted:
                    pixels = scaler.pixels(frame, coded_crop(crop, video))
                    shown[number] = turned(pixels, video.rotation_degrees, flip=crop.flip).copy()
        return shown

    return decode
