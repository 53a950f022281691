"""Contact sheets of a lake's clips: a version and a split go in, strips of frames come out, a few of each label.

The clips come through a plan and the feed, as a training's do, so what is seen here is what a model would see: turned
upright, evenly over the clip's true time, a clip that cannot be decoded replaced. Media that cannot be read now is told
as a sentence, not as an error: a report of a lake is possible without its videos.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cineray.errors import CinerayError
from cineray.lake import Lake, Version, sql_in, unpack_text
from cineray.records import Batch
from cineray.report.content import Film, Gallery, Heading, Note, Part
from cineray.report.embed import Embedder
from cineray.report.wording import TIMES, clipped, plural

FRAMES, LONG_PX, GAP_PX, SMALL_PX = 6, 160, 4, 64


def strip_parts(
    lake: Lake, version: Version, splits: dict[str, int], shape: Counter[str], embed: Embedder, *, clips: int
) -> tuple[Part, ...]:
    """A gallery for each split; `shape` says how large videos are, most usual first."""
    parts: list[Part] = []
    each = max(clips // max(len(splits), 1), 1)
    for split, held in splits.items():
        try:
            batch = _batch_of(lake.uri, version.number, split, min(each, held), picture_size(shape))
            films = _films(batch, names_of(lake, version, [spec.video_id for spec in batch.specs]), embed)
        except CinerayError as error:
            parts.append(Note(text=f"The clips of {split or 'no split'} cannot be shown: {clipped(str(error), 600)}"))
            break  # what cannot be read now was waited for long enough
        told = f"{len(films)} of {plural(held, 'clip')}"
        parts += [Heading(text=split or "in no split", detail=told), Gallery(films=films, wide=True)]
    return tuple(parts)


def names_of(lake: Lake, version: Version, video_ids: Sequence[str]) -> dict[str, str]:
    """What these videos are called where they were found."""
    if not video_ids or "places" not in version.tables:
        return {}
    where = sql_in("video_id", sorted(set(video_ids)))
    rows = lake.read(version, "places", columns=["video_id", "name", "uri"], filter=where).to_pylist()
    return {row["video_id"]: unpack_text(row["name"] or row["uri"]) for row in rows}


def picture_size(shape: Counter[str]) -> tuple[int, int]:
    """(height, width) of a strip's pictures: of the most usual proportions, and no larger than the videos are."""
    width, height = (
        (int(part) for part in shape.most_common(1)[0][0].split(f" {TIMES} ")) if shape else (LONG_PX, LONG_PX)
    )
    scale = min(LONG_PX / max(width, height, 1), 1.0)
    return max(round(height * scale / 2) * 2, 2), max(round(width * scale / 2) * 2, 2)


def _batch_of(lake: str, version: int, split: str, many: int, size: tuple[int, int]) -> Batch:
    """The first batch of a plan that takes all labels evenly."""
    from cineray.feed import FeedSpec, local_batch
    from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec

    recipe = Recipe(
        datasets=(DatasetSpec(lake=lake, version=str(version), split=split or None, balance="label"),),
        sampling=SamplingSpec(mode="uniform", frames=FRAMES, short_videos="pad"),
        frame=FrameSpec(height=size[0], width=size[1], pad=True),
        batch_size=many,
        max_substituted_fraction=1.0,
    )
    return local_batch(FeedSpec(recipe=recipe), 0)


def _films(batch: Batch, names: Mapping[str, str], embed: Embedder) -> tuple[Film, ...]:
    order = sorted(range(len(batch.specs)), key=lambda at: (batch.specs[at].label or "", at))
    films = []
    for at in order:
        spec = batch.specs[at]
        picture = strip(batch.frames_BTHWC[at])
        name = spec.label or spec.caption or names.get(spec.video_id, spec.video_id[:12])
        seconds = f"{batch.seconds_BT[at][-1]:.2f} s from first to last"
        detail = " · ".join(part for part in (spec.caption if spec.label else "", seconds) if part)
        source = embed.data(picture, "webp", f"clip {spec.clip_id[:12]}")
        films.append(Film(source=source, name=name, detail=detail))
    return tuple(films)


def strip(frames_THWC: Any) -> bytes:
    """Frames side by side, as one WebP picture; small ones without loss, for there each pixel is seen."""
    from PIL import Image

    pictures, height, width, _ = frames_THWC.shape
    joined = np.zeros((height, pictures * (width + GAP_PX) - GAP_PX, 4), np.uint8)  # what lies between is transparent
    for t in range(pictures):
        left = t * (width + GAP_PX)
        joined[:, left : left + width, :3], joined[:, left : left + width, 3] = frames_THWC[t], 255
    out = io.BytesIO()
    Image.fromarray(joined).save(out, "WEBP", quality=82, method=4, lossless=max(height, width) <= SMALL_PX)
    return out.getvalue()
