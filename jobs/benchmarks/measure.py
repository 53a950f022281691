"""What every benchmark here shares: what machine it is, seconds and memory of a process tree, and a results page.

Figures from shared machines are noisy, so ways are run in turn (A B C A B C ...), and medians are quoted.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import platform
import resource
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

RESULTS = Path(__file__).with_name("results")


@dataclass(slots=True)
class Cost:
    """What one run took: wall seconds, CPU seconds of the process tree, and its peak memory."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss_bytes: int = 0


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure what happens inside."""
    cost, stop = Cost(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(cost, stop), daemon=True)
    watcher.start()
    wall, cpu = time.perf_counter(), _cpu_seconds()
    yield cost
    cost.wall_seconds, cost.cpu_seconds = time.perf_counter() - wall, _cpu_seconds() - cpu
    stop.set()
    watcher.join()


def _watch(cost: Cost, stop: threading.Event) -> None:
    while not stop.wait(0.1):
        cost.peak_rss_bytes = max(cost.peak_rss_bytes, tree_rss_bytes())


def tree_rss_bytes(pid: int | None = None) -> int:
    """Resident memory of a process and all its children."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # it ended while we looked; the next look sees the rest
    return total


def _cpu_seconds() -> float:
    """Of this process, of its children that ended, and of those that still run."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    total = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            total += times.user + times.system
    return total


def in_turn(ways: dict[str, Callable[[], Cost]], rounds: int) -> dict[str, list[Cost]]:
    """Run the ways one after another, round by round, so that a slow minute of the machine meets all of them."""
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            costs[name].append(way())
    return costs


def media_option(words: argparse.ArgumentParser) -> None:
    """`--media FOLDER`: real videos. Without it, and without CINERAY_MEDIA, FFmpeg draws the pictures."""
    words.add_argument(
        "--media",
        type=Path,
        default=os.environ.get("CINERAY_MEDIA"),
        help="a folder of real videos (default: $CINERAY_MEDIA); without one, pictures with grain are drawn",
    )


def pictures(media: Path | None, name: str) -> str:
    """FFmpeg's words for an endless source: the real video of that name again and again, or drawn pictures with grain,
    which cost a decoder about as much as a camera's do."""
    if media is None:
        return "-f lavfi -i testsrc2=size=1280x720:rate=30,noise=alls=12:allf=t"
    if not (media / name).is_file():
        raise SystemExit(f"{media} has no {name}, which this benchmark uses; put it there, or leave --media out")
    return f"-stream_loop -1 -i {media / name}"


def told_media(media: Path | None) -> str:
    """How a results page's command says it."""
    return " --media FOLDER" if media is not None else ""


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def machine() -> str:
    """One line: processor, cores, memory, versions, date."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    ffmpeg = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=False).stdout.split(" ")[2:3]
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "torchcodec", "av", "ray", "pylance")
    )
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, Linux, Python "
        f"{platform.python_version()}, FFmpeg {''.join(ffmpeg)}, {versions}; {datetime.now(UTC):%Y-%m-%d}"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write_page(name: str, title: str, command: str, body: str) -> Path:
    """A results page: what was measured, where, when, by which command."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.md"
    path.write_text(f"# {title}\n\nMachine: {machine()}\n\nCommand: `{command}`\n\n{body}\n")
    print(f"\n{body}\n\nwritten to {path}")
    return path
