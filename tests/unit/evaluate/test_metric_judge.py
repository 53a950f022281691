"""Clips judged by all metrics at once: what is skipped and why, what is void, and what metrics notice."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cineray.errors import UsageError
from cineray.evaluate.feature_net import FeatureNet, train_feature_net
from cineray.evaluate.flicker import void_unless_moving
from cineray.evaluate.metric import Metric
from cineray.evaluate.registry import METRICS, WITHOUT_WEIGHTS, Setting, judge, make_metrics, measure
from cineray.evaluate.scores import Score
from cineray.evaluate.sensitivity import CORRUPTIONS, ranks
from cineray.testing.made_clips import made_clips


@pytest.fixture(scope="module", autouse=True)
def _one_thread():  # type: ignore[no-untyped-def]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def net() -> FeatureNet:
    return train_feature_net(made_clips(96, seed=2), steps=60)


# ---- which metrics there are -----------------------------------------------------------------------------------------


def test_what_cannot_be_had_is_skipped_with_the_reason_and_nothing_stands_in_for_it() -> None:
    made, skipped = make_metrics(Setting())
    assert {metric.name for metric in made} | {score.name for score in skipped} == set(METRICS)
    said = {score.name: score.skipped for score in skipped}
    assert said["feature_kernel"] == "there is no feature net; train one on the training clips, or give its file"
    assert said["nearest_train"] == "it compares with the training clips, and none were given"
    assert said["fvd"] == "no path was given for its weights; give weights.fvd=PATH"
    assert all(score.value is None for score in skipped)


def test_only_what_is_asked_for_is_made() -> None:
    made, skipped = make_metrics(Setting(), ["flicker", "fvd"])
    assert ([metric.name for metric in made], [score.name for score in skipped]) == (["flicker"], ["fvd"])


def test_a_metric_or_a_network_that_does_not_exist_is_named() -> None:
    with pytest.raises(UsageError, match="there is no metric flickr; there are: direction_accuracy, "):
        make_metrics(Setting(), ["flickr"])
    with pytest.raises(UsageError, match="there is no network i3d; there are: fvd, videomae, "):
        make_metrics(Setting(weights={"i3d": "x"}))


def test_every_metric_says_which_corruptions_it_must_notice() -> None:
    """Memory is about copies, which no corruption makes; its contract tests copy training clips instead."""
    unsaid = {name for name in WITHOUT_WEIGHTS if not METRICS[name].ranks}
    assert unsaid == {"nearest_train", "copied_clips"}
    assert {corruption for kind in METRICS.values() for corruption in kind.ranks} == set(CORRUPTIONS)


# ---- judging ---------------------------------------------------------------------------------------------------------


def test_clips_taken_a_few_at_a_time_have_the_same_rows(net: FeatureNet) -> None:
    metrics, _ = make_metrics(Setting(feature_net=net, train=made_clips(16, seed=2)), WITHOUT_WEIGHTS)
    clips = made_clips(11)
    whole, parts = measure(metrics, clips), measure(metrics, clips, at_once=4)
    for name, rows in whole.items():
        assert parts[name].names == rows.names
        np.testing.assert_allclose(parts[name].values_ND, rows.values_ND, rtol=1e-4, atol=1e-5)


def test_64_clips_are_judged_by_all_metrics_in_a_few_processor_seconds(net: FeatureNet) -> None:
    """Measured: about 3 s, with as many real clips beside them; the bound leaves room for a busy machine."""
    train, clips, real = made_clips(128, seed=2), made_clips(64), made_clips(64, seed=1)
    metrics, _ = make_metrics(Setting(feature_net=net, train=train), WITHOUT_WEIGHTS)
    before = time.process_time()
    scores = judge(metrics, clips, real)
    seconds = time.process_time() - before
    assert [score.name for score in scores] == list(WITHOUT_WEIGHTS)
    assert all(score.value is not None for score in scores)
    assert seconds < 12


def test_real_clips_stand_beside_every_score_that_is_to_be_read_against_them() -> None:
    metrics, _ = make_metrics(Setting(), ["direction_accuracy", "flicker", "velocity_frechet"])
    scores = judge(metrics, made_clips(16), made_clips(24, seed=1))
    assert [list(score.controls) for score in scores] == [["real"], ["real"], ["real halves", "as few samples"]]
    assert scores[0].controls["real"]["n"] == 24
    assert scores[0].controls["real"]["value"] == 1.0


# ---- void flicker ----------------------------------------------------------------------------------------------------


def test_flicker_of_samples_that_hardly_move_is_void() -> None:
    """Slowed to a quarter: little flicker, and no reason to be proud of it."""
    clips, real = made_clips(16), made_clips(16, seed=1)
    slow = replace(clips, frames_NTHWC=clips.frames_NTHWC[:, [0, 0, 0, 0, 1, 1, 1, 1]])
    metrics, _ = make_metrics(Setting(), ["dynamic_degree", "flicker", "second_difference"])
    fine, void = judge(metrics, clips, real), judge(metrics, slow, real)
    assert [score.skipped for score in fine] == ["", "", ""]
    assert [score.value is None for score in void] == [False, True, True]
    assert void[1].note.startswith("void: samples move ")
    assert void[1].note.endswith("wanted within 20%")
    assert void[1].facts["measured"] > 0


def test_flicker_stands_where_nothing_is_known_of_real_clips() -> None:
    told = {"unit": "", "better": "like real", "group": ""}
    scores = {name: Score(name=name, value=1.0, **told) for name in ("flicker", "dynamic_degree")}  # type: ignore[arg-type]
    assert void_unless_moving(scores) == scores


# ---- corruptions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("corruption", list(CORRUPTIONS))
def test_a_clip_is_spoilt_alike_whatever_stands_beside_it_and_the_more_the_stronger(corruption: str) -> None:
    clips = made_clips(8)
    spoil = CORRUPTIONS[corruption]
    spoilt = [spoil(clips, strength, 0) for strength in range(3)]
    assert np.array_equal(spoil(clips.select(range(5)), 1, 0).frames_NTHWC, spoilt[1].frames_NTHWC[:5])
    pixels = [np.abs(each.frames_NTHWC.astype(int) - clips.frames_NTHWC).mean() for each in spoilt]
    times = [float(clips.seconds_NT[0, -1] - each.seconds_NT[0, -1]) for each in spoilt]
    changed = times if corruption == "speed" else pixels
    assert 0 < changed[0] < changed[1] < changed[2]


def test_ranks_means_further_from_clean_at_every_step() -> None:
    falling, rising = [1.0, 0.9, 0.7, 0.2], [1.0, 1.1, 1.2, 1.3]
    assert [ranks(falling, better) for better in ("higher", "lower", "like real")] == [True, False, True]
    assert [ranks(rising, better) for better in ("higher", "lower", "like real")] == [False, True, True]
    assert not ranks([1.0, 0.9, 0.95, 0.2], "like real")
    assert not ranks([1.0, 1.0, 0.9, 0.2], "higher")
    assert ranks([1.0, 1.0, 0.9, 0.2], "higher", ties=True)
    assert not ranks([1.0, 1.0, 1.0, 1.0], "higher", ties=True)
    assert not ranks([1.0, float("nan"), 0.9, 0.2], "higher")


# ---- the feature net -------------------------------------------------------------------------------------------------


def test_the_net_learns_what_it_is_asked(net: FeatureNet) -> None:
    """Chance is 1/2, and 1/8 for the class; after sixty steps, about two seconds."""
    assert set(net.learnt) == {"backwards", "class", "hurried", "shuffled"}
    assert net.learnt["shuffled"] > 0.65
    assert net.learnt["class"] > 0.3


def test_a_net_is_a_file_whose_hash_is_its_name(net: FeatureNet, tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "net.safetensors"
    net.save(path)
    loaded = FeatureNet.load(path)
    assert loaded.sha256 == net.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.learnt == net.learnt
    frames = made_clips(4).frames_NTHWC
    assert np.array_equal(loaded.features(frames), net.features(frames))
    assert np.array_equal(loaded.frame_features(frames), net.frame_features(frames))


def test_the_same_clips_and_seed_give_the_same_net_and_another_seed_another() -> None:
    clips = made_clips(16)
    one, same, other = (train_feature_net(clips, steps=3, seed=seed).sha256 for seed in (0, 0, 1))
    assert one == same != other


def test_a_distance_says_under_which_net_it_was_taken(net: FeatureNet) -> None:
    (metric,), _ = make_metrics(Setting(feature_net=net), ["feature_frechet"])
    assert isinstance(metric, Metric)
    (score,) = judge([metric], made_clips(8), made_clips(8, seed=1), bootstrap=5)
    assert score.facts == {"feature_net_sha256": net.sha256}


def test_a_file_that_is_no_net_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no net")
    with pytest.raises(UsageError, match=r"is not a feature net .*; wanted what FeatureNet.save wrote"):
        FeatureNet.load(tmp_path / "x")


def test_clips_too_short_to_learn_from_are_refused() -> None:
    with pytest.raises(UsageError, match="from 8 clips of 3 frames; wanted two clips or more, of 4 frames or more"):
        train_feature_net(made_clips(8, frames=3))
