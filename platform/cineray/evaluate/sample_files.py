"""`cineray sample`, without its words: a run and a config go in; files lie in the run's folder, and facts come out.

    <run>/prompts.json                     what is asked, the same for every checkpoint (prompts.py)
    <run>/samples/step-00001100/
      clips.npz                            the clips, as a ClipSet
      0000.mp4 ...                         one file per clip, in the order of the prompts
      grid.webp   contact-sheet.png        all of them, moving and as pictures
      samples.json                         what made them; the last file to be written

Two checkpoints' folders answer the same prompts from the same noise. Samples of one checkpoint with other settings lie
in a folder of their own, `step-00001100-<digest of the config>`: nothing is overwritten by something else.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cineray.errors import PlaceMissing
from cineray.evaluate.clip_set import ClipSet
from cineray.evaluate.moving import grid_of, sheet_of, write_moving
from cineray.evaluate.prompts import Prompt, prompts_of
from cineray.evaluate.sample_config import SampleConfig
from cineray.evaluate.samples import Sampler, load_sampler
from cineray.storage import is_remote, join_uri, put_object, read_object, upload_file
from cineray.train.run_folder import RunFolder

if TYPE_CHECKING:
    import torch

FORMAT = 1
FACTS = "samples.json"
_LIMIT_BYTES = 64 << 20


def sample_run(
    run: RunFolder,
    config: SampleConfig,
    *,
    step: int | None = None,
    out: str = "",
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Make the clips of a checkpoint and write them; returns run, checkpoint, folder, samples (files), clips, seconds.

    `out`: another folder than the run's own.
    """
    began = time.perf_counter()
    prompts = prompts_of(run, config.clips)
    sampler = load_sampler(run, step=step, device=device, weights=config.weights)
    clips = sampler.generate(prompts, config)
    folder = out or _free_folder(run, sampler.info.step, config)
    seconds = time.perf_counter() - began
    files = write_samples(folder, clips, _facts(sampler, prompts, clips, config, seconds))
    return {
        "run": run.uri,
        "checkpoint": sampler.info.step,
        "folder": folder,
        "samples": files,
        "clips": len(clips),
        "seconds": time.perf_counter() - began,
    }


def write_samples(folder: str, clips: ClipSet, facts: dict[str, Any]) -> list[str]:
    """All files of a folder of samples; `facts` say how they came about, and in which formats they are wanted."""
    told = facts["config"]
    with tempfile.TemporaryDirectory() as made_here:
        here = Path(folder if not is_remote(folder) else made_here)
        here.mkdir(parents=True, exist_ok=True)
        # Who finds the facts finds the files that they name: those of earlier samples go first, and come last.
        (here / FACTS).unlink(missing_ok=True)
        names = _written(here, clips, facts, clip_format=told["clip_format"], grid_format=told["grid_format"])
        if is_remote(folder):
            for name in names:
                upload_file(os.fspath(here / name), join_uri(folder, name))
    files = {"clips": "clips.npz", "grid": f"grid.{told['grid_format']}", "contact_sheet": "contact-sheet.png"}
    put_object(join_uri(folder, FACTS), json.dumps({**facts, "files": files}, indent=1).encode())
    return [join_uri(folder, name) for name in (*names, FACTS)]


def _written(here: Path, clips: ClipSet, facts: dict[str, Any], *, clip_format: str, grid_format: str) -> list[str]:
    """Into a local folder; returns the names."""
    grid, sheet = f"grid.{grid_format}", "contact-sheet.png"
    write_moving(here / grid, *grid_of(clips, told=facts["told"]))
    heading = f"{facts['job']}, {facts['checkpoint']} steps, {facts['weights']} weights, {_how(facts['config'])}"
    (here / sheet).write_bytes(sheet_of(clips, heading, told=facts["told"]))
    clips.save(here / "clips.npz")
    names = [grid, sheet, "clips.npz"]
    for number in range(len(clips)):
        names.append(clip_name(number, clip_format))
        write_moving(here / names[-1], clips.frames_NTHWC[number], clips.seconds_NT[number])
    return names


def clip_name(number: int, form: str) -> str:
    """`0007.mp4`."""
    return f"{number:04d}.{form}"


def _how(config: dict[str, Any]) -> str:
    told = f"{config['steps']} steps of {config['method']}, guidance {config['guidance']:g}"
    return f"{told}, first frames given" if config["first_frame"] else told


def _facts(
    sampler: Sampler, prompts: list[Prompt], clips: ClipSet, config: SampleConfig, seconds: float
) -> dict[str, Any]:
    seeds = {prompt.name: prompt.seed for prompt in prompts}
    return {
        "format": FORMAT,
        "run": sampler.run.uri,
        "run_id": sampler.run.run_id,
        "job": sampler.job.name,
        "checkpoint": sampler.info.step,
        "weights": config.weights,
        "told": sampler.told,
        "fingerprint": sampler.run.identity.fingerprint,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "config": config.model_dump(mode="json"),
        "frames": clips.num_frames,
        "height": clips.height,
        "width": clips.width,
        "clips": [
            {
                "file": clip_name(number, config.clip_format),
                "name": clips.names[number],
                "seed": seeds[clips.names[number]],
                "label": clips.labels[number],
                "caption": clips.captions[number],
                "facts": dict(clips.facts[number]),
                "seconds": clips.seconds_NT[number].tolist(),
            }
            for number in range(len(clips))
        ],
    }


def _free_folder(run: RunFolder, step: int, config: SampleConfig) -> str:
    """The checkpoint's folder, if it is free or has samples of this very config; else one of the config's own."""
    usual = run.folder(f"samples/step-{step:08d}")
    there = read_facts(usual)
    if there is None or there.get("config") == config.model_dump(mode="json"):
        return usual
    return f"{usual}-{config.digest()}"


def read_facts(folder: str) -> dict[str, Any] | None:
    """What a folder's samples.json says; None where there is none."""
    try:
        told: dict[str, Any] = json.loads(read_object(join_uri(folder, FACTS), limit_bytes=_LIMIT_BYTES))
    except PlaceMissing:
        return None
    return told
