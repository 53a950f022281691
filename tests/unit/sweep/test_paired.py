"""Is the best trial better than the next? Two trials on the same clips, held against each other clip by clip, on losses
of which it is known how they were made."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cineray.sweep import ObjectiveSpec, SweepFolder
from cineray.sweep.formulas import Formula, formula_of
from cineray.sweep.paired import Pair, compared, corrected
from cineray.sweep.results import write_results
from cineray.train.clip_losses import ClipLosses, keep_clip_losses

BINS = 4


def losses(
    generator: np.random.Generator, hard_C: Any, *, better_by: float = 0.0, step: int = 10, spread: float = 0.05
) -> ClipLosses:
    """Clips differ much by how hard they are, for every trial alike, and a little by the trial."""
    right = hard_C - better_by + spread * generator.standard_normal(len(hard_C))
    return ClipLosses(step=step, bins=BINS, right=list(right), wrong=list(1.2 * right))


def pair(one: ClipLosses, other: ClipLosses, key: str = "validation/headline", **told: Any) -> Pair:
    formula = formula_of(key, BINS)
    assert formula is not None
    found = compared(one, other, formula, **told)
    assert found is not None
    return found


def hard(seed: int, clips: int = 32) -> tuple[np.random.Generator, Any]:
    generator = np.random.default_rng(seed)
    return generator, np.exp(0.5 * generator.standard_normal(clips))


def test_the_headline_is_of_the_noisiest_levels_and_the_difference_is_the_seconds_less_the_firsts() -> None:
    one = ClipLosses(step=1, bins=BINS, right=[1.0, 2.0, 50.0, 60.0] * 4)
    other = ClipLosses(step=1, bins=BINS, right=[3.0, 2.0, 1.0, 1.0] * 4)

    told = pair(one, other)
    assert (told.difference, told.low, told.high, told.clips) == (1.0, 1.0, pytest.approx(1.0), 8)
    assert pair(other, one).difference == -1.0
    assert pair(one, other, "validation/loss").difference == pytest.approx((2 + 0 - 49 - 59) / 4)
    assert pair(one, other, "validation/bin2").difference == -49.0
    assert pair(one, other, "validation/skill_linear", baselines=(10.0, 10.0)).difference == pytest.approx(-0.1)
    assert pair(one, other, "validation/skill_linear2", baselines=(100.0, 10.0)).difference == pytest.approx(0.4)


def test_wrong_over_right_is_a_ratio_of_means() -> None:
    one = ClipLosses(step=1, bins=1, right=[1.0, 3.0], wrong=[2.0, 6.0])
    other = ClipLosses(step=1, bins=1, right=[1.0, 3.0], wrong=[4.0, 8.0])
    found = compared(one, other, Formula(bins=(0,), over="right"))
    assert found is not None
    assert found.difference == pytest.approx(3.0 - 2.0)


def test_what_all_clips_have_in_common_is_no_noise() -> None:
    """Clips differ by 0.6, the two trials by a tenth of that: seen one by one it is plain."""
    generator, hard_C = hard(0)
    told = pair(losses(generator, hard_C), losses(generator, hard_C, better_by=0.06))
    assert told.difference == pytest.approx(-0.06, abs=0.03)
    assert told.high < 0
    assert told.p < 0.01


def test_of_two_that_are_alike_one_in_twenty_seems_different_and_the_interval_holds_nought() -> None:
    found = []
    for seed in range(200):
        generator, hard_C = hard(seed)
        found.append(pair(losses(generator, hard_C), losses(generator, hard_C)))
    assert 2 <= sum(one.p <= 0.05 for one in found) <= 18, "10 of 200, and what chance makes of that"
    assert 180 <= sum(one.low <= 0 <= one.high for one in found) <= 198
    wide = 2 * 1.96 * 0.05 * (2 / 16) ** 0.5  # two trials on 16 clips that differ by 0.05
    assert 0.93 * wide < np.mean([one.high - one.low for one in found]) < 1.02 * wide


def test_the_luckiest_of_twenty_that_are_alike_is_surely_better_than_any_in_one_sweep_of_twenty() -> None:
    """Chosen by the clips that it is held against the others on: uncorrected it seems better in nearly every sweep."""
    plain = sure = 0
    for seed in range(60):
        generator, hard_C = hard(seed)
        trials = [losses(generator, hard_C) for _ in range(20)]
        best, *others = sorted(trials, key=lambda one: float(np.mean(np.reshape(one.right, (-1, BINS))[:, :2])))
        found = [pair(best, other) for other in others[-6:]]
        plain += min(one.p for one in found) <= 0.05
        sure += min(corrected(found, trials=20, objectives=1)) <= 0.05
    assert plain >= 40
    assert sure <= 7, "3 of 60, and what chance makes of that"


def test_two_trials_that_nobody_chose_from_others_seem_as_different_as_before() -> None:
    found = []
    for seed in range(100):
        generator, hard_C = hard(seed)
        one = pair(losses(generator, hard_C), losses(generator, hard_C))
        found.append((one.p, *corrected([one], trials=2, objectives=1)))
    assert all(plain <= raised < plain + 0.06 for plain, raised in found)


@pytest.mark.parametrize("trials", [20, 200])
def test_what_is_plainly_worse_is_surely_so_however_many_trials_there_were(trials: int) -> None:
    generator, hard_C = hard(3)
    best, worse = losses(generator, hard_C, better_by=0.2), losses(generator, hard_C)
    (found,) = corrected([pair(best, worse)], trials=trials, objectives=2)
    assert found <= 0.01


def test_a_p_is_raised_by_trials_and_by_objectives_and_never_above_one() -> None:
    generator, hard_C = hard(4)
    near = pair(losses(generator, hard_C, better_by=0.03), losses(generator, hard_C))
    raised = [corrected([near], trials=trials, objectives=1)[0] for trials in (2, 5, 20)]
    assert near.p <= raised[0] < raised[1] < raised[2]
    assert corrected([near], trials=5, objectives=2) == [pytest.approx(min(1.0, 2 * raised[1]))]
    same = losses(generator, hard_C)
    assert corrected([pair(same, same)], trials=5, objectives=3) == [1.0]
    steady = ClipLosses(step=1, bins=BINS, right=[one + 0.5 for one in same.right], wrong=same.wrong)
    assert corrected([pair(same, steady)], trials=20, objectives=1)[0] < 0.01, "the same on every clip"
    assert corrected([], trials=5, objectives=0) == []


@pytest.mark.parametrize(
    "other",
    [
        ClipLosses(step=1, bins=BINS, right=[1.0] * 12, wrong=[1.0] * 12),
        ClipLosses(step=1, bins=2, right=[1.0] * 16, wrong=[1.0] * 16),
        ClipLosses(step=1, bins=BINS, right=[float("nan")] * 16, wrong=[1.0] * 16),
    ],
)
def test_what_does_not_compare_is_not_compared(other: ClipLosses) -> None:
    one = ClipLosses(step=1, bins=BINS, right=[1.0] * 16, wrong=[1.0] * 16)
    assert compared(one, other, Formula(bins=(0, 1))) is None
    few = ClipLosses(step=1, bins=BINS, right=[1.0] * 4, wrong=[1.0] * 4)
    assert compared(few, few, Formula(bins=(0, 1))) is None, "one clip of a level says nothing of how clips differ"
    assert formula_of("clips_per_s", BINS) is None
    assert formula_of("validation/odd", BINS) is None


# ---- in a sweep's result ---------------------------------------------------------------------------------------------


@pytest.fixture
def sweep(made: ModuleType, tmp_path: Path) -> SweepFolder:
    """By skill 1 is the best, 0 is as good by chance, 2 is worse; 3 is none of the three best."""
    specs = (ObjectiveSpec(name="skill"), ObjectiveSpec(name="validation/bin3"))
    sweep = SweepFolder.create(made.judged(made.sweep_job(objectives=specs[:1])), str(tmp_path / "sweep"))
    generator, hard_C = hard(5)
    for number, better_by in enumerate((0.0, 0.0, -0.2, -0.4)):
        told = losses(generator, hard_C, better_by=better_by)
        loss = float(np.mean([np.mean(told.right[level::BINS]) for level in (0, 1)]))
        skill = 1 - (loss - 0.001 * (number == 1)) / 4
        report = made.report(10, 10.0) | {"validation/headline": loss, "validation/skill_linear": skill}
        trial = made.add_trial(sweep, number, {"stride": 1}, report)
        keep_clip_losses(trial.run_uri(), told)
    return sweep


def test_the_best_is_held_against_the_next_best(sweep: SweepFolder) -> None:
    told = write_results(sweep)
    found = told["comparisons"]
    assert told["best"] == found["best"]
    assert told["best"] in (0, 1)
    assert (found["correction"], found["trials"], found["objectives"]) == ("best of trials", 4, 1), "3 could have won"
    other, worse = found["pairs"]
    assert [one["objective"] for one in found["pairs"]] == ["skill", "skill"]
    assert (other["trial"], worse["trial"]) == (1 - told["best"], 2), "trial 3 is not among the three best"
    assert (other["is_sure"], worse["is_sure"], worse["better"]) == (False, True, "best")
    by_number = {trial["number"]: trial["objectives"]["skill"]["value"] for trial in told["trials"]}
    assert worse["difference"] == pytest.approx(by_number[2] - by_number[told["best"]], abs=1e-3)
    assert worse["low"] <= worse["difference"] <= worse["high"] < 0
    assert worse["p"] <= worse["p_corrected"] <= 0.05 < other["p_corrected"]
    assert "one training" in found["note"]
    assert json.loads(Path(sweep.uri, "sweep-result.json").read_text())["comparisons"] == found


def test_losses_of_another_judgement_or_none_or_damaged_ones_are_not_compared(sweep: SweepFolder) -> None:
    best = write_results(sweep)["best"]
    place = Path(sweep.trial(2).run_uri(), "validation/clip-losses.json")
    told = json.loads(place.read_text())
    for text in (json.dumps(told | {"step": 9}), "{", json.dumps({"step": 10})):
        place.write_text(text)
        assert [one["trial"] for one in write_results(sweep)["comparisons"]["pairs"]] == [1 - best]
    Path(sweep.trial(best).run_uri(), "validation/clip-losses.json").unlink()
    assert write_results(sweep)["comparisons"] == {}
