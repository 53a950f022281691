"""A catalog of as many clips as you like that holds none of them: for tests and benchmarks of the order.

`SyntheticCatalog(1_000_000_000)` is a few made frame tables and a rule: clip number n is a whole video of kind
`n % kinds`. Its rows are never listed; what may be drawn is known by kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import blake3
import numpy as np

from cineray.plan.eligible import Eligible, Group, Rule
from cineray.plan.facts import CatalogClip, facts_of
from cineray.plan.rowset import RowSet
from cineray.records import FrameTable, IndexedVideo


class SyntheticCatalog:
    """`count` virtual clips, each a video of its own; the kinds of video take turns."""

    def __init__(self, count: int, videos: Sequence[IndexedVideo] = ()) -> None:
        self.count = count
        self._videos = tuple(videos) or (made_video(300),)
        self._spans = [(video.frames.start_pts, video.frames.end_pts) for video in self._videos]

    @property
    def fingerprint(self) -> str:
        """Of the count and the kinds."""
        kinds = ",".join(video.content_hash for video in self._videos)
        return f"synthetic:{self.count}:{kinds}"

    def __len__(self) -> int:
        return self.count

    def clip(self, number: int) -> CatalogClip:
        """A whole video, named by its number."""
        start_pts, end_pts = self._spans[number % len(self._spans)]
        name = f"{number:032x}"
        return CatalogClip(clip_id=name, video_id=name, start_pts=start_pts, end_pts=end_pts)

    def video(self, number: int) -> IndexedVideo:
        """The video of a clip; all of one kind are one value, so their own `video_id` names the kind."""
        return self._videos[number % len(self._videos)]

    def eligible(self, rule: Rule) -> Eligible:
        """What may be drawn, kind by kind: as spans of numbers, one kind apart."""
        kinds = len(self._videos)
        found = rule.sort(
            [facts_of(rule.sampler, ((self.clip(kind), video) for kind, video in enumerate(self._videos)))]
        )
        if all(sum(len(group.rows) for group in groups) in (0, kinds) for groups in found.buckets):
            spread = tuple(tuple(_all_rows(group, self.count) for group in groups) for groups in found.buckets)
            return Eligible(spread, self.count, dict.fromkeys(found.left_out, self.count))
        return rule.sort([facts_of(rule.sampler, ((self.clip(n), self.video(n)) for n in range(self.count)))])

    def prefetch(self, numbers: Sequence[int]) -> None:
        """Nothing to do: all of it is made when asked for."""


def _all_rows(group: Group, count: int) -> Group:
    if group.window_ends is None:
        return Group(group.name, RowSet.span(0, count))
    each = np.diff(group.window_ends, prepend=0)
    return Group(group.name, RowSet.span(0, count), np.cumsum(np.resize(each, count)))


def made_video(
    frames: int,
    *,
    ticks_per_frame: int = 512,
    time_base: Fraction = Fraction(1, 12800),
    gop: int = 250,
    width: int = 320,
    height: int = 240,
    rotation_degrees: int = 0,
    sample_aspect_ratio: Fraction = Fraction(1),
    codec: str = "h264",
    name: str = "",
    pts: Sequence[int] | None = None,
) -> IndexedVideo:
    """What an index would say of a video that does not exist: a key frame every `gop`, constant rate unless `pts`."""
    times = np.asarray(pts, dtype=np.int64) if pts is not None else np.arange(frames, dtype=np.int64) * ticks_per_frame
    frames = len(times)
    keys = np.arange(frames) % gop == 0
    sizes = np.where(keys, 20_000, 2_000).astype(np.int32)
    table = FrameTable(
        pts=times,
        duration=np.append(np.diff(times), ticks_per_frame).astype(np.int64),
        decode_order=np.arange(frames, dtype=np.int32),
        key=keys,
        disposable=np.zeros(frames, dtype=bool),
        position=np.cumsum(sizes.astype(np.int64)) - sizes,
        size_bytes=sizes,
    )
    # Named by all that tells it apart, so that catalogs of different videos have different fingerprints.
    shape = f"{width}x{height}/{rotation_degrees}/{sample_aspect_ratio}"
    kind = f"{name}/{codec}/{time_base}/{gop}/{shape}/{blake3.blake3(table.to_bytes()).hexdigest()[:16]}"
    return IndexedVideo(
        video_id=name or kind,
        content_hash=f"made:{kind}",
        size_bytes=int(sizes.sum()),
        version_tag="",
        container="mp4",
        codec=codec,
        profile="",
        stream_index=0,
        width=width,
        height=height,
        rotation_degrees=rotation_degrees,
        sample_aspect_ratio=sample_aspect_ratio,
        pixel_format="yuv420p",
        bit_depth=8,
        color_range="limited",
        color_space="bt709",
        color_primaries="bt709",
        color_transfer="bt709",
        time_base=time_base,
        average_rate=1 / (ticks_per_frame * time_base),
        nominal_rate=1 / (ticks_per_frame * time_base),
        variable_rate=pts is not None,
        frames=table,
    )
