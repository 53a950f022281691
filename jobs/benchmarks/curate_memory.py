"""Does memory stay flat? Many small videos, each one that no other is like, are curated, and the processes watched.

    python jobs/benchmarks/curate_memory.py [--clips 10000] [--engine local]

Each is measured by all stages. The driver keeps what was measured until it has decided: its growth is told per video.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from measure import measured, table, tree_rss_bytes, write_page

from cineray.curate import CurateEngine, CurateJob, CurateProgress, CutsConfig, curate
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.testing.encode import encode_h264

SIDE, FRAMES, TICKS = 48, 6, 25  # of 1/600 s: 24 frames a second


def make_videos(folder: Path, count: int) -> None:
    """A patch of noise of its own that slides, a quarter of a second long."""
    for number in range(count):
        if number % 1000 == 0:
            (folder / f"{number // 1000:04d}").mkdir(parents=True)
        path = folder / f"{number // 1000:04d}" / f"{number:07d}.mp4"
        encode_h264(path, list(_sliding(number)), [TICKS * n for n in range(FRAMES)], size_px=SIDE, gop=6, b_frames=0)


def _sliding(seed: int) -> Iterator[Any]:
    coarse = np.random.default_rng(seed).integers(20, 236, (7, 8, 3))
    plain = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
    yield from (plain[:SIDE, shift : shift + SIDE] for shift in range(FRAMES))


def main() -> None:
    """Make, ingest, curate, watch, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    given = parser.parse_args()
    seen: list[tuple[int, float, int, int]] = []

    def watch(progress: CurateProgress) -> None:
        step = max(1, given.clips // 10)
        if progress.done >= step * len(seen) and progress.stage == "looking":
            seen.append((progress.done, time.monotonic(), psutil.Process().memory_info().rss, tree_rss_bytes()))

    with tempfile.TemporaryDirectory() as folder:
        make_videos(Path(folder, "videos"), given.clips)
        lake = f"{folder}/lake"
        ingest(IngestConfig(source=f"{folder}/videos", lake=lake), EngineConfig(engine="local"))
        job = CurateJob(name="memory", lake=lake, cuts=CutsConfig(shortest_seconds=0.1))
        engine = CurateEngine(engine=given.engine)
        with measured() as cost:
            report = curate(job, engine, author="benchmark", on_progress=watch)
        with measured() as again:
            rerun = curate(job, engine, author="benchmark")
    grown = (seen[-1][2] - seen[1][2]) / max(seen[-1][0] - seen[1][0], 1)
    children = [(tree - rss) / 1e6 for _, _, rss, tree in seen[1:]]
    body = (
        f"{report.videos:,} videos of {FRAMES} frames by the {given.engine} engine, all stages: "
        f"{given.clips / cost.wall_seconds:,.0f} videos/s, {given.clips / cost.cpu_seconds:,.0f} per CPU second, "
        f"{report.clips:,} clips. Other processes than the driver from {children[0]:.0f} MB after the first tenth to "
        f"{children[-1]:.0f} MB at the end; the driver grew by {grown / 1e3:.1f} kB a video: what was measured. Peak "
        f"of all processes, deciding and committing included, {cost.peak_rss_bytes / 1e6:.0f} MB. "
        f"Again, nothing new: {again.wall_seconds:.1f} s, {rerun.looked_at} looked at.\n\n"
    )
    rows = [
        [f"{done:,}", f"{at - seen[0][1]:.0f}", f"{rss / 1e6:.0f}", f"{(tree - rss) / 1e6:.0f}"]
        for done, at, rss, tree in seen
    ]
    body += table(["done", "seconds", "driver MB", "other processes MB"], rows)
    command = f"python jobs/benchmarks/curate_memory.py --clips {given.clips} --engine {given.engine}"
    write_page(f"curate_memory_{given.engine}", "Memory of a large curation", command, body)


if __name__ == "__main__":
    main()
