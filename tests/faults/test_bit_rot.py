"""Bits that go wrong on a disk: no reader takes them for data unnoticed.

In each file of a lake, and of a checkpoint, a bit is turned at random places, one at a time. Then either the rows are
read as before, or `lake verify` says that the version is not what its manifest says; and no run goes on from it.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cineray.errors import CinerayError
from cineray.feed import DataJob, FeedConfig, FeedSpec
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.lake.schema import volatile_of
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import broken_videos, make_shapes
from cineray.testing.fault_table import Fault
from cineray.train.checkpoint import Checkpoints
from cineray.train.run_folder import RunFolder

pytestmark = [pytest.mark.slow]
FLIPS_OF_A_FILE = 6


def read(lake: Path) -> Any:
    """All that is data in version 1; the error where it cannot be read."""
    try:
        opened = Lake.open(str(lake))
        version = opened.resolve(1)
        return {
            name: sorted(
                str(row) for row in opened.read(version, name).drop_columns(list(volatile_of(name))).to_pylist()
            )
            for name in version.tables
        }
    except CinerayError as error:
        return error


def verified(lake: Path) -> bool:
    try:
        return Lake.open(str(lake)).verify(1, media="none").ok
    except CinerayError:
        return False


@pytest.mark.fault(
    cause="a bit is wrong on the disk of a lake, at random places of each file",
    happens="what is read is as before, or `lake verify` says that it is not",
)
def test_a_bit_that_is_wrong_in_a_lake_is_never_read_as_data_unnoticed(tmp_path: Path, fault: Fault) -> None:
    make_shapes(tmp_path / "videos", videos=12)
    broken_videos(tmp_path / "videos")
    lake, chance = tmp_path / "lake", random.Random(5)
    config = IngestConfig(source=str(tmp_path / "videos"), lake=str(lake), max_reject_fraction=1)
    ingest(config, EngineConfig(engine="local"))
    rows, outcomes = read(lake), list[tuple[str, int, str]]()
    assert rows["media"]
    for path in sorted(file for file in lake.rglob("*") if file.is_file()):
        data = path.read_bytes()
        for at in sorted(chance.sample(range(len(data)), min(FLIPS_OF_A_FILE, len(data)))):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
            began = time.monotonic()
            noticed = not verified(lake)
            fault.lost(time.monotonic() - began)
            outcomes.append((path.name, at, "noticed" if noticed else "harmless" if read(lake) == rows else "WRONG"))
        path.write_bytes(data)
    fault.same("turned bits", found=outcomes, expected=[one for one in outcomes if one[2] != "WRONG"])
    assert {what for _, _, what in outcomes} == {"noticed", "harmless"}


class Keep:
    """All checkpoints."""

    keep_last, keep_best, keep_every, best_metric = 100, 0, 0, ""


def state_of(value: float) -> dict[str, Any]:
    return {"model": {"w": torch.full((3_000,), value)}}


def newest(run: RunFolder) -> tuple[int, float]:
    """The step and the only value of what a run would go on with."""
    checkpoints, state = Checkpoints(run, Keep()), state_of(0)
    info = checkpoints.latest()
    assert info is not None
    checkpoints.load(state, info)
    (value,) = state["model"]["w"].unique().tolist()
    return info.step, value


@pytest.mark.filterwarnings("ignore:.*checkpoint")
@pytest.mark.fault(
    cause="a bit is wrong on the disk of the newest checkpoint, at random places of each file",
    happens="its hash tells; the run goes on with the one before",
)
def test_a_checkpoint_with_a_bit_that_is_wrong_is_not_gone_on_with(tmp_path: Path, fault: Fault) -> None:
    make_shapes(tmp_path / "videos", videos=4)
    ingest(IngestConfig(source=str(tmp_path / "videos"), lake=str(tmp_path / "lake")), EngineConfig(engine="local"))
    recipe = Recipe(
        datasets=(DatasetSpec(lake=str(tmp_path / "lake"), split=None),),
        sampling=SamplingSpec(frames=4),
        frame=FrameSpec(height=16, width=16),
        batch_size=2,
    )
    job = DataJob(name="bit-rot", recipe=recipe, seed=3, feed=FeedConfig(driver="local"))
    run = RunFolder.create(job, FeedSpec(recipe=recipe, seed=3).pinned(), str(tmp_path / "run"))
    for step in (1, 2):
        Checkpoints(run, Keep()).save(state_of(step), step, blocking=True)
    assert newest(run) == (2, 2.0)
    chance, outcomes = random.Random(7), list[tuple[str, int, tuple[int, float]]]()
    for path in sorted(one for one in (tmp_path / "run" / "checkpoints" / "00000002").rglob("*") if one.is_file()):
        data = path.read_bytes()
        for at in sorted(chance.sample(range(len(data)), FLIPS_OF_A_FILE)):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
            with fault.hit():
                outcomes.append((path.name, at, newest(run)))
        path.write_bytes(data)
    assert newest(run) == (2, 2.0)
    fault.same("turned bits", found=outcomes, expected=[(name, at, (1, 1.0)) for name, at, _ in outcomes])
