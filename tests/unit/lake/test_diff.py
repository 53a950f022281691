"""A diff says what came, went and changed, and reads only what differs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cineray.lake import Lake, TableDiff, batches_of, media_row, reject_row
from cineray.lake.tables import Table
from cineray.records import Reject


def test_videos_clips_layers_and_splits(lake: Lake, commit: Any, clips: Any, other: Any) -> None:
    reject = Reject(name="b", stage="decode", reason="corrupt", detail="frame 3")
    a, b, c = (other(digits).video_id for digits in ("aa", "bb", "cc"))
    commit(
        lake, add={"media": batches_of("media", [media_row(other(d)) for d in ("aa", "bb", "dd")]), "clips": clips("x")}
    )
    changed = [reject_row(reject, source="s", video_id=b), media_row(other("cc")), media_row(other("dd"), label="new")]
    kept = f"video_id <> '{a}' AND video_id <> '{b}' AND label IS NULL OR video_id IN ('{a}', '{b}')"
    commit(lake, add={"media": batches_of("media", changed)}, remove={"media": kept})
    commit(lake, add={"clips": clips("y", split="test"), "layers/captions": []})
    found = lake.diff(1, 3)
    assert found.tables["media"] == TableDiff(
        added=1,
        removed=1,
        changed=2,
        added_keys=(c,),
        removed_keys=(a,),
        changed_keys=(b, other("dd").video_id),
        moved=((b, "ready", "rejected"),),
    )
    assert (found.tables["clips"].added, found.tables["clips"].removed) == (1, 0)
    assert found.counts == {"clips": (1, 2), "rejected": (0, 1), "videos": (3, 2)}
    assert found.splits == {"test": (0, 1), "train": (1, 1)}
    assert json.loads(json.dumps(found.to_json()))["tables"]["media"]["added"] == 1


def test_lists_are_cut_and_counts_are_not(lake: Lake, commit: Any, clips: Any) -> None:
    commit(lake)
    commit(lake, add={"clips": clips(*"abcdefgh")})
    found = lake.diff(1, 2, limit=3).tables["clips"]
    assert (found.added, len(found.added_keys)) == (8, 3)


def test_a_row_written_again_as_it_was_is_no_change(lake: Lake, commit: Any, clips: Any) -> None:
    first = commit(lake, add={"clips": clips("a", "b", "c")})
    commit(lake, remove={"clips": "video_id = 'a'"})  # writes b and c again
    last = commit(lake, add={"clips": clips("a")})
    found = lake.diff(first, last)
    assert found.same_data
    assert found.tables["clips"] == TableDiff()


def test_what_both_versions_share_is_not_read(
    lake: Lake, commit: Any, clips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(lake, add={"clips": clips(*(f"v{n}" for n in range(1000)))})
    commit(lake, add={"clips": clips("new")})
    read, real = [], Table.scan

    def counting(self: Table, *args: Any, **options: Any) -> Any:
        for batch in real(self, *args, **options):
            read.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(Table, "scan", counting)
    assert lake.diff(1, 2).tables["clips"].added == 1
    assert sum(read) == 1
