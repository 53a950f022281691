"""Garbage is found before it is removed, and nothing that anybody needs is ever garbage."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from cineray.errors import LakeError, UsageError
from cineray.lake import Changes, GcReport, Lake, Version, batches_of, media_row, place_row
from cineray.lake.tables import Table, tag_name
from cineray.records import Place, VideoFile

DAY = 86400.0


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def kinds(report: GcReport) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in report.garbage:
        found[item.kind] = found.get(item.kind, 0) + 1
    return found


def abandon(lake: Lake, batches: Any) -> Table:
    """What a writer leaves that was killed after the table's commit, and one killed before it."""
    table = lake.table("clips")
    before = table.fragments(table.latest()) if table.latest() else []
    table.commit([*before, *table.write(batches)])
    table.write(batches)
    return table


def test_a_lake_that_only_grew_has_no_garbage(lake: Lake, commit: Any, clips: Any) -> None:
    for video in "abc":
        commit(lake, add={"clips": clips(video)})
    assert lake.gc(older_than_seconds=0).garbage == ()


def test_what_killed_writers_left_is_found_then_removed_and_versions_stay(
    lake: Lake, commit: Any, clips: Any, tmp_path: Path
) -> None:
    commit(lake, add={"clips": clips("a")})
    abandon(lake, clips("orphan"))
    commit(lake, add={"clips": clips("b")}, remove={"clips": "video_id = 'a'"})
    clean = files_below(tmp_path / "lake")
    dry = lake.gc(older_than_seconds=0)
    assert dry.dry_run
    assert kinds(dry) == {"table_version": 1, "fragment": 4}  # its manifest, its transaction, two orphaned fragments
    assert files_below(tmp_path / "lake") == clean
    done = lake.gc(dry_run=False, older_than_seconds=0)
    assert (done.garbage, done.size_bytes) == (dry.garbage, dry.size_bytes)
    gone = clean - files_below(tmp_path / "lake")
    assert gone == {item.uri.removeprefix(f"{lake.uri}/") for item in done.garbage if item.kind == "fragment"}
    assert [lake.verify(number).ok for number in (1, 2)] == [True, True]
    assert lake.gc(older_than_seconds=0).garbage == ()
    assert commit(lake, add={"clips": clips("c")}).counts["clips"] == 2


def test_fragments_of_a_table_that_was_never_committed_are_garbage(lake: Lake, clips: Any, tmp_path: Path) -> None:
    lake.table("clips").write(clips("a"))
    assert kinds(lake.gc(dry_run=False, older_than_seconds=0)) == {"fragment": 1}
    assert files_below(tmp_path / "lake") == {"lake.json"}


def test_nothing_younger_than_the_grace_period_is_touched(lake: Lake, commit: Any, clips: Any) -> None:
    commit(lake, add={"clips": clips("a")})
    abandon(lake, clips("orphan"))
    commit(lake, add={"clips": clips("b")})
    assert lake.gc().garbage == ()
    assert lake.gc(older_than_seconds=60).garbage == ()


@pytest.mark.parametrize("age", [-1, float("nan")])
def test_an_age_that_is_none_is_refused(lake: Lake, age: float) -> None:
    with pytest.raises(UsageError, match="wanted 0 or more"):
        lake.gc(older_than_seconds=age)


def test_nothing_that_a_running_writer_wrote_is_touched(lake: Lake, commit: Any, clips: Any) -> None:
    commit(lake, add={"clips": clips("a")})
    seen: list[GcReport] = []

    def slow_rows() -> Any:
        yield from clips("b")
        seen.append(lake.gc(dry_run=False, older_than_seconds=0))  # somebody tidies up in the middle of our commit

    def prepare(_head: Version | None) -> Changes:
        lake.table("clips").write(clips("written by this writer"))
        return Changes(add={"clips": slow_rows()})

    lake.commit(prepare, author="a", command="c", source="s", processing={})
    assert [report.garbage for report in seen] == [()]
    assert lake.verify().ok
    assert kinds(lake.gc(older_than_seconds=0)) == {"fragment": 1}  # what it wrote aside and never committed


def test_what_a_killed_ingest_staged_stays_while_any_writer_is_at_work(lake: Lake, tmp_path: Path) -> None:
    # A resumed writer needs all of them, and is younger.
    for name in ("staging/key/part-1.arrow", "media/one.mp4", "shards/train/000000-0123.tar"):
        (tmp_path / "lake" / name).parent.mkdir(parents=True)
        (tmp_path / "lake" / name).write_bytes(b"x")
        os.utime(tmp_path / "lake" / name, (1, 1))
    with lake.writing():
        assert lake.gc(dry_run=False).garbage == ()
    assert kinds(lake.gc(dry_run=False)) == {"staging": 1, "media": 1, "shard": 1}


def test_gc_says_who_holds_it_up(lake: Lake, commit: Any, clips: Any) -> None:
    commit(lake, add={"clips": clips("a")})
    assert lake.gc().held_by == ()
    with lake.writing(), lake.lease(1):
        writer, reader = sorted(lake.gc().held_by, key=lambda text: "version 1" in text)
    me = f"process {os.getpid()} on {socket.gethostname()}"
    day = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
    assert re.fullmatch(rf"{re.escape(me)}, writing since {day}; the lease ends at {day} unless it is renewed", writer)
    assert re.fullmatch(
        rf"{re.escape(me)}, reading version 1 since {day}; the lease ends at {day} unless it is renewed", reader
    )
    assert lake.gc().held_by == ()


def test_a_retired_version_goes_and_files_that_others_share_stay(lake: Lake, commit: Any, clips: Any) -> None:
    commit(lake, add={"clips": clips("a", "b")})
    commit(lake, add={"clips": clips("c")})
    commit(lake, remove={"clips": "video_id = 'a'"})
    lake.retire(1)
    lake.retire(2)
    assert lake.gc().kept_versions == (3, 2, 1)  # they were retired only just now: a reader may still be in them
    assert lake.gc().garbage == ()
    done = lake.gc(dry_run=False, older_than_seconds=0)
    assert done.kept_versions == (3,)
    assert sorted(item.uri for item in done.garbage if item.kind == "table_version") == [
        f"{lake.uri}/tables/clips.lance?version=1",
        f"{lake.uri}/tables/clips.lance?version=2",
    ]
    assert sorted(lake.read(3, "clips")["video_id"].to_pylist()) == ["b", "c"]
    assert lake.verify().ok
    assert [row["version"] for row in lake.log()] == [3, 2, 1]


def test_a_version_that_a_reader_holds_is_kept_until_it_is_given_back(lake: Lake, commit: Any, clips: Any) -> None:
    commit(lake, add={"clips": clips("a", "b")})
    commit(lake, remove={"clips": "video_id = 'a'"})
    with lake.lease(1):
        lake.retire(1)
        assert lake.gc(dry_run=False, older_than_seconds=0).garbage == ()
        assert lake.table("clips").open(1).count_rows() == 2
    assert kinds(lake.gc(dry_run=False, older_than_seconds=0))["table_version"] == 1


def test_a_reader_of_an_old_version_is_disturbed_by_neither_commits_nor_gc(lake: Lake, commit: Any, clips: Any) -> None:
    names = [f"v{n:04}" for n in range(5000)]
    first = commit(lake, add={"clips": clips(*names)})
    reading = lake.scan(first, "clips", ["video_id"], batch_size=100)
    seen = next(reading)["video_id"].to_pylist()
    for n in range(3):
        commit(lake, remove={"clips": f"video_id < 'v{n + 1}'"}, add={"clips": clips(f"new-{n}")})
        abandon(lake, clips("orphan"))
        lake.gc(dry_run=False, older_than_seconds=0)
    for batch in reading:
        seen += batch["video_id"].to_pylist()
    assert seen == names
    assert sorted(lake.read(first, "clips")["video_id"].to_pylist()) == names


def test_tags_that_a_killed_commit_did_not_get_to_are_made(lake: Lake, commit: Any, clips: Any) -> None:
    commit(lake, add={"clips": clips("a")})
    commit(lake, add={"clips": clips("b")})
    table = lake.table("clips")
    table.untag(1)
    table.untag(2)
    assert lake.gc().tags_made == 2
    assert table.tags() == {}
    assert lake.gc(dry_run=False).tags_made == 2
    assert table.tags() == {tag_name(1): 1, tag_name(2): 2}
    with pytest.raises(OSError, match="tagged version"):
        table.drop_versions([1])


def test_a_table_version_that_somebody_else_tagged_is_kept(lake: Lake, commit: Any, clips: Any) -> None:
    commit(lake, add={"clips": clips("a")})
    table = abandon(lake, clips("orphan"))
    table.open(2).tags.create("keep-me", 2)
    commit(lake, add={"clips": clips("b")})
    assert kinds(lake.gc(dry_run=False, older_than_seconds=0)) == {"fragment": 1}
    assert table.open(2).count_rows() == 2


def test_abandoned_staging_and_half_written_files_go_and_fresh_ones_stay(lake: Lake, tmp_path: Path) -> None:
    root, old = tmp_path / "lake", time.time() - 8 * DAY
    for name, when in {
        "staging/dead/part-1.arrow": old,
        "staging/dead/deep/part-2.arrow": old,
        "staging/alive/part-1.arrow": old,
        "staging/alive/part-2.arrow": time.time(),
        "versions/.cineray-unfinished-1": old,
        "versions/.cineray-unfinished-2": time.time(),
        "readers/old.json": old,
        "readers/long.json": old,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        expires = time.time() + DAY if "long" in name else old + 1
        (root / name).write_text(json.dumps({"version": 7, "started": old, "expires": expires}))
        os.utime(root / name, (when, when))
    done = lake.gc(dry_run=False)
    assert sorted((item.kind, item.uri.removeprefix(f"{lake.uri}/")) for item in done.garbage) == [
        ("lease", "readers/old.json"),
        ("staging", "staging/dead/deep/part-2.arrow"),
        ("staging", "staging/dead/part-1.arrow"),
        ("unfinished", "versions/.cineray-unfinished-1"),
    ]
    assert "staging/alive/part-1.arrow" in files_below(root)
    assert not files_below(root) & {"staging/dead/part-1.arrow", "readers/old.json"}


def test_links_are_not_followed_out_of_the_lake_and_strange_folders_are_left_alone(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/film.mp4").write_bytes(b"x")
    (tmp_path / "lake/staging").mkdir()
    (tmp_path / "lake/staging/key").symlink_to(tmp_path / "precious")
    (tmp_path / "lake/media").symlink_to(tmp_path / "precious")
    (tmp_path / "lake/tables/odd name.lance").mkdir(parents=True)
    (tmp_path / "lake/tables/odd name.lance/x").write_bytes(b"x")
    assert [item.uri for item in lake.gc(dry_run=False, older_than_seconds=0).garbage if "staging" in item.uri] == []
    assert (tmp_path / "lake/tables/odd name.lance/x").exists()


def test_remuxed_videos_stay_while_any_kept_version_names_them(
    lake: Lake, commit: Any, video: Any, other: Any, tmp_path: Path
) -> None:
    for name in ("one", "two", "orphan"):
        (tmp_path / "lake/media").mkdir(exist_ok=True)
        (tmp_path / f"lake/media/{name}.mp4").write_bytes(b"x" * 10)
    one = media_row(video, remuxed=video, remuxed_uri="media/one.mp4")
    two = media_row(other("ee"), remuxed=video, remuxed_uri=f"{lake.uri}/media/two.mp4")
    commit(lake, add={"media": batches_of("media", [one])})
    commit(lake, remove={"media": "true"}, add={"media": batches_of("media", [two])})
    done = lake.gc(dry_run=False, older_than_seconds=0)
    assert [(item.kind, item.uri, item.size_bytes) for item in done.garbage] == [
        ("media", f"{lake.uri}/media/orphan.mp4", 10)
    ]
    lake.retire(1)
    left = {item.uri for item in lake.gc(dry_run=False, older_than_seconds=0).garbage if item.kind == "media"}
    assert left == {f"{lake.uri}/media/one.mp4"}
    assert files_below(tmp_path / "lake/media") == {"two.mp4"}


def test_the_lakes_own_shards_stay_while_any_kept_version_names_a_video_in_them(
    lake: Lake, commit: Any, video: Any, other: Any, tmp_path: Path
) -> None:
    """`named` is of a version, `retired` of one that is retired, `place` only a further place, `orphan` of none."""
    for name in ("train/000000-named", "train/000000-retired", "test/000001-place", "test/000000-orphan"):
        for ending in ("tar", "idx"):
            path = tmp_path / "lake/shards" / f"{name}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 10)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/000000-orphan.tar").write_bytes(b"x")

    def lies(of: Any, name: str) -> Any:
        return media_row(of, place=Place(uri=f"{lake.uri}/shards/{name}.tar", offset=512, length=of.size_bytes))

    further = VideoFile(name="again", place=Place(uri="/moved/lake/shards/test/000001-place.tar", offset=512, length=9))
    rows = {"media": batches_of("media", [lies(video, "train/000000-retired")])}
    commit(lake, add=rows | {"places": batches_of("places", [place_row(further, video_id=video.video_id, source="s")])})
    new = batches_of("media", [lies(other("ee"), "train/000000-named")])
    commit(lake, remove={"media": "true"}, add={"media": new})
    assert lake.gc(dry_run=False).garbage == (), "younger than the grace period"
    done = lake.gc(dry_run=False, older_than_seconds=0)
    assert {(item.kind, item.uri, item.size_bytes) for item in done.garbage} == {
        ("shard", f"{lake.uri}/shards/test/000000-orphan.{ending}", 10) for ending in ("tar", "idx")
    }
    lake.retire(1)
    left = {item.uri for item in lake.gc(dry_run=False, older_than_seconds=0).garbage if item.kind == "shard"}
    assert left == {f"{lake.uri}/shards/train/000000-retired.{ending}" for ending in ("tar", "idx")}
    assert files_below(tmp_path / "lake/shards") == {
        *("train/000000-named.tar", "train/000000-named.idx", "test/000001-place.tar", "test/000001-place.idx")
    }
    assert files_below(tmp_path / "elsewhere") == {"000000-orphan.tar"}


def test_a_lost_table_version_stops_gc_instead_of_being_taken_for_garbage(
    lake: Lake, commit: Any, clips: Any, tmp_path: Path
) -> None:
    commit(lake, add={"clips": clips("a")})
    commit(lake, add={"clips": clips("b")})
    lance_versions = sorted((tmp_path / "lake/tables/clips.lance/_versions").glob("*.manifest"))
    lance_versions[-1].unlink()  # Lance names them backwards: this is version 1
    with pytest.raises(LakeError, match=r"lacks the table versions \[1\] that manifests name"):
        lake.gc(dry_run=False, older_than_seconds=0)


def test_gc_after_a_killed_gc_finishes_the_work(
    lake: Lake, commit: Any, clips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(lake, add={"clips": clips("a")})
    commit(lake, add={"clips": clips("b")}, remove={"clips": "true"})
    lake.retire(1)
    with monkeypatch.context() as patched:
        patched.setattr(Table, "drop_versions", lambda self, versions: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            lake.gc(dry_run=False, older_than_seconds=0)
    assert kinds(lake.gc(dry_run=False, older_than_seconds=0))["table_version"] == 1
    assert lake.gc(older_than_seconds=0).garbage == ()
    assert lake.verify().ok
