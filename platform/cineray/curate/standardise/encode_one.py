"""One video encoded and looked at again: a file and its index in; the new file's index and figures, or a reject, out.

What was written is not believed: the file is indexed with every frame decoded, its times must be those that were asked
for, to the tick, and pictures taken from it by seeking must look like those that went into the encoder.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cineray.decode.encoding import Encoding
from cineray.decode.options import DecodeOptions
from cineray.decode.reencode import Encoded, Times, luma_of, reencode
from cineray.index import index_video
from cineray.records import IndexedVideo, Place, Reject, VideoFile
from cineray.storage import AccessPolicy

COMPARED_FRAMES = 12
_NO_LIMIT_SECONDS = 1e9
"""The child's parent limits the time."""
MOST_DB = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardised:
    """One encoded video, as it lies in a file."""

    video: IndexedVideo
    psnr_db: float
    """Of the brightness of some frames, the mean: what the encoder lost, not what the resize did."""
    worst_psnr_db: float
    """The same of the worst of them."""


def encode_one(
    video: IndexedVideo, place: Place, out_path: str, encoding: Encoding, times: Times, *, policy: AccessPolicy
) -> Standardised | Reject:
    """Encode to `out_path`, and prove what lies there; a `Reject` leaves no file."""
    compared = _spread(len(times.pts_T), COMPARED_FRAMES)
    options = DecodeOptions(budget_seconds=_NO_LIMIT_SECONDS, policy=policy, keep_open=0)
    made = reencode(video, place, out_path, encoding, times, keep=compared, options=options)
    if isinstance(made, Reject):
        return made
    found = _proven(video, out_path, encoding, times, made)
    if isinstance(found, Reject):
        os.unlink(out_path)
    return found


def _proven(
    video: IndexedVideo, out_path: str, encoding: Encoding, times: Times, made: Encoded
) -> Standardised | Reject:
    place = Place(uri=os.path.abspath(out_path))
    indexed = index_video(VideoFile(name=video.video_id, place=place), level="decode")
    if isinstance(indexed, Reject):
        return _wrong(video, f"the file that was written cannot be used ({indexed.reason}: {indexed.detail})")
    expected = {
        "codec": encoding.codec,
        "width": made.width,
        "height": made.height,
        "time_base": times.time_base,
        "rotation_degrees": 0,
        "color_primaries": video.color_primaries,
        "color_transfer": video.color_transfer,
        "frames": len(times.pts_T),
        "end": times.end_pts,
    }
    got = {name: getattr(indexed, name) for name in expected if name not in ("frames", "end")}
    got |= {"frames": indexed.num_frames, "end": indexed.frames.end_pts}
    wrong = [
        f"{name} is {got[name]} and should be {expected[name]}" for name in expected if got[name] != expected[name]
    ]
    if not wrong and not np.array_equal(indexed.frames.pts, times.pts_T):
        wrong = ["its timestamps are not those that were asked for"]
    if not wrong and _longest_group(indexed) > encoding.gop:
        wrong = [f"{_longest_group(indexed)} frames lie between key frames and at most {encoding.gop} should"]
    if wrong:
        return _wrong(video, f"of the file that was written, {'; '.join(wrong)}")
    return _compared(indexed, place, made, video)


def _compared(indexed: IndexedVideo, place: Place, made: Encoded, video: IndexedVideo) -> Standardised | Reject:
    """Frames found by seeking, beside what went into the encoder."""
    found = luma_of(indexed, place, list(made.luma_NHW), DecodeOptions(budget_seconds=_NO_LIMIT_SECONDS))
    lost = sorted(made.luma_NHW.keys() - found.keys())
    if lost:
        return _wrong(video, f"frame {lost[0]} of the file that was written cannot be found by seeking")
    each = [psnr_db(found[number], luma_HW) for number, luma_HW in made.luma_NHW.items()]
    return Standardised(video=indexed, psnr_db=float(np.mean(each)), worst_psnr_db=min(each))


def psnr_db(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Peak signal to noise of 8-bit pictures; equal ones count as 100."""
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return MOST_DB if error == 0 else min(MOST_DB, 10 * math.log10(255.0**2 / error))


def _longest_group(video: IndexedVideo) -> int:
    keys = np.flatnonzero(video.frames.key)
    return int(np.diff(np.append(keys, video.num_frames)).max(initial=0))


def _spread(count: int, most: int) -> list[int]:
    """Frame numbers over all of a video, the first and the last among them."""
    return [int(number) for number in np.unique(np.linspace(0, count - 1, min(count, most)).round())]


def _wrong(video: IndexedVideo, detail: str) -> Reject:
    said = f"{detail}; leave it out, or convert it by hand and ingest that: ffmpeg -i in -c:v libx264 out.mp4"
    return Reject(name=video.video_id, stage="standardise", reason="encode_failed", detail=said)
