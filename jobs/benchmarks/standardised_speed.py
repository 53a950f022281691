"""What standardising buys: clips per second from shards that `cineray standardise` wrote, beside the raw videos.

    python jobs/benchmarks/standardised_speed.py [--rounds 3] [--seconds 2] [--media FOLDER] [--quick]

A clip is 16 frames, stride 2, random start, 128x128; K clips of one video are wanted together. Raw: 8 videos of 250
frames with one key frame each, SD (320x240) and HD (1280x720). Standardised: the same lake's next version, a key frame
every 16 frames, a short side of 128. Ways take turns, each in a process that ends with it; start-up and a first second
are cut off:

    dataloader      PyTorch DataLoader with torchcodec as its documentation shows, on the raw videos
    standardised    our plain loop, on the shards
    ray, stand.     our Ray feed, on the shards: this one is the design's

Beside it: what standardising itself cost, the sizes, the PSNR, and what the advisor measured for the same clips.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from feed_speed import Rate, in_a_process
from feed_ways import BATCH, CORES, FRAMES_PER_VIDEO, RAW, SIDE, by_dataloader, by_ray, spec_of
from measure import measured, media_option, median, pictures, table, told_media, write_page

from cineray.curate.standardise import Advice, EncodingConfig, StandardiseConfig, advise, standardise
from cineray.feed import FeedSpec, local_batches
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake

VIDEOS = 8
WANTED = {"SD": 4.5, "HD": 20.0}
ENCODING = EncodingConfig(gop=16, short_side=SIDE, audio="drop")


def make_lake(media: Path | None, folder: Path, name: str) -> str:
    """Videos that begin at different moments of one film: each has pictures of its own."""
    source, scale, codec = RAW[name]
    (folder / "videos").mkdir(parents=True)
    for number in range(VIDEOS):
        words = f"{pictures(media, source)} -ss {number * 0.4:.1f} -frames:v {FRAMES_PER_VIDEO}"
        words += f" -vf {scale},setsar=1 -r 25 {codec}"
        out = folder / "videos" / f"{number:02d}.mp4"
        command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *words.split(), "-movflags", "+faststart", str(out)]
        subprocess.run(command, check=True)
    lake = str(folder / "lake")
    ingest(IngestConfig(source=str(folder / "videos"), lake=lake), EngineConfig(engine="local"))
    return lake


def at_version(lake: str, version: int, each: int) -> FeedSpec:
    """The plan that all ways draw from, of one version."""
    spec = spec_of(lake, each)
    datasets = (spec.recipe.datasets[0].model_copy(update={"version": str(version)}),)
    recipe = spec.recipe.model_copy(update={"datasets": datasets})
    return replace(spec, recipe=recipe, fingerprint="").pinned()


def by_loop(spec: FeedSpec) -> Iterator[int]:
    """The plain loop, in one process."""
    for batch in local_batches(spec, range(1_000_000)):
        yield len(batch.specs)


def ways_of(lake: str, name: str, each: int, seconds: float) -> dict[str, Callable[[], Rate]]:
    """Name -> one measurement. DataLoader gives one batch of HD in seconds: it gets three times as long there."""
    raw, shards = at_version(lake, 1, each), at_version(lake, 2, each)
    longer = 3 * seconds if name == "HD" else seconds

    def run(way: Callable[[FeedSpec], Iterator[int]], spec: FeedSpec, lasts: float) -> Callable[[], Rate]:
        return lambda: in_a_process(way, spec, 1.0, lasts)

    return {
        "dataloader": run(by_dataloader, raw, longer),
        "standardised": run(by_loop, shards, seconds),
        "ray, stand.": run(by_ray, shards, seconds),
    }


def advice_for(lake: str, each: int) -> Advice:
    """What the advisor measures for these clips."""
    supply = at_version(lake, 1, each).open()
    return advise(
        supply.plan, lambda _, number: supply.catalogs[0].located(number), base=ENCODING, gops=(8, 16, 64), visits=2
    )


def advice_rows(name: str, each: int, advice: Advice) -> list[list[str]]:
    """One row per way to keep the videos."""
    rows = []
    for one in (advice.raw, *advice.candidates):
        kept = "raw" if one.encoding is None else f"gop {one.encoding.gop}, {one.encoding.short_side} px"
        psnr = "" if one.psnr_db is None else f"{one.psnr_db:.1f}"
        figures = [f"{one.bytes_per_second / 1e3:.0f}", f"{1e3 * one.decode_seconds_per_clip:.1f}", psnr]
        rows.append([name, str(each), kept, *figures, "advised" if one is advice.best else ""])
    return rows


def compare(media: Path | None, *, rounds: int, seconds: float) -> str:
    """All tables."""
    speed: list[list[str]] = []
    cost: list[list[str]] = []
    advised: list[list[str]] = []
    for name in WANTED:
        with tempfile.TemporaryDirectory() as folder:
            lake = make_lake(media, Path(folder), name)
            config = StandardiseConfig(lake=lake, encoding=ENCODING)
            with measured() as spent:
                report = standardise(config, workers=1)
            seconds_of_video = sum(row["duration_seconds"] for row in Lake.open(lake).read(1, "media").to_pylist())
            sizes = [f"{size / 1e6:.2f}" for size in (report.bytes_before, report.bytes_after)]
            cost.append([name, *sizes, f"{report.psnr_db:.1f}", f"{spent.cpu_seconds / seconds_of_video:.2f}"])
            for each in (1, 4):
                advised += advice_rows(name, each, advice_for(lake, each))
                ways = ways_of(lake, name, each, seconds)
                rates: dict[str, list[Rate]] = {way: [] for way in ways}
                for _ in range(rounds):
                    for way, run in ways.items():
                        rates[way].append(run())
                speed += speed_rows(name, each, rates)
                print(table(SPEED, speed), flush=True)
    return "\n\n".join(
        (
            f"Batches of {BATCH} clips; medians of {rounds} round{'s' * (rounds > 1)} of {seconds:g} s (DataLoader on "
            f"HD: {3 * seconds:g} s). CPU seconds are of all processes, Ray's own too; load {os.getloadavg()[1]:.0f} "
            f"on {CORES} cores. The design asks it of the Ray feed.",
            table(SPEED, speed),
            "What standardising cost: sizes of 8 videos of 10 s, PSNR of brightness between what went into the encoder "
            "and what comes out of the shards, and CPU seconds of all of it for one second of video.",
            table(["source", "raw MB", "standardised MB", "PSNR dB", "CPU s per s"], cost),
            "What the advisor measured on two visits (`cineray standardise LAKE --advise JOB`); its PSNR is in RGB, "
            "against the raw video resized as a batch resizes it, and so lower than the encoder's own above. Where no "
            "way reaches the 35 dB that it asks for, it advises the best there is, and the command says so.",
            table(["source", "K", "kept as", "kB per s", "decode ms per clip", "PSNR dB", ""], advised),
        )
    )


SPEED = ("source", "K", "way", "clips per CPU s", "clips/s", "over dataloader", "rounds", "wanted")


def speed_rows(name: str, each: int, rates: dict[str, list[Rate]]) -> list[list[str]]:
    """Medians, and of the ratios per CPU second within a round the median, the least and the largest."""
    rows = []
    for way, found in rates.items():
        pairs = zip(found, rates["dataloader"], strict=True)
        ratios = [one.per_cpu_second / other.per_cpu_second for one, other in pairs]
        cpu, wall = (median([getattr(one, what) for one in found]) for what in ("per_cpu_second", "per_second"))
        wanted = f">= {WANTED[name]:g}" if "stand" in way else ""
        spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
        rows.append([name, str(each), way, f"{cpu:.1f}", f"{wall:.1f}", f"{median(ratios):.1f}", spread, wanted])
    return rows


def main() -> None:
    """Run, print, write the page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--seconds", type=float, default=2.0)
    words.add_argument("--quick", action="store_true", help="one round of a second, and no page")
    media_option(words)
    told = words.parse_args()
    rounds, seconds = (1, 1.0) if told.quick else (told.rounds, told.seconds)
    text = compare(told.media, rounds=rounds, seconds=seconds)
    if told.quick:
        return
    options = f" --rounds {rounds} --seconds {seconds:g}"
    command = f"python jobs/benchmarks/standardised_speed.py{options}{told_media(told.media)}"
    write_page("standardised_speed", "Training from standardised shards beside raw videos", command, text)


if __name__ == "__main__":
    main()
