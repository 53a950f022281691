"""Which videos show the same, and which copies stay. What was measured and what the rules leave go in; copies leave.

    set: A, B, C and a compilation of all three       the compilation is alike to each, they to it alone
    best first: A stays | B stays | C stays | the compilation stays where it is longer than what it resembles

A video is left out only where one that stays resembles it itself, over nearly all of its length: nothing is lost that
nobody else shows. The best copy is chosen among those of which the rules leave a clip: a good video is not lost for a
bad copy's sake. All of a set share a group and a split, whichever of them stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cmp_to_key
from typing import Any

import numpy as np

from cineray.curate.clip_table import ClipTable
from cineray.curate.config import CurateJob
from cineray.curate.duplicates import best_copy, duplicate_sets
from cineray.curate.likeness import ALIKE, likeness
from cineray.curate.rules import DUPLICATE, Reason, any_of
from cineray.curate.signatures import Signature

LONGER = 1.1
"""How much longer than one that stays a video may be, and count as shown by it: titles and ends differ."""
WHOLE = replace(ALIKE, overlap=0.9)
"""As for sets, but nearly all of the shorter one must be in the longer one."""


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
        for one, kept in _stand_ins(members, stays, table).items():
            by_video[one] = {"group": members[0], "kept": kept}
    copies = Copies(sets=sets, by_video=by_video)
    if job.duplicates.keep == "all":
        return copies, []
    holds = [_is_other(by_video, table.video_id(draft)) for draft in table.drafts]
    told = "another video shows the same and is kept"
    return copies, [Reason(DUPLICATE, told, np.array(holds, np.bool_))]


def _stand_ins(members: Sequence[str], stays: set[str], table: ClipTable) -> dict[str, str]:
    """For each member of a set the one that stays and shows what it shows; itself, where none does."""
    signatures = {one: Signature.from_text(table.signatures[one]) for one in members}

    def worse(one: str, other: str) -> int:
        return -1 if best_copy((one, other), table.quality) == one else 1

    left = {one for one in members if one in stays} or set(members)
    told: dict[str, str] = {}
    kept: list[str] = []
    # What the rules leave out comes last, and is not kept for its own sake.
    for one in (*sorted(left, key=cmp_to_key(worse)), *sorted(set(members) - left)):
        told[one] = next((other for other in kept if _shows(other, one, signatures, table)), one)
        if told[one] == one and one in left:
            kept.append(one)
    return told


def _shows(one: str, other: str, signatures: dict[str, Signature], table: ClipTable) -> bool:
    """Whether nearly all of the other video is in the one."""
    lasts, other_lasts = (_seconds(table, video) for video in (one, other))
    is_inside = other_lasts <= lasts * LONGER
    return is_inside and WHOLE.holds(likeness(signatures[one], signatures[other], WHOLE))


def _seconds(table: ClipTable, video: str) -> float:
    told = table.quality[video].get("duration_seconds")
    return float(told) if isinstance(told, int | float) else 0.0


def _is_other(by_video: dict[str, dict[str, Any]], video_id: str) -> bool:
    return video_id in by_video and by_video[video_id]["kept"] != video_id


def _videos_with_clips(table: ClipTable, left_out: Sequence[Reason]) -> set[str]:
    gone = any_of(left_out, len(table.drafts))
    return {table.video_id(draft) for draft, out in zip(table.drafts, gone.tolist(), strict=True) if not out}
