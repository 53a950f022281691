"""What a plan says of itself: its fingerprint and what changes it, its tree, its cost, and who stands in for whom."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from cineray.errors import UsageError
from cineray.plan import (
    CatalogClip,
    MemoryCatalog,
    Plan,
    PlanIdentity,
    Recipe,
    SyntheticCatalog,
    draws_for,
    explain_difference,
    made_video,
)
from cineray.plan.cost import bytes_to_read, frames_to_decode
from cineray.records import FrameTable, IndexedVideo

BASE: dict[str, Any] = {"sampling": {"frames": 4}, "frame": {"height": 32, "width": 32}, "batch_size": 4}


def recipe_of(**values: Any) -> Recipe:
    return Recipe.model_validate({**BASE, **values})


def spans_of(video: IndexedVideo, video_id: str, count: int) -> list[tuple[CatalogClip, IndexedVideo]]:
    """So many clip rows, each the whole of one video."""
    ends = {"start_pts": video.frames.start_pts, "end_pts": video.frames.end_pts}
    return [(CatalogClip(clip_id=f"{video_id}/{n}", video_id=video_id, **ends), video) for n in range(count)]


# ---- fingerprint -----------------------------------------------------------------------------------------------------


def test_the_fingerprint_changes_with_whatever_changes_a_batch() -> None:
    catalog, other = SyntheticCatalog(100), SyntheticCatalog(101)
    plans = [
        Plan([catalog], recipe_of(), 1),
        Plan([other], recipe_of(), 1),
        Plan([catalog], recipe_of(), 2),
        Plan([catalog], recipe_of(batch_size=5), 1),
        Plan([catalog], recipe_of(sampling={"frames": 4, "stride": 2}), 1),
        Plan([catalog], recipe_of(datasets=[{"filter": "height > 200"}]), 1),
    ]
    assert len({plan.fingerprint for plan in plans}) == len(plans)
    assert Plan([SyntheticCatalog(100)], recipe_of(), 1).fingerprint == plans[0].fingerprint


def test_a_refusal_can_say_what_differs() -> None:
    one = Plan([SyntheticCatalog(100)], recipe_of(), 1).identity
    two = Plan([SyntheticCatalog(100)], recipe_of(sampling={"frames": 4, "mode": "fps", "fps": 8}), 2).identity
    assert explain_difference(one, one) == ""
    assert explain_difference(one, two).splitlines() == [
        'recipe.sampling.mode: "random" -> "fps"',
        'recipe.sampling.fps: null -> "8"',
        "seed: 1 -> 2",
    ]
    more = Plan([SyntheticCatalog(9)] * 2, recipe_of(datasets=[{}, {"split": "test"}]), 1).identity
    assert 'recipe.datasets[1].split: (nothing) -> "test"' in explain_difference(one, more)


def test_an_identity_survives_a_checkpoint() -> None:
    identity = Plan([SyntheticCatalog(100)], recipe_of(), 1).identity
    kept = PlanIdentity.from_dict(json.loads(json.dumps(identity.to_dict())))
    assert kept.fingerprint == identity.fingerprint
    assert explain_difference(kept, identity) == ""


def test_another_process_makes_the_same_plan() -> None:
    """Nothing depends on the order of sets, on hash seeds or on what ran before."""
    code = (
        "from cineray.plan import *\n"
        f"plan = Plan([SyntheticCatalog(1000)], Recipe.model_validate({BASE!r}), 7)\n"
        "print(plan.fingerprint, [spec.frame_numbers for spec in plan.batch(123)])"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    plan = Plan([SyntheticCatalog(1000)], recipe_of(), 7)
    assert runs == {f"{plan.fingerprint} {[spec.frame_numbers for spec in plan.batch(123)]}\n"}


def test_planning_loads_neither_torch_nor_ray_nor_lance_nor_ffmpeg() -> None:
    code = (
        "import sys; from cineray.plan import *\n"
        f"plan = Plan([SyntheticCatalog(1000)], Recipe.model_validate({BASE!r}), 7)\n"
        "plan.batch(0); plan.cost(); plan.tree()\n"
        "print(sorted({'torch', 'ray', 'lance', 'pyarrow', 'av', 'cineray.lake', 'cineray.index'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---- draws -----------------------------------------------------------------------------------------------------------


def test_a_clips_own_noise_follows_the_clip_and_not_its_place() -> None:
    small, large = (Plan([SyntheticCatalog(12)], recipe_of(batch_size=size), 9) for size in (3, 4))
    drawn = [
        {
            (spec.clip_number, spec.epoch): draws_for(9, spec).bits("noise")
            for step in range(plan.steps_per_epoch)
            for spec in plan.batch(step)
        }
        for plan in (small, large)
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0].values())) == 12


def test_purposes_are_drawn_apart() -> None:
    draws = draws_for(9, Plan([SyntheticCatalog(12)], recipe_of(), 9).batch(0)[0])
    assert draws.bits("noise") == draws.bits("noise") != draws.bits("time")
    assert all(0 <= value < 5 for value in draws.below_many(5, 1_000, "many").tolist())
    assert set(draws.below_many(5, 1_000, "many").tolist()) == set(range(5))
    with pytest.raises(ValueError, match="below 0"):
        draws.below(0, "nothing")


# ---- captions --------------------------------------------------------------------------------------------------------


def test_captions_are_chosen_by_the_plan() -> None:
    video = made_video(30)
    rows = [
        (CatalogClip(clip_id=f"{n}", video_id=f"{n}", start_pts=0, end_pts=10**6, captions=("a", "b", "c")[:n]), video)
        for n in range(4)
    ]
    first = Plan([MemoryCatalog(rows)], recipe_of(), 1)
    assert {spec.clip_id: spec.caption for spec in first.batch(0)} == {"0": None, "1": "a", "2": "a", "3": "a"}
    anyone = Plan([MemoryCatalog(rows)], recipe_of(captions="random"), 1)
    told = {(spec.clip_id, spec.caption) for step in range(60) for spec in anyone.batch(step)}
    assert told == {("0", None), ("1", "a"), ("2", "a"), ("2", "b"), ("3", "a"), ("3", "b"), ("3", "c")}


# ---- substitutes -----------------------------------------------------------------------------------------------------


def test_a_substitute_is_another_video_and_always_the_same_one() -> None:
    """Five videos of three clips each: four attempts give the four others, each once, in a fixed order."""
    rows = [row for n in range(5) for row in spans_of(made_video(20), f"v{n}", 3)]
    plan, again = (Plan([MemoryCatalog(rows)], recipe_of(), 3) for _ in range(2))
    for spec in plan.batch(2):
        stand_ins = [plan.substitute(spec, attempt) for attempt in range(4)]
        assert stand_ins == [again.substitute(spec, attempt) for attempt in range(4)]
        assert sorted({spec.video_id, *(one.video_id for one in stand_ins)}) == [f"v{n}" for n in range(5)]
        assert {(one.epoch, one.draw, len(one.frame_numbers)) for one in stand_ins} == {(spec.epoch, spec.draw, 4)}
    orders = {
        tuple(plan.substitute(spec, a).video_id for a in range(4)) for step in range(8) for spec in plan.batch(step)
    }
    assert len(orders) > 10  # bad clips do not all fall on the same neighbour


def test_all_draws_of_a_visit_go_to_one_substitute() -> None:
    """So that what stands in is decoded in one pass too, and shows other moments of it."""
    plan = Plan([SyntheticCatalog(100)], recipe_of(clips_per_visit=4), 3)
    for column in plan.columns(plan.window(8), range(4)):
        stand_ins = [plan.substitute(spec, 0) for spec in column]
        assert len({one.video_id for one in stand_ins}) == 1
        assert len({one.frame_numbers for one in stand_ins}) > 1


def test_only_when_no_other_video_is_left_another_span_of_one_stands_in() -> None:
    rows = spans_of(made_video(20), "only", 4)
    plan = Plan([MemoryCatalog(rows)], recipe_of(), 3)
    spec = plan.batch(0)[0]
    stand_ins = [plan.substitute(spec, attempt).clip_id for attempt in range(3)]
    assert sorted([spec.clip_id, *stand_ins]) == [f"only/{n}" for n in range(4)]
    with pytest.raises(UsageError, match="nothing is left to stand in after 3 attempts: the dataset has 1 videos"):
        plan.substitute(spec, 3)


def test_a_substitute_comes_from_the_same_dataset_and_has_the_same_shape() -> None:
    shapes = [{"frames": 4, "height": 32, "width": 32}, {"frames": 16, "height": 32, "width": 32}]
    videos = [made_video(10), made_video(30)]
    recipe = recipe_of(datasets=[{}, {}], buckets=shapes, sampling={}, frame={})
    plan = Plan([SyntheticCatalog(50, videos), SyntheticCatalog(50, videos)], recipe, 3)
    for step in range(20):
        for spec in plan.batch(step):
            other = plan.substitute(spec, 0)
            assert (other.dataset, len(other.frame_numbers)) == (spec.dataset, len(spec.frame_numbers))
            assert other.clip_number % 2 == spec.clip_number % 2


# ---- cost ------------------------------------------------------------------------------------------------------------


def test_a_frame_costs_everything_since_its_key_frame() -> None:
    """Keys at 0 and 8: to have 5 and 10, a decoder makes 0 to 5 and 8 to 10."""
    table = made_video(16, gop=8).frames
    assert frames_to_decode(table, np.array([5, 10])).tolist() == [0, 1, 2, 3, 4, 5, 8, 9, 10]
    assert frames_to_decode(table, np.array([8])).tolist() == [8]
    assert frames_to_decode(table, np.array([2, 5, 7])).tolist() == list(range(8))


def test_a_frame_shown_before_the_key_frame_it_is_stored_after_needs_the_one_before() -> None:
    """An open group of pictures, stored I P I B: the B is shown between P and the second I, and may refer to both."""
    table = FrameTable(
        pts=np.arange(4) * 10,
        duration=np.full(4, 10),
        decode_order=np.array([0, 1, 3, 2]),
        key=np.array([True, False, False, True]),
        disposable=np.zeros(4, dtype=bool),
        position=np.array([0, 100, 160, 110]),
        size_bytes=np.array([100, 10, 10, 50]),
    )
    assert frames_to_decode(table, np.array([2])).tolist() == [0, 1, 3, 2]
    assert frames_to_decode(table, np.array([3])).tolist() == [3]


def test_frames_that_are_decoded_ahead_of_their_turn_count() -> None:
    """I B B P: frame 3 is decoded second, so frame 1 costs 0, 3 and 1."""
    table = FrameTable(
        pts=np.arange(4) * 10,
        duration=np.full(4, 10),
        decode_order=np.array([0, 2, 3, 1]),
        key=np.array([True, False, False, False]),
        disposable=np.array([False, True, True, False]),
        position=np.array([0, 150, 160, 100]),
        size_bytes=np.array([100, 10, 10, 50]),
    )
    assert frames_to_decode(table, np.array([1])).tolist() == [0, 3, 1]
    assert bytes_to_read(table, np.array([0, 3, 1])) == 160


def test_the_cost_of_a_plan_counted_by_hand() -> None:
    """Clips that begin at key frames decode what they use; first-frame clips at stride 3 decode ten frames for four."""
    video = made_video(40, gop=10, width=100, height=50)
    exact = Plan([SyntheticCatalog(20, [video])], recipe_of(sampling={"mode": "keyframes", "frames": 4}), 1).cost()
    assert (exact.frames_used_per_epoch, exact.frames_decoded_per_epoch) == (80, 80)
    assert exact.bytes_per_epoch == 20 * (20_000 + 3 * 2_000)
    assert exact.decode_work_over_least == 1
    first = {"mode": "stride", "stride": 3, "start": "first", "frames": 4}
    wide = Plan([SyntheticCatalog(20, [video])], recipe_of(sampling=first), 1).cost()
    assert wide.frames_decoded_per_frame_used == 10 / 4
    seconds = 20 * (0.004 + 5_000 * (10 * 2.0 + 4 * 3.0) * 1e-9)
    assert wide.decode_cpu_seconds_per_epoch == pytest.approx(seconds)
    assert wide.cpu_cores_per_gpu(0.01, gpus=2) == pytest.approx(seconds / wide.steps_per_epoch / 0.01 / 2)


def test_more_clips_per_visit_cost_less_per_frame() -> None:
    costs = [Plan([SyntheticCatalog(64)], recipe_of(clips_per_visit=visits), 1).cost() for visits in (1, 4)]
    assert costs[0].frames_decoded_per_frame_used == costs[0].alone_decoded_per_frame_used
    assert costs[1].frames_decoded_per_frame_used < 0.5 * costs[1].alone_decoded_per_frame_used
    assert costs[1].steps_per_epoch == 4 * costs[0].steps_per_epoch


def test_a_sample_of_an_epoch_is_near_the_whole() -> None:
    catalog = SyntheticCatalog(4_000, [made_video(length) for length in (100, 200, 300, 900)])
    plan = Plan([catalog], recipe_of(), 1)
    some, all_of_it = plan.cost(visits=400), plan.cost(visits=10**9)
    assert (some.sampled_visits, all_of_it.sampled_visits) == (400, 4_000)
    ratio = some.frames_decoded_per_frame_used / all_of_it.frames_decoded_per_frame_used
    assert ratio == pytest.approx(1, abs=0.15)


def test_a_sample_meets_each_dataset_of_a_mixture_in_its_proportion() -> None:
    """Every batch has the same datasets in the same slots, so a sample that looks at one slot only would be wrong."""
    dense, sparse = made_video(40, gop=1), made_video(40, gop=40)
    last = {"mode": "stride", "stride": 13, "start": "first", "frames": 4}
    recipe = recipe_of(datasets=[{"weight": 1}, {"weight": 1}], sampling=last, batch_size=10)
    cost = Plan([SyntheticCatalog(5_000, [dense]), SyntheticCatalog(5_000, [sparse])], recipe, 1).cost(visits=100)
    assert cost.frames_decoded_per_frame_used == pytest.approx((4 + 40) / 8, rel=0.1)


def test_padding_is_counted_in_time_and_at_borders() -> None:
    video = made_video(2, width=64, height=32)
    padded = {"frames": 4, "short_videos": "pad"}
    plan = Plan([SyntheticCatalog(8, [video])], recipe_of(sampling=padded), 1)
    assert plan.padding_fraction == 0.5
    boxed = Plan([SyntheticCatalog(8, [video])], recipe_of(sampling=padded, frame={**BASE["frame"], "pad": True}), 1)
    assert boxed.padding_fraction == 0.75
    assert Plan([SyntheticCatalog(8)], recipe_of(), 1).padding_fraction == 0


# ---- tree ------------------------------------------------------------------------------------------------------------


def test_the_tree_tells_how_the_plan_came_about() -> None:
    buckets = [{"frames": 16, "height": 64, "width": 64}, {"frames": 128, "height": 64, "width": 64}]
    datasets = [{"weight": 3, "filter": "height > 100"}, {"weight": 1, "split": None, "balance": "label"}]
    recipe = recipe_of(
        datasets=datasets, buckets=buckets, sampling={"mode": "fps", "fps": 8}, frame={"flip": 0.5}, clips_per_visit=2
    )
    labelled = [
        (CatalogClip(clip_id=f"{n}", video_id=f"{n}", start_pts=0, end_pts=10**6, label="ab"[n % 2]), made_video(60))
        for n in range(6)
    ]
    plan = Plan([SyntheticCatalog(30, [made_video(300), made_video(9)]), MemoryCatalog(labelled)], recipe, 7)
    name = plan.catalogs[1].fingerprint[:16]
    assert plan.tree().splitlines() == [
        f"Plan({plan.fingerprint[:8]}): 21 clips, 12 steps per epoch, 2 clips per visit, seed 7, format 1",
        "├─ sampling: fps, fps=8",
        "├─ frame: center, flip=0.5",
        "├─ bucket 16x64x64: 4 clips (1,024 tokens) per step, 21 clips",
        "│  ├─ dataset 0: 15 clips, 3 of every 4 slots",
        "│  └─ dataset 1: 6 clips, 1 of every 4 slots in 2 balanced groups: a 3, b 3",
        "├─ bucket 128x64x64: 4 clips (8,192 tokens) per step, 0 clips, so it has no step",
        "├─ dataset 0 (split train, filter height > 100, weight 3): 15 of 30 clip rows, synthetic:30:mad",
        "│  └─ left out: 15 too short for a clip",
        f"└─ dataset 1 (all splits, weight 1, balanced by label): 6 of 6 clip rows, {name}",
    ]
