"""The one function that makes batches: what the plan says, each video opened once, what fails replaced for good."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cineray.decode import DecodeOptions, decode_visit
from cineray.errors import MediaUnavailable, TooManySubstitutions, UsageError
from cineray.feed import (
    FeedSpec,
    SubstitutionLimit,
    Supply,
    Task,
    local_batch,
    local_batches,
    make_batches,
    tasks_of,
    unavailable,
)
from cineray.feed import visits as visits_module
from cineray.feed.visits import frames_bytes
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.plan import PlanIdentity, explain_difference
from cineray.records import Batch, Substitution

SpecOf = Callable[..., FeedSpec]
Digests = Callable[[Iterable[Batch]], list[str]]


def opened(spec: FeedSpec) -> Supply:
    """As another process would open it."""
    return spec._opened()


def file_of(supply: Supply, clip_number: int) -> Path:
    return Path(supply.catalogs[0].located(clip_number)[1].uri)


@pytest.mark.parametrize("each", [1, 4])
def test_a_batch_shows_what_the_plan_says(spec_of: SpecOf, each: int) -> None:
    supply = spec_of(clips_per_visit=each).open()
    for batch in local_batches(supply, range(9)):
        assert list(batch.specs) == supply.plan.batch(batch.step)
        assert (batch.first_slot, batch.global_size, batch.frames_BTHWC.shape) == (0, 6, (6, 8, 48, 48, 3))
        assert batch.substitutions == ()


def test_the_pixels_are_those_of_each_clip_decoded_alone(spec_of: SpecOf) -> None:
    supply = spec_of(clips_per_visit=4).open()
    batch = local_batch(supply, 5)
    for spec, frames in zip(batch.specs, batch.frames_BTHWC, strict=True):
        video, place = supply.catalogs[0].located(spec.clip_number)
        (clip,) = decode_visit(video, place, [spec])
        assert np.array_equal(clip.frames_THWC, frames)  # type: ignore[union-attr]


@pytest.mark.parametrize("each", [1, 4])
@pytest.mark.parametrize("world", [2, 3, 6])
def test_the_shares_of_all_ranks_are_the_batch(
    spec_of: SpecOf, digests: Digests, digests_of_ranks: Callable[..., list[str]], each: int, world: int
) -> None:
    spec, steps = spec_of(clips_per_visit=each), range(2, 9)
    ranks = [local_batches(spec, steps, rank=rank, world=world) for rank in range(world)]
    assert digests_of_ranks(ranks) == digests(local_batches(spec, steps))


@pytest.mark.parametrize("each", [1, 4])
def test_a_batch_does_not_depend_on_where_one_begins(spec_of: SpecOf, digests: Digests, each: int) -> None:
    spec = spec_of(clips_per_visit=each)
    whole = digests(local_batches(spec, range(10)))
    for start in (1, 3, 6):
        assert digests(local_batches(spec, range(start, 10))) == whole[start:]


def test_a_visit_opens_its_video_once_for_all_steps_of_a_window(
    spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def counted(video: Any, place: Any, specs: Any, **options: Any) -> Any:
        seen.append(len(specs))
        return decode_visit(video, place, specs, **options)

    monkeypatch.setattr(visits_module, "decode_visit", counted)
    make_batches(spec_of(clips_per_visit=4).open(), Task(range(4, 8)))
    assert seen == [4] * 6


def test_batches_are_decoded_into_the_array_that_is_given(spec_of: SpecOf) -> None:
    supply = spec_of(clips_per_visit=4).open()
    task = Task(range(4), rank=1, world=2)
    out = np.zeros(frames_bytes(supply, task), np.uint8)
    batches = make_batches(supply, task, out=out)
    assert out.size == 4 * 3 * 8 * 48 * 48 * 3
    assert np.array_equal(out, np.concatenate([batch.frames_BTHWC.ravel() for batch in batches]))
    assert all(np.shares_memory(out, batch.frames_BTHWC) for batch in batches)


def test_tasks_are_whole_windows_but_for_the_first_and_the_last(spec_of: SpecOf) -> None:
    supply = spec_of(clips_per_visit=4).open()
    tasks = [task.steps for task in tasks_of(supply, range(2, 11), rank=1, world=3)]
    assert tasks == [range(2, 4), range(4, 8), range(8, 11)]


def test_more_ranks_than_clips_are_refused(spec_of: SpecOf) -> None:
    with pytest.raises(UsageError, match="6 clips, too few for 7 ranks"):
        list(local_batches(spec_of(), range(1), rank=0, world=7))


# ---- what cannot be decoded ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("each", [1, 4])
def test_a_damaged_video_is_replaced_the_same_way_by_everyone(
    own_lake: Path,
    spec_of: SpecOf,
    damage: Callable[[Path], None],
    digests: Digests,
    digests_of_ranks: Callable[..., list[str]],
    each: int,
) -> None:
    spec = spec_of(own_lake, clips_per_visit=each, max_substituted_fraction=1.0)
    bad = opened(spec).plan.batch(0)[2]
    damage(file_of(opened(spec), bad.clip_number))
    steps = range(4 * each)

    batches = list(local_batches(opened(spec), steps))

    replaced = [one for batch in batches for one in batch.substitutions]
    assert {one.wanted_clip_id for one in replaced} == {bad.clip_id}
    assert len(replaced) == each
    first = replaced[0]
    assert (first.step, first.slot) == (0, 2)
    assert first.reason in {"decode_failed", "corrupt", "truncated", "wrong_frame"}
    assert batches[0].specs[2].clip_id == first.used_clip_id != bad.clip_id
    assert batches[0].specs[2] == opened(spec).plan.substitute(bad, 0)
    ranks = [local_batches(opened(spec), steps, rank=rank, world=2) for rank in range(2)]
    assert digests_of_ranks(ranks) == digests(batches)


def test_a_substitute_that_is_damaged_too_is_replaced_by_the_next(
    own_lake: Path, spec_of: SpecOf, damage: Callable[[Path], None]
) -> None:
    spec = spec_of(own_lake, max_substituted_fraction=1.0)
    supply = opened(spec)
    bad = supply.plan.batch(0)[2]
    second = supply.plan.substitute(bad, 0)
    for one in (bad, second):
        damage(file_of(supply, one.clip_number))
    batch = local_batch(opened(spec), 0)
    (found,) = [one for one in batch.substitutions if one.slot == 2]
    assert found.used_clip_id == supply.plan.substitute(bad, 1).clip_id
    assert f"; then {second.clip_id} (" in found.detail


def test_where_nothing_can_be_decoded_the_run_stops_with_the_reasons(
    own_lake: Path, spec_of: SpecOf, damage: Callable[[Path], None]
) -> None:
    supply = opened(spec_of(own_lake, max_substituted_fraction=1.0))
    for path in own_lake.parent.glob("videos/**/*.mp4"):
        damage(path)
    with pytest.raises(TooManySubstitutions, match=r"nor 16 substitutes could be decoded"):
        local_batch(supply, 0)


def test_a_run_stops_above_the_recipes_fraction_with_the_list(
    own_lake: Path, spec_of: SpecOf, damage: Callable[[Path], None]
) -> None:
    spec = spec_of(own_lake, max_substituted_fraction=0.0)
    bad = opened(spec).plan.batch(0)[2]
    damage(file_of(opened(spec), bad.clip_number))
    with pytest.raises(TooManySubstitutions, match=rf"1 of 6 clips.*allows 0(.|\n)*step 0, slot 2: clip {bad.clip_id}"):
        list(local_batches(opened(spec), range(4)))


def bad_clip() -> Substitution:
    return Substitution(step=0, slot=0, wanted_clip_id="a", used_clip_id="b", reason="corrupt", detail="")


def test_the_limit_counts_over_the_last_steps_only(spec_of: SpecOf) -> None:
    batch = local_batch(spec_of(), 0)
    bad = Batch(**{name: getattr(batch, name) for name in Batch.__slots__} | {"substitutions": (bad_clip(),)})
    limit = SubstitutionLimit(0.1, over_steps=5)  # 30 clips, of which 3 may be replaced
    for some in (bad, bad, bad, batch, batch, bad, bad, bad):
        limit.check(some)
    with pytest.raises(TooManySubstitutions, match="4 of 30 clips of the last 5 steps"):
        limit.check(bad)


@pytest.mark.parametrize("world", [1, 4, 256])
def test_a_share_is_judged_by_as_many_clips_as_the_whole(world: int) -> None:
    """One clip in a hundred may be replaced: of 256 a step, 256 in a hundred steps; a rank of 256 waits for as many."""
    share, one = 256 // world, bad_clip()
    healthy = SubstitutionLimit(0.01)
    for first in range(0, 300 * 256, share):  # two bad clips side by side in every 256
        healthy.count(share, [one for clip in range(first, first + share) if clip % 256 in (7, 8)], of=256)
    dead = SubstitutionLimit(0.01)
    for _ in range(world):  # one whole step's clips
        dead.count(share, [one] * share, of=256)
    with pytest.raises(TooManySubstitutions, match=rf"allows 256 in {100 * world} steps"):
        dead.count(share, [one] * share, of=256)


def test_a_count_over_all_ranks_lists_what_this_one_knows() -> None:
    limit = SubstitutionLimit(0.01)
    limit.count(64, (), replaced=64)
    with pytest.raises(TooManySubstitutions, match=r"65 of 128 clips of the last 2 steps(.|\n)*in the shares of other"):
        limit.count(64, (), replaced=1)


# ---- what cannot be had now ------------------------------------------------------------------------------------------


def naps(monkeypatch: pytest.MonkeyPatch, during: Callable[[], object] = lambda: None) -> list[float]:
    """The pauses that are made; they take no time, and `during` happens meanwhile."""
    seen: list[float] = []
    monkeypatch.setattr(unavailable.time, "sleep", lambda seconds: (seen.append(seconds), during()))
    return seen


@pytest.mark.parametrize("each", [1, 4])
def test_a_file_that_comes_back_is_waited_for_and_nothing_is_replaced(
    own_lake: Path, spec_of: SpecOf, digests: Digests, monkeypatch: pytest.MonkeyPatch, each: int
) -> None:
    spec = spec_of(own_lake, clips_per_visit=each)
    expected = digests(local_batches(opened(spec), range(each)))
    path = file_of(opened(spec), opened(spec).plan.batch(0)[3].clip_number)
    away = path.rename(path.with_suffix(".away"))
    pauses = naps(monkeypatch, during=lambda: len(pauses) == 2 and away.rename(path))

    assert digests(local_batches(opened(spec), range(each))) == expected
    assert [0.5 <= pauses[0] <= 1.5, 2 <= pauses[1] <= 6, len(pauses)] == [True, True, 2]


def test_the_same_bytes_elsewhere_do_as_well(
    own_lake: Path, spec_of: SpecOf, digests: Digests, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(own_lake.parent / "videos", own_lake.parent / "videos" / "copies")
    ingest(IngestConfig(source=str(own_lake.parent / "videos"), lake=str(own_lake)), EngineConfig(engine="local"))
    spec = spec_of(own_lake)
    supply = opened(spec)
    expected = digests([local_batch(supply, 0)])
    for clip in supply.plan.batch(0):
        file_of(supply, clip.clip_number).unlink()
    pauses = naps(monkeypatch)
    assert digests([local_batch(supply, 0)]) == expected
    assert len(pauses) == 1


def gone(path: Path) -> None:
    path.unlink()


def changed(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(("happens", "reason"), [(gone, "missing"), (changed, "changed"), (unreadable, "unreadable")])
def test_what_stays_away_stops_the_run_and_is_never_replaced(
    own_lake: Path,
    spec_of: SpecOf,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[Path], None],
    reason: str,
    tmp_path: Path,
) -> None:
    spec = spec_of(own_lake, max_substituted_fraction=1.0, journal=str(tmp_path / "journal"))
    clip = opened(spec).plan.batch(1)[2]
    path = file_of(opened(spec), clip.clip_number)
    happens(path)
    naps(monkeypatch)
    told = rf"1 clips .* after 4 tries(.|\n)*step 1, slot 2: clip {clip.clip_id} \({reason}: .*{path.name}"
    with pytest.raises(MediaUnavailable, match=told) as error:
        list(local_batches(opened(spec), range(3)))
    assert error.value.reason == reason
    left = [path for path in (tmp_path / "journal").rglob("*") if path.is_file()]
    assert left == [], "no verdict, and no marker of somebody who died"


def test_a_visit_that_takes_too_long_twice_stops_the_run(spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch) -> None:
    supply = dataclasses.replace(opened(spec_of()), decode=DecodeOptions(budget_seconds=1e-9))
    pauses = naps(monkeypatch)
    with pytest.raises(MediaUnavailable, match=r"6 clips .* after 2 tries(.|\n)*timed_out(.|\n)*budget_sec"):
        local_batch(supply, 0)
    assert len(pauses) == 1


# ---- which plan is meant ---------------------------------------------------------------------------------------------


def test_another_decoder_makes_another_plan_and_is_not_taken_for_the_one_that_was_meant(spec_of: SpecOf) -> None:
    usual = spec_of()
    other = dataclasses.replace(usual, decode=DecodeOptions(decoder="torchcodec"), fingerprint="")
    identity = other.open().plan.identity
    assert identity.fingerprint != usual.fingerprint
    assert explain_difference(usual.open().plan.identity, identity) == 'decoding: (nothing) -> "decoder=torchcodec"'
    assert PlanIdentity.from_dict(identity.to_dict()) == identity
    with pytest.raises(UsageError, match="was meant"):
        dataclasses.replace(other, fingerprint=usual.fingerprint).open()


def test_what_changes_no_pixel_makes_no_other_plan(spec_of: SpecOf) -> None:
    usual = spec_of()
    patient = DecodeOptions(decoder="pyav", budget_seconds=999, keep_open=0, ahead=1)
    assert dataclasses.replace(usual, decode=patient).open().plan.fingerprint == usual.fingerprint
    careless = dataclasses.replace(usual, decode=DecodeOptions(verify="none"), fingerprint="")
    assert careless.open().plan.identity.decoding == "verify=none"


def test_another_plan_than_the_one_meant_is_refused(spec_of: SpecOf) -> None:
    with pytest.raises(UsageError, match="was meant"):
        dataclasses.replace(spec_of(), seed=8).open()
