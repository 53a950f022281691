"""`cineray bench`: the same batches counted by each driver, and a verdict that names what bounds them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cineray.cli.main import app
from cineray.config import job_to_yaml
from cineray.errors import CinerayError, TooManySubstitutions
from cineray.feed import DataJob, FeedConfig, FeedSpec, Supply
from cineray.feed.throughput import bare_rate, feed_rate, verdict

SpecOf = Callable[..., FeedSpec]

FACTS: dict[str, Any] = {
    "clips_per_s": 95.0,
    "bare_clips_per_s": 100.0,
    "ratio": 0.95,
    "resident_clips_per_s": 9000.0,
    "frames_decoded_per_frame_used": 4.8,
    "cpu_busy": 1.0,
    "remote": False,
    "cores": 2,
    "driver": "ray",
}


@pytest.mark.parametrize(
    ("facts", "wanted", "bound"),
    [
        ({}, 50.0, "trainer: it takes 50.0 clips/s and the feed gives 95.0"),
        ({"resident_clips_per_s": 120.0}, None, "copy: 95.0 clips/s of at most 120.0"),
        ({"ratio": 0.6, "clips_per_s": 60.0}, 80.0, "feed: 60.0 clips/s where the cores decode 100.0, and the trainer"),
        (
            {"ratio": 0.5, "clips_per_s": 50.0, "driver": "local"},
            None,
            "feed: 50.0 clips/s where the cores decode 100.0; it decodes in the trainer's process, on one core: set "
            "feed.driver to torch or ray",
        ),
        ({"remote": True, "cpu_busy": 0.3}, None, "storage: the cores are busy for 30 % of the time"),
        ({"remote": True, "cpu_busy": 0.9}, None, "decode: 95.0 clips/s on 2 cores, 4.8 frames decoded for each"),
        ({}, None, "decode: 95.0 clips/s on 2 cores, 4.8 frames decoded for each one used; add decode cores"),
    ],
)
def test_the_verdict_names_the_stage_that_bounds(facts: dict[str, Any], wanted: float | None, bound: str) -> None:
    assert verdict(FACTS | facts, wanted=wanted).startswith(bound)


class Dies(FeedSpec):
    """A decoder that takes its process along, as one may that meets damage which nobody has foreseen."""

    __slots__ = ()

    def open(self) -> Supply:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_bare_loop_that_fails_ends_the_measurement_with_its_error(
    own_lake: Path, spec_of: SpecOf, damage: Callable[[Path], None]
) -> None:
    """It does not leave the others to wait for it."""
    for path in sorted(own_lake.parent.glob("videos/**/*.mp4"))[::2]:
        damage(path)
    spec = spec_of(own_lake, max_substituted_fraction=0.0)
    with pytest.raises(TooManySubstitutions, match="could not be decoded"):
        bare_rate(spec, cores=2, seconds=0.2)


def test_a_bare_loop_that_is_killed_ends_the_measurement(spec_of: SpecOf) -> None:
    spec = Dies(recipe=spec_of().recipe)
    with pytest.raises(CinerayError, match=r"ended with exit code -9.*feed\.driver=local to find the clip"):
        bare_rate(spec, cores=2, seconds=0.2)


def job_of(spec: FeedSpec, **feed: Any) -> DataJob:
    return DataJob(name="tiny", recipe=spec.recipe, seed=spec.seed, feed=FeedConfig(**feed))


@pytest.mark.parametrize("driver", ["local", "torch"])
def test_each_driver_is_drained_and_its_start_told_apart(spec_of: SpecOf, driver: str) -> None:
    spec = spec_of(clips_per_visit=2)
    rate = feed_rate(job_of(spec, driver=driver, workers=2), spec, cores=2, seconds=0.5)
    assert rate.seconds >= 0.5
    assert rate.clips % 6 == 0
    assert rate.frames == rate.clips * 8
    assert rate.array_bytes == rate.frames * 48 * 48 * 3
    assert rate.frames_decoded >= rate.frames
    assert rate.startup_seconds > 0


def test_the_command_tells_everything_in_one_object(spec_of: SpecOf, tmp_path: Path) -> None:
    record = tmp_path / "job.yaml"
    record.write_text(job_to_yaml(job_of(spec_of(), driver="local", workers=1), {"data": DataJob}))
    done = CliRunner().invoke(app, ["bench", str(record), "--seconds", "1", "--step-seconds", "100", "--json"])
    told = json.loads(done.stdout)
    wanted = {"clips_per_s", "bare_clips_per_s", "ratio", "frames_decoded_per_frame_used", "startup_s"}
    assert {name for name in wanted if told[name] > 0} == wanted
    assert told["peak_rss_bytes"] > 1e8
    assert (told["job"], told["driver"], told["cores"]) == ("tiny", "local", 1)
    assert told["verdict"].startswith("trainer: it takes 0.1 clips/s")
