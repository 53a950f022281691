"""Things that a report can be of, made here: a run, an evaluation with clips, a comparison, a pipeline check, a batch,
and (in made_sweep.py) a sweep, (in made_curated.py) a curated lake.

Small, and every figure in them is known; texts are hostile where data can be. Loaded by its path (tests are no
package), here and by the browser's tests.
"""

from __future__ import annotations

import json
import math
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from cineray.batch import write_npz
from cineray.decode import write_mp4
from cineray.records import Batch, ClipSpec, Crop, Substitution
from cineray.train.ledger import parquet_bytes

HOSTILE = '</script><script>window.broken = 1</script><img src=x onerror=window.broken=1>{{7*7}} \u202egnp & "quotes"'
"""A caption as somebody would write it who wants the page to do his will."""

JOB = """
kind: train
name: shapes
steps: {steps}
note: {note}
feed: {{driver: local}}
checkpoint: {{best_metric: validation/headline}}
"""
BEGUN = 1_795_234_000.0
STEPS, EVERY = 120, 30


def moving_dot(number: int, *, frames: int = 8, size: int = 32) -> np.ndarray:
    """A clip of a dot that moves to the right on a dark ground."""
    clip = np.full((frames, size, size, 3), 24, np.uint8)
    for t in range(frames):
        left = (number * 3 + t * 2) % (size - 6)
        clip[t, 8:14, left : left + 6] = (230, 60 + 10 * number % 180, 60)
    return clip


def make_clip(path: Path, number: int, **shape: int) -> None:
    """It as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clip = moving_dot(number, **shape)
    write_mp4(path, clip, [t / 8 for t in range(len(clip))])


# ---- an evaluation ---------------------------------------------------------------------------------------------------


def score(name: str, value: float, *, group: str, unit: str, better: str, real: float, **more: Any) -> dict[str, Any]:
    """One metric as an evaluation's JSON has it, with controls around it."""
    about = abs(value) * 0.06 + 0.01

    def told(middle: float) -> dict[str, Any]:
        return {"value": middle, "low": middle - about, "high": middle + about, "n": 64}

    controls = {"real": told(real), "frames shuffled": told(value * 0.5 + real), "untrained": told(real * 0.3 + 0.1)}
    kept = {"name": name, "group": group, "unit": unit, "better": better, **told(value), "controls": controls}
    return {"skipped": "", "note": "", "facts": {}, **kept, **more}


def scores() -> list[dict[str, Any]]:
    """The metrics of a good model, in three groups; one is skipped, one has a hostile note."""
    direction = score("direction_accuracy", 0.953, group="motion", unit="fraction", better="higher", real=1.0)
    direction["controls"]["labels permuted"] = {"value": 0.125, "low": 0.07, "high": 0.2, "n": 64}
    return [
        direction,
        score("speed_error", 0.083, group="motion", unit="of the told speed", better="lower", real=0.004),
        score("trajectory_error", 0.41, group="motion", unit="px", better="lower", real=0.02),
        score("one_object", 0.984, group="motion", unit="fraction", better="higher", real=1.0),
        score("flicker", 7.31, group="flicker", unit="levels of 255", better="like real", real=7.02),
        score("second_difference", 1.62, group="flicker", unit="ratio", better="like real", real=1.55, note=HOSTILE),
        score("feature_kernel", 0.0213, group="features", unit="MMD^2", better="lower", real=0.0004)
        | {"facts": {"feature_net": "r2plus1d", "feature_net_sha256": "ab" * 32}},
        {"name": "fvd", "group": "features", "unit": "", "better": "lower", "value": None, "low": None, "high": None}
        | {"n": 0, "controls": {}, "skipped": "no weights: set weights.fvd to a local file", "note": "", "facts": {}},
    ]


def make_evaluation(folder: Path, *, step: int = STEPS, clips: int = 4) -> Path:
    """A folder with evaluation.json and clips."""
    samples = []
    for number in range(clips):
        make_clip(folder / f"clips/{number:04d}.mp4", number)
        make_clip(folder / f"clips/real-{number:04d}.mp4", number + 1)
        caption = HOSTILE if number == 1 else f"a red dot moves to the right, number {number}"
        files = {"file": f"clips/{number:04d}.mp4", "real_file": f"clips/real-{number:04d}.mp4"}
        samples.append({**files, "name": f"prompt-{number:04d}", "label": "right", "caption": caption})
    parts = {part: {"n": n, "metrics": scores()[:4]} for part, n in (("held_out", 12), ("seen", 52))}
    told = {
        **{"format": 1, "run": "/data/runs/shapes-7", "run_id": "shapes-1a2b3c4d", "job": "shapes"},
        **{"checkpoint": step, "weights": "ema", "fingerprint": "cd" * 32, "made_at": "2026-11-21T05:00:00+00:00"},
        **{"seconds": 41.5, "key": "ef" * 16, "metrics": scores(), "parts": parts, "samples": samples},
        "record": {"sampler": {"method": "heun", "steps": 25, "guidance": 2.0}, "clips": 64, "seed": 0, "frames": 8},
        "loss": {"bins": [0.101, 0.047, 0.033, 0.032, 0.038, 0.056, 0.112, 0.11], "headline": 0.074, "mean": 0.066}
        | {"wrong_over_right": 1.476, "skill_linear": [0.18, 0.63, 0.77, 0.83, 0.86, 0.9, 0.91, 0.91]},
        "sensitivity": [
            {"metric": "flicker", "corruption": "jitter", "values": [7.0, 9.1, 12.4, 20.3], "ranks": True},
            {"metric": "flicker", "corruption": "blur", "values": [7.0, None, 7.1, 6.9], "ranks": False},
        ],
        "verdict": "The model follows its conditioning: 95% [91%, 98%] of the clips move as told (by chance 12%).",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(told))
    return folder


# ---- a run -----------------------------------------------------------------------------------------------------------


def validation(step: int) -> dict[str, float]:
    """What a validation says, the better the later."""
    left = 0.4 + 0.6 * math.exp(-step / 60)
    bins = {f"validation/bin{n}": left * x for n, x in enumerate((0.12, 0.06, 0.05, 0.05, 0.06, 0.09, 0.2, 0.21))}
    skills = {f"validation/skill_linear{n}": 1 - left * x for n, x in enumerate((1.0, 0.5, 0.3, 0.2))}
    ends = {
        "validation/headline": left * 0.09,
        "validation/loss": left * 0.1,
        "validation/skill_linear": 1 - left * 0.8,
    }
    return {**bins, **ends, "validation/wrong_over_right": 2 - left, **skills}


def ledger_rows() -> list[dict[str, Any]]:
    """Two attempts: the first is killed at step 69, the second goes on from the checkpoint of step 60."""
    rows: list[dict[str, Any]] = []
    for attempt, steps, begun in ((1, range(70), BEGUN + 12.0), (2, range(60, STEPS), BEGUN + 120.0)):
        at = begun
        for number, step in enumerate(steps):
            took = 0.5 + (1.5 if number < 2 else 0.0)  # the first steps compile
            at = at + took
            seconds = {"data_wait_s": 0.03, "host_to_device_s": 0.01, "compute_s": took - 0.05, "checkpoint_s": 0.0}
            rows.append(
                {
                    "step": step,
                    "attempt": attempt,
                    "at": at,
                    "epoch": 0,
                    "bucket": "8x32x32",
                    "clips": 16,
                    "frames": 128,
                }
                | {"tokens": 2048, "loss": 0.6 * math.exp(-step / 50) + 0.05 + 0.01 * (step % 3), "lr": 0.002}
                | {"grad_norm": 1 + 0.2 * (step % 5), **seconds, "gpu_stall_s": math.nan, "validation_s": 0.0}
                | {"step_s": took, "clips_per_s": 16 / took, "mfu": math.nan, "world_size": 1, "substituted": 0}
            )
    return rows


def events() -> dict[int, list[dict[str, Any]]]:
    """What the two attempts noted."""
    first = [{"at": BEGUN, "event": "begin", "world_size": 1}]
    first += [{"at": BEGUN + 30, "event": "validated", "step": 30, "metrics": validation(30)}]
    first += [{"at": BEGUN + 45, "event": "validated", "step": 60, "metrics": validation(60)}]
    second = [{"at": BEGUN + 115, "event": "begin", "world_size": 1}]
    second += [{"at": BEGUN + 117, "event": "restored", "step": 60, "seconds": 1.5}]
    second += [{"at": BEGUN + 140, "event": "validated", "step": 90, "metrics": validation(90)}]
    second += [{"at": BEGUN + 155, "event": "validated", "step": 120, "metrics": validation(120)}]
    second += [{"at": BEGUN + 155.5, "event": "rest", "validation": 0.5, "checkpoint": 0.25}]
    second += [{"at": BEGUN + 156, "event": "end", "reason": "done"}]
    return {1: first, 2: second}


def make_run(folder: Path, *, samples: tuple[int, ...] = (60, 120), evaluations: tuple[int, ...] = (60, 120)) -> Path:
    """A run's folder, as a training leaves it."""
    facts = {
        **{"format": 1, "id": "shapes-1a2b3c4d", "created": "2026-11-21T04:06:40+00:00", "fingerprint": "cd" * 32},
        "plan": {"plan_format": 1, "catalogs": ["ab" * 32], "recipe": {}, "seed": 7},
        "job": JOB.format(steps=STEPS, note=json.dumps(HOSTILE)),
        **{
            "git": {"commit": "0123456789abcdef", "changed_files": 2},
            "software": {"python": "3.11.7", "torch": "2.13"},
        },
        **{"command": ["cineray", "train", HOSTILE], "machine": {"host": "box", "cores": 2, "memory_bytes": 8 << 30}},
    }
    for name in ("ledger", "events", "attempts", "validation"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "ledger/00001-000001.parquet").write_bytes(parquet_bytes(ledger_rows()))
    (folder / "validation/baselines.json").write_text(json.dumps({"linear": [0.12] * 8, "mean": [0.2] * 8}))
    for attempt, told in events().items():
        (folder / f"events/{attempt:05d}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
        start = {"attempt": attempt, "at": told[0]["at"], "world_size": 1}
        (folder / f"attempts/{attempt:05d}.json").write_text(json.dumps(start))
    for step in samples:
        make_samples(folder / f"samples/step-{step:08d}", step)
    for step in evaluations:
        make_evaluation(folder / f"evaluations/step-{step:08d}", step=step)
    assert pq.read_table(folder / "ledger/00001-000001.parquet").num_rows == 130
    return folder


def make_samples(folder: Path, step: int, *, clips: int = 3) -> None:
    """A folder of `cineray sample`."""
    listed = []
    for number in range(clips):
        make_clip(folder / f"{number:04d}.mp4", number + step // 30)
        words = {"label": "right", "caption": HOSTILE if number == 2 else "a red dot moves to the right"}
        listed.append({"file": f"{number:04d}.mp4", "name": f"prompt-{number:04d}", "seed": number, **words})
    (folder / "samples.json").write_text(json.dumps({"format": 1, "checkpoint": step, "clips": listed}))


# ---- the others ------------------------------------------------------------------------------------------------------


def make_comparison(folder: Path) -> Path:
    """Two checkpoints: B is better in one metric, worse in one, and the rest is noise."""
    rows = []
    for number, one in enumerate(scores()):
        if one["value"] is None:
            apart = {"difference": None, "low": None, "high": None, "beyond_noise": False, "winner": ""}
        else:
            step = (0.2, 0.0, -0.01)[number % 3] * abs(one["value"])
            ends = {"low": step - 0.05 * abs(one["value"]), "high": step + 0.05 * abs(one["value"])}
            sure = number % 3 == 0
            winner = ("b" if one["better"] == "higher" else "a") if sure else ""
            apart = {"difference": step, **ends, "beyond_noise": sure, "winner": winner}
        rows.append({"name": one["name"], "unit": one["unit"], "better": one["better"], "a": one, "b": one, **apart})
    sides = {side: {"name": f"shapes, {step} steps", "run": f"/data/{side}"} for side, step in (("a", 60), ("b", 120))}
    told = {
        "format": 1,
        "made_at": "2026-11-21T05:00:00+00:00",
        **sides,
        "metrics": rows,
        "verdict": "B is better in 1.",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(told))
    return folder


def make_pipeline(folder: Path) -> Path:
    """A check that found a red flag."""
    for number in range(2):
        make_clip(folder / f"clips/{number:04d}.mp4", number, size=96)
    flag = {"part": "sampling", "severity": "red flag", "text": f"frames repeat: 0.25 in B, 0 in A {HOSTILE}"}
    same = {"part": "decode", "severity": "same", "text": "every pixel agrees (the same videos)"}
    row = {"name": "repeated", "says": "share of frames that are the one before again", "a": 0.0, "b": 0.25}
    told = {
        **{"format": 1, "clips": 2, "matched_by": "clip id", "differ_in": ["sampling", "resize"], "rejected": []},
        **{"without_partner": ["x"], "findings": [flag, same], "verdict": "A pipeline red flag, not a model mystery."},
        "measures": [row | {"difference": 0.25, "low": 0.2, "high": 0.3, "n": 2, "beyond_noise": True}],
        "pixels": {"resize": {"levels": 3.5, "low": 2.0, "high": 5.0, "n": 2, "worst": {"clip": "c1", "levels": 5.0}}}
        | {},
        "samples": [{"file": f"clips/{number:04d}.mp4", "name": f"clip-{number}"} for number in range(2)],
    }
    told["pixels"]["resize"] |= {"shift_rgb": [0.1, -0.2, 0.0], "same_frames": 1.0, "per_clip": {"c0": 2.0, "c1": 5.0}}
    (folder / "pipeline.json").write_text(json.dumps(told))
    return folder


def batch(clips: int = 3, frames: int = 8) -> Batch:
    """A batch of moving dots; the last frame of the last clip is padded, one clip stands in for another."""
    crop = Crop(top=0, left=0, height=32, width=32, out_height=32, out_width=32)
    specs = tuple(
        ClipSpec(
            clip_id=f"c{n}" * 16,
            video_id=f"v{n}" * 16,
            dataset=0,
            clip_number=n,
            epoch=1,
            draw=0,
            frame_numbers=tuple(range(n, n + frames)),
            frame_pts=tuple(range(0, 64 * frames, 64)),
            time_base=_time_base(),
            frame_is_real=(True,) * (frames - 1) + (n < clips - 1,),
            crop=crop,
            caption=HOSTILE if n == 1 else f"dot {n}",
            label="right",
        )
        for n in range(clips)
    )
    replaced = Substitution(
        step=12, slot=1, wanted_clip_id="w" * 32, used_clip_id="c1" * 16, reason="corrupt", detail="x"
    )
    return Batch(
        step=12,
        first_slot=0,
        global_size=clips,
        frames_BTHWC=np.stack([moving_dot(n, frames=frames) for n in range(clips)]),
        frame_is_real_BT=np.array([spec.frame_is_real for spec in specs]),
        seconds_BT=np.tile(np.arange(frames) / 8, (clips, 1)),
        start_seconds_B=np.arange(clips, dtype=np.float64),
        specs=specs,
        substitutions=(replaced,),
        frames_decoded=30,
    )


def _time_base() -> Any:
    from fractions import Fraction

    return Fraction(1, 512)


def make_batch(folder: Path) -> Path:
    """What `cineray batch` writes, but for the contact sheet."""
    folder.mkdir(parents=True, exist_ok=True)
    made = batch()
    write_npz(made, folder / "batch.npz")
    for slot, clip in enumerate(made.frames_BTHWC):
        write_mp4(folder / f"slot-{slot:04d}.mp4", clip, made.seconds_BT[slot].tolist())
    return folder


def make_sweep(folder: Path) -> Path:
    """A sweep of twelve trials."""
    make: Any = runpy.run_path(str(Path(__file__).with_name("made_sweep.py")))["make_sweep"]
    made: Path = make(folder, hostile=HOSTILE, clip=make_clip)
    return made


def make_curated(folder: Path) -> Path:
    """A lake of seven videos, curated; version 2 of it."""
    make: Any = runpy.run_path(str(Path(__file__).with_name("made_curated.py")))["make_curated"]
    made: Path = make(folder, hostile=HOSTILE)
    return made


def make_standardised(folder: Path) -> Path:
    """The same, standardised as well: version 3."""
    make: Any = runpy.run_path(str(Path(__file__).with_name("made_curated.py")))["make_standardised"]
    made: Path = make(folder, hostile=HOSTILE)
    return made
