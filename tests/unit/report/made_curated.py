"""A lake that was curated, and one that was standardised on top, made here: what is in each video is known.

one, two, three   a plain that slides, each of another picture
both              two such scenes, 24 frames each: a cut in the middle
copy              `one`, encoded anew and worse
dark              black but for its first frames
stub              a scene of 6 frames, too short, before one of 24
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cineray.curate import CurateEngine, CurateJob, curate
from cineray.curate.standardise import StandardiseConfig, standardise
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.testing.encode import encode_h264

Pixels = npt.NDArray[np.uint8]
RULES = (
    {"name": "dark", "leave_out": "clip_black_fraction > 0.5"},
    {"name": "dim", "leave_out": "brightness_mean < 60"},
    {"name": "never", "leave_out": "brightness_mean > 1000"},
)
STAGES: dict[str, dict[str, Any]] = {"black": {}, "scenes": {}, "brightness": {}, "signatures": {}, "aspect": {}}


def sliding(seed: int, frames: int = 24) -> list[Pixels]:
    """A plain of soft noise that slides by a pixel a frame."""
    coarse = np.random.default_rng(seed).integers(20, 236, (10, 16, 3))
    plain = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
    return [plain[:64, shift : shift + 64] for shift in range(frames)]


def worse(pictures: list[Pixels]) -> list[Pixels]:
    """The same with fewer shades, a little darker."""
    return [((picture // 8) * 8 * 0.95).astype(np.uint8) for picture in pictures]


def make_curated(folder: Path, *, hostile: str) -> Path:
    """Version 1 is as it came, version 2 curated; `rules.json` beside the lake has what curating itself counted.

    `hostile` is in the name of the dark video and in a label."""
    black = [np.zeros((64, 64, 3), np.uint8)] * 40
    label = "".join(c for c in hostile if c not in "/\0")[:60]
    films = {
        **{"a/one": sliding(1, 48), "a/two": sliding(2, 48), "a/three": sliding(3, 48)},
        **{
            "a/both": [*sliding(4), *sliding(5)],
            "a/copy": worse(sliding(1, 48)),
            f"a/{label} dark": [*sliding(6, 6), *black],
        },
        f"{label}/stub": [*sliding(7, 6), *sliding(8)],
    }
    for name, pictures in films.items():
        path = folder / "videos" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        encode_h264(path, pictures, [25 * n for n in range(len(pictures))], size_px=64, gop=48, b_frames=2)
    lake = str(folder / "lake")
    ingest(IngestConfig(source=str(folder / "videos"), lake=lake), EngineConfig(engine="local", workers=1))
    told = {"name": "made", "lake": lake, "stages": STAGES, "rules": RULES, "cuts": {"shortest_seconds": 0.5}}
    job = CurateJob.model_validate(told)
    made = curate(job, CurateEngine(engine="local", workers=1), author="tester", command="cineray curate made.py")
    (folder / "rules.json").write_text(json.dumps([asdict(rule) for rule in made.rules]))
    return folder / "lake"


def make_standardised(folder: Path, *, hostile: str) -> Path:
    """Version 3: the same, with a key frame every 8 and a short side of 32."""
    lake = make_curated(folder, hostile=hostile)
    encoding = {"gop": 8, "short_side": 32, "preset": "veryfast"}
    config = StandardiseConfig.model_validate({"lake": str(lake), "encoding": encoding})
    standardise(config, workers=1, author="tester", command="cineray standardise made")
    return lake
