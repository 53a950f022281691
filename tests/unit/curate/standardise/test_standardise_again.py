"""A lake standardised again: after a kill at any moment, beside another run, and of what is new since."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cineray.curate.standardise import StandardiseReport
from cineray.curate.standardise.next_version import NextVersion
from cineray.curate.standardise.staging import Staging
from cineray.errors import LakeError
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Changes, Lake

Run = Callable[..., StandardiseReport]


def addresses(lake: Lake) -> set[str]:
    """Where the newest version's videos lie."""
    return set(lake.read("latest", "media", columns=["uri"])["uri"].to_pylist())


def test_a_second_time_changes_nothing_and_only_new_videos_are_encoded(
    lake: Lake, run: Run, footage: Path, tmp_path: Path
) -> None:
    from cineray.testing.stamped import stamp_video

    first = run()
    again = run()
    assert (again.version.number, again.unchanged, again.videos) == (2, 4, 0)
    stamp_video(tmp_path / "more" / "new.mp4", frames=16, rate=8, size_px=(128, 96))
    ingest(IngestConfig(source=str(tmp_path / "more"), lake=lake.uri), EngineConfig(engine="local", workers=1))
    third = run()
    assert (third.version.number, third.unchanged, third.videos) == (4, 4, 1)
    assert addresses(lake) == {*first.shards, *third.shards}


def test_a_killed_run_goes_on_where_it_was(lake: Lake, run: Run) -> None:
    def stop(done: Any, _total: int) -> None:
        if done.videos == 2:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(on_progress=stop)
    assert lake.resolve("latest").number == 1
    report = run()
    assert report.resumed >= 2
    assert (report.videos, report.version.number) == (4, 2)


def test_two_at_once_make_one_version_of_their_work(lake: Lake, run: Run) -> None:
    """One has two of four done when the other comes, does all, and clears the work that both share."""
    others: list[StandardiseReport] = []

    def meanwhile(done: Any, _total: int) -> None:
        if done.videos == 2 and not others:
            others.append(run())

    mine = run(on_progress=meanwhile)
    assert (others[0].version.number, others[0].videos, others[0].rejected) == (2, 4, {})
    assert (mine.version.number, mine.videos, mine.unchanged) == (2, 0, 4)
    assert lake.verify("latest", media="hash").ok
    assert addresses(lake) == set(others[0].shards)
    assert lake.gc(older_than_seconds=0).garbage == ()


def test_who_comes_second_with_other_settings_is_told_that_nothing_of_it_landed(lake: Lake, run: Run) -> None:
    def meanwhile(done: Any, _total: int) -> None:
        if done.videos == 4:
            assert run(encoding={"gop": 4}).version.number == 2

    with pytest.raises(LakeError, match=r"version 2 of .* was made of these videos meanwhile, with other settings"):
        run(encoding={"gop": 8}, on_progress=meanwhile)
    assert lake.resolve("latest").number == 2
    assert not list(Path(lake.uri).glob("staging/standardise-*"))


def test_work_that_another_run_clears_while_this_one_commits_is_looked_for_anew(
    lake: Lake, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[StandardiseReport] = []
    changes = NextVersion.changes

    def meanwhile(self: NextVersion) -> Changes:
        found = changes(self)  # its media rows are read from the staging when they are written
        if not others:
            monkeypatch.setattr(NextVersion, "changes", changes)
            others.append(run())
        return found

    monkeypatch.setattr(NextVersion, "changes", meanwhile)
    mine = run()
    assert (others[0].version.number, others[0].videos) == (2, 4)
    assert (mine.version.number, mine.videos, mine.unchanged) == (2, 0, 4)


def test_of_two_with_the_same_rejects_the_second_has_nothing_to_add(
    lake: Lake, run: Run, footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has read all that it commits when the other's version comes: what that standardised is not told twice."""
    os.unlink(footage / "told.mp4")
    others: list[StandardiseReport] = []
    changes = NextVersion.changes

    def meanwhile(self: NextVersion) -> Changes:
        found = changes(self)
        if not others:
            found = Changes(add={table: list(rows) for table, rows in found.add.items()}, remove=found.remove)
            monkeypatch.setattr(NextVersion, "changes", changes)
            others.append(run())
        return found

    monkeypatch.setattr(NextVersion, "changes", meanwhile)
    mine = run()
    assert (others[0].version.number, others[0].rejected, mine.version.number) == (2, {"missing": 1}, 2)
    rows = lake.read("latest", "layers/source_times").to_pylist()
    assert len({row["video_id"] for row in rows}) == len(rows) == 3


def test_killed_between_its_version_and_the_clearing_the_next_run_clears(
    lake: Lake, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Staging, "clear", lambda self, keep: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            run()
    assert list(Path(lake.uri).glob("staging/standardise-*"))
    assert (run().version.number, run().unchanged) == (2, 4)
    assert not list(Path(lake.uri).glob("staging/standardise-*"))


def test_work_that_another_run_cleared_half_of_is_done_again(lake: Lake, run: Run) -> None:
    """Bytes put, all cleared, then the mark: as when two runs end at the same moment."""

    def stop(done: Any, _total: int) -> None:
        if done.videos == 4:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(on_progress=stop)
    (lost, *_) = Path(lake.uri).glob("staging/standardise-*/*.mp4")
    lost.unlink()
    report = run()
    assert (report.version.number, report.videos, report.rejected) == (2, 4, {})
    assert lake.verify("latest", media="hash").ok


def test_of_an_older_version_only_what_the_head_still_has_is_encoded(lake: Lake, run: Run) -> None:
    run()
    again = run(version="1")
    assert (again.version.number, again.videos, again.unchanged) == (2, 0, 4)


def test_killed_or_not_the_version_is_the_same(lake: Lake, run: Run, tmp_path: Path, footage: Path) -> None:
    from cineray.curate.standardise import StandardiseConfig, standardise

    other = str(tmp_path / "other")
    ingest(IngestConfig(source=str(footage), lake=other), EngineConfig(engine="local", workers=1))
    out = str(tmp_path / "shards")
    one = run(out=out)
    told = {"lake": other, "out": out, "encoding": {"short_side": 48}}
    two = standardise(StandardiseConfig.model_validate(told), workers=2)
    assert one.version.fingerprint == two.version.fingerprint
    assert one.shards == two.shards
