"""Contact sheets of what lies at the edge of each rule, for people who choose thresholds. A report goes in, PNGs leave.

One sheet for each reason that leaves anything out: first the clips that it only just left out, then those that it only
just kept, each with four pictures and the figures that the rule looked at. Pictures are decoded in a child; a video
that cannot be decoded is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cineray.batch.sheet import SheetRow, draw_sheet
from cineray.curate.asks import SHOW
from cineray.curate.clip_table import ClipTable
from cineray.curate.clips import Draft
from cineray.curate.config import CurateJob
from cineray.curate.curate_report import CurateReport
from cineray.curate.edges import Edge, edge_of
from cineray.curate.looker import CHILD_COMMAND
from cineray.curate.rules import Reason
from cineray.curate.videos import Video, take_videos
from cineray.errors import UsageError
from cineray.index import IndexPool, Limits, indexed_to_dict
from cineray.lake import Lake
from cineray.records import Reject

CLIPS_A_SIDE = 6
PICTURES = 4
CELL_HEIGHT, CELL_WIDTH = 96, 160


def write_sheets(report: CurateReport, job: CurateJob, folder: Path) -> list[Path]:
    """One PNG per reason that left something out; their paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"no sheets can be written to {folder}: {error}; choose another folder") from None
    lake = Lake.open(job.lake)
    limits = Limits(wall_seconds=job.seconds_per_video, cpu_seconds=job.seconds_per_video)
    written = []
    with IndexPool(1, limits=limits, child_command=CHILD_COMMAND) as pool:
        for reason in report.outcome.reasons:
            edge = edge_of(report.outcome.table, reason, CLIPS_A_SIDE)
            rows = list(_rows(lake, report, reason, edge, pool)) if reason.holds.any() else []
            if rows:
                path = folder / f"{reason.name}.png"
                order = "" if edge.is_known else " (no edge, in the order of videos)"
                path.write_bytes(draw_sheet(f"{reason.name}{order}: {reason.told}", rows))
                written.append(path)
    return written


def _rows(lake: Lake, report: CurateReport, reason: Reason, edge: Edge, pool: IndexPool) -> Iterator[SheetRow]:
    table = report.outcome.table
    for drafts, word in ((edge.left_out, "left out"), (edge.kept, "kept by this rule")):
        listed = [table.listed[table.drafts[draft].video] for draft in drafts]
        videos = take_videos(lake, report.based_on, listed) if listed else iter(())
        for draft, video in zip(drafts, videos, strict=True):
            numbers = frames_of(table.drafts[draft], video)
            pictures = _pictures(video, numbers, pool)
            if pictures is not None:
                words = f"{word}: {_figures(table, reason, draft) or reason.name}"
                yield _row(words, video, numbers, pictures)


def _pictures(video: Video, numbers: list[int], pool: IndexPool) -> npt.NDArray[np.uint8] | None:
    values = indexed_to_dict(video.video)
    frames: bytes = values.pop("frames")
    answer = pool.ask(video.file, SHOW, {"video": values, "numbers": numbers}, frames)
    if isinstance(answer, Reject):
        return None
    return np.stack([in_a_cell(one) for one in np.frombuffer(answer[1], np.uint8).reshape(answer[0]["shape"])])


def _figures(table: ClipTable, reason: Reason, draft: int) -> str:
    return ", ".join(f"{name} {_short(table.rows[name][draft].as_py())}" for name in reason.figures)


def _row(words: str, video: Video, numbers: list[int], pictures_THWC: npt.NDArray[np.uint8]) -> SheetRow:
    table = video.video.frames
    seconds = [float((int(table.pts[number]) - table.start_pts) * video.video.time_base) for number in numbers]
    return SheetRow(
        words=words,
        detail=f"{video.file.place} from {seconds[0]:.2f} s",
        frames_THWC=pictures_THWC,
        under=[(f"{second:.2f} s", f"frame {number}") for second, number in zip(seconds, numbers, strict=True)],
        crossed=[False] * len(numbers),
    )


def frames_of(draft: Draft, video: Video) -> list[int]:
    """Four frames of a draft, evenly in time, the first among them."""
    table = video.video.frames
    length = draft.end_pts - draft.start_pts
    instants = [draft.start_pts + length * part // PICTURES for part in range(PICTURES)]
    return [int(number) for number in np.clip(table.shown_at(np.array(instants, np.int64)), 0, None)]


def in_a_cell(picture_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A picture of any shape in the middle of a grey cell: smaller where it must be, never stretched."""
    from PIL import Image

    picture = Image.fromarray(picture_HWC)
    picture.thumbnail((CELL_WIDTH, CELL_HEIGHT))
    cell = Image.new("RGB", (CELL_WIDTH, CELL_HEIGHT), (128, 128, 128))
    cell.paste(picture, ((CELL_WIDTH - picture.width) // 2, (CELL_HEIGHT - picture.height) // 2))
    return np.asarray(cell)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
