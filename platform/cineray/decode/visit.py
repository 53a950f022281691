"""One visit: the clips of one video that are wanted together. Specs in; for each, in order, a `Clip` or a `Reject` out.

    specs    clip 0   . 3 . 5 . 7 . . . . .        union    3 4 5 6 7 8      decoded once, in one pass forward
             clip 1   . . 4 . 6 . 8 . . . .                 | | | | | |
                                                   written  0 1 0 1 0 1      each straight into its clip's array

A clip whose frames cannot all be had is a `Reject`, and the others of the visit are not touched by it: whether a clip
can be had depends on the clip alone, so that batches are the same however clips are gathered into visits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cineray.decode.geometry import inside, upright_size
from cineray.decode.opened import keep, take
from cineray.decode.options import DecodeOptions
from cineray.decode.ranges import ranges_for
from cineray.decode.reasons import PASSING, Deadline, DecodeFault
from cineray.decode.seam import FrameDecoder, Picture
from cineray.errors import PlaceError, UsageError
from cineray.records import Clip, ClipSpec, Crop, IndexedVideo, Place, Reject

Frames = npt.NDArray[np.uint8]
Uses = dict[int, dict[Crop, list[tuple[int, int]]]]
"""frame number -> crop -> the (spec, time) slots that show it."""


def decode_visit(
    video: IndexedVideo,
    place: Place,
    specs: Sequence[ClipSpec],
    *,
    out: Sequence[Frames] | None = None,
    options: DecodeOptions | None = None,
) -> list[Clip | Reject]:
    """Decode the clips of one video with one open and one pass forward.

    `out` has a uint8 array of (T, H, W, 3) for each spec, such as a slot of a batch; without it arrays are made. What
    was written for a rejected clip is undefined. Raises `UsageError` when the specs cannot be meant for this video.
    """
    options = options or DecodeOptions()
    arrays = _arrays(specs, out)
    _refuse_strangers(video, specs)
    uses = _uses(specs)
    deadline = Deadline(options.budget_seconds)
    try:
        key, opened = take(video, place, options)
    except (DecodeFault, PlaceError) as fault:
        return [_reject(spec, fault) for spec in specs]
    before = opened.decoder.decoded
    try:
        ranges = ranges_for(video, uses, gap_bytes=options.gap_bytes) if opened.file.remote else []
        opened.file.begin_visit(ranges, deadline)
        faults = _fill(opened.decoder, uses, arrays, deadline, options)
    except (DecodeFault, PlaceError) as fault:
        opened.close()
        return [_reject(spec, fault) for spec in specs]
    except BaseException:
        opened.close()
        raise
    decoded = opened.decoder.decoded - before
    if not faults:
        keep(key, opened, options)
        return _results(specs, arrays, faults, decoded)
    opened.close()  # a decoder that met damage is not trusted with the next visit
    results = _results(specs, arrays, faults, decoded)
    if len(specs) == 1:
        return results
    return [
        _alone(video, place, spec, array, options)
        if isinstance(result, Reject) and result.reason not in PASSING
        else result
        for spec, array, result in zip(specs, arrays, results, strict=True)
    ]


def _alone(video: IndexedVideo, place: Place, spec: ClipSpec, array: Frames, options: DecodeOptions) -> Clip | Reject:
    """Whether a clip can be decoded must not depend on the clips that it shares a visit with: it is tried by itself."""
    return decode_visit(video, place, [spec], out=[array], options=options)[0]


def _arrays(specs: Sequence[ClipSpec], out: Sequence[Frames] | None) -> list[Frames]:
    """The arrays to write into, one per spec, checked."""
    shapes = [(len(s.frame_numbers), s.crop.out_height, s.crop.out_width, 3) for s in specs]
    if out is None:
        return [np.empty(shape, np.uint8) for shape in shapes]
    if len(out) != len(specs):
        raise UsageError(f"decode_visit: {len(specs)} specs and {len(out)} arrays to write into; wanted one for each")
    for spec, array, shape in zip(specs, out, shapes, strict=True):
        if array.shape != shape or array.dtype != np.uint8:
            raise UsageError(
                f"decode_visit: the array for clip {spec.clip_id} is {array.dtype} {array.shape}; wanted uint8 {shape}"
            )
    return list(out)


def _refuse_strangers(video: IndexedVideo, specs: Sequence[ClipSpec]) -> None:
    """A plan made of another index must not go unnoticed."""
    width, height = upright_size(video)
    for spec in specs:
        if spec.video_id != video.video_id:
            raise UsageError(f"clip {spec.clip_id} is of video {spec.video_id}, and this is {video.video_id}")
        if min(spec.frame_numbers) < 0 or max(spec.frame_numbers) >= video.num_frames:
            raise UsageError(
                f"clip {spec.clip_id} wants frames {min(spec.frame_numbers)} to {max(spec.frame_numbers)}, and video "
                f"{video.video_id} has {video.num_frames}; plan again from this version of the lake"
            )
        if not inside(spec.crop, video):
            raise UsageError(
                f"clip {spec.clip_id} has {spec.crop}, and the upright picture of video {video.video_id} is "
                f"{width}x{height}; plan again from this version of the lake"
            )


def _uses(specs: Sequence[ClipSpec]) -> Uses:
    """Who wants what. Padded frames want nothing."""
    uses: Uses = {}
    for s, spec in enumerate(specs):
        for t, (frame, real) in enumerate(zip(spec.frame_numbers, spec.frame_is_real, strict=True)):
            if real:
                uses.setdefault(frame, {}).setdefault(spec.crop, []).append((s, t))
    return uses


def _fill(
    decoder: FrameDecoder, uses: Uses, arrays: list[Frames], deadline: Deadline, options: DecodeOptions
) -> dict[int, DecodeFault]:
    """Write every frame that can be had into every slot that wants it; returns why others cannot."""
    left = set(uses)
    for frame, picture in decoder.pictures(sorted(uses), deadline, options):
        for crop, slots in uses[frame].items():
            _write(picture, crop, [arrays[s][t] for s, t in slots])
        left.discard(frame)
    return {
        frame: decoder.faults.get(frame, DecodeFault("decode_failed", f"frame {frame} did not come")) for frame in left
    }


def _write(picture: Picture, crop: Crop, slots: list[Frames]) -> None:
    """Scale once, into the first slot; others that show the same are copies."""
    picture.write(crop, slots[0])
    for slot in slots[1:]:
        np.copyto(slot, slots[0])


def _results(
    specs: Sequence[ClipSpec], arrays: list[Frames], faults: dict[int, DecodeFault], decoded: int
) -> list[Clip | Reject]:
    results: list[Clip | Reject] = []
    for spec, array in zip(specs, arrays, strict=True):
        shown = [f for f, real in zip(spec.frame_numbers, spec.frame_is_real, strict=True) if real]
        fault = next((faults[frame] for frame in shown if frame in faults), None)
        if fault is not None:
            results.append(_reject(spec, fault))
            continue
        array[~np.array(spec.frame_is_real, np.bool_)] = 0
        results.append(Clip(spec=spec, frames_THWC=array, frames_decoded=decoded))
        decoded = 0  # the visit's shared work, told once
    return results


def _reject(spec: ClipSpec, fault: DecodeFault | PlaceError) -> Reject:
    detail = fault.detail if isinstance(fault, DecodeFault) else str(fault)
    return Reject(name=spec.clip_id, stage="decode", reason=fault.reason, detail=detail)
