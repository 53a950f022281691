"""Do the metrics see what they are for? Real clips go in, spoilt at three strengths; what each metric says comes out.

Each metric names the corruptions that it must rank (`Metric.ranks`): the stronger the corruption, the further its value
must be from that of the clean clips. A metric that does not has nothing to say on these clips (too few, too small, too
still), and its scores there are not to be believed. The same clips and seed are spoilt in the same way every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from cineray.evaluate.metric import Metric, RateMetric
from cineray.evaluate.scores import Better, number

if TYPE_CHECKING:
    from cineray.evaluate.clip_set import ClipSet
    from cineray.evaluate.shared import Frames

STRENGTHS = ("weak", "middle", "strong")
SIZE_PX = 32
"""Lengths below are for pictures of this width, and grow with it."""


def blurred(clips: ClipSet, strength: int, seed: int) -> ClipSet:
    """By a Gaussian of 0.5, 1 and 2 px."""
    from scipy import ndimage

    del seed
    sigma = (0.5, 1.0, 2.0)[strength] * clips.width / SIZE_PX
    spoilt = [
        ndimage.gaussian_filter(frames.astype(np.float32), (0, sigma, sigma, 0), mode="nearest")
        for frames in clips.frames_NTHWC
    ]
    return _with(clips, np.stack(spoilt))


def shuffled(clips: ClipSet, strength: int, seed: int) -> ClipSet:
    """A quarter, half and all of each clip's frames change places."""
    moved = max(2, round((0.25, 0.5, 1.0)[strength] * clips.num_frames))
    order_NT = np.tile(np.arange(clips.num_frames), (len(clips), 1))
    for at in range(len(clips)):
        # One permutation per clip, whatever the strength: what a weak one moves, a strong one moves too.
        places = _draw(seed, at).permutation(clips.num_frames)[:moved]
        order_NT[at, places] = np.roll(places, 1)
    return replace(clips, frames_NTHWC=clips.frames_NTHWC[np.arange(len(clips))[:, None], order_NT])


def frozen(clips: ClipSet, strength: int, seed: int) -> ClipSet:
    """The last quarter, half and three quarters stand still."""
    del seed
    last = round((0.75, 0.5, 0.25)[strength] * (clips.num_frames - 1))
    return replace(clips, frames_NTHWC=clips.frames_NTHWC[:, np.minimum(np.arange(clips.num_frames), last)])


def jittered(clips: ClipSet, strength: int, seed: int) -> ClipSet:
    """Each frame is somewhere up to 1, 2 and 4 px off."""
    reach = (1, 2, 4)[strength] * clips.width / SIZE_PX
    spoilt = np.empty_like(clips.frames_NTHWC)
    rows, columns = np.arange(clips.height), np.arange(clips.width)
    for at in range(len(clips)):
        off_TX = np.rint(_draw(seed, at).uniform(-1, 1, (clips.num_frames, 2)) * reach).astype(np.int64)
        for t, (x, y) in enumerate(off_TX):
            from_rows, from_columns = np.clip(rows - y, 0, rows[-1]), np.clip(columns - x, 0, columns[-1])
            spoilt[at, t] = clips.frames_NTHWC[at, t][from_rows][:, from_columns]
    return replace(clips, frames_NTHWC=spoilt)


def faster(clips: ClipSet, strength: int, seed: int) -> ClipSet:
    """The same pictures, played 1.25, 1.5 and 2 times as fast."""
    del seed
    return replace(clips, seconds_NT=clips.seconds_NT / (1.25, 1.5, 2.0)[strength])


def colour_drifted(clips: ClipSet, strength: int, seed: int) -> ClipSet:
    """Colours turn (red to green to blue) by up to 15, 30 and 60 % towards the end."""
    del seed
    part_T = (0.15, 0.3, 0.6)[strength] * np.linspace(0, 1, clips.num_frames, dtype=np.float32)[:, None, None, None]
    spoilt = [frames + part_T * (frames[..., [1, 2, 0]].astype(np.float32) - frames) for frames in clips.frames_NTHWC]
    return _with(clips, np.stack(spoilt))


def ghosted(clips: ClipSet, strength: int, seed: int) -> ClipSet:
    """In a quarter, half and all of the clips a second picture, half a frame away, shines through."""
    del seed
    chosen = np.arange(len(clips)) % 4 < (1, 2, 4)[strength]
    frames_NTHWC = clips.frames_NTHWC.copy()
    away = np.roll(frames_NTHWC[chosen], (clips.height // 2, clips.width // 2), axis=(2, 3))
    frames_NTHWC[chosen] = np.maximum(frames_NTHWC[chosen], away)
    return replace(clips, frames_NTHWC=frames_NTHWC)


def grown(clips: ClipSet, strength: int, seed: int) -> ClipSet:
    """The picture grows towards the end, up to 1.15, 1.3 and 1.6 times."""
    from scipy import ndimage

    del seed
    spoilt = np.empty(clips.frames_NTHWC.shape, dtype=np.float32)
    middle = (np.array([clips.height, clips.width]) - 1) / 2
    for t, grow in enumerate(np.linspace(1, (1.15, 1.3, 1.6)[strength], clips.num_frames)):
        for at in range(len(clips)):
            for c in range(3):
                ndimage.affine_transform(
                    clips.frames_NTHWC[at, t, :, :, c].astype(np.float32),
                    np.array([1 / grow, 1 / grow]),
                    offset=middle * (1 - 1 / grow),
                    order=1,
                    mode="nearest",
                    output=spoilt[at, t, :, :, c],
                )
    return _with(clips, spoilt)


CORRUPTIONS: dict[str, Callable[[ClipSet, int, int], ClipSet]] = {
    "blur": blurred,
    "shuffle": shuffled,
    "freeze": frozen,
    "jitter": jittered,
    "speed": faster,
    "colour drift": colour_drifted,
    "ghost": ghosted,
    "grow": grown,
}
"""Name -> (clips, strength 0 to 2, seed) -> the same clips, spoilt."""


def sensitivity(
    metrics: Sequence[Metric], clips: ClipSet, real: ClipSet | None = None, *, seed: int = 0
) -> list[dict[str, Any]]:
    """What each metric says of clean and spoilt clips: metric, corruption, values (clean, weak, middle, strong), ranks.

    Metrics that are comparisons need other `real` clips, of about the same number.
    """
    out = []
    for corruption, spoil in CORRUPTIONS.items():
        asked = [
            metric for metric in metrics if corruption in metric.ranks and not (metric.needs_real and real is None)
        ]
        sets = [clips, *(spoil(clips, strength, seed) for strength in range(len(STRENGTHS)))] if asked else []
        for metric in asked:
            values = [_value(metric, each, real) for each in sets]
            out.append(
                {
                    "metric": metric.name,
                    "corruption": corruption,
                    "values": [number(value) for value in values],
                    "ranks": ranks(values, metric.better, ties=isinstance(metric, RateMetric)),
                }
            )
    return sorted(out, key=lambda row: [metric.name for metric in metrics].index(row["metric"]))


def ranks(values: Sequence[float], better: Better, *, ties: bool = False) -> bool:
    """Each value is worse than the one before; a rate may stay where it was, but not to the end.

    Worse than the clean clips, which come first: lower, higher, or (`like real`) further from them on either side.
    """
    if better == "like real":
        away = [abs(value - values[0]) for value in values]
    else:
        away = [(value - values[0]) * (1 if better == "lower" else -1) for value in values]
    if not np.isfinite(away).all() or away[-1] <= 0:
        return False
    return all(before <= after if ties else before < after for before, after in pairwise(away))


def _value(metric: Metric, clips: ClipSet, real: ClipSet | None) -> float:
    """Without interval."""
    rows = metric.measure(clips).known()
    beside = metric.measure(real) if real is not None and metric.needs_real else None
    score = metric.score(rows, beside, bootstrap=0)
    return float("nan") if score.value is None else score.value


def _with(clips: ClipSet, frames_NTHWC: np.ndarray[Any, np.dtype[np.float32]]) -> ClipSet:
    """Other pixels, rounded."""
    rounded: Frames = np.clip(np.rint(frames_NTHWC), 0, 255).astype(np.uint8)
    return replace(clips, frames_NTHWC=rounded)


def _draw(seed: int, clip: int) -> np.random.Generator:
    """One per clip: a clip is spoilt alike whatever others stand beside it."""
    return np.random.Generator(np.random.Philox(key=[seed, clip]))
