"""Checkpoints under kills, full disks and object stores: the one before is always whole, and no half one confuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cineray.feed import DataJob, FeedSpec
from cineray.storage import list_objects, put_object
from cineray.train.checkpoint import Checkpoints
from cineray.train.checkpoint_write import CheckpointFailed
from cineray.train.run_folder import RunFolder

SAVER = Path(__file__).with_name("saver.py")


def state_of(value: float, numbers: int = 100_000) -> dict[str, Any]:
    return {"model": {"w": torch.full((numbers,), value)}}


def loaded(checkpoints: Checkpoints) -> tuple[int, float]:
    info = checkpoints.latest()
    assert info is not None
    state = state_of(0.0)
    checkpoints.load(state, info)
    return info.step, float(state["model"]["w"].mean())


@pytest.mark.slow
def test_killed_at_any_moment_a_run_resumes_from_a_whole_checkpoint(run: RunFolder) -> None:
    done = subprocess.run(
        [sys.executable, str(SAVER), run.uri, "25"], capture_output=True, text=True, timeout=200, check=False
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]

    assert (done.returncode, len(found)) == (0, 25), done.stderr
    for one in found:
        assert one["value"] == one["step"], "the state of that step and no other"
        assert one["step"] >= one["said"], "nothing that was said to be saved is lost"
    steps = [one["step"] for one in found]
    assert steps == sorted(steps)
    folders = list((Path(run.uri) / "checkpoints").iterdir())
    assert len(folders) <= 3 + steps[-1] // 5 + 1, "what kills left behind was removed"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint_whole(
    job: DataJob, spec: FeedSpec, rule: Any, small_disk: Path
) -> None:
    run = RunFolder.create(job, spec, str(small_disk / "run"))
    checkpoints = Checkpoints(run, rule)
    checkpoints.save(state_of(1.0), 1, blocking=True)
    (small_disk / "other").write_bytes(bytes(1_400_000))
    before = sorted(path for path in small_disk.rglob("*"))

    checkpoints.save(state_of(2.0), 2)
    with pytest.raises(CheckpointFailed) as full:
        checkpoints.wait()

    said = str(full.value)
    assert "the checkpoint of step 2 could not be written to" in said
    assert "No space left on device" in said
    assert "GB are free there" in said
    assert sorted(path for path in small_disk.rglob("*")) == before, "nothing of the second is left"
    assert loaded(Checkpoints(run, rule)) == (1, 1.0)
    (small_disk / "other").unlink()
    checkpoints.save(state_of(2.0), 2, blocking=True)
    assert loaded(checkpoints) == (2, 2.0)


def test_a_failed_save_is_told_at_the_next_step(run: RunFolder, rule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    from cineray.train import checkpoint_write

    def no_room(*_: Any) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_write, "put_if_absent", no_room)
    checkpoints = Checkpoints(run, rule)
    checkpoints.save(state_of(1.0), 1)
    with pytest.raises(CheckpointFailed, match="No space left"):  # noqa: PT012 - which step finds out is not said
        for _ in range(400):
            checkpoints.poll()
            time.sleep(0.01)
    monkeypatch.undo()
    checkpoints.save(state_of(1.0), 1, blocking=True)
    assert loaded(checkpoints) == (1, 1.0)


@pytest.mark.network
def test_in_an_object_store_checkpoints_are_the_same(
    job: DataJob, spec: FeedSpec, rule: Any, s3_bucket: str, tmp_path: Path
) -> None:
    run = RunFolder.create(job, spec, f"{s3_bucket}/runs/a")
    checkpoints = Checkpoints(run, rule, staging=str(tmp_path))
    for step in (10, 11, 12, 13):
        checkpoints.save(state_of(step), step, {"loss": -step})
    checkpoints.close()

    assert loaded(Checkpoints(RunFolder.open(run.uri), rule)) == (13, 13.0)
    names = sorted({one.uri.removeprefix(run.uri).split("/")[2] for one in list_objects(f"{run.uri}/checkpoints")})
    assert names == ["00000010", "00000012", "00000013"]
    assert list(tmp_path.iterdir()) == [], "nothing is left of what was staged"

    damaged = next(one.uri for one in list_objects(f"{run.uri}/checkpoints/00000013") if one.uri.endswith("distcp"))
    put_object(damaged, b"torn")
    with pytest.warns(UserWarning, match="__0_0.distcp has 4 bytes; its manifest says"):
        assert loaded(Checkpoints(run, rule)) == (12, 12.0)


def test_a_run_that_was_moved_resumes_where_it_lies_now(run: RunFolder, rule: Any, tmp_path: Path) -> None:
    Checkpoints(run, rule).save(state_of(1.0), 1, blocking=True)
    shutil.move(run.uri, tmp_path / "moved")
    assert loaded(Checkpoints(RunFolder.open(str(tmp_path / "moved")), rule)) == (1, 1.0)
