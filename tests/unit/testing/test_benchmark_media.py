"""Benchmarks over videos run for whoever has no folder of real ones: the same shape, drawn."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cineray.index import index_video
from cineray.records import IndexedVideo, Place, VideoFile

BENCHMARKS = Path(__file__).resolve().parents[3] / "jobs" / "benchmarks"


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    """jobs/benchmarks/measure.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("measure_of_benchmarks", BENCHMARKS / "measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def test_without_a_folder_pictures_are_drawn(measure: ModuleType, tmp_path: Path) -> None:
    words = f"{measure.pictures(None, 'any.mp4')} -frames:v 20 -vf scale=64:48 -r 25 -c:v libx264 -pix_fmt yuv420p"
    command = ["ffmpeg", "-nostdin", "-v", "error", *words.split(), str(tmp_path / "made.mp4")]
    subprocess.run(command, check=True)
    video = index_video(VideoFile(name="made", place=Place(uri=str(tmp_path / "made.mp4"))))
    assert isinstance(video, IndexedVideo)
    assert (video.num_frames, video.width, video.height) == (20, 64, 48)


def test_a_folder_that_lacks_the_video_is_refused_by_its_name(measure: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"has no bikes\.mp4, which this benchmark uses; .* leave --media out"):
        measure.pictures(tmp_path, "bikes.mp4")


def test_no_benchmark_looks_for_a_folder_beside_the_checkout() -> None:
    found = [path.name for path in BENCHMARKS.glob("*.py") if '"shared"' in path.read_text()]
    assert found == []
