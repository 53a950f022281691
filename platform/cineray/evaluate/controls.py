"""What cannot be good, to be judged beside the model's clips: clips go in, the same clips spoilt on purpose come out.

A number means something only beside what it is when there is nothing to find. Frames shuffled: all pictures are right
and no motion is. Labels permuted: every clip is right, and judged by what another was asked for; what is left is what
chance gives. Which order a clip's frames get, and whose words, follows from a seed and the clips' names alone.
"""

from __future__ import annotations

from dataclasses import replace

import blake3
import numpy as np

from cineray.evaluate.clip_set import ClipSet
from cineray.evaluate.metric import Metric, Rows

SHUFFLED, PERMUTED, UNTRAINED = "frames shuffled", "labels permuted", "untrained"


def frames_shuffled(clips: ClipSet, *, seed: int) -> ClipSet:
    """Each clip's pictures in another order, at the same times. A clip of one frame stays as it is."""
    frames_NTHWC = clips.frames_NTHWC.copy()
    for number, name in enumerate(clips.names):
        frames_NTHWC[number] = clips.frames_NTHWC[number][_order(clips.num_frames, name, seed)]
    return replace(clips, frames_NTHWC=frames_NTHWC)


def labels_permuted(clips: ClipSet, *, seed: int) -> ClipSet:
    """Each clip with the label, the caption and the facts of some clip of the set: each one's are given once."""
    given = np.random.default_rng(seed).permutation(len(clips))
    by_name = np.argsort(clips.names)  # whatever order the clips come in, the same clip gets the same words
    order = np.empty(len(clips), dtype=np.int64)
    order[by_name] = by_name[given]
    return replace(
        clips,
        labels=tuple(clips.labels[other] for other in order),
        captions=tuple(clips.captions[other] for other in order),
        facts=tuple(clips.facts[other] for other in order),
    )


def same_rows(one: Rows, other: Rows) -> bool:
    """Did the change make no difference? Then the metric does not look at what was changed."""
    return one.names == other.names and np.array_equal(one.values_ND, other.values_ND, equal_nan=True)


def reads_words(metric: Metric, clips: ClipSet, *, looked_at: int = 4) -> bool:
    """Does a metric look at labels, captions or facts? Asked of a few clips without any, for some metrics are dear."""
    few = clips.select(range(min(looked_at, len(clips))))
    blank = replace(few, labels=("",) * len(few), captions=("",) * len(few), facts=({},) * len(few))
    return not same_rows(metric.measure(few), metric.measure(blank))


def _order(frames: int, name: str, seed: int) -> np.ndarray:
    """An order that is not the right one."""
    digest = blake3.blake3(f"{seed} {name}".encode()).digest(length=8)
    generator = np.random.default_rng(int.from_bytes(digest, "little"))
    order = np.arange(frames)
    while frames > 1 and np.array_equal(order, np.arange(frames)):
        order = generator.permutation(frames)
    return order
