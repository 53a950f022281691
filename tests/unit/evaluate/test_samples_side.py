"""Samples beside a training: which checkpoints get some, that nothing else changes by them, and that failures pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cineray.diffusion import DiffusionConfig
from cineray.errors import Interrupted, UsageError
from cineray.evaluate.side import make_samples, sample_config
from cineray.feed import FeedConfig
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.train import CheckpointConfig, RunFolder, TrainJob, ValidationConfig, run_local
from cineray.train.goodput import goodput_of
from cineray.train.ledger import read_ledger
from cineray.train.samples_config import SamplesConfig
from cineray.train.side_path import Due, SideTask, made_aside, name_of, samples_told
from cineray.train.stop import StopRequest

torch.set_num_threads(1)

MAKERS = """
import os, time
from cineray.errors import CinerayError


def fails(uri, step, config):
    raise CinerayError(f"no room for step {step}")


def breaks(uri, step, config):
    print("a word on standard output")
    raise RuntimeError("a defect")


def dies(uri, step, config):
    os._exit(9)


def sleeps(uri, step, config):
    open(os.path.join(uri, f"sleeping-{step}"), "w").write(str(os.getpid()))
    time.sleep(600)


def tells(uri, step, config):
    print("a word on standard output")
    threads, gpus = (os.environ[name] for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"))
    told = {"niceness": os.nice(0), "threads": threads, "gpus": gpus}
    return {"folder": uri, "clips": config.clips, "seconds": 0.5, **told}
"""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("side")
    make_shapes(folder / "videos", videos=12, frames=24, size_px=32)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


@pytest.fixture
def makers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module that other processes find too."""
    (tmp_path / "made_makers.py").write_text(MAKERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    import importlib

    yield importlib.import_module("made_makers")
    del sys.modules["made_makers"]


def job_of(lake: str, **told: Any) -> TrainJob:
    values: dict[str, Any] = {
        "name": "shapes",
        "recipe": Recipe(
            datasets=(DatasetSpec(lake=lake, split=None),),
            sampling=SamplingSpec(mode="fps", fps="8", frames=4),
            frame=FrameSpec(height=16, width=16),
            batch_size=4,
        ),
        "feed": FeedConfig(driver="local"),
        "steps": 5,
        "classes": "data",
        "model": StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8)),
        "precision": "fp32",
        "validation": ValidationConfig(every_steps=100, clips=4, bins=2, held_out=0.2, baseline_clips=0),
        "checkpoint": CheckpointConfig(every_steps=1, keep_last=9),
        "samples": SamplesConfig(every_steps=2, clips=3, steps=2),
    }
    return TrainJob(**(values | told))


def losses(uri: str) -> list[float]:
    return [row["loss"] for row in read_ledger(RunFolder.open(uri).folder("ledger")).to_pylist()]


@pytest.fixture(scope="module")
def whole(lake: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A training with samples of every other step, made as `cineray train` has them made."""
    return run_local(job_of(lake), uri=str(tmp_path_factory.mktemp("runs") / "whole"), sample=make_samples)


# ---- which ones ------------------------------------------------------------------------------------------------------


def test_the_first_checkpoint_at_or_after_each_multiple_is_due_and_the_last_one() -> None:
    due = Due(100, last_step=lambda: 460, done=0)
    assert [step for step in (50, 100, 150, 230, 260, 290, 310, 455, 460) if due(step)] == [100, 230, 310, 455, 460]
    again = Due(100, last_step=lambda: 460, done=230)
    assert [step for step in (230, 260, 310) if again(step)] == [310], "a restart begins where it was"


def test_what_a_job_says_of_samples_is_what_the_command_would_be_told() -> None:
    told = SamplesConfig(every_steps=5, method="heun", steps=7, guidance=2, clips=9, first_frame=True, shift=3)
    found = sample_config(told)
    assert (found.method, found.steps, found.guidance, found.shift) == ("heun", 7, 2, 3)
    assert (found.clips, found.first_frame) == (9, True)
    assert sample_config(SamplesConfig()).digest() == type(found)().digest(), "and by default the same"


# ---- a training ------------------------------------------------------------------------------------------------------


def test_samples_lie_in_the_run_when_the_training_is_done(whole: dict[str, Any]) -> None:
    run = Path(whole["run"])
    made = whole["samples"]["steps"]
    assert 5 in made, "the last checkpoint always has some"
    assert set(made) <= {2, 4, 5}
    assert whole["samples"]["failed"] == {}
    assert sorted(path.name for path in (run / "samples").iterdir()) == [f"step-{step:08d}" for step in made]
    told = json.loads((run / "samples" / "step-00000005" / "samples.json").read_text())
    assert (told["checkpoint"], told["weights"], len(told["clips"])) == (5, "ema", 3)


def test_the_training_learns_the_same_as_without_them(lake: str, whole: dict[str, Any], tmp_path: Path) -> None:
    alone = run_local(job_of(lake, samples=SamplesConfig()), uri=str(tmp_path / "alone"))
    assert losses(alone["run"]) == losses(whole["run"])
    assert "samples" not in alone
    assert not (tmp_path / "alone" / "samples").exists()


def test_their_time_is_not_the_runs_time(whole: dict[str, Any]) -> None:
    run = RunFolder.open(whole["run"])
    assert goodput_of(run)["lifetime_s"] == pytest.approx(whole["lifetime_s"])
    told = [event for event in run.events() if event["event"] == "sampled"]
    assert {event["attempt"] for event in told} == {1}
    assert {"step", "folder", "clips", "seconds"} <= told[0].keys()


@pytest.mark.parametrize(
    ("maker", "why"),
    [
        ("fails", "no room for step"),
        ("breaks", "ended with code 1: .*RuntimeError: a defect"),
        ("dies", "ended with code 9: no words"),
    ],
)
def test_failing_samples_are_an_event_and_a_warning_and_the_training_goes_on(
    lake: str, makers: Any, tmp_path: Path, maker: str, why: str
) -> None:
    job = job_of(lake, samples=SamplesConfig(every_steps=100))
    with pytest.warns(UserWarning, match=f"(?s)no samples of the checkpoint of step 5: .*{why}"):
        told = run_local(job, uri=str(tmp_path / "run"), sample=getattr(makers, maker))
    assert told["step"] == 5
    assert list(told["samples"]["failed"]) == [5]
    (event,) = [one for one in RunFolder.open(told["run"]).events() if one["event"] == "samples_failed"]
    assert event["step"] == 5


def test_samples_that_take_too_long_are_given_up(whole: dict[str, Any], makers: Any) -> None:
    run = RunFolder.open(whole["run"])
    task = SideTask(run, 5, SamplesConfig(limit_seconds=2), name_of(makers.sleeps))
    with pytest.warns(UserWarning, match=r"longer than samples\.limit_seconds=2"):
        assert made_aside(task) == {}
    assert task._child is not None
    assert gone(task._child.pid)


def test_the_process_beside_has_a_low_priority_its_own_threads_and_no_gpu(whole: dict[str, Any], makers: Any) -> None:
    run = RunFolder.open(whole["run"])
    found = made_aside(SideTask(run, 5, SamplesConfig(cpus=2), name_of(makers.tells)))
    assert (found["niceness"], found["threads"], found["gpus"]) == (min(19, os.nice(0) + 10), "2", "")


def test_a_checkpoint_that_was_removed_before_its_turn_is_said_to_be(whole: dict[str, Any], makers: Any) -> None:
    run = RunFolder.open(whole["run"])
    with pytest.warns(UserWarning, match=r"step 0 was removed before samples were made of it.*checkpoint\.keep_last"):
        made_aside(SideTask(run, 0, SamplesConfig(), name_of(makers.tells)))


class StopsAfter:
    """Wishes the run to stop once samples of step 2 are under way."""

    def __init__(self, run: Path, stop: StopRequest) -> None:
        self.run, self.stop = run, stop

    def row(self, row: Any) -> None:
        if row["step"] == 3 and until((self.run / "sleeping-2").exists):
            self.stop.wish("SIGTERM")

    def judged(self, step: int, metrics: Any) -> None: ...

    def close(self, summary: Any) -> None: ...


def test_a_run_that_is_stopped_takes_its_samples_along(lake: str, makers: Any, tmp_path: Path) -> None:
    stop, place = StopRequest(), tmp_path / "run"
    with pytest.raises(Interrupted):
        run_local(
            job_of(lake, steps=9), uri=str(place), sample=makers.sleeps, stop=stop, sinks=[StopsAfter(place, stop)]
        )
    assert gone(int((place / "sleeping-2").read_text()))
    events = [event["event"] for event in RunFolder.open(str(place)).events()]
    assert "samples_failed" not in events, "being stopped is no failure"


def test_samples_that_nobody_had_room_for_are_said_to_be_missing(lake: str, whole: dict[str, Any]) -> None:
    told = samples_told(RunFolder.open(whole["run"]), job_of(lake, steps=6))
    assert "nobody had room for them" in told["samples"]["failed"][6]


def test_samples_end_with_a_training_that_is_killed(whole: dict[str, Any], makers: Any, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from cineray.train.run_folder import RunFolder\n"
        "from cineray.train.samples_config import SamplesConfig\n"
        "from cineray.train.side_path import SideTask\n"
        "SideTask(RunFolder.open(sys.argv[1]), 4, SamplesConfig(), 'made_makers:sleeps').facts()\n"
    )
    noted = Path(whole["run"]) / "sleeping-4"
    training = subprocess.Popen([sys.executable, "-c", code, whole["run"]])
    assert until(lambda: noted.exists() and noted.read_text() != "")
    training.kill()
    training.wait()
    assert until(lambda: gone(int(noted.read_text())))


def until(true: Callable[[], bool], *, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


def gone(pid: int) -> bool:
    """A process that nobody is; a zombie that nobody has asked about counts as gone."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_a_job_that_wants_samples_needs_somebody_who_makes_them(lake: str) -> None:
    with pytest.raises(UsageError, match=r"nobody was named who makes samples.*cineray\.evaluate\.side"):
        run_local(job_of(lake))


def test_a_maker_that_another_process_cannot_find_is_refused() -> None:
    def here(uri: str, step: int, config: SamplesConfig) -> dict[str, Any]:
        return {}

    with pytest.raises(UsageError, match=r"another process, which cannot find .*here; move it to a module"):
        name_of(here)


def test_guidance_without_hidden_classes_is_refused_with_the_job(lake: str) -> None:
    with pytest.raises(ValueError, match=r"samples\.guidance is 1\.5 but diffusion\.drop is 0"):
        job_of(lake, diffusion=DiffusionConfig(drop=0))
    job_of(lake, diffusion=DiffusionConfig(drop=0), classes="none")
