"""Which videos show the same, and which copy stays. What was measured and what the rules leave go in; copies leave.

The best copy is chosen among those of which the rules leave a clip: a good video is not lost for a bad copy's sake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cineray.curate.clip_table import ClipTable
from cineray.curate.config import CurateJob
from cineray.curate.duplicates import best_copy, duplicate_sets
from cineray.curate.rules import DUPLICATE, Reason, any_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Sets of videos that show the same, and what is to be said of each of their members."""

    sets: tuple[tuple[str, ...], ...] = ()
    by_video: dict[str, dict[str, Any]] = field(default_factory=dict)


def copies_of(table: ClipTable, left_out: Sequence[Reason], job: CurateJob) -> tuple[Copies, list[Reason]]:
    """The sets, and the reason for which their other members are left out (none where all are kept)."""
    if job.duplicates is None:
        return Copies(), []
    sets = tuple(tuple(one) for one in duplicate_sets(table.signatures))
    stays = _videos_with_clips(table, left_out)
    by_video: dict[str, dict[str, Any]] = {}
    for members in sets:
        kept = best_copy([one for one in members if one in stays] or list(members), table.quality)
        by_video |= {one: {"group": members[0], "kept": kept} for one in members}
    copies = Copies(sets=sets, by_video=by_video)
    if job.duplicates.keep == "all":
        return copies, []
    holds = [_is_other(by_video, table.video_id(draft)) for draft in table.drafts]
    told = "another video shows the same and is kept"
    return copies, [Reason(DUPLICATE, told, np.array(holds, np.bool_))]


def _is_other(by_video: dict[str, dict[str, Any]], video_id: str) -> bool:
    return video_id in by_video and by_video[video_id]["kept"] != video_id


def _videos_with_clips(table: ClipTable, left_out: Sequence[Reason]) -> set[str]:
    gone = any_of(left_out, len(table.drafts))
    return {table.video_id(draft) for draft, out in zip(table.drafts, gone.tolist(), strict=True) if not out}
