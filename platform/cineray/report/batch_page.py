"""The page of a batch: the folder that `cineray batch` wrote goes in, a `Page` comes out: its clips, their times and
texts, and the hash by which it can be told from any other.
"""

from __future__ import annotations

from cineray.batch import batch_digest
from cineray.errors import UsageError
from cineray.records import Batch
from cineray.report import palette
from cineray.report.batch_file import read_batch
from cineray.report.content import (
    Cell,
    Column,
    Commands,
    Facts,
    Figure,
    Film,
    Gallery,
    Page,
    Part,
    Section,
    Table,
    Tile,
)
from cineray.report.embed import Embedder
from cineray.report.plots import Axes, marks
from cineray.report.wording import TIMES, UNKNOWN, number, plural, whole
from cineray.storage import list_objects


def batch_page(folder: str, embed: Embedder, *, clips: int) -> Page:
    """All of it."""
    name, files = _arrays_file(folder)
    batch = read_batch(f"{folder.rstrip('/')}/{name}")
    share = name.removeprefix("batch").removesuffix(".npz").strip("-").replace("-", " ")
    slots = range(batch.first_slot, batch.first_slot + len(batch.specs))
    films = tuple(_film(folder, batch, at, embed, files) for at in range(min(len(batch.specs), clips)))
    return Page(
        subject="Batch",
        title=f"Batch of step {batch.step:,}" + (f", {share}" if share else ""),
        where=folder,
        tiles=_tiles(batch),
        sections=(
            Section(
                title="Clips",
                lead=f"Slots {slots.start} to {slots.stop - 1} of {batch.global_size}, at their own times.",
                parts=(Gallery(films=films),),
            ),
            Section(
                title="Times",
                lead="When each frame is shown, in seconds since its clip's first; timestamps of the file, not a rate.",
                parts=(_times(batch), _clips(batch)),
            ),
            *_substitutions(batch),
            Section(title="Record", lead="What tells this batch from any other.", parts=_record(batch)),
        ),
    )


def _arrays_file(folder: str) -> tuple[str, frozenset[str]]:
    """The name of the folder's arrays, and of all its files; the whole batch before a rank's share of it."""
    names = frozenset(one.uri.rpartition("/")[2] for one in list_objects(folder))
    arrays = sorted(
        (one for one in names if one.startswith("batch") and one.endswith(".npz")), key=lambda one: (len(one), one)
    )
    if not arrays:
        raise UsageError(f"{folder} has no batch.npz; wanted a folder that `cineray batch JOB --step N` wrote")
    return arrays[0], names


def _film(folder: str, batch: Batch, at: int, embed: Embedder, files: frozenset[str]) -> Film:
    slot, spec = batch.first_slot + at, batch.specs[at]
    file = f"slot-{slot:04d}.mp4"
    source = embed.file(folder, file) if file in files else ""
    name = f"{slot} · {spec.label}" if spec.label else str(slot)
    return Film(source=source, name=name, detail=spec.caption or "")


def _tiles(batch: Batch) -> tuple[Tile, ...]:
    many, frames, height, width, _ = batch.frames_BTHWC.shape
    padded = int((~batch.frame_is_real_BT).sum())
    used = batch.frames_decoded / max(many * frames, 1)
    replaced = len(batch.substitutions)
    return (
        Tile(name="clips", value=whole(many), detail=f"of {plural(len({s.video_id for s in batch.specs}), 'video')}"),
        Tile(name="frames per clip", value=whole(frames), detail=f"{plural(padded, 'frame')} padded in all"),
        Tile(name="size", value=f"{width} {TIMES} {height}", detail="pixels, as the model sees them"),
        Tile(name="decoded per frame used", value=number(used), detail=f"{whole(batch.frames_decoded)} frames decoded"),
        Tile(name="substituted", value=whole(replaced), detail="clips", tone="warn" if replaced else ""),
    )


def _times(batch: Batch) -> Figure:
    real: tuple[list[float], list[str], str] = ([], [], palette.BLUE)
    padded: tuple[list[float], list[str], str] = ([], [], palette.ORANGE)
    for at in range(len(batch.specs)):
        for seconds, is_real in zip(batch.seconds_BT[at], batch.frame_is_real_BT[at], strict=True):
            xs, names, _ = real if is_real else padded
            xs.append(float(seconds))
            names.append(f"slot {batch.first_slot + at}")
    groups = {"frames": real} | ({"padded": padded} if padded[0] else {})
    longest = float(batch.seconds_BT.max()) if batch.seconds_BT.size else 0.0
    return marks("Frames in time", f"The longest clip spans {number(longest)} s.", groups, Axes(x="seconds"))


def _clips(batch: Batch) -> Table:
    columns = (
        *(Column("slot"), Column("label"), Column("caption"), Column("video"), Column("clip")),
        *(Column("frames", number=True), Column("begins", number=True), Column("spans", number=True)),
    )
    rows = []
    for at, spec in enumerate(batch.specs):
        frames = spec.frame_numbers
        cells = (
            Cell(spec.video_id[:12], mono=True),
            Cell(spec.clip_id[:12], mono=True),
            Cell(f"{frames[0]} … {frames[-1]}"),
        )
        seconds = (Cell(f"{batch.start_seconds_B[at]:.3f} s"), Cell(f"{batch.seconds_BT[at][-1]:.3f} s"))
        slot = Cell(str(batch.first_slot + at), detail=f"epoch {spec.epoch}, draw {spec.draw}")
        rows.append((slot, Cell(spec.label or UNKNOWN), Cell(spec.caption or UNKNOWN), *cells, *seconds))
    return Table(caption="What each slot holds", columns=columns, rows=tuple(rows))


def _substitutions(batch: Batch) -> tuple[Section, ...]:
    rows = tuple(
        (
            Cell(str(s.slot)),
            Cell(s.wanted_clip_id[:12], mono=True),
            Cell(s.used_clip_id[:12], mono=True),
            Cell(s.reason),
            Cell(s.detail),
        )
        for s in batch.substitutions
    )
    if not rows:
        return ()
    columns = (Column("slot"), Column("wanted"), Column("instead"), Column("reason"), Column("in detail"))
    lead = "Clips that could not be decoded, and what stands there instead: always the same."
    return (
        Section(title="Substituted", lead=lead, parts=(Table(caption="Substitutions", columns=columns, rows=rows),)),
    )


def _record(batch: Batch) -> tuple[Part, ...]:
    whole_batch = len(batch.specs) == batch.global_size
    told = batch_digest([batch]) if whole_batch else "of a share there is none: it is the whole batch's"
    pairs = (("step", f"{batch.step:,}"), ("clips of the step", whole(batch.global_size)), ("sha256", told))
    again = f"cineray batch JOB --step {batch.step}"
    return (Facts(pairs=pairs, mono=True), Commands(lines=(("Make it again, anywhere; its hash is the same", again),)))
