"""A commit makes exactly the version that it says, or none."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from cineray.errors import CommitConflict, LakeError, UsageError
from cineray.lake import MEDIA, Changes, Lake, SplitRule, Version, batches_of, clip_row, layer_row, schema
from cineray.lake import commit as protocol


def videos_of(lake: Lake, version: Any = "latest") -> list[str]:
    return sorted(lake.read(version, "clips", columns=["video_id"])["video_id"].to_pylist())


def test_versions_are_a_chain_and_each_stays_as_it_was(lake: Lake, commit: Any, clips: Any) -> None:
    first = commit(lake, add={"clips": clips("a", "b")})
    second = commit(lake, add={"clips": clips("c")}, remove={"clips": "video_id = 'a'"})
    assert [(v.number, v.parent) for v in lake.versions()] == [(2, 1), (1, None)]
    assert (videos_of(lake, first), videos_of(lake, second)) == (["a", "b"], ["b", "c"])
    assert lake.head() == second
    assert (second.counts["clips"], second.splits, second.tables["clips"].rows) == (2, {"train": 2}, 2)
    assert (second.author, second.command, second.source, second.processing) == ("tester", "test", "here", {"n": 1})


def test_a_version_names_its_source_without_what_opens_it(lake: Lake, clips: Any) -> None:
    source = "s3://me:word@store/films https://host/list.parquet?X-Amz-Signature=abc"
    changes = Changes(add={"clips": clips("a")})
    lake.commit(lambda head: changes, author="a", command="c", source=source, processing={})
    assert lake.head().source == "s3://***@store/films https://host/list.parquet?***"


def test_the_same_rows_have_the_same_fingerprint_by_whatever_way_they_came(
    tmp_path: Any, commit: Any, clips: Any
) -> None:
    one, other = Lake.create(str(tmp_path / "one")), Lake.create(str(tmp_path / "other"))
    at_once = commit(one, add={"clips": clips("a", "b", "c")}, rule=SplitRule())
    commit(other, add={"clips": clips("c", "x")}, rule=SplitRule())
    commit(other, add={"clips": clips("a")}, remove={"clips": "video_id = 'x'"})
    in_steps = commit(other, add={"clips": clips("b"), "layers/captions": []})
    assert at_once.fingerprint == in_steps.fingerprint
    assert commit(one, rule=SplitRule(salt="other")).fingerprint != at_once.fingerprint


def test_a_change_of_nothing_returns_the_head(lake: Lake, commit: Any, clips: Any) -> None:
    made = commit(lake, add={"clips": clips("a")})
    assert commit(lake) == made
    assert commit(lake, add={"clips": []}, remove={"clips": "video_id = 'z'", "places": "true"}) == made
    assert len(list(lake.versions())) == 1


def test_the_first_commit_makes_a_version_even_of_nothing(lake: Lake, commit: Any) -> None:
    made = commit(lake)
    assert (made.number, made.tables, lake.head()) == (1, {}, made)
    assert lake.read(made, "media").schema.equals(MEDIA)
    assert lake.show()["videos"] == 0


def test_a_removal_keeps_rows_for_which_its_predicate_says_nothing(lake: Lake, commit: Any, clips: Any) -> None:
    commit(lake, add={"clips": [*clips("a", label="cat"), *clips("b", label=None), *clips("c", label="dog")]})
    commit(lake, remove={"clips": "label = 'cat'"})
    assert videos_of(lake) == ["b", "c"]
    assert lake.verify().ok


def test_a_table_can_be_emptied_and_filled_again(lake: Lake, commit: Any, clips: Any) -> None:
    full = commit(lake, add={"clips": clips("a", "b")})
    assert commit(lake, remove={"clips": "true"}).counts["clips"] == 0
    assert videos_of(lake) == []
    assert commit(lake, add={"clips": clips("a", "b")}).fingerprint == full.fingerprint


def test_a_key_twice_is_refused_and_named(lake: Lake, commit: Any, clips: Any) -> None:
    made = commit(lake, add={"clips": clips("a")})
    with pytest.raises(
        UsageError, match=r"1 values of clip_id would be in clips more than once, such as '[0-9a-f]{32}'"
    ):
        commit(lake, add={"clips": clips("a", "b")})
    with pytest.raises(UsageError, match="1 rows for clips have no clip_id"):
        commit(lake, add={"clips": batches_of("clips", [{"video_id": "b"}])})
    assert lake.head() == made


def test_a_row_may_be_replaced_in_one_change(lake: Lake, commit: Any, clips: Any) -> None:
    commit(lake, add={"clips": clips("a", label="cat")})
    commit(lake, add={"clips": clips("a", label="dog")}, remove={"clips": "video_id = 'a'"})
    assert lake.read("latest", "clips", columns=["label"]).to_pydict() == {"label": ["dog"]}


def test_a_batch_of_other_columns_is_refused_with_a_way_out(lake: Lake, commit: Any) -> None:
    wrong = pa.RecordBatch.from_pydict({"clip": ["a"]})
    with pytest.raises(
        UsageError, match=r"unknown columns \['clip'\]; make batches with cineray.lake.batches_of\('clips'"
    ):
        commit(lake, add={"clips": [wrong]})


def test_columns_in_another_order_or_of_a_narrower_type_fit(lake: Lake, commit: Any, clips: Any) -> None:
    (batch,) = clips("a")
    narrow = batch.set_column(2, "start_pts", pa.array([0], pa.int32())).select(batch.schema.names[::-1])
    assert commit(lake, add={"clips": [narrow]}).counts["clips"] == 1


def test_an_error_in_the_caller_s_rows_comes_out_as_it_is_and_leaves_the_head(
    lake: Lake, commit: Any, clips: Any
) -> None:
    made = commit(lake, add={"clips": clips("a")})

    def broken() -> Any:
        yield from clips("b")
        raise ZeroDivisionError("in the middle")

    with pytest.raises(ZeroDivisionError, match="in the middle"):
        commit(lake, add={"clips": broken()})
    assert lake.head() == made
    assert commit(lake, add={"clips": clips("c")}).counts["clips"] == 2


def test_a_writer_that_lost_the_race_prepares_again_on_the_new_head(lake: Lake, commit: Any, clips: Any) -> None:
    heads: list[int | None] = []

    def prepare(head: Version | None) -> Changes:
        heads.append(head.number if head else None)
        if len(heads) < 3:  # somebody else is quicker, twice
            commit(lake, add={"clips": clips(f"other-{len(heads)}")})
        return Changes(add={"clips": clips("mine")})

    made = lake.commit(prepare, author="a", command="c", source="s", processing={})
    assert (heads, made.number) == ([None, 1, 2], 3)
    assert videos_of(lake) == ["mine", "other-1", "other-2"]
    assert lake.verify().ok


def test_a_writer_that_loses_every_race_says_so(
    lake: Lake, commit: Any, clips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_TRIES", 3)
    others = iter("abcdef")

    def prepare(head: Version | None) -> Changes:
        commit(lake, add={"clips": clips(next(others))})
        return Changes(add={"clips": clips("mine")})

    with pytest.raises(CommitConflict, match="first, 3 times in a row; nothing was written, try again later"):
        lake.commit(prepare, author="a", command="c", source="s", processing={})
    assert videos_of(lake) == ["a", "b", "c"]


def test_a_lost_answer_to_the_manifest_s_put_is_not_a_lost_race(
    lake: Lake, commit: Any, clips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = protocol.put_if_absent

    def put_and_lose_the_answer(uri: str, data: bytes) -> bool:
        assert real(uri, data)
        return False  # what a store says to the second try of a request whose first answer was lost

    monkeypatch.setattr(protocol, "put_if_absent", put_and_lose_the_answer)
    made = commit(lake, add={"clips": clips("a")})
    assert (made.number, videos_of(lake)) == (1, ["a"])


def test_rows_of_abandoned_writers_never_reach_a_version(lake: Lake, commit: Any, clips: Any) -> None:
    commit(lake, add={"clips": clips("a")})
    table = lake.table("clips")
    orphan = table.write(clips("orphan"))
    table.commit([*table.fragments(table.latest()), *orphan])  # a writer killed before its manifest
    made = commit(lake, add={"clips": clips("b")})
    assert videos_of(lake) == ["a", "b"]
    assert made.tables["clips"].version == 3
    assert lake.verify().ok


def test_many_rows_stream_through_in_batches(lake: Lake, commit: Any) -> None:
    whole_bytes, peak, before = 0, 0, pa.total_allocated_bytes()

    def captions() -> Any:
        nonlocal whole_bytes, peak
        for n in range(100):
            row = layer_row(video_id=str(n), value=chr(65 + n % 26) * 1_000_000, author="a")
            (batch,) = batches_of("layers/captions", [row])
            whole_bytes += batch.nbytes
            peak = max(peak, pa.total_allocated_bytes() - before)
            yield batch

    assert commit(lake, add={"layers/captions": captions()}).counts["layers/captions"] == 100
    assert whole_bytes > 100_000_000
    assert peak < 25_000_000


def test_many_small_commits_do_not_leave_many_small_fragments(
    lake: Lake, commit: Any, clips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_SMALL_FRAGMENTS", 4)
    for n in range(12):
        made = commit(lake, add={"clips": clips(f"v{n:02}")})
        assert len(lake.table("clips").fragments(made.tables["clips"].version)) <= 6
    assert videos_of(lake) == [f"v{n:02}" for n in range(12)]
    assert lake.verify().ok
    assert lake.diff(3, 12).tables["clips"].added == 9
    assert lake.diff(3, 12).tables["clips"].removed == 0


def test_a_column_added_to_the_schema_is_null_in_old_rows_and_changes_nothing_else(
    lake: Lake, commit: Any, clips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = schema.CLIPS
    rows = clips("a", "b", label="cat")[0].drop_columns(["label"]).to_pylist()
    with monkeypatch.context() as past:
        past.setitem(schema.SCHEMAS, "clips", today.remove(today.get_field_index("label")))
        old = commit(lake, add={"clips": batches_of("clips", rows)})
    told = {"label": [None, None], "video_id": ["a", "b"]}
    assert lake.read(old, "clips", columns=["label", "video_id"]).to_pydict() == told
    assert lake.read(old, "clips", columns=["label"]).num_rows == 2
    assert lake.verify(old).ok
    new = commit(lake, add={"clips": clips("c", label="dog")})
    assert [(r["video_id"], r["label"], r["weight"]) for r in lake.read(new, "clips").to_pylist()] == [
        ("a", None, 1.0),
        ("b", None, 1.0),
        ("c", "dog", 1.0),
    ]
    assert lake.verify(new).ok
    assert lake.diff(old, new).tables["clips"].changed == 0


def test_an_older_program_does_not_drop_a_newer_one_s_columns(
    lake: Lake, commit: Any, clips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = commit(lake, add={"clips": clips("a", label="cat")})
    today = schema.CLIPS
    monkeypatch.setitem(schema.SCHEMAS, "clips", today.remove(today.get_field_index("label")))
    with pytest.raises(LakeError, match=r"has the columns \['label'\], made by a newer cineray"):
        commit(lake, remove={"clips": "video_id = 'a'"})
    assert lake.head() == made


def test_a_layer_of_a_known_kind_is_checked_before_it_is_written(lake: Lake, commit: Any) -> None:
    row = layer_row(video_id="v", value="{}", author="a")
    with pytest.raises(UsageError, match="is not a row of layer kind masks"):
        commit(lake, add={"layers/masks-mine": batches_of("layers/masks-mine", [row])})
    assert lake.head() is None


def test_adding_to_a_layer_touches_no_other_table(lake: Lake, commit: Any, clips: Any) -> None:
    before = commit(lake, add={"clips": clips("a")})
    caption = layer_row(video_id="a", value="a cat", author="a")
    after = commit(lake, add={"layers/captions": batches_of("layers/captions", [caption])})
    assert after.tables["clips"] == before.tables["clips"]
    assert (lake.layers(before), lake.layers(after)) == ([], ["captions"])


def test_a_split_rule_stays_until_it_is_replaced(lake: Lake, commit: Any, clips: Any) -> None:
    assert commit(lake, add={"clips": clips("a")}, rule=SplitRule(salt="one")).split_rule == SplitRule(salt="one")
    assert commit(lake, add={"clips": clips("b")}).split_rule == SplitRule(salt="one")
    assert commit(lake, rule=SplitRule(salt="two")).split_rule == SplitRule(salt="two")


def test_a_rule_that_only_groups_or_orders_otherwise_is_a_new_version_of_other_data(lake: Lake, commit: Any) -> None:
    rules = [
        SplitRule(fractions={"a": 0.5, "b": 0.5}),
        SplitRule(fractions={"b": 0.5, "a": 0.5}),
        SplitRule(fractions={"b": 0.5, "a": 0.5}, group_by="column:tape"),
    ]
    made = [commit(lake, rule=rule) for rule in rules]
    assert [version.split_rule for version in lake.versions()] == rules[::-1]
    assert len({version.fingerprint for version in made}) == 3
    assert lake.diff(2, 3).split_rule_changed
    assert commit(lake, rule=rules[-1]) == made[-1]
    assert lake.verify().ok


def test_clips_may_be_null_where_they_may(lake: Lake, commit: Any) -> None:
    row = clip_row(video_id="v", start_pts=0, end_pts=5, split=None, group_id="g")
    made = commit(lake, add={"clips": batches_of("clips", [row])})
    assert (made.splits, lake.read(made, "clips").to_pylist()) == ({}, [row])


def test_a_damaged_manifest_is_named_and_not_guessed_at(lake: Lake, commit: Any, clips: Any, tmp_path: Any) -> None:
    commit(lake, add={"clips": clips("a")})
    manifest = tmp_path / "lake" / "versions" / "00000001.json"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    with pytest.raises(LakeError, match=r"00000001\.json is damaged"):
        lake.head()
