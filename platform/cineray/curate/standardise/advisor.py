"""How to encode for a given training: a plan in, candidates measured on its own clips, and the one to take, out.

What suits depends on what is asked for: many clips of a video at once suit long groups of pictures, one short clip
short ones; a picture larger than the clips that are cut from it is decoded for nothing. So the plan's own visits are
taken, a stretch around each is encoded in every way, and the same clips are decoded from both:

    raw       K . . . . . . [ stretch around a visit ] . . . . . . .   the plan's frames, the plan's crops
    encoded               0 K . . . K . . . K . . . K .                the same frames, the crops scaled

First every codec and group length at the short side that the clips need, then shorter and longer sides with the best of
those. Costs are CPU seconds of this machine; sizes are of the stretches; PSNR is between the same frames in RGB, at the
size that the clips need, so that a side too short costs decibels. The cheapest to decode is advised among those that
are good enough; of those within a tenth of it, the smallest. Sound is kept or dropped as asked: decoding reads none.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

from cineray.curate.standardise.config import EncodingConfig
from cineray.curate.standardise.encode_one import psnr_db
from cineray.decode import DecodeOptions, close_all, decode_visit
from cineray.decode.encoding import encoded_size
from cineray.decode.geometry import upright_size
from cineray.decode.reencode import Times, reencode
from cineray.decode.vmaf import vmaf_of
from cineray.errors import UsageError
from cineray.index import index_video
from cineray.plan import Plan
from cineray.records import Clip, ClipSpec, Crop, IndexedVideo, Place, Reject, VideoFile

Located = Callable[[int, int], tuple[IndexedVideo, Place]]
"""(dataset, clip number) -> the video of a clip, and where its bytes lie."""
GOPS = (8, 16, 32, 64)
SIDES = (Fraction(3, 4), Fraction(3, 2))
"""Other short sides, as parts of the one that is needed."""
LEAST_PSNR_DB = 35.0
_STRETCH_FRAMES = 240
_ALONE = DecodeOptions(keep_open=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One way to keep the videos, measured on the sample."""

    encoding: EncodingConfig | None
    """None: as they are."""
    bytes_per_second: float
    """Of pictures."""
    sound_bytes_per_second: float
    """Of raw videos all that is no picture, their containers' tables too; 0 where it is dropped or there is none."""
    decode_seconds_per_clip: float
    psnr_db: float | None
    """Of frames of the clips, uncut, at the size that is needed, against those of the raw videos resized by a batch:
    the mean; None for the raw videos themselves."""
    worst_psnr_db: float | None
    vmaf: float | None
    """Where the `ffmpeg` program has libvmaf."""
    encode_seconds_per_second: float
    """CPU seconds for a second of video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What was measured, and what follows."""

    raw: Measured
    candidates: tuple[Measured, ...]
    best: Measured
    sampled_visits: int
    clips_per_visit: int
    frames_per_clip: int
    frames_spanned: float
    """From a clip's first frame to its last, in frames of the source: the mean."""
    needed_short_side: int
    """No clip of the plan shows more pixels than a picture of this short side has."""

    @property
    def decode_speed_up(self) -> float:
        """Raw over best, per clip."""
        return self.raw.decode_seconds_per_clip / self.best.decode_seconds_per_clip

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self) | {
            "raw": _told(self.raw),
            "candidates": [_told(one) for one in self.candidates],
            "best": _told(self.best),
            "decode_speed_up": self.decode_speed_up,
        }


def _told(measured: Measured) -> dict[str, Any]:
    encoding = measured.encoding.model_dump(mode="json") if measured.encoding is not None else None
    return asdict(replace(measured, encoding=None)) | {"encoding": encoding}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Visit:
    """The clips of one video that the plan wants together, and the stretch of frames that holds them."""

    video: IndexedVideo
    place: Place
    clips: tuple[ClipSpec, ...]
    first: int
    last: int

    @property
    def seconds(self) -> float:
        frames = self.video.frames
        end = int(frames.pts[self.last] + frames.duration[self.last])
        return float((end - int(frames.pts[self.first])) * self.video.time_base)


def advise(
    plan: Plan,
    located: Located,
    *,
    base: EncodingConfig | None = None,
    gops: Sequence[int] = GOPS,
    codecs: Sequence[str] = ("h264",),
    sides: Sequence[Fraction] = SIDES,
    visits: int = 6,
    least_psnr_db: float = LEAST_PSNR_DB,
    on_candidate: Callable[[Measured], None] = lambda _: None,
) -> Advice:
    """Measure candidates on `visits` visits of the plan's first epoch; `base` says what they have in common."""
    sample = list(_sample(plan, located, visits))
    if not sample:
        raise UsageError("the plan's first epoch has no visit, so there is nothing to measure; see `cineray plan`")
    needed = needed_short_side((visit.video, visit.clips) for visit in sample)
    common = (base or EncodingConfig()).model_copy(update={"short_side": needed, "rate": None})
    raw, measured = _measure_raw(sample), list[Measured]()

    def measure(**told: str | int) -> None:
        measured.append(_measure(sample, common.model_copy(update=told), needed))
        on_candidate(measured[-1])

    for codec, gop in product(codecs, gops):
        measure(codec=codec, gop=gop)
    best = choose(measured, least_psnr_db).encoding
    assert best is not None
    for side in _other_sides(sample, needed, sides):
        measure(codec=best.codec, gop=best.gop, short_side=side)
    return Advice(
        raw=raw,
        candidates=tuple(measured),
        best=choose(measured, least_psnr_db),
        sampled_visits=len(sample),
        clips_per_visit=plan.recipe.clips_per_visit,
        frames_per_clip=max(len(clip.frame_numbers) for visit in sample for clip in visit.clips),
        frames_spanned=float(np.mean([_span(clip) for visit in sample for clip in visit.clips])),
        needed_short_side=needed,
    )


def _other_sides(sample: Sequence[_Visit], needed: int, sides: Sequence[Fraction]) -> list[int]:
    """Even, and no longer than what the videos have: nothing is enlarged."""
    longest = max(min(encoded_size(visit.video, 0)) for visit in sample)
    made = {min(2 * round(needed * side / 2), longest) for side in sides}
    return sorted(made - {needed, 0})


def choose(measured: Sequence[Measured], least_psnr_db: float) -> Measured:
    """The cheapest to decode that is good enough (or the best there is); of those within a tenth, the smallest."""
    good = [one for one in measured if (one.psnr_db or 0) >= least_psnr_db]
    good = good or [max(measured, key=lambda one: one.psnr_db or 0)]
    cheapest = min(one.decode_seconds_per_clip for one in good)
    return min((one for one in good if one.decode_seconds_per_clip <= 1.1 * cheapest), key=lambda m: m.bytes_per_second)


def needed_short_side(visits: Iterable[tuple[IndexedVideo, Sequence[ClipSpec]]]) -> int:
    """The short side at which each clip still has a pixel of the video for every pixel that it shows; even.

    Rows 0 to 360 of a picture of 720 rows, shown as 128: at a short side of 256 they are 128 rows.
    """
    needed = 2
    for video, clips in visits:
        (full_width, full_height), (across, down) = encoded_size(video, 0), upright_size(video)
        for clip in clips:
            crop = clip.crop
            height = crop.out_height - crop.pad_top - crop.pad_bottom
            width = crop.out_width - crop.pad_left - crop.pad_right
            tall, wide = Fraction(crop.height * full_height, down), Fraction(crop.width * full_width, across)
            scale = min(Fraction(1), max(height / tall, width / wide))
            needed = max(needed, math.ceil(min(full_width, full_height) * scale))
    return needed + needed % 2


def _span(clip: ClipSpec) -> int:
    return max(clip.frame_numbers) - min(clip.frame_numbers) + 1


def _sample(plan: Plan, located: Located, visits: int) -> Iterator[_Visit]:
    """Visits over the first epoch, as many as can be had; a video is taken once."""
    windows = max(1, plan.steps_per_epoch // plan.recipe.clips_per_visit)
    seen: set[str] = set()
    for at in range(visits):
        window = plan.window(at * windows // visits * plan.recipe.clips_per_visit)
        for visit in plan.visits(window, range(window.size)):
            video, place = located(visit.dataset, visit.clip_number)
            if video.video_id not in seen:
                seen.add(video.video_id)
                yield _visit(video, place, plan.column(window, visit))
                break


def _visit(video: IndexedVideo, place: Place, clips: Sequence[ClipSpec]) -> _Visit:
    """With the stretch that is encoded: the clips' own frames, and frames around them up to 240."""
    wanted = [number for clip in clips for number in clip.frame_numbers]
    first, last = min(wanted), max(wanted)
    more = max(0, _STRETCH_FRAMES - (last - first + 1))
    first = max(0, first - more // 2)
    last = min(video.num_frames - 1, max(last, first + _STRETCH_FRAMES - 1))
    return _Visit(video=video, place=place, clips=tuple(clips), first=first, last=last)


def _measure_raw(sample: Sequence[_Visit]) -> Measured:
    taken = [_decoded(visit.video, visit.place, visit.clips) for visit in sample]
    seconds, pictures, rest = sum(visit.seconds for visit in sample), 0, 0.0
    for visit in sample:
        each = visit.video.frames.size_bytes
        pictures += int(each[visit.first : visit.last + 1].sum())
        rest += (visit.video.size_bytes - int(each.sum())) * visit.seconds / float(visit.video.duration_seconds)
    return Measured(
        encoding=None,
        bytes_per_second=pictures / seconds,
        sound_bytes_per_second=max(0.0, rest / seconds),
        decode_seconds_per_clip=sum(cost for _, cost in taken) / sum(len(visit.clips) for visit in sample),
        psnr_db=None,
        worst_psnr_db=None,
        vmaf=None,
        encode_seconds_per_second=0.0,
    )


def _measure(sample: Sequence[_Visit], encoding: EncodingConfig, needed: int) -> Measured:
    found = [_encoded(visit, encoding, encoded_size(visit.video, needed)) for visit in sample]
    seconds, clips = sum(visit.seconds for visit in sample), sum(len(visit.clips) for visit in sample)
    vmafs = [one.vmaf for one in found if one.vmaf is not None]
    return Measured(
        encoding=encoding,
        bytes_per_second=sum(one.picture_bytes for one in found) / seconds,
        sound_bytes_per_second=sum(one.sound_bytes for one in found) / seconds,
        decode_seconds_per_clip=sum(one.decode_seconds for one in found) / clips,
        psnr_db=float(np.mean([db for one in found for db in one.psnr_db])),
        worst_psnr_db=min(db for one in found for db in one.psnr_db),
        vmaf=float(np.mean(vmafs)) if vmafs else None,
        encode_seconds_per_second=sum(one.encode_seconds for one in found) / seconds,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Encoded:
    picture_bytes: int
    sound_bytes: int
    encode_seconds: float
    decode_seconds: float
    psnr_db: list[float]
    vmaf: float | None


def _encoded(visit: _Visit, encoding: EncodingConfig, size: tuple[int, int]) -> _Encoded:
    """One stretch encoded, and its clips decoded from both; pictures are compared at `size`."""
    with tempfile.TemporaryDirectory(prefix="cineray-advise-") as folder:
        path = os.path.join(folder, "stretch.mp4")
        began = time.process_time()
        made = reencode(visit.video, visit.place, path, encoding.encoding(), _times(visit), options=_ALONE)
        encode_seconds = time.process_time() - began
        place = Place(uri=path)
        video = made if isinstance(made, Reject) else index_video(VideoFile(name="stretch", place=place))
        if isinstance(video, Reject):
            raise UsageError(
                f"video {visit.video.video_id} cannot be encoded: {video.detail}; leave it out by a filter"
            )
        clips = [_moved_clip(clip, visit, video) for clip in visit.clips]
        _, cost = _decoded(video, place, clips)
        (after,), _ = _decoded(video, place, [_whole(clips[0], (video.width, video.height), size)], times=1)
        whole = _whole(visit.clips[0], upright_size(visit.video), size)
        (before,), _ = _decoded(visit.video, visit.place, [whole], times=1)
        pictures = zip(after.frames_THWC, before.frames_THWC, strict=True)
        picture_bytes = int(video.frames.size_bytes.sum())
        return _Encoded(
            picture_bytes=picture_bytes,
            sound_bytes=os.path.getsize(path) - picture_bytes if video.audio else 0,
            encode_seconds=encode_seconds,
            decode_seconds=cost,
            psnr_db=[psnr_db(new_HWC, old_HWC) for new_HWC, old_HWC in pictures],
            vmaf=vmaf_of(after.frames_THWC, before.frames_THWC),
        )


def _times(visit: _Visit) -> Times:
    frames, numbers = visit.video.frames, np.arange(visit.first, visit.last + 1)
    ticks = visit.video.time_base.numerator
    start = int(frames.pts[visit.first])
    return Times(
        frame_numbers_T=numbers,
        pts_T=(frames.pts[numbers] - start) * ticks,
        end_pts=(int(frames.pts[visit.last] + frames.duration[visit.last]) - start) * ticks,
        time_base=Fraction(1, visit.video.time_base.denominator),
        start_seconds=start * visit.video.time_base,
    )


def _moved_clip(clip: ClipSpec, visit: _Visit, video: IndexedVideo) -> ClipSpec:
    """The same clip of the encoded stretch: its frames counted from there, its crop as large as the picture now is."""
    numbers = tuple(number - visit.first for number in clip.frame_numbers)
    width, height = upright_size(visit.video)
    crop = scaled_crop(clip.crop, (width, height), (video.width, video.height))
    return replace(clip, video_id=video.video_id, frame_numbers=numbers, crop=crop)


def _whole(clip: ClipSpec, before: tuple[int, int], after: tuple[int, int]) -> ClipSpec:
    """The clip's frames, uncut: cuts may lie a part of a pixel apart, which is no loss but would be measured as one."""
    (width, height), (out_width, out_height) = before, after
    crop = Crop(top=0, left=0, height=height, width=width, out_height=out_height, out_width=out_width)
    return replace(clip, crop=crop)


def scaled_crop(crop: Crop, before: tuple[int, int], after: tuple[int, int]) -> Crop:
    """The same part of a picture that is smaller now, to the nearest even pixel; sizes are (width, height)."""

    def span(start: int, length: int, old: int, new: int) -> tuple[int, int]:
        if (start, length) == (0, old):
            return 0, new
        made = min(new, max(2, 2 * round(Fraction(length * new, 2 * old))))
        return min(2 * round(Fraction(start * new, 2 * old)), new - made), made

    left, width = span(crop.left, crop.width, before[0], after[0])
    top, height = span(crop.top, crop.height, before[1], after[1])
    return replace(crop, left=left, top=top, width=width, height=height)


def _decoded(
    video: IndexedVideo, place: Place, clips: Sequence[ClipSpec], *, times: int = 3
) -> tuple[list[Clip], float]:
    """The clips, and the least CPU seconds of some tries: what else runs here can only add."""
    costs = []
    for _ in range(times):
        close_all()
        began = time.process_time()
        found = decode_visit(video, place, clips, options=_ALONE)
        costs.append(time.process_time() - began)
    lost = next((clip for clip in found if isinstance(clip, Reject)), None)
    if lost is not None:
        raise UsageError(f"a clip of video {video.video_id} cannot be decoded: {lost.detail}; leave it out by a filter")
    return [clip for clip in found if isinstance(clip, Clip)], min(costs)
