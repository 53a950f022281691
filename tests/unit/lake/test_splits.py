"""A group has one split for ever, and a version whose splits share one is refused."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cineray.errors import SplitLeakage, UsageError
from cineray.lake import Lake, SplitRule, assign_splits, batches_of, check_leakage, clip_row

HALVES = SplitRule(fractions={"train": 0.5, "test": 0.5}, salt="s")


def clip(video: str, split: str | None, group: str) -> dict[str, Any]:
    return clip_row(video_id=video, start_pts=0, end_pts=9, split=split, group_id=group)


def test_groups_fall_into_splits_in_the_given_fractions() -> None:
    found = Counter(SplitRule().assign(f"group-{n}") for n in range(20_000))
    assert {name: round(count / 20_000, 2) for name, count in found.items()} == {
        "train": 0.9,
        "validation": 0.05,
        "test": 0.05,
    }


def test_a_split_is_pinned_because_training_and_test_must_never_mix() -> None:
    assert [HALVES.assign(name) for name in ("a", "b", "c", "d", "e", "f")] == [
        "test",
        "test",
        "train",
        "test",
        "test",
        "train",
    ]


@given(group=st.text(max_size=20))
def test_a_group_depends_on_nothing_but_salt_and_name(group: str) -> None:
    assert SplitRule(salt="x").assign(group) == SplitRule(salt="x").assign(group)
    assert HALVES.assign(group) in ("train", "test")


def test_a_split_of_nothing_gets_nothing() -> None:
    rule = SplitRule(fractions={"train": 1.0, "test": 0.0})
    assert {rule.assign(str(n)) for n in range(1000)} == {"train"}


@pytest.mark.parametrize("fractions", [{}, {"train": 0.9}, {"train": 1.1, "test": -0.1}, {"tr ain": 1.0}, {"": 1.0}])
def test_fractions_that_are_none_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="split"):
        SplitRule(fractions=fractions)


def test_a_rule_comes_back_from_json_with_its_order() -> None:
    rule = SplitRule(fractions={"z": 0.25, "a": 0.75}, salt="é")
    assert SplitRule.from_json(rule.to_json()) == rule
    assert list(SplitRule.from_json(rule.to_json()).fractions) == ["z", "a"]


def test_a_rule_says_how_videos_are_grouped_and_one_from_before_that_was_said_means_each_video() -> None:
    rule = SplitRule(group_by="path:(cam\\d+)_")
    assert rule.to_json()["group_by"] == "path:(cam\\d+)_"
    assert SplitRule.from_json(rule.to_json()) == rule
    before = {"fractions": [["train", 1.0]], "salt": "s"}
    assert SplitRule.from_json(before).group_by == "video"
    assert SplitRule.from_json(before).to_json() == before  # so that fingerprints made before that stay what they are


def test_rules_that_cut_in_another_order_or_group_otherwise_are_other_rules() -> None:
    assert SplitRule(fractions={"a": 0.5, "b": 0.5}) != SplitRule(fractions={"b": 0.5, "a": 0.5})
    assert SplitRule(group_by="path:(x)") != SplitRule()
    assert len({SplitRule(), SplitRule(), SplitRule(group_by="path:(x)")}) == 2


def test_a_row_keeps_its_split_then_its_group_s_and_only_then_asks_the_rule() -> None:
    rows = [clip("v", "test", "old"), clip("w", None, "old"), clip("x", None, "new")]
    only_train = SplitRule(fractions={"train": 1.0})
    done = assign_splits(rows, rule=only_train, existing={"old": "validation"})
    assert [row["split"] for row in done] == ["test", "validation", "train"]


def test_a_group_in_two_splits_is_named() -> None:
    rows = [clip("v", "train", "g"), clip("w", "test", "g"), clip("x", "test", "fine"), clip("y", None, "g")]
    with pytest.raises(
        SplitLeakage, match=re.escape("1 group would lie in more than one split: 'g' in test and train")
    ):
        check_leakage(batches_of("clips", rows, rows_per_batch=1))


def test_a_video_in_two_splits_is_named_though_its_groups_differ() -> None:
    rows = [clip("v", "train", "g"), clip("v", "test", "h")]
    with pytest.raises(SplitLeakage, match="1 video would lie in more than one split: 'v' in test and train"):
        check_leakage(batches_of("clips", rows))


def test_of_many_leaking_groups_twenty_are_named() -> None:
    rows = [clip(f"{group}{split}", split, f"g{group:03}") for group in range(30) for split in ("train", "test")]
    with pytest.raises(SplitLeakage, match=r"30 groups .*'g019' in test and train, and 10 more\. Nothing was written"):
        check_leakage(batches_of("clips", rows))


def test_leakage_is_found_over_many_batches_and_clean_clips_pass() -> None:
    clean = [clip(f"v{n}", "train" if n % 2 else "test", f"g{n}") for n in range(600)]
    check_leakage(batches_of("clips", clean, rows_per_batch=1))
    check_leakage([])
    with pytest.raises(SplitLeakage, match="'g7' in test and train"):
        check_leakage(batches_of("clips", [*clean, clip("new", "test", "g7")], rows_per_batch=1))


def test_a_commit_that_leaks_makes_no_version(lake: Lake, commit: Any, clips: Any) -> None:
    first = commit(lake, add={"clips": clips("a", split="train", group="tape 1")})
    with pytest.raises(SplitLeakage, match="'tape 1' in test and train"):
        commit(lake, add={"clips": clips("b", split="test", group="tape 1")})
    assert lake.head() == first
