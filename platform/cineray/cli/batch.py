"""`cineray batch JOB|RUN --step N`: any batch again, whatever came before: pictures, clips, arrays, and its hash.

Of a diffusion job also what its clips are trained at: the noise level (t, from 0 for noise to 1 for the clip itself), a
hash of the noise, and whether class and caption are hidden. The hash is of the noise as a CPU computes it; a GPU rounds
a rare last bit otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from cineray.cli.job import JOB, SETS, data_spec
from cineray.cli.output import JSON, facts_table, plain, show
from cineray.errors import CinerayError, UsageError
from cineray.records import Batch, Place

if TYPE_CHECKING:
    from cineray.feed import DataJob


def batch_command(
    job: str = JOB,
    sets: list[str] = SETS,
    step: int = typer.Option(..., min=0, help="Which step's batch."),
    rank: int = typer.Option(0, min=0, help="The share of this rank only; the hash is the whole batch's."),
    world: int = typer.Option(1, min=1, help="Of so many ranks."),
    out: Path = typer.Option(Path("batch-out"), help="Where the pictures and files go."),
    files: bool = typer.Option(True, help="Write the contact sheet, the clips and the arrays; else only tell."),
    as_json: bool | None = JSON,
) -> None:
    """Rebuild the batch of a step and show it: contact sheet, a video per clip, arrays, hash."""
    from cineray.batch import batch_digest, split
    from cineray.feed import local_batch

    if rank >= world:
        raise UsageError(
            f"--rank is {rank} of --world {world}; ranks count from 0, so wanted 0 to {world - 1}, or a larger --world"
        )
    with data_spec(job, sets) as (told, spec):
        supply = spec.open()
        whole = local_batch(supply, step)
    share = whole if world == 1 else split(whole, world)[rank]
    sources = [source_name(supply.catalogs[clip.dataset].located(clip.clip_number)[1]) for clip in share.specs]
    names = {clip.video_id: source for clip, source in zip(share.specs, sources, strict=True)}
    chance, why_not = _chance(told, share)
    folder = out / f"step-{step:08d}"
    written = write_files(share, folder, rank=rank, world=world, names=names) if files else []
    facts = {
        "job": told.name,
        "fingerprint": supply.plan.fingerprint,
        "step": step,
        "rank": rank,
        "world": world,
        "clips": [
            _clip_facts(share, number) | {"source": sources[number]} | (chance[number] if chance else {})
            for number in range(len(share.specs))
        ],
        "sha256": batch_digest([whole]),
        "substituted": [_plain(one) for one in share.substitutions],
        "frames_decoded": share.frames_decoded,
        "files": [str(path) for path in written],
        **({"no_noise": why_not} if why_not else {}),
    }
    show(facts, as_json=as_json, table=_tables(facts))


def source_name(place: Place) -> str:
    """What a video is called where it lies: its file, or the bytes of one."""
    return str(replace(place, uri=place.uri.rstrip("/").rpartition("/")[2]))


def _chance(job: DataJob, share: Batch) -> tuple[list[dict[str, Any]], str]:
    """Of a diffusion job, what its clips are trained at: noise level and noise by the step and the slot, as the trainer
    draws them. Nothing of other jobs; where an autoencoder is not here, why nothing can be told."""
    from cineray.train.config import TrainJob

    if not isinstance(job, TrainJob):
        return [], ""
    import torch

    from cineray.diffusion.chance import drawn
    from cineray.models.autoencoder import load_autoencoder

    try:
        autoencoder = load_autoencoder(job.autoencoder)
    except CinerayError as error:
        return [], f"the noise has the shape of the job's latents, which is not known here: {error}"
    _, frames, height, width, _ = share.frames_BTHWC.shape
    told, shape = [], autoencoder.latent_shape((frames, height, width))
    for slot in range(share.first_slot, share.first_slot + len(share.specs)):
        # One at a time: the noise of a large batch takes more memory than its pixels.
        had = drawn(job.diffusion, shape, seed=job.seed, step=share.step, slots_B=torch.tensor([slot]))
        t_T = had.t_BT[0]
        told.append(
            {
                "t": float(t_T[-1]),
                "shows_first_frame": bool(t_T[0] == 1) and len(t_T) > 1,
                "is_hidden": bool(had.is_hidden_B[0]),
                "noise_sha256": hashlib.sha256(had.e_BCTHW.numpy().astype("<f4").tobytes()).hexdigest(),
            }
        )
    return told, ""


def write_files(
    batch: Batch, folder: Path, *, rank: int, world: int, names: Mapping[str, str] | None = None
) -> list[Path]:
    """The contact sheet, an MP4 per clip, and the arrays. `names`: what videos are called, by their ids."""
    from cineray.batch import contact_sheet, write_npz
    from cineray.decode import write_mp4

    stem = "" if world == 1 else f"-rank-{rank}-of-{world}"
    folder.mkdir(parents=True, exist_ok=True)
    sheet, arrays = folder / f"contact-sheet{stem}.png", folder / f"batch{stem}.npz"
    sheet.write_bytes(contact_sheet(batch, names=names))
    write_npz(batch, arrays)
    clips = []
    for number, frames in enumerate(batch.frames_BTHWC):
        clips.append(folder / f"slot-{batch.first_slot + number:04d}.mp4")
        write_mp4(clips[-1], frames, batch.seconds_BT[number])
    return [sheet, arrays, *clips]


def _clip_facts(batch: Batch, number: int) -> dict[str, Any]:
    spec = batch.specs[number]
    return {
        "slot": batch.first_slot + number,
        "video_id": spec.video_id,
        "clip_id": spec.clip_id,
        "epoch": spec.epoch,
        "draw": spec.draw,
        "label": spec.label,
        "caption": spec.caption,
        "frame_numbers": list(spec.frame_numbers),
        "frame_pts": list(spec.frame_pts),
        "time_base": str(spec.time_base),
        "seconds": [round(float(s), 6) for s in batch.seconds_BT[number]],
        "real_frames": int(batch.frame_is_real_BT[number].sum()),
    }


def _plain(substitution: Any) -> dict[str, Any]:
    return {name: getattr(substitution, name) for name in substitution.__slots__}


def _tables(facts: dict[str, Any]) -> list[Table]:
    clips = Table(title="\nclips", title_justify="left", box=None, header_style="bold", pad_edge=False)
    noisy = any("t" in clip for clip in facts["clips"])
    noise = ("noise at t", "noise") if noisy else ()
    for column in ("slot", "video", "source", "frames", "begins", *noise, "label", "caption"):
        clips.add_column(column, overflow="fold")
    for clip in facts["clips"]:
        numbers = clip["frame_numbers"]
        begin = f"{clip['frame_pts'][0]} x {clip['time_base']} s"
        cells = (
            clip["slot"],
            clip["video_id"][:12],
            clip["source"],
            f"{numbers[0]} .. {numbers[-1]}",
            begin,
            *((f"{clip['t']:.3f}", clip["noise_sha256"][:12]) if noisy else ()),
            clip["label"],
            clip["caption"],
        )
        clips.add_row(*map(plain, cells))
    shown = {name: facts[name] for name in ("step", "fingerprint", "sha256", "frames_decoded")}
    shown["substituted"] = len(facts["substituted"])
    if "no_noise" in facts:
        shown["noise"] = facts["no_noise"]
    shown["files"] = "\n".join(facts["files"][:2]) + (
        f"\nand {len(facts['files']) - 2} clips" if facts["files"] else ""
    )
    return [facts_table(shown), clips]
