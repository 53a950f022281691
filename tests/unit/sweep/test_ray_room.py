"""A sweep on a cluster whose pools have shrunk to nothing: what it asks for, and that it waits until it is there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cineray.evaluate import EvaluateConfig
from cineray.sweep import JudgeConfig, ShareConfig, SweepFolder
from cineray.sweep.machines import Machine

pytest.importorskip("ray")
from cineray.sweep.ray_room import Bundle, come_when_asked, rooms_for
from cineray.testing.clusters.ray_head import RayHead

SAYS = {"cineray-decode": "decode", "cineray-train": "gpu"}
"""The head's labels, of all clusters in `cluster/`."""
HEAD = [Machine(cpus=0.0, labels=SAYS)]


def job_of(made: ModuleType, **told: Any) -> Any:
    base = made.base_job(feed={"decode_subcluster": "decode"}, parallel={"workers": 2, "cpus_per_worker": 3})
    return made.judged(made.sweep_job(base=base, **told))


def test_a_trials_room_is_its_trainers_apart_from_its_decoding_and_evaluations_come_on_top(made: ModuleType) -> None:
    judge = JudgeConfig(evaluate=EvaluateConfig(), evaluate_cpus=4)
    job = job_of(made, judge=judge, share=ShareConfig(max_concurrent=2))
    trainer = Bundle({"CPU": 3.0, "GPU": 1.0}, {"ray-subcluster": "!decode"})
    core, half = (Bundle({"CPU": cpus}, {"ray-subcluster": "decode"}) for cpus in (1.0, 0.5))
    room = [trainer, trainer, core, core, half]
    assert rooms_for(job, [job.base], 2.5, HEAD) == [[*room, Bundle({"CPU": 4.0}, {})], room]


def test_room_is_asked_for_the_hungriest_trial_and_for_no_more_trials_than_there_will_be(made: ModuleType) -> None:
    job = made.judged(made.sweep_job(share=ShareConfig(max_concurrent=9), trials=3))
    trials = [made.base_job(parallel={"workers": workers, "gpus_per_worker": 0}) for workers in (1, 2)]
    rooms = rooms_for(job, trials, 1.0, HEAD)
    assert rooms == [[Bundle({"CPU": 1.0}, {})] * 3] * 3, "two trainers and a core that decodes"
    assert len(rooms_for(job_of(made), trials, 1.0, HEAD)) == 1, "where the job does not say how many"


def test_machines_come_where_the_head_says_so_and_nowhere_else() -> None:
    assert come_when_asked(HEAD)
    assert not come_when_asked([Machine(cpus=4.0, labels={"ray-subcluster": "decode"}), Machine(cpus=8.0)])


SWEEPING = """
import sys
from cineray.sweep import SweepFolder
from cineray.sweep.ray_sweep import _Sweeping
from cineray.telemetry.ray_session import connected
from cineray.train.stop import StopRequest, stopping_by_signals
class Prints:
    def changed(self, rows): ...
    def say(self, text): print(text, file=sys.__stdout__, flush=True)
    def close(self): ...
sweep = SweepFolder.open(sys.argv[1])
with connected(sys.argv[2]), stopping_by_signals(StopRequest()) as stop:
    print(_Sweeping(sweep, sweep.begin_driver(), [Prints()], stop).capacity(), file=sys.__stdout__, flush=True)
"""


@contextmanager
def sweeping(uri: str, head: RayHead) -> Iterator[subprocess.Popen[str]]:
    """A driver that counts how many trials fit."""
    command = [sys.executable, "-c", SWEEPING, uri, head.address]
    with subprocess.Popen(command, env=head.environment, stdout=-1, stderr=-1, text=True) as driver:
        try:
            yield driver
        finally:
            driver.kill()


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_that_finds_no_machines_waits_until_it_is_stopped_or_they_are_there(
    made: ModuleType, tmp_path: Path
) -> None:
    uri, no_room = (
        str(tmp_path / "sweep"),
        "there is no room for a trial; it is asked for, 2 times 3 CPU and 1 GPU, and",
    )
    base = made.base_job(feed={"decode_subcluster": "decode"})
    job = made.sweep_job(base=base, share=ShareConfig(max_concurrent=2, decode_cpus=2))
    SweepFolder.create(made.judged(job), uri)
    with RayHead(cpus=0, labels=SAYS) as head:
        with sweeping(uri, head) as stopped:
            assert first_line(stopped).startswith(no_room)
            stopped.terminate()
            _, errors = stopped.communicate(timeout=120)
            assert f"stopped by SIGTERM while it waited for machines. To go on: cineray sweep {uri}" in errors
        with sweeping(uri, head) as waits:
            assert first_line(waits).startswith(no_room)
            head.add_node(cpus=2, options=["--num-gpus=2"])
            head.add_node(cpus=4, labels={"ray-subcluster": "decode"})
            said, errors = waits.communicate(timeout=120)
            assert "Capacity(concurrent=2, share=Share(decode_cpus=2.0" in said, errors[-2000:]
        with sweeping(uri, head) as begins:
            assert first_line(begins).startswith("Capacity(concurrent=2"), "the room was given back"


def first_line(driver: subprocess.Popen[str]) -> str:
    assert driver.stdout is not None
    return driver.stdout.readline()
