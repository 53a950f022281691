"""A set of clips: what is chosen, joined, saved and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cineray.errors import CinerayError
from cineray.evaluate import ClipSet


def clips_of(count: int, *, first: int = 0, frames: int = 2, side: int = 4) -> ClipSet:
    """Clip n shows nothing but the level n."""
    numbers = range(first, first + count)
    levels = np.array(list(numbers), np.uint8).reshape(-1, 1, 1, 1, 1)
    return ClipSet(
        frames_NTHWC=np.broadcast_to(levels, (count, frames, side, side, 3)).copy(),
        seconds_NT=np.array([[number + 0.1 * t for t in range(frames)] for number in numbers]).reshape(count, frames),
        names=tuple(f"clip-{number}" for number in numbers),
        labels=tuple(f"label-{number}" for number in numbers),
        captions=tuple(f"a clip of {number}" for number in numbers),
        facts=tuple({"number": number} for number in numbers),
    )


def told(clips: ClipSet) -> list[Any]:
    """All that a set holds, as plain values."""
    rows = zip(clips.names, clips.labels, clips.captions, clips.facts, strict=True)
    return [clips.frames_NTHWC.tolist(), clips.seconds_NT.tolist(), [[*row[:3], dict(row[3])] for row in rows]]


def test_a_choice_of_clips_keeps_all_that_belongs_to_each_in_the_order_asked() -> None:
    chosen = clips_of(4).select([2, 0])
    assert told(chosen) == told(ClipSet.concat([clips_of(1, first=2), clips_of(1, first=0)]))
    assert (chosen.num_frames, chosen.height, chosen.width, len(chosen)) == (2, 4, 4, 2)


def test_sets_that_are_joined_hold_all_clips_one_set_after_another() -> None:
    assert told(ClipSet.concat([clips_of(2), clips_of(3, first=2)])) == told(clips_of(5))


def test_a_set_is_the_same_after_saving_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    clips = clips_of(3)
    clips.save(tmp_path / "one.npz")
    clips.save(str(tmp_path / "two.npz"))
    assert told(ClipSet.load(tmp_path / "one.npz")) == told(clips)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_a_set_may_be_empty(tmp_path: Path) -> None:
    clips_of(0).save(tmp_path / "none.npz")
    assert len(ClipSet.load(tmp_path / "none.npz")) == 0


def test_what_is_no_set_of_clips_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.npz").write_text("not clips")
    with pytest.raises(CinerayError, match=r"notes\.npz is not a set of clips"):
        ClipSet.load(tmp_path / "notes.npz")


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"names": ("clip-0", "clip-0")}, "clip-0 more than once"),
        ({"labels": ("one",)}, "labels has 1 entries; it must have one per clip, 2"),
        ({"seconds_NT": np.zeros((2, 3))}, r"seconds_NT has shape \(2, 3\)"),
        ({"frames_NTHWC": np.zeros((2, 2, 4, 4, 3), np.float32)}, "is float32 of shape"),
        ({"frames_NTHWC": np.zeros((2, 2, 4, 4), np.uint8)}, r"must be uint8 of shape \(N, T, H, W, 3\)"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(changed: dict[str, Any], complaint: str) -> None:
    clips = clips_of(2)
    fields = {name: getattr(clips, name) for name in ClipSet.__slots__}
    with pytest.raises(ValueError, match=complaint):
        ClipSet(**(fields | changed))


def test_sets_of_two_lengths_are_not_joined() -> None:
    with pytest.raises(ValueError, match="one length and size"):
        ClipSet.concat([clips_of(1), clips_of(1, first=1, frames=3)])
