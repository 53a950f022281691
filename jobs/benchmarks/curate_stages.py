"""What looking costs: `python jobs/benchmarks/curate_stages.py [--media FOLDER] [--rounds 3]`.

Each video is decoded once, and then every stage of curation looks at it, all on one core. Told are clips of ten seconds
per CPU second, so that videos of other lengths count as what they are. The table goes to results/curate_stages.md.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import media_option, median, pictures, table, told_media, write_page

from cineray.curate.footage import Footage, footage_of
from cineray.curate.stages import STAGES
from cineray.index import index_video
from cineray.index.footage import see
from cineray.records import IndexedVideo, Place, VideoFile

SHAPES = {"SD, 320 x 240": "320:240", "HD, 1280 x 720": "1280:720"}
SOURCE = "sam2_01_dog.mp4"
CLIP_SECONDS = 10


def cpu_seconds(what: Callable[[], object], rounds: int) -> float:
    """The middle one."""
    costs = []
    for _ in range(rounds):
        began = time.process_time()
        what()
        costs.append(time.process_time() - began)
    return median(costs)


def measured(path: Path, rounds: int) -> dict[str, float]:
    """CPU seconds of decoding, and of each stage."""
    file = VideoFile(name=path.name, place=Place(uri=str(path)))
    video = index_video(file)
    if not isinstance(video, IndexedVideo):
        raise SystemExit(f"{path.name} could not be indexed: {video}")
    footage: Footage = footage_of(video, see(file, video))
    costs = {"decoding, all frames small": cpu_seconds(lambda: see(file, video), rounds)}
    for name, stage in STAGES.items():
        costs[name] = cpu_seconds(lambda stage=stage: stage()(footage), rounds)
    return costs


def main() -> None:
    """Measure and print."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    media_option(words)
    words.add_argument("--rounds", type=int, default=3, help="of which the middle one is told (default: %(default)s)")
    told = words.parse_args()
    media = Path(told.media) if told.media else None
    columns = {}
    with tempfile.TemporaryDirectory() as folder:
        for at, (shape, size) in enumerate(SHAPES.items()):
            path = Path(folder) / f"{at}.mp4"
            shaped = ["-t", str(CLIP_SECONDS), "-r", "25", "-vf", f"scale={size}", "-c:v", "libx264", "-g", "250"]
            source = pictures(media, SOURCE).split()
            command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *source, *shaped, "-pix_fmt", "yuv420p", str(path)]
            subprocess.run(command, check=True)
            costs = measured(path, told.rounds)
            columns[shape] = costs | {"all together": sum(costs.values())}
    rows = [
        [name, *(f"{1 / max(costs[name], 1e-6):,.0f} ({costs[name] * 1e3:,.1f} ms)" for costs in columns.values())]
        for name in next(iter(columns.values()))
    ]
    body = f"Clips of {CLIP_SECONDS} s at 25 frames/s per CPU second (and CPU time of one), one core.\n\n"
    body += table(["stage", *columns], rows)
    command_told = f"python jobs/benchmarks/curate_stages.py{told_media(media)}"
    write_page("curate_stages", "What each stage of curation costs", command_told, body)


if __name__ == "__main__":
    main()
