"""The commands at the head of jobs/train_captioned.py, as they are written there, on shards that are made here.

Only places and sizes are others: the lake is a folder, models and batches are as small as can be, and two steps are
trained. An autoencoder of two steps would not pass the gate, so that is left out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from cineray.testing import make_shapes

JOBS = Path(__file__).resolve().parents[2] / "jobs"

SMALL = {
    "ingest": [],
    "jobs/train_vae.py": [
        "recipe.batch_size=2",
        "recipe.clips_per_visit=1",
        "shape={{width: 8, blocks: 1, channels: 4}}",
        "steps=2",
        "validation={{every_steps: 2, clips: 4, bins: 2}}",
    ],
    "jobs/train_captioned.py": [
        "recipe.datasets.0.lake={lake}",
        "recipe.buckets=[{{frames: 9, height: 32, width: 32}}, {{frames: 5, height: 32, width: 48}}]",
        "recipe.batch_size=3",
        "recipe.sampling.short_videos=pad",
        "feed.driver=local",
        "text.width=32",
        "text.depth=1",
        "model={{kind: stdit, size: custom, width: 24, depth: 1, heads: 2, patch: [1, 2, 2]}}",
        "autoencoder.gate=null",
        "parallel.workers=1",
        "compile=false",
        "steps=2",
        "validation={{every_steps: 2, clips: 4, bins: 2, held_out: 0.2, baseline_clips: 4}}",
    ],
}


def shards_of(videos: Path, folder: Path) -> None:
    """Two WebDataset shards, a caption beside each video but the last two, which have none."""
    folder.mkdir()
    paths = sorted(videos.rglob("*.mp4"))
    for number in range(2):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for at, path in list(enumerate(paths))[number::2]:
                tar.add(path, f"{at:04d}.mp4")
                if at < len(paths) - 2:
                    tar.add(path.with_suffix(".txt"), f"{at:04d}.txt")


@pytest.mark.slow
def test_the_commands_of_the_captioned_job_work_as_they_are_written(tmp_path: Path) -> None:
    make_shapes(tmp_path / "videos", videos=16, frames=24, size_px=48)
    shards_of(tmp_path / "videos", tmp_path / "shards")
    lake = str(tmp_path / "lake")
    commands = re.findall(r"^    cineray (.*)$", (JOBS / "train_captioned.py").read_text(), flags=re.M)
    assert [command.split()[1] for command in commands] == ["s3://bucket/shards", *list(SMALL)[1:]]
    told: list[dict[str, Any]] = []
    for command, sets in zip(commands, SMALL.values(), strict=True):
        words = command.replace("s3://bucket/shards", str(tmp_path / "shards"))
        words = words.replace("s3://bucket/lakes/captioned", lake).replace("jobs/", f"{JOBS}/")
        small = [word for one in sets for word in ("--set", one.format(lake=lake))]
        line = [sys.executable, "-m", "cineray", *words.split(), *small]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    assert (tmp_path / "runs" / "vae" / "autoencoder.safetensors").is_file()
    assert [facts["step"] for facts in told[1:]] == [2, 2]
    assert told[2]["metrics"]["validation/headline"] > 0
