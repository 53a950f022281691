"""How fast is indexing, and what does it read? Against `ffprobe -show_packets` and torchcodec's exact scan.

    python jobs/benchmarks/index_speed.py [--media FOLDER] [--made 2000] [--rounds 3] [--quick]

All three give every frame's timestamp. ffprobe and torchcodec are run as a user would run them: ffprobe once per file,
on as many processes as there are cores; torchcodec with `seek_mode="exact"` in one process per core. cineray also
hashes all bytes of each local file, finds damage, and commits a version; "header only" is what a remote MP4 costs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import re
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

from measure import Cost, in_turn, measured, median, table, write_page

from cineray.index import IndexPool, index_video
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.records import IndexedVideo, Place, VideoFile
from cineray.testing import make_shapes

CORES = len(os.sched_getaffinity(0))


def files_of(folder: Path) -> list[Path]:
    """Every video of a folder, in order."""
    return sorted(p for p in folder.rglob("*") if p.suffix in {".mp4", ".mov", ".avi", ".mkv", ".webm", ".ts"})


def with_ffprobe(paths: list[Path]) -> Cost:
    """One `ffprobe -show_packets` per file, as many at once as there are cores."""

    def probe(path: Path) -> None:
        subprocess.run(
            ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_packets", "-of", "json", path],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )

    with measured() as cost, ThreadPoolExecutor(CORES) as pool:
        list(pool.map(probe, paths))
    return cost


def scan_exactly(path: Path) -> int:
    """torchcodec's exact mode: opening scans the whole file."""
    import torch
    from torchcodec.decoders import VideoDecoder

    torch.set_num_threads(1)
    try:
        return len(VideoDecoder(str(path), seek_mode="exact"))
    except (RuntimeError, ValueError):
        return 0


def with_torchcodec(paths: list[Path]) -> Cost:
    """A process per core, started before the clock."""
    with ProcessPoolExecutor(CORES, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(scan_exactly, paths[: 2 * CORES]))
        with measured() as cost:
            list(pool.map(scan_exactly, paths, chunksize=8))
    return cost


def with_index(paths: list[Path]) -> Cost:
    """cineray's index alone: child processes with limits, all bytes hashed."""
    with IndexPool(CORES) as pool:
        list(pool.map(listed(paths[: 2 * CORES])))
        with measured() as cost:
            list(pool.map(listed(paths)))
    return cost


def with_ingest(paths: list[Path]) -> Cost:
    """The whole of it: listed, indexed, journalled, committed as a version."""
    root = Path(os.path.commonpath([p.parent for p in paths]))
    with tempfile.TemporaryDirectory() as lake, measured() as cost:
        config = IngestConfig(source=str(root), lake=lake, max_reject_fraction=1.0, remux="never")
        ingest(config, EngineConfig(engine="local"))
    return cost


def listed(paths: list[Path]) -> list[VideoFile]:
    """The files as a source lists them."""
    return [VideoFile(name=p.name, place=Place(uri=str(p))) for p in paths]


def bytes_read(paths: list[Path]) -> dict[str, float]:
    """Share of the files' bytes that each way reads."""
    total = sum(p.stat().st_size for p in paths)
    header = 0
    for file in listed(paths):
        found = index_video(file, level="header", hash_mode="header")
        header += found.bytes_read if isinstance(found, IndexedVideo) else 0
    return {
        "ffprobe": sum(_ffprobe_bytes(p) for p in paths) / total,
        "torchcodec exact": sum(_torchcodec_bytes(p) for p in paths) / total,
        "cineray, header only (remote MP4)": header / total,
    }


def _ffprobe_bytes(path: Path) -> int:
    command = ["ffprobe", "-v", "debug", "-select_streams", "v:0", "-show_packets", "-of", "json", str(path)]
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, text=True, errors="replace"
    )
    return sum(int(found) for found in re.findall(r"Statistics: (\d+) bytes read", done.stderr))


def _torchcodec_bytes(path: Path) -> int:
    from torchcodec.decoders import VideoDecoder

    class Counting(io.BytesIO):
        count = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.count += len(data)
            return data

    file = Counting(path.read_bytes())
    with contextlib.suppress(RuntimeError, ValueError):  # a file that cannot be opened was read all the same
        VideoDecoder(file, seek_mode="exact")
    return file.count


def section(title: str, paths: list[Path], rounds: int) -> str:
    """One corpus: a table of the ways."""
    ways = {
        "ffprobe -show_packets, a process per file": lambda: with_ffprobe(paths),
        "torchcodec, seek_mode=exact": lambda: with_torchcodec(paths),
        "cineray index (hash of all bytes, limits)": lambda: with_index(paths),
        "cineray ingest (the same, and a version)": lambda: with_ingest(paths),
    }
    costs = in_turn(ways, rounds)
    base = median([c.wall_seconds for c in costs["ffprobe -show_packets, a process per file"]])
    rows = []
    for name, runs in costs.items():
        wall, cpu = median([c.wall_seconds for c in runs]), median([c.cpu_seconds for c in runs])
        rows.append([name, f"{len(paths) / wall:,.0f}", f"{1000 * cpu / len(paths):.1f}", f"{base / wall:.1f}"])
    sample = [p for p in paths if p.suffix in {".mp4", ".mov"}][:50]
    shares = [[name, f"{100 * share:.1f} %"] for name, share in bytes_read(sample).items()]
    size, sampled = (sum(p.stat().st_size for p in some) / 1e6 for some in (paths, sample))
    return (
        f"## {title}: {len(paths)} files, {size:.1f} MB, medians of {rounds} rounds in turn\n\n"
        + table(["way", "videos/s", "CPU ms per video", "times ffprobe"], rows)
        + f"\n\nBytes read, of {sampled:.1f} MB in {len(sample)} MP4 and MOV files:\n\n"
        + table(["way", "share of the files"], shares)
    )


def main() -> None:
    """Make, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, help="a folder of real videos")
    parser.add_argument("--made", type=int, default=2000, help="how many videos to make")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="100 made videos, one round")
    given = parser.parse_args()
    made, rounds = (100, 1) if given.quick else (given.made, given.rounds)
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        make_shapes(folder, videos=made)
        parts.append(section("Made videos (96 px, 48 frames, H.264)", files_of(Path(folder)), rounds))
    if given.media:
        parts.append(section("Real videos", files_of(given.media), rounds))
    command = f"python jobs/benchmarks/index_speed.py --media FOLDER --made {made} --rounds {rounds}"
    write_page("index_speed", "Indexing: videos per second, and bytes read", command, "\n\n".join(parts))


if __name__ == "__main__":
    main()
