"""Clips that are spoilt on purpose: what is changed, what is not, and that it follows from seed and names alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cineray.evaluate import METRICS, ClipSet, Setting
from cineray.evaluate.controls import frames_shuffled, labels_permuted, reads_words


def clips_of(count: int, frames: int = 6) -> ClipSet:
    """Frame t of clip n is all of level 10 n + t."""
    levels = (10 * np.arange(count)[:, None] + np.arange(frames)).astype(np.uint8)
    return ClipSet(
        frames_NTHWC=np.broadcast_to(levels[:, :, None, None, None], (count, frames, 8, 8, 3)).copy(),
        seconds_NT=np.tile(np.arange(frames) / 8, (count, 1)),
        names=tuple(f"clip-{number}" for number in range(count)),
        labels=tuple("abcdefghij"[number] for number in range(count)),
        captions=tuple(f"caption {number}" for number in range(count)),
        facts=tuple({"direction": "up" if number % 2 else "down", "number": number} for number in range(count)),
    )


def levels(clips: ClipSet) -> list[list[int]]:
    found: list[list[int]] = clips.frames_NTHWC[:, :, 0, 0, 0].tolist()
    return found


def test_shuffled_clips_have_all_their_frames_in_another_order_at_the_same_times() -> None:
    clips = clips_of(5)
    spoilt = frames_shuffled(clips, seed=0)
    assert [sorted(clip) for clip in levels(spoilt)] == levels(clips)
    assert all(one != other for one, other in zip(levels(spoilt), levels(clips), strict=True))
    assert len({tuple(level % 10 for level in clip) for clip in levels(spoilt)}) > 1, (
        "each clip has an order of its own"
    )
    assert np.array_equal(spoilt.seconds_NT, clips.seconds_NT)
    assert (spoilt.names, spoilt.labels, spoilt.facts) == (clips.names, clips.labels, clips.facts)


def test_the_order_of_a_shuffled_clip_follows_from_the_seed_and_its_name_alone() -> None:
    clips = clips_of(5)
    whole = frames_shuffled(clips, seed=0)
    alone = frames_shuffled(clips.select([3]), seed=0)
    assert levels(alone) == levels(whole.select([3]))
    assert levels(frames_shuffled(clips, seed=1)) != levels(whole)


def test_a_clip_of_one_frame_has_no_other_order() -> None:
    assert levels(frames_shuffled(clips_of(2, frames=1), seed=0)) == levels(clips_of(2, frames=1))


def test_permuted_labels_give_each_clips_words_to_one_clip_and_leave_the_pixels() -> None:
    clips = clips_of(8)
    permuted = labels_permuted(clips, seed=0)
    assert sorted(permuted.labels) == sorted(clips.labels)
    assert permuted.labels != clips.labels
    number = {label: at for at, label in enumerate(clips.labels)}
    words = zip(permuted.labels, permuted.captions, permuted.facts, strict=True)
    assert all(
        (caption, fact) == (clips.captions[number[label]], clips.facts[number[label]]) for label, caption, fact in words
    )
    assert permuted.frames_NTHWC is clips.frames_NTHWC


def test_whose_words_a_clip_is_given_does_not_depend_on_the_order_of_the_clips() -> None:
    clips = clips_of(8)
    turned = labels_permuted(clips.select(range(7, -1, -1)), seed=0)
    straight = labels_permuted(clips, seed=0)
    assert dict(zip(turned.names, turned.labels, strict=True)) == dict(
        zip(straight.names, straight.labels, strict=True)
    )


def test_it_is_found_out_which_metrics_look_at_words() -> None:
    clips = clips_of(4)
    direction, flicker = (METRICS[name].make(Setting()) for name in ("direction_accuracy", "flicker"))
    assert reads_words(direction, clips)
    assert not reads_words(flicker, clips)
    assert not reads_words(direction, replace(clips, facts=({},) * 4)), "there are none to look at"
