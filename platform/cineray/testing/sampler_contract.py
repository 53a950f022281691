"""What every sampling mode promises, as tests to inherit: a new mode says what a recipe calls it, and gets the rest.

    class TestMyMode(SamplerContract):
        sampling = {"mode": "my_mode", "stride": 2}       # fields of `sampling` in a recipe, but for `frames`

The videos are made index entries of known timing: constant and variable rate, 30000/1001, one frame, a few frames, a
late start, a span cut out of a longer one. Whatever a mode draws, it draws from these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import pytest

from cineray.plan import CatalogClip, MemoryCatalog, Plan, Recipe, made_video
from cineray.records import ClipSpec, IndexedVideo

FRAMES = 8
_LATE = [90_000 + 3_003 * n for n in range(60)]
_UNEVEN = np.cumsum([0] + [400 + 1_700 * (n % 5) for n in range(79)]).tolist()

VIDEOS: dict[str, IndexedVideo] = {
    "constant": made_video(120, gop=12, name="constant"),
    "ntsc": made_video(90, ticks_per_frame=1001, time_base=Fraction(1, 30_000), gop=30, name="ntsc"),
    "variable": made_video(0, pts=_UNEVEN, time_base=Fraction(1, 12_800), gop=16, name="variable"),
    "late": made_video(0, pts=_LATE, ticks_per_frame=3_003, time_base=Fraction(1, 90_000), gop=25, name="late"),
    "one frame": made_video(1, name="one frame"),
    "five frames": made_video(5, name="five frames"),
}


def clip_of(video: IndexedVideo, *, first: int = 0, stop: int | None = None, cuts: Sequence[int] = ()) -> CatalogClip:
    """The clip row of a video's frames `[first, stop)`; `cuts` are frame numbers."""
    frames = video.frames
    end_pts = frames.end_pts if stop is None else int(frames.pts[stop])
    return CatalogClip(
        clip_id=f"{video.video_id}[{first}:{stop}]",
        video_id=video.video_id,
        start_pts=int(frames.pts[first]),
        end_pts=end_pts,
        cuts_pts=tuple(int(frames.pts[cut]) for cut in cuts),
    )


def rows() -> list[tuple[CatalogClip, IndexedVideo]]:
    """All made videos, and a part of one, with cuts."""
    whole = [(clip_of(video, cuts=[25, 50] if len(video.frames) > 50 else []), video) for video in VIDEOS.values()]
    constant = VIDEOS["constant"]
    return [*whole, (clip_of(constant, first=13, stop=70, cuts=[40]), constant)]


class SamplerContract:
    """Inherit in a class whose name begins with Test."""

    sampling: ClassVar[dict[str, Any]]
    """What a recipe says to have this mode."""

    def plan(self, *, seed: int = 7, batch_size: int = 3, clips_per_visit: int = 1, short: str = "skip") -> Plan:
        """A plan over the made videos."""
        sampling = {**self.sampling, "frames": FRAMES, "short_videos": short}
        recipe = Recipe.model_validate(
            {"sampling": sampling, "batch_size": batch_size, "clips_per_visit": clips_per_visit}
        )
        return Plan([MemoryCatalog(rows())], recipe, seed)

    @pytest.mark.parametrize("short", ["skip", "pad", "loop"])
    def test_frames_lie_within_their_clip(self, short: str) -> None:
        """No frame that begins before the span, none after it, and as many as were asked for."""
        plan = self.plan(short=short)
        for spec in _epochs(plan, 3):
            row, video = rows()[spec.clip_number]
            begins = video.frames.pts[list(spec.frame_numbers)]
            assert len(spec.frame_numbers) == len(spec.frame_pts) == len(spec.frame_is_real) == FRAMES
            assert bool(np.all((begins >= row.start_pts) & (begins < row.end_pts)))
            assert all(row.start_pts <= instant < row.end_pts for instant in spec.frame_pts)

    @pytest.mark.parametrize("short", ["skip", "pad", "loop"])
    def test_each_frame_is_the_one_shown_at_its_instant(self, short: str) -> None:
        """In true time, at constant and at variable rate: the last frame that began at or before the instant."""
        for spec in _epochs(self.plan(short=short), 3):
            video = rows()[spec.clip_number][1]
            shown = video.frames.shown_at(np.array(spec.frame_pts))
            assert shown.tolist() == list(spec.frame_numbers)
            assert spec.time_base == video.time_base

    def test_time_never_goes_back(self) -> None:
        """Frames come in the order in which they were filmed."""
        for spec in _epochs(self.plan(), 3):
            assert list(spec.frame_pts) == sorted(spec.frame_pts)

    def test_the_same_seed_gives_the_same_plan(self) -> None:
        """Two plans that know nothing of each other agree on every clip; another seed is another plan."""
        one, same, other = self.plan(), self.plan(), self.plan(seed=8)
        steps = range(4 * one.steps_per_epoch)
        assert [one.batch(step) for step in steps] == [same.batch(step) for step in steps]
        assert [one.batch(step) for step in steps] != [other.batch(step) for step in steps]
        assert one.fingerprint == same.fingerprint != other.fingerprint

    @pytest.mark.parametrize("world", [1, 2, 3, 7])
    def test_the_shares_of_all_ranks_are_the_whole_batch(self, world: int) -> None:
        """In order, nothing twice, nothing missing, also when there are more ranks than clips."""
        plan = self.plan()
        for step in range(2 * plan.steps_per_epoch):
            shares = [spec for rank in range(world) for spec in plan.share(step, rank, world)]
            assert shares == plan.batch(step)

    def test_an_epoch_shows_every_clip_once(self) -> None:
        """Also where the batch does not divide the number of clips: the first five epochs, counted clip by clip."""
        plan = self.plan(batch_size=4)
        seen = Counter((spec.epoch, spec.clip_id, self.part_of(spec)) for spec in _epochs(plan, 6))
        counted = {key: count for key, count in seen.items() if key[0] < 5}
        assert set(counted.values()) == {1}
        assert len(counted) == 5 * plan.clips_per_epoch

    def part_of(self, spec: ClipSpec) -> object:  # noqa: ARG002
        """What tells apart clips of one row that an epoch shows; nothing, unless a mode has several windows a row."""
        return None

    def test_a_restart_repeats_nothing_and_leaves_nothing_out(self) -> None:
        """Stopped after any step, a new process with another number of workers goes on with the very next batch."""
        steps = min(12, 3 * self.plan().steps_per_epoch)
        straight = [self.plan().batch(step) for step in range(steps)]
        for stop in range(1, steps, 2):
            before = [self.plan().batch(step) for step in range(stop)]
            restarted = self.plan()
            after = [
                [spec for rank in range(2) for spec in restarted.share(step, rank, 2)] for step in range(stop, steps)
            ]
            assert before + after == straight

    def test_short_videos_are_left_out_and_counted(self) -> None:
        """`skip`: not one clip of them, and the plan says how many there were."""
        plan = self.plan(short="skip")
        drawn = {spec.video_id for spec in _epochs(plan, 2)}
        assert not drawn & {"one frame", "five frames"}
        assert plan.eligible[0].left_out["too short for a clip"] >= 2
        assert all(all(spec.frame_is_real) for spec in _epochs(plan, 2))

    def test_short_videos_are_padded_with_their_last_frame(self) -> None:
        """`pad`: what there is comes first, then the last of it again, marked as not real."""
        padded = [spec for spec in _epochs(self.plan(short="pad"), 2) if spec.video_id == "one frame"]
        assert padded
        for spec in padded:
            assert spec.frame_numbers == (0,) * FRAMES
            assert sum(spec.frame_is_real) >= 1
        for spec in _epochs(self.plan(short="pad"), 2):
            real = sum(spec.frame_is_real)
            assert spec.frame_is_real == (True,) * real + (False,) * (FRAMES - real)
            assert set(spec.frame_numbers[real:]) <= {spec.frame_numbers[real - 1]}

    def test_short_videos_are_looped_from_their_start(self) -> None:
        """`loop`: every frame is real, and after the last comes the first again."""
        specs = list(_epochs(self.plan(short="loop"), 2))
        assert {"one frame", "five frames"} <= {spec.video_id for spec in specs}
        for spec in specs:
            assert all(spec.frame_is_real)
            if spec.video_id in ("one frame", "five frames"):
                period = 1 + max(
                    at for at, number in enumerate(spec.frame_numbers) if number not in spec.frame_numbers[:at]
                )
                assert all(spec.frame_numbers[at] == spec.frame_numbers[at % period] for at in range(FRAMES))


def _epochs(plan: Plan, epochs: int) -> list[ClipSpec]:
    return [spec for step in range(plan.first_step(epochs)) for spec in plan.batch(step)]
