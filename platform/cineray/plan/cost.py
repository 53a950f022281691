"""What a plan will decode, read and compute, before it does: the index says it. A plan in, a `PlanCost` out.

A decoder that wants a frame must begin at the key frame before it. So a visit, which takes all its clips in one pass,
decodes from each such key frame to the last frame wanted after it, and reads those packets:

    frames            K . . . . . . . K . . . . . . .        K key frame
    wanted                  x   x   x       x   x
    decoded           d d d d d d d d   d d d d              13 for 5

`least` leaves out frames that nobody wants and no other frame refers to (disposable, as far as the container says): no
decoder can do with less. Sums are over a sample of visits, spread evenly over the slots of the first epoch, and scaled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cineray.records import ClipSpec, FrameTable, IndexedVideo

if TYPE_CHECKING:
    from cineray.plan.order import Visit
    from cineray.plan.plan import Plan, Window

Ints = npt.NDArray[np.int64]


def _nanoseconds() -> Mapping[str, float]:
    # FFmpeg, one thread, 640x360 to 1280x720 at common bit rates; small pictures cost up to twice as much per pixel.
    return {"h264": 2.0, "hevc": 2.2, "vp8": 2.0, "vp9": 1.8, "av1": 2.3, "mpeg4": 1.0, "mjpeg": 3.0, "prores": 3.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeCosts:
    """What decoding costs one CPU core: round figures of an x86 server core; a benchmark of the decoder tells more."""

    decode_ns_per_pixel: Mapping[str, float] = field(default_factory=_nanoseconds)
    """By FFmpeg's name of the codec: nanoseconds per pixel of each decoded frame."""
    other_ns_per_pixel: float = 2.5
    """The same for a codec that is not listed."""
    shown_ns_per_pixel: float = 3.0
    """Colour and resizing: nanoseconds per source pixel of each frame that is used."""
    open_seconds: float = 0.004
    """Each visit: opening the file and making a decoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketCost:
    """One shape, and how much of an epoch it is."""

    frames: int
    height: int
    width: int
    clips_per_step: int
    clips: int
    """Rows (or windows of rows) that lie in it."""
    tokens_per_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCost:
    """An epoch's work, estimated from a sample of its visits."""

    clips: int
    steps_per_epoch: int
    buckets: tuple[BucketCost, ...]
    frames_used_per_epoch: int
    frames_decoded_per_epoch: int
    frames_decoded_per_frame_used: float
    """With one forward pass per visit."""
    least_decoded_per_frame_used: float
    """If frames that nothing refers to are left undecoded too."""
    decode_work_over_least: float
    """The two above, one over the other: what a decoder could still save."""
    alone_decoded_per_frame_used: float
    """If each clip were decoded by itself: what visits save."""
    bytes_per_epoch: int
    decode_cpu_seconds_per_epoch: float
    padding_fraction: float
    """Of all pixels of the batches: the black frames after a short video's last, and borders."""
    sampled_visits: int
    sampled_clips: int
    visits_per_epoch: int
    costs: DecodeCosts

    def cpu_cores_per_gpu(self, step_seconds: float, gpus: int = 1) -> float:
        """Cores that decode one GPU's share of a step in the time that the step takes."""
        return self.decode_cpu_seconds_per_epoch / self.steps_per_epoch / step_seconds / gpus

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)


@dataclass(slots=True)
class _Sums:
    """Of the visits looked at, each counted for as many as it stands for: its window's, over those looked at."""

    visits: float = 0.0
    used: float = 0.0
    decoded: float = 0.0
    least: float = 0.0
    alone: float = 0.0
    bytes_read: float = 0.0
    cpu_seconds: float = 0.0
    pixels: float = 0.0
    padded: float = 0.0


def cost_of(plan: Plan, *, visits: int = 256, costs: DecodeCosts | None = None) -> PlanCost:
    """Estimate an epoch of a plan from `visits` of its visits, or from all where there are no more."""
    costs = costs or DecodeCosts()
    sums = _Sums()
    sample = list(_sample(plan, visits))
    plan.prefetch([visit for _, some in sample for visit in some])
    for window, some in sample:
        for visit in some:
            video = plan.catalogs[visit.dataset].video(visit.clip_number)
            _add(sums, video, plan.column(window, visit), costs, stands_for=window.size / len(some))
    looked = sum(len(some) for _, some in sample)
    whole = plan.clips_per_epoch / sums.visits  # an epoch is as many visits as there are rows
    used = max(1.0, sums.used)
    return PlanCost(
        clips=plan.clips_per_epoch,
        steps_per_epoch=plan.steps_per_epoch,
        buckets=_buckets(plan),
        frames_used_per_epoch=round(sums.used * whole),
        frames_decoded_per_epoch=round(sums.decoded * whole),
        frames_decoded_per_frame_used=sums.decoded / used,
        least_decoded_per_frame_used=sums.least / used,
        decode_work_over_least=sums.decoded / max(1.0, sums.least),
        alone_decoded_per_frame_used=sums.alone / used,
        bytes_per_epoch=round(sums.bytes_read * whole),
        decode_cpu_seconds_per_epoch=sums.cpu_seconds * whole,
        padding_fraction=sums.padded / max(1.0, sums.pixels),
        sampled_visits=looked,
        sampled_clips=looked * plan.recipe.clips_per_visit,
        visits_per_epoch=plan.clips_per_epoch,
        costs=costs,
    )


def _sample(plan: Plan, visits: int) -> Iterator[tuple[Window, list[Visit]]]:
    """Windows of the first epoch, and visits of each: all of them, or some at even distances."""
    windows = plan.steps_per_epoch // plan.recipe.clips_per_visit
    chosen = min(windows, visits)
    each = visits // chosen
    for at in range(chosen):
        window = plan.window(at * windows // chosen * plan.recipe.clips_per_visit)
        count = min(each, window.size)
        # Each window looks at other slots, so that what a mixture puts where is met in its proportion.
        first = at * window.size // chosen
        slots = sorted({(first + number * window.size // count) % window.size for number in range(count)})
        yield window, plan.visits(window, slots)


def _add(sums: _Sums, video: IndexedVideo, clips: list[ClipSpec], costs: DecodeCosts, *, stands_for: float) -> None:
    table = video.frames
    wanted = np.unique([number for clip in clips for number in clip.frame_numbers])
    decoded = frames_to_decode(table, wanted)
    spared = np.setdiff1d(decoded[table.disposable[decoded]], wanted, assume_unique=True)
    alone = sum(len(frames_to_decode(table, np.unique(clip.frame_numbers))) for clip in clips)
    rate = costs.decode_ns_per_pixel.get(video.codec, costs.other_ns_per_pixel)
    nanoseconds = video.width * video.height * (len(decoded) * rate + len(wanted) * costs.shown_ns_per_pixel)
    sums.visits += stands_for
    sums.used += stands_for * sum(sum(clip.frame_is_real) for clip in clips)
    sums.decoded += stands_for * len(decoded)
    sums.least += stands_for * (len(decoded) - len(spared))
    sums.alone += stands_for * alone
    sums.bytes_read += stands_for * bytes_to_read(table, decoded)
    sums.cpu_seconds += stands_for * (costs.open_seconds + nanoseconds / 1e9)
    for clip in clips:
        shown, whole = _pixels(clip)
        sums.pixels += stands_for * whole
        sums.padded += stands_for * (whole - shown)


def frames_to_decode(table: FrameTable, wanted: Ints) -> Ints:
    """Display-order numbers of all frames that one forward pass decodes to have the wanted ones, in decode order.

    A frame that is stored after a key frame but shown before it (an open group of pictures) needs the key frame before.
    """
    order = np.argsort(table.decode_order, kind="stable")
    place = np.argsort(order)
    keys = order[table.key[order]]
    stored = np.searchsorted(place[keys], place[wanted], side="right") - 1
    shown = np.searchsorted(keys, wanted, side="right") - 1
    serving = np.minimum(stored, shown)
    starts = np.where(serving >= 0, place[keys[np.maximum(serving, 0)]] if keys.size else 0, 0)
    marks = np.zeros(len(table) + 1, dtype=np.int64)
    np.add.at(marks, starts, 1)
    np.add.at(marks, place[wanted] + 1, -1)
    return order[np.cumsum(marks[:-1]) > 0]


def bytes_to_read(table: FrameTable, decoded: Ints) -> int:
    """Bytes of the packets of these frames; packets that adjoin are read with what lies between them (audio)."""
    position = table.position[decoded]
    size = table.size_bytes[decoded].astype(np.int64)
    if not len(decoded) or bool(np.any(position < 0)):
        return int(size.sum())
    # A jump of more than this in the file is another request, not bytes read in passing.
    order = np.argsort(position)
    begins, ends = position[order], (position + size)[order]
    gaps = begins[1:] - ends[:-1]
    return int(size.sum() + gaps[(gaps > 0) & (gaps <= _READ_THROUGH)].sum())


_READ_THROUGH = 64 * 1024


def _pixels(clip: ClipSpec) -> tuple[int, int]:
    """Pixels that show something, and all pixels."""
    crop = clip.crop
    height = crop.out_height - crop.pad_top - crop.pad_bottom
    width = crop.out_width - crop.pad_left - crop.pad_right
    return sum(clip.frame_is_real) * height * width, len(clip.frame_is_real) * crop.out_height * crop.out_width


def _buckets(plan: Plan) -> tuple[BucketCost, ...]:
    shapes = zip(plan.recipe.shapes, plan.order.buckets, strict=True)
    return tuple(
        BucketCost(
            frames=shape.frames,
            height=shape.height,
            width=shape.width,
            clips_per_step=bucket.size,
            clips=bucket.units,
            tokens_per_step=bucket.size * plan.recipe.tokens_of(shape),
        )
        for shape, bucket in shapes
    )
