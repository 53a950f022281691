"""Clips per second of the Ray feed, beside the bare decode loop and what people write, on the same clips and cores.

    python jobs/benchmarks/feed_speed.py [--quick] [--rounds 3] [--seconds 10] [--media FOLDER]
    python jobs/benchmarks/feed_speed.py --memory 2000

A clip is 16 frames, stride 2, random start, 128x128; K clips of one video are wanted together. Sources: 320x240 H.264
(SD), 1280x720 H.264 (HD), 320x240 H.265; 250 frames each with one key frame, cut from real videos. The ways:

    bare            the plain loop of `feed.local`, one process per core, no Ray: what the cores can decode
    ray             `feed.ray_feed`
    standardised    `feed.ray_feed` on the same videos with a key frame every 16 frames and a short side of 128
    bare, standard. the plain loop on those
    dataloader      PyTorch DataLoader, a worker per core, torchcodec as its documentation shows, a resize by torch
    ds.map          Ray Data: a row per clip, the same decoding
    read_videos     `ray.data.read_videos`, only where decord is installed

All ways take turns. Of each, start-up and first batches are cut off; then clips, wall seconds and the CPU seconds of
the whole process tree (for Ray: GCS, raylet, workers) are counted for the same time. `--memory N` runs N steps instead,
and watches the processes of the Ray feed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from feed_ways import CORES, RAW, Lakes, by_dataloader, by_map, by_ray, by_read_videos, make_lakes, spec_of
from measure import media_option, median, table, told_media, write_page

from cineray.feed import FeedSpec, local_batches
from cineray.feed.ray_feed import RayOptions, ray_batches
from cineray.feed.throughput import bare_rate
from cineray.telemetry.processes import tree_rss_bytes, watched
from cineray.telemetry.ray_session import connected

HAS_DECORD = importlib.util.find_spec("decord") is not None


A_WAIT = 0.02
"""Seconds; what lies ready comes sooner."""


@dataclass(slots=True)
class Rate:
    """What one way did in its measured time."""

    per_second: float
    per_cpu_second: float
    startup_seconds: float
    peak_rss_bytes: int


Way = Callable[[], Rate]
Rates = dict[str, list[Rate]]


def steady(clips: Iterator[int], *, warm: float, seconds: float) -> Rate:
    """Let it start and run itself in, then count, from one wait for clips to another."""
    began = time.perf_counter()
    next(clips)
    first = time.perf_counter()
    until_it_waits(clips, first + warm)
    mark = time.perf_counter()
    with watched() as usage:
        count = until_it_waits(clips, mark + seconds)
    per_second, per_cpu = count / usage.wall_seconds, count / usage.cpu_seconds
    return Rate(per_second, per_cpu, first - began, usage.peak_rss_bytes)


def in_a_process(way: Callable[[FeedSpec], Iterator[int]], spec: FeedSpec, warm: float, seconds: float) -> Rate:
    """Each in a process that ends with it: what one leaves behind in memory, threads or Ray is not the next one's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_steady_of, way, spec, warm, seconds).result()


def _steady_of(way: Callable[[FeedSpec], Iterator[int]], spec: FeedSpec, warm: float, seconds: float) -> Rate:
    return steady(way(spec), warm=warm, seconds=seconds)


def until_it_waits(clips: Iterator[int], due: float) -> int:
    """Take clips until `due`, and on until one had to be waited for: many may come at once, and are one task's work."""
    count, asked = 0, time.perf_counter()
    while True:
        count += next(clips)
        came = time.perf_counter()
        if came >= due and (came - asked > A_WAIT or came >= due + 5):
            return count
        asked = came


def bare(spec: FeedSpec, seconds: float) -> Rate:
    """What the cores can decode."""
    with watched() as usage:
        found = bare_rate(spec, cores=CORES, seconds=seconds)
    return Rate(found.clips_per_s, found.clips / found.cpu_seconds, 0.0, usage.peak_rss_bytes)


def ways_of(name: str, lakes: Lakes, each: int, *, quick: bool, seconds: float) -> dict[str, Way]:
    """The ways that are compared for one source."""
    raw, standardised = spec_of(lakes.raw, each), spec_of(lakes.standardised, each)
    warm = 1.5 if quick else 4.0

    def run(way: Callable[[FeedSpec], Iterator[int]], spec: FeedSpec) -> Way:
        return lambda: in_a_process(way, spec, warm, seconds)

    ways = {"bare": lambda: bare(raw, seconds), "ray": run(by_ray, raw), "dataloader": run(by_dataloader, raw)}
    if name != "SD H.265":
        ways["standardised"] = run(by_ray, standardised)
    if not quick and name == "SD":
        ways |= {"bare, standard.": lambda: bare(standardised, seconds), "ds.map": run(by_map, raw)}
        ways |= {"read_videos": run(by_read_videos, raw)} if HAS_DECORD else {}
    return ways


def ratio_of(rates: Rates, way: str, over: str, field: str) -> float:
    """The median of the rounds' ratios."""
    pairs = zip(rates[way], rates[over], strict=True)
    return median([getattr(a, field) / getattr(b, field) for a, b in pairs])


def rows_of(name: str, each: int, rates: Rates) -> list[list[str]]:
    """One row per way: medians, and the medians of the rounds' ratios."""

    def middle(way: str, field: str) -> float:
        return median([getattr(rate, field) for rate in rates[way]])

    def ratio(way: str, over: str, field: str) -> str:
        return f"{ratio_of(rates, way, over, field):.2f}"

    return [
        [
            name,
            str(each),
            way,
            f"{middle(way, 'per_second'):.1f}",
            f"{middle(way, 'per_cpu_second'):.1f}",
            ratio("ray", way, "per_second"),
            ratio("ray", way, "per_cpu_second"),
            ratio(way, "dataloader", "per_cpu_second"),
            "" if way.startswith("bare") else f"{middle(way, 'startup_seconds'):.1f}",
            f"{middle(way, 'peak_rss_bytes') / 1e6:.0f}",
        ]
        for way in rates
    ]


TARGETS = (
    ("ray over bare, clips/s", "ray", "bare", "per_second", {1: 0.95, 4: 0.95}, tuple(RAW)),
    ("ray over dataloader, per CPU s", "ray", "dataloader", "per_cpu_second", {1: 1.35, 4: 2.9}, tuple(RAW)),
    (
        "standardised over dataloader, per CPU s",
        "standardised",
        "dataloader",
        "per_cpu_second",
        {1: 4.5, 4: 4.5},
        ("SD",),
    ),
    (
        "standardised over dataloader, per CPU s",
        "standardised",
        "dataloader",
        "per_cpu_second",
        {1: 20, 4: 20},
        ("HD",),
    ),
    ("ray over ds.map, clips/s", "ray", "ds.map", "per_second", {1: 1.5, 4: 1.5}, ("SD",)),
    ("ray over read_videos, clips/s", "ray", "read_videos", "per_second", {1: 10, 4: 10}, ("SD",)),
)
"""What is compared, which way over which, by what, the least ratio for each K, and on which sources."""

NOTES = """\
## What bounds

- *ray over bare*: the bare loop has both cores to itself. Ray's own processes (GCS, raylet, agents, the split's
  coordinator) take about 0.1 of one core however many cores there are: 5 to 6 % of two, under 1 % of sixteen. The
  other half of what is missing is in the workers: the same loop in a plain Ray task gives 2 % fewer clips per CPU
  second than without Ray, and 5 % fewer when it stores its arrays (a second copy, and pages that are new each time).
  Each way draws steps of its own: with few, large clips (HD) that alone moves a ratio by a tenth.
- *per CPU second* counts every process of the tree, also Ray's. Ratios are medians of ratios within a round.
- *start-up* of the ways on Ray includes starting Ray itself.
- MB count pages that processes share once in each."""


def targets_of(found: dict[tuple[str, int], Rates]) -> str:
    """The design's figures beside the measured ones."""
    rows = []
    for what, way, over, field, least, names in TARGETS:
        for (name, each), rates in found.items():
            if name in names and way in rates and over in rates:
                ratio = ratio_of(rates, way, over, field)
                rows.append(
                    [what, name, each, f">= {least[each]}", f"{ratio:.2f}", "" if ratio >= least[each] else "missed"]
                )
    return table(["what", "source", "K", "wanted", "measured", ""], rows)


TITLES = ("source", "K", "way", "clips/s", "per CPU s", "ray over it, clips/s", "ray over it, per CPU s")
TITLES += ("it over dataloader, per CPU s", "start-up s", "MB")


def compare(media: Path | None, *, quick: bool, rounds: int, seconds: float) -> str:
    """The table."""
    rows: list[list[str]] = []
    found: dict[tuple[str, int], Rates] = {}
    for name in list(RAW)[: 1 if quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            lakes = make_lakes(media, Path(folder) / "made", name)
            for each in (1, 4):
                ways = ways_of(name, lakes, each, quick=quick, seconds=seconds)
                rates = found[name, each] = {way: [] for way in ways}
                for _ in range(rounds):
                    for way, run in ways.items():
                        rates[way].append(run())
                rows += rows_of(name, each, rates)
                print(table([""] * len(TITLES), rows_of(name, each, rates)), f"\nload {os.getloadavg()}", flush=True)
    left_out = "" if HAS_DECORD or quick else " `read_videos` was left out: decord is not installed."
    said = f"Medians of {rounds} rounds of {seconds:g} s on {CORES} cores.{left_out}"
    return "\n\n".join((said, targets_of(found), table(TITLES, rows), NOTES))


def resume(media: Path | None, *, steps: int = 48) -> str:
    """What starting again costs: frames decoded for the same batches, undisturbed and with restarts anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        lakes = make_lakes(media, Path(folder) / "made", "SD")
        rows = []
        for each in (1, 4):
            spec = spec_of(lakes.raw, each)
            whole = [batch.frames_decoded for batch in local_batches(spec, range(steps))]
            cuts = [0, *sorted(random.Random(1).sample(range(1, steps), 3)), steps]
            for label, starts in (("at any step", cuts), ("between windows", [cut // each * each for cut in cuts])):
                parts = [local_batches(spec, range(a, b)) for a, b in itertools.pairwise(starts)]
                again = [[(batch.step, batch.frames_decoded) for batch in part] for part in parts]
                firsts = [part[0][0] for part in again] == starts[:-1]
                total = sum(decoded for part in again for _, decoded in part)
                rows.append([str(each), label, str(firsts), "0", f"{100 * (total / sum(whole) - 1):.1f} %"])
    titles = ["K", "3 restarts", "first batch is the next step's", "batches decoded twice", "frames decoded beyond"]
    return table(titles, rows)


def watch_memory(media: Path | None, steps: int) -> str:
    """Resident memory of all processes of the feed over many steps."""
    seen = []
    with tempfile.TemporaryDirectory() as folder, connected(num_cpus=CORES):
        spec = spec_of(make_lakes(media, Path(folder) / "made", "SD").raw, 4)
        for batch in ray_batches(RayOptions(spec=spec), range(steps)):
            if batch.step % (steps // 20) == 0:
                seen.append([f"{batch.step:,}", f"{tree_rss_bytes() / 1e6:.0f}", f"{unshared_bytes() / 1e6:.0f}"])
    return table(["step", "MB of all processes", "less what they share"], seen) + (
        "\n\nShared pages, the object store's above all, count in each process that has touched them: fewer at first, "
        "and then all. What a leak would add is in the last column."
    )


def unshared_bytes() -> int:
    """Memory of this process and all below it that is theirs alone."""
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            memory = process.memory_info()
            total += memory.rss - memory.shared
    return total


def main() -> None:
    """Run, print, write the page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="under two minutes: SD only, one round, no page")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--seconds", type=float, default=10.0)
    words.add_argument("--memory", type=int, metavar="STEPS", help="watch memory over so many steps instead")
    media_option(words)
    told = words.parse_args()
    script = f"python jobs/benchmarks/feed_speed.py{told_media(told.media)}"
    if told.memory:
        text = watch_memory(told.media, told.memory)
        write_page("feed_memory", "Memory of the Ray feed over many steps", f"{script} --memory {told.memory}", text)
        return
    rounds, seconds = (1, 4.0) if told.quick else (told.rounds, told.seconds)
    text = compare(told.media, quick=told.quick, rounds=rounds, seconds=seconds)
    if told.quick:
        print(text)
        return
    text += "\n\n## Starting again\n\n" + resume(told.media)
    write_page("feed_speed", "The Ray feed beside the bare decode loop and other loaders", script, text)


if __name__ == "__main__":
    main()
