"""`cineray batch JOB|RUN --step N`: any batch again, whatever came before: pictures, clips, arrays, and its hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from cineray.cli.job import JOB, SETS, data_spec
from cineray.cli.output import JSON, facts_table, plain, show
from cineray.records import Batch


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

    with data_spec(job, sets) as (told, spec):
        supply = spec.open()
        whole = local_batch(supply, step)
    share = whole if world == 1 else split(whole, world)[rank]
    written = write_files(share, out / f"step-{step:08d}", rank=rank, world=world) if files else []
    facts = {
        "job": told.name,
        "fingerprint": supply.plan.fingerprint,
        "step": step,
        "rank": rank,
        "world": world,
        "clips": [_clip_facts(share, slot) for slot in range(len(share.specs))],
        "sha256": batch_digest([whole]),
        "substituted": [_plain(one) for one in share.substitutions],
        "frames_decoded": share.frames_decoded,
        "files": [str(path) for path in written],
    }
    show(facts, as_json=as_json, table=_tables(facts))


def write_files(batch: Batch, folder: Path, *, rank: int, world: int) -> list[Path]:
    """The contact sheet, an MP4 per clip, and the arrays."""
    from cineray.batch import contact_sheet, write_npz
    from cineray.decode import write_mp4

    stem = "" if world == 1 else f"-rank-{rank}-of-{world}"
    folder.mkdir(parents=True, exist_ok=True)
    sheet, arrays = folder / f"contact-sheet{stem}.png", folder / f"batch{stem}.npz"
    sheet.write_bytes(contact_sheet(batch))
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
    for column in ("slot", "video", "frames", "begins", "label", "caption"):
        clips.add_column(column, overflow="fold")
    for clip in facts["clips"]:
        numbers = clip["frame_numbers"]
        begin = f"{clip['frame_pts'][0]} x {clip['time_base']} s"
        cells = (
            clip["slot"],
            clip["video_id"][:12],
            f"{numbers[0]} .. {numbers[-1]}",
            begin,
            clip["label"],
            clip["caption"],
        )
        clips.add_row(*map(plain, cells))
    shown = {name: facts[name] for name in ("step", "fingerprint", "sha256", "frames_decoded")}
    shown["substituted"] = len(facts["substituted"])
    shown["files"] = "\n".join(facts["files"][:2]) + (
        f"\nand {len(facts['files']) - 2} clips" if facts["files"] else ""
    )
    return [facts_table(shown), clips]
