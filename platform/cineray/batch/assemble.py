"""Clips of one step and one rank in; one `Batch` out. Pixels that were decoded into the batch's array stay there.

Times are exact until the last line: integers and a time base become float64 seconds here and nowhere else, each by one
correctly rounded division, so they are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cineray.errors import UsageError
from cineray.records import Batch, Clip, ClipSpec, StoredLatents, Substitution

Frames = npt.NDArray[np.uint8]


def allocate(specs: Sequence[ClipSpec]) -> Frames:
    """One uninitialised array for the clips of a batch, (B, T, H, W, 3); hand its slots to `decode_visit`."""
    return np.empty((len(specs), *_one_shape(specs)), np.uint8)


def assemble(  # noqa: PLR0917 - the six are what a batch is made of, in the order of its fields
    step: int,
    first_slot: int,
    global_size: int,
    specs: Sequence[ClipSpec],
    clips: Sequence[Clip],
    substitutions: Sequence[Substitution] = (),
    *,
    frames_BTHWC: Frames | None = None,
    latents: StoredLatents | None = None,
) -> Batch:
    """The batch of `specs` in the order of their slots; `clips` are their pixels, in the same order.

    With `frames_BTHWC`, clips that were decoded into its slots are not copied; others (a late substitute) are. With
    `latents`, there are pixels only of the clips whose latents are not there.
    """
    shown = [spec for b, spec in enumerate(specs) if latents is None or not latents.is_here_B[b]]
    if len(shown) != len(clips):
        raise UsageError(f"step {step}: {len(shown)} specs and {len(clips)} clips; wanted one clip for each slot")
    for slot, (spec, clip) in enumerate(zip(shown, clips, strict=True), first_slot):
        if clip.spec != spec:
            raise UsageError(
                f"step {step}, slot {slot}: the clip is of {clip.spec.clip_id} (draw {clip.spec.draw}) and the spec of "
                f"{spec.clip_id} (draw {spec.draw}); hand both over in the order of the slots"
            )
    shape = (len(shown), *_one_shape(specs))
    frames = np.empty(shape, np.uint8) if frames_BTHWC is None else frames_BTHWC
    _gather(frames, shape, clips)
    return Batch(
        step=step,
        first_slot=first_slot,
        global_size=global_size,
        frames_BTHWC=frames,
        frame_is_real_BT=np.array([spec.frame_is_real for spec in specs], np.bool_),
        seconds_BT=np.array([_seconds(spec) for spec in specs], np.float64),
        start_seconds_B=np.array([_start_seconds(spec) for spec in specs], np.float64),
        specs=tuple(specs),
        substitutions=tuple(substitutions),
        frames_decoded=sum(clip.frames_decoded for clip in clips),
        latents=latents,
    )


def text_of(batch: Batch) -> tuple[list[str], npt.NDArray[np.bool_]]:
    """The captions, "" where there is none, and a mask (B,) that says where there is one."""
    return [s.caption or "" for s in batch.specs], np.array([s.caption is not None for s in batch.specs], np.bool_)


def _one_shape(specs: Sequence[ClipSpec]) -> tuple[int, int, int, int]:
    shapes = {(len(s.frame_numbers), s.crop.out_height, s.crop.out_width, 3) for s in specs}
    if len(shapes) != 1:
        raise UsageError(f"a batch has one shape, and these {len(specs)} specs have {sorted(shapes)}; use buckets")
    return shapes.pop()


def _gather(frames: Frames, shape: tuple[int, ...], clips: Sequence[Clip]) -> None:
    """Put every clip's pixels into its slot, where they are not there already."""
    if frames.shape != shape or frames.dtype != np.uint8 or not frames.flags.c_contiguous:
        raise UsageError(f"frames_BTHWC is {frames.dtype} {frames.shape}; wanted contiguous uint8 {shape}")
    for slot, clip in zip(frames, clips, strict=True):
        there = clip.frames_THWC.__array_interface__["data"][0] == slot.__array_interface__["data"][0]
        if not there or clip.frames_THWC.strides != slot.strides:
            np.copyto(slot, clip.frames_THWC)


def _seconds(spec: ClipSpec) -> list[float]:
    num, den = spec.time_base.numerator, spec.time_base.denominator
    return [(pts - spec.frame_pts[0]) * num / den for pts in spec.frame_pts]


def _start_seconds(spec: ClipSpec) -> float:
    return spec.frame_pts[0] * spec.time_base.numerator / spec.time_base.denominator
