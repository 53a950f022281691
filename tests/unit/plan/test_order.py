"""The order of whole plans: epochs exact for any sizes, mixtures by weight, labels in balance, no video twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cineray.errors import UsageError
from cineray.plan import (
    BucketSpec,
    CatalogClip,
    DatasetSpec,
    FrameSpec,
    MemoryCatalog,
    Plan,
    Recipe,
    SamplingSpec,
    SyntheticCatalog,
    made_video,
)
from cineray.records import ClipSpec, IndexedVideo

SHORT = made_video(20, name="short")
LONG = made_video(60, width=640, height=360, name="long")
TINY = SamplingSpec(frames=4)
SHAPE = FrameSpec(height=32, width=32)


def recipe_of(datasets: Sequence[DatasetSpec] = (DatasetSpec(),), **values: object) -> Recipe:
    return Recipe.model_validate({"datasets": datasets, "sampling": TINY, "frame": SHAPE, **values})


def labelled_rows(labels: Sequence[str | None], captioned: int = 0) -> list[tuple[CatalogClip, IndexedVideo]]:
    """One clip for each label; the first so many have a caption."""
    rows = [
        CatalogClip(
            clip_id=f"c{number}",
            video_id=f"v{number}",
            start_pts=SHORT.frames.start_pts,
            end_pts=SHORT.frames.end_pts,
            label=label,
            captions=("said",) if number < captioned else (),
        )
        for number, label in enumerate(labels)
    ]
    return [(row, SHORT) for row in rows]


def specs_until(plan: Plan, epoch: int) -> list[list[ClipSpec]]:
    return [plan.batch(step) for step in range(plan.first_step(epoch))]


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    batch_size=st.integers(1, 13),
    visits=st.integers(1, 4),
    weighted=st.booleans(),
    seed=st.integers(0, 50),
)
@settings(max_examples=60, deadline=None)
def test_each_epoch_shows_each_clip_once_per_draw(
    counts: list[int], batch_size: int, visits: int, weighted: bool, seed: int
) -> None:
    """Whatever the sizes, the batch, the visits and the mixture: no clip missing, none twice."""
    datasets = [DatasetSpec(weight=number + 1.5 if weighted else None) for number in range(len(counts))]
    recipe = recipe_of(datasets, batch_size=batch_size, clips_per_visit=visits)
    plan = Plan([SyntheticCatalog(count, [SHORT]) for count in counts], recipe, seed)
    seen: dict[tuple[int, int], Counter[tuple[int, int]]] = defaultdict(Counter)
    for batch in specs_until(plan, 4):
        for spec in batch:
            seen[spec.dataset, spec.epoch][spec.clip_number, spec.draw] += 1
    last = {dataset: max(epoch for d, epoch in seen if d == dataset) for dataset in range(len(counts))}
    for (dataset, epoch), shown in seen.items():
        assert max(shown.values()) == 1
        # The last epoch met is still going on (and its draws with it), as is the one that a window reaches into.
        if epoch < last[dataset] - 1:
            assert len(shown) == counts[dataset] * visits


@given(count=st.integers(4, 60), batch_size=st.integers(1, 20), seed=st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_no_batch_shows_a_video_twice_where_there_are_enough(count: int, batch_size: int, seed: int) -> None:
    """Also the batches that reach over the end of an epoch."""
    plan = Plan([SyntheticCatalog(count, [SHORT])], recipe_of(batch_size=batch_size), seed)
    for batch in specs_until(plan, 5):
        assert len({spec.video_id for spec in batch}) == min(batch_size, count)


def test_an_epochs_end_falls_within_a_batch_when_it_does_not_divide() -> None:
    """Ten clips in batches of four: the third batch has the last two of epoch 0 and then two of epoch 1."""
    plan = Plan([SyntheticCatalog(10, [SHORT])], recipe_of(batch_size=4), 3)
    assert [[spec.epoch for spec in plan.batch(step)] for step in range(5)] == [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 1, 1],
        [1, 1, 1, 1],
        [1, 1, 1, 1],
    ]
    assert (plan.steps_per_epoch, plan.first_step(2), plan.epoch_of(2), plan.epoch_of(3)) == (3, 5, 0, 1)


def test_a_visit_shows_one_video_in_one_slot_of_successive_steps() -> None:
    """Four draws of each video, of different moments, in the same column; a batch has only different videos."""
    plan = Plan([SyntheticCatalog(100, [LONG])], recipe_of(batch_size=5, clips_per_visit=4), 3)
    window = plan.window(9)
    assert (window.number, list(window.steps)) == (2, [8, 9, 10, 11])
    batches = [plan.batch(step) for step in window.steps]
    for slot, column in enumerate(plan.columns(window, range(5))):
        assert column == [batch[slot] for batch in batches]
        assert len({spec.video_id for spec in column}) == 1
        assert [spec.draw for spec in column] == [0, 1, 2, 3]
        assert len({spec.frame_numbers for spec in column}) > 1
    assert all(len({spec.video_id for spec in batch}) == 5 for batch in batches)


def test_weights_are_shares_of_every_batch() -> None:
    """0.7 and 0.3 of ten clips are seven and three, in each batch, whatever the datasets' sizes."""
    recipe = recipe_of([DatasetSpec(weight=0.7), DatasetSpec(weight=0.3)], batch_size=10)
    plan = Plan([SyntheticCatalog(13, [SHORT]), SyntheticCatalog(1_000_000, [SHORT])], recipe, 1)
    for step in range(20):
        assert Counter(spec.dataset for spec in plan.batch(step)) == {0: 7, 1: 3}


def test_without_weights_every_clip_of_every_dataset_counts_the_same() -> None:
    recipe = recipe_of([DatasetSpec(), DatasetSpec()], batch_size=4)
    plan = Plan([SyntheticCatalog(10, [SHORT]), SyntheticCatalog(30, [SHORT])], recipe, 1)
    assert plan.steps_per_epoch == 10
    assert Counter(spec.dataset for batch in specs_until(plan, 1) for spec in batch) == {0: 10, 1: 30}
    assert all(spec.epoch == 0 for batch in specs_until(plan, 1) for spec in batch)


def test_labels_in_balance_come_equally_often() -> None:
    """One hundred cats, ten dogs, two without a label: each third of the clips, each group with epochs of its own."""
    catalog = MemoryCatalog(labelled_rows(["cat"] * 100 + ["dog"] * 10 + [None] * 2))
    plan = Plan([catalog], recipe_of([DatasetSpec(balance="label")], batch_size=6), 5)
    specs = [spec for step in range(100) for spec in plan.batch(step)]
    assert Counter(spec.label for spec in specs) == {"cat": 200, "dog": 200, None: 200}
    for label, count in (("cat", 100), ("dog", 10), (None, 2)):
        clips = [spec.clip_id for spec in specs if spec.label == label]
        epochs = [clips[at : at + count] for at in range(0, len(clips) - count + 1, count)]
        assert all(len(set(epoch)) == count for epoch in epochs)
    for step in range(100):
        dogs = [spec.clip_id for spec in plan.batch(step) if spec.label == "dog"]
        assert len(dogs) == len(set(dogs)) == 2


def test_captions_in_balance_come_as_often_as_none() -> None:
    catalog = MemoryCatalog(labelled_rows([None] * 40, captioned=4))
    plan = Plan([catalog], recipe_of([DatasetSpec(balance="caption")], batch_size=8), 5)
    assert all(sum(spec.caption is not None for spec in plan.batch(step)) == 4 for step in range(30))


def test_every_clip_goes_to_the_bucket_that_suits_it_and_all_end_an_epoch_together() -> None:
    buckets = (
        BucketSpec(frames=16, height=64, width=64, batch_size=4),
        BucketSpec(frames=48, height=36, width=64, batch_size=2),
        BucketSpec(frames=48, height=64, width=36, batch_size=2),
    )
    rows = labelled_rows(["a"] * 9)
    rows += [
        (CatalogClip(clip_id=f"l{n}", video_id=f"l{n}", start_pts=0, end_pts=LONG.frames.end_pts), LONG)
        for n in range(7)
    ]
    recipe = Recipe(sampling=SamplingSpec(), frame=FrameSpec(), buckets=buckets)
    plan = Plan([MemoryCatalog(rows)], recipe, 2)
    assert [bucket.units for bucket in plan.order.buckets] == [9, 7, 0]
    batches = specs_until(plan, 2)
    assert plan.first_step(2) == 5 + 7  # eighteen clips by fours, fourteen by twos
    for step, batch in enumerate(batches):
        shape = plan.bucket(step).shape
        assert {(len(s.frame_numbers), s.crop.out_height, s.crop.out_width) for s in batch} == {shape}
        assert len(batch) == plan.bucket(step).batch_size
    shown = Counter((spec.epoch, spec.clip_id) for batch in batches for spec in batch)
    assert set(shown.values()) == {1}
    assert len(shown) == 2 * 16 + 2  # two epochs, and what the last batch of nine takes of the third


def test_chosen_bucket_weights_are_shares_of_the_steps() -> None:
    buckets = (
        BucketSpec(frames=16, height=64, width=64, weight=3),
        BucketSpec(frames=48, height=36, width=64, weight=1),
    )
    recipe = Recipe(sampling=SamplingSpec(), frame=FrameSpec(), buckets=buckets, batch_size=2)
    rows = labelled_rows(["a"] * 4)
    rows += [(CatalogClip(clip_id="l", video_id="l", start_pts=0, end_pts=LONG.frames.end_pts), LONG)]
    plan = Plan([MemoryCatalog(rows)], recipe, 2)
    assert Counter(plan.bucket(step).frames for step in range(40)) == {16: 30, 48: 10}


def test_a_token_budget_gives_larger_clips_smaller_batches() -> None:
    buckets = (BucketSpec(frames=16, height=64, width=64), BucketSpec(frames=48, height=36, width=64))
    recipe = Recipe(
        sampling=SamplingSpec(), frame=FrameSpec(), buckets=buckets, token_budget=2_000, token_shape=(4, 16, 16)
    )
    # 4 * 4 * 4 tokens and 12 * 3 * 4 tokens (36 rows are two and a bit of 16)
    assert [(recipe.tokens_of(bucket), recipe.size_of(bucket)) for bucket in buckets] == [(64, 31), (144, 13)]


def test_no_draw_depends_on_where_in_the_order_a_clip_stands() -> None:
    """The same clip, epoch and draw is the same clip to the last bit in a batch of three and in a batch of eight."""
    small, large = (Plan([SyntheticCatalog(24, [LONG])], recipe_of(batch_size=size), 9) for size in (3, 8))
    key = lambda spec: (spec.clip_number, spec.epoch)  # noqa: E731
    one = sorted((spec for batch in specs_until(small, 2) for spec in batch), key=key)
    other = sorted((spec for batch in specs_until(large, 2) for spec in batch), key=key)
    assert one == other


def test_a_dataset_with_nothing_to_draw_is_refused_with_the_reason() -> None:
    catalog = SyntheticCatalog(12, [made_video(3)])
    with pytest.raises(UsageError, match=r"datasets\[0\] \(split 'train'\) has 12 clips and none .* 12 too short"):
        Plan([catalog], recipe_of(batch_size=2), 1)


def test_wrong_questions_are_refused() -> None:
    plan = Plan([SyntheticCatalog(12, [SHORT])], recipe_of(batch_size=2), 1)
    with pytest.raises(UsageError, match="step -1"):
        plan.batch(-1)
    with pytest.raises(UsageError, match="rank 2 of 2"):
        plan.share(0, 2, 2)
    with pytest.raises(UsageError, match="2 datasets but 1 catalogs"):
        Plan([SyntheticCatalog(12)], recipe_of([DatasetSpec(), DatasetSpec()], batch_size=2), 1)
