"""A few frames of a video in colour, for people. A video and numbers of frames go in; small upright pictures leave.

    key . . . . key . . [8] . key      frames are sought from the key frames of the index: a scene at the end of a long
                                       film costs no more than one at its begin

Where seeking does not find them (a damaged file, an index that is not of these bytes), the video is decoded from its
beginning, and each frame that does not decode is stood for by the nearest that does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cineray.decode import DecodeOptions, decode_visit
from cineray.decode.geometry import upright_size
from cineray.index.footage import colour_pictures, scaled_size
from cineray.records import Clip, ClipSpec, Crop, IndexedVideo, VideoFile
from cineray.storage import AccessPolicy

Pictures = npt.NDArray[np.uint8]


def glimpses(
    file: VideoFile, video: IndexedVideo, numbers: Sequence[int], *, short_side: int, policy: AccessPolicy
) -> Pictures:
    """N x H x W x 3. Raises `Unfit` where nothing decodes, and `PlaceError` where the bytes cannot be had."""
    sought = _sought(file, video, numbers, short_side, policy)
    if sought is not None:
        return sought
    return colour_pictures(file, video, numbers, short_side=short_side, policy=policy)


def _sought(
    file: VideoFile, video: IndexedVideo, numbers: Sequence[int], short_side: int, policy: AccessPolicy
) -> Pictures | None:
    width, height = upright_size(video)
    out_width, out_height = scaled_size(video, short_side)
    if (width, height) != (video.width, video.height):
        out_width, out_height = out_height, out_width
    spec = ClipSpec(
        clip_id="",
        video_id=video.video_id,
        dataset=0,
        clip_number=0,
        epoch=0,
        draw=0,
        frame_numbers=tuple(numbers),
        frame_pts=tuple(int(video.frames.pts[number]) for number in numbers),
        time_base=video.time_base,
        frame_is_real=(True,) * len(numbers),
        crop=Crop(top=0, left=0, height=height, width=width, out_height=out_height, out_width=out_width),
    )
    there = replace(video, version_tag=file.version_tag)  # the same bytes may lie at several places
    (found,) = decode_visit(there, file.place, [spec], options=DecodeOptions(policy=policy, keep_open=0))
    return found.frames_THWC if isinstance(found, Clip) else None
