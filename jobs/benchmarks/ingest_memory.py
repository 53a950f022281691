"""Does memory stay flat? A manifest of many places for few files is ingested, and the processes are watched.

    python jobs/benchmarks/ingest_memory.py [--entries 100000] [--engine ray]

The places are hard links to a few small videos: real work for each, and no disk space.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import psutil
from measure import measured, table, tree_rss_bytes, write_page

from cineray.ingest import EngineConfig, IngestConfig, Progress, ingest
from cineray.testing import make_shapes


def make_places(folder: Path, entries: int) -> Path:
    """`entries` names for 20 small videos, and a manifest of them."""
    made = make_shapes(folder / "videos", videos=20, frames=12)
    with (folder / "places.csv").open("w") as manifest:
        manifest.write("uri\n")
        for number in range(entries):
            name = folder / "links" / f"{number // 1000:04d}" / f"{number:07d}.mp4"
            if number % 1000 == 0:
                name.parent.mkdir(parents=True)
            os.link(made[number % len(made)].path, name)
            manifest.write(f"{name}\n")
    return folder / "places.csv"


def main() -> None:
    """Make, ingest, watch, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--engine", choices=("local", "ray"), default="ray")
    given = parser.parse_args()
    seen: list[tuple[int, float, int, int]] = []

    def watch(progress: Progress) -> None:
        step = max(1, given.entries // 10)
        if progress.done.done >= step * len(seen) and progress.stage == "indexing":
            seen.append((progress.done.done, time.monotonic(), psutil.Process().memory_info().rss, tree_rss_bytes()))

    with tempfile.TemporaryDirectory() as folder:
        manifest = make_places(Path(folder), given.entries)
        config = IngestConfig(source=str(manifest), lake=f"{folder}/lake")
        with measured() as cost:
            report = ingest(config, EngineConfig(engine=given.engine), on_progress=watch)
        with measured() as again:
            rerun = ingest(config, EngineConfig(engine=given.engine))
    rows = [
        [f"{done:,}", f"{at - seen[0][1]:.0f}", f"{rss / 1e6:.0f}", f"{tree / 1e6:.0f}"] for done, at, rss, tree in seen
    ]
    rate, peak = given.entries / cost.wall_seconds, cost.peak_rss_bytes / 1e6
    body = (
        f"{given.entries:,} places of 20 videos by the {given.engine} engine: {rate:,.0f} places/s, "
        f"{report.videos} videos, "
        f"{report.duplicates:,} further places, peak of all processes {peak:.0f} MB. "
        f"Again, nothing new: {again.wall_seconds:.1f} s, {rerun.unchanged:,} unchanged.\n\n"
        + table(["done", "seconds", "driver MB", "all processes MB"], rows)
    )
    command = f"python jobs/benchmarks/ingest_memory.py --entries {given.entries} --engine {given.engine}"
    write_page(f"ingest_memory_{given.engine}", "Memory of a large ingest", command, body)


if __name__ == "__main__":
    main()
