"""What opening and seeking cost torchcodec: with cineray's frame table, with an exact scan, and approximately.

    python jobs/benchmarks/open_and_seek.py [--minutes 2] [--rounds 5] [--media FOLDER]

A long MP4 (H.264, 30 frames per second) is made and read through a counting file object; 16 consecutive frames are
taken from its middle. "Right" says whether the frames are those of a sequential decode; the second file has a variable
rate.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import tempfile
import time
from pathlib import Path

from measure import median, table, write_page

from cineray.index import index_video
from cineray.records import IndexedVideo, Place, VideoFile

WAYS = ("cineray's frame table", "exact", "approximate")
FRAMES = 16


class Counting(io.RawIOBase):
    """A file that counts what is read from it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = path.open("rb", buffering=0)
        self.reads = self.bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self.file.read(size) or b""
        self.reads, self.bytes = self.reads + 1, self.bytes + len(data)
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self.file.seek(offset, whence)


def indexed(path: Path) -> IndexedVideo:
    """The index, as ingest makes it once."""
    found = index_video(VideoFile(name=path.name, place=Place(uri=str(path))))
    if not isinstance(found, IndexedVideo):
        raise SystemExit(f"{path} was rejected: {found.detail}")
    return found


def run(path: Path, way: str, video: IndexedVideo, wanted: list[int]) -> tuple[float, int, float, int, list[bytes]]:
    """Seconds and bytes of opening, seconds and bytes of the frames, and the frames."""
    from torchcodec.decoders import VideoDecoder

    file = Counting(path)
    began = time.perf_counter()
    if way == WAYS[0]:
        decoder = VideoDecoder(file, custom_frame_mappings=video.frames.torchcodec_mappings())
    else:
        decoder = VideoDecoder(file, seek_mode=way)
    opened, open_bytes = time.perf_counter(), file.bytes
    frames = decoder.get_frames_at(wanted).data
    done = time.perf_counter()
    return opened - began, open_bytes, done - opened, file.bytes - open_bytes, [f.numpy().tobytes() for f in frames]


def truth(path: Path, wanted: list[int]) -> list[bytes]:
    """The same frames by a sequential decode from the start, by torchcodec itself."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), seek_mode="exact")
    last, chosen = max(wanted), []
    for at in range(0, last + 1, 100):
        numbers = list(range(at, min(at + 100, last + 1)))
        data = decoder.get_frames_at(numbers).data
        chosen += [data[n - at].numpy().tobytes() for n in wanted if n in numbers]
    return chosen


def section(title: str, path: Path, rounds: int) -> str:
    """One file: a table of the ways."""
    video = indexed(path)
    middle = video.num_frames // 2
    wanted = list(range(middle, middle + FRAMES))
    right = truth(path, wanted)
    results: dict[str, list[tuple[float, int, float, int, list[bytes]]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            results[way].append(run(path, way, video, wanted))
    rows = []
    for way, runs in results.items():
        wrong = sum(a != b for a, b in zip(runs[0][4], right, strict=True))
        rows.append(
            [
                way,
                f"{1000 * median([r[0] for r in runs]):.1f}",
                f"{runs[0][1] / 1e6:.2f}",
                f"{1000 * median([r[2] for r in runs]):.1f}",
                f"{runs[0][3] / 1e6:.2f}",
                "all" if not wrong else f"{wrong} of {FRAMES} wrong",
            ]
        )
    size = path.stat().st_size / 1e6
    packed = len(video.frames.to_bytes())
    head = (
        f"## {title}: {video.num_frames} frames, {size:.1f} MB; frame table {packed / 1000:.1f} kB; medians of {rounds}"
    )
    columns = ["way", "open ms", "open MB read", f"{FRAMES} frames ms", "MB read", "right frames"]
    return head + "\n\n" + table(columns, rows)


def make(path: Path, seconds: float, *, variable: bool) -> None:
    """A test pattern with a running clock; with `variable`, every third frame of each other second is left out."""
    drop = ["-vf", "select='mod(floor(t)\\,2)+mod(n\\,3)',format=yuv420p", "-fps_mode", "vfr"] if variable else []
    source = ["-f", "lavfi", "-i", f"testsrc2=size=640x360:rate=30:duration={seconds}"]
    codec = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    subprocess.run(["ffmpeg", "-v", "error", *source, *drop, *codec, path], check=True)


def main() -> None:
    """Make, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--media", type=Path, help="also a real video")
    given = parser.parse_args()
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for title, variable in (("Constant rate", False), ("Variable rate", True)):
            path = Path(folder) / f"{title}.mp4"
            make(path, given.minutes * 60, variable=variable)
            parts.append(section(title, path, given.rounds))
    if given.media:
        parts.append(section(f"Real video {given.media.name}", given.media, given.rounds))
    command = "python jobs/benchmarks/open_and_seek.py --media VIDEO"
    write_page("open_and_seek", "Opening and seeking with the frame table", command, "\n\n".join(parts))


if __name__ == "__main__":
    main()
