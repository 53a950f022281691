"""What a killed run leaves is whole, and what may have been the machine's fault is tried again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cineray.curate.standardise import StandardiseReport
from cineray.curate.standardise.staging import Staging
from cineray.records import Reject

Run = Callable[..., StandardiseReport]


def reject(reason: str) -> Reject:
    return Reject(name="v", stage="standardise", reason=reason, detail="because")


def test_a_reject_is_kept_and_known(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path), "key")
    staging.put_reject("v", reject("corrupt"))
    assert staging.finished() == {"v"}
    assert staging.is_finished("v")
    assert Staging(str(tmp_path), "key").take("v").reject == reject("corrupt")
    assert Staging(str(tmp_path), "other").finished() == set()


def test_bytes_without_their_mark_are_not_finished(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path), "key")
    (tmp_path / "staging" / "key").mkdir(parents=True)
    (tmp_path / "staging" / "key" / "v-abc.mp4").write_bytes(b"half")
    assert staging.finished() == set()


def test_the_machines_rejects_are_tried_again_and_the_videos_own_are_not(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path), "key")
    for source_id, reason in (("a", "timed_out"), ("b", "out_of_memory"), ("c", "decode_failed")):
        staging.put_reject(source_id, reject(reason))
    staging.forget_machine_rejects()
    assert staging.finished() == {"c"}


def test_clearing_leaves_the_work_of_another_run_on_other_videos(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path), "key")
    for source_id in ("aa", "ab", "ac"):
        staging.put_reject(source_id, reject("corrupt"))
    (tmp_path / "staging" / "key" / "aa-0123.mp4").write_bytes(b"bytes")
    staging.clear(keep={"ac", "of another lake"})
    assert [path.name for path in (tmp_path / "staging" / "key").iterdir()] == ["ac.reject.json"]
    (tmp_path / "staging" / "key" / "tries").mkdir()
    (tmp_path / "staging" / "key" / "tries" / "chunk-000000.try-0").write_bytes(b"")
    staging.clear(keep=set())
    assert not (tmp_path / "staging" / "key").exists()


def test_a_run_leaves_no_staging(run: Run, tmp_path: Path) -> None:
    run()
    assert list((tmp_path / "lake" / "staging").glob("standardise-*")) == []


def test_a_video_that_takes_too_long_costs_itself(run: Run) -> None:
    report = run(seconds_per_video=0.01)
    assert report.rejected == {"timed_out": 4}
