"""Made videos: moving shapes with captions, whose every pixel, timestamp and label is known because we made them.

In: a folder and a seed. Out: real MP4 files (H.264, encoded by the system's FFmpeg) with `.txt` captions beside them,
laid out as a VideoFolder, and a list of what was made. It promises that the same seed gives the same pixels and
timestamps everywhere, and the same bytes on one machine; part of the videos have a variable frame rate, with timestamps
known exactly.

    <folder>/up-left/0003-red-disk-fast.mp4      "a red disk moves up and to the left, fast"
    <folder>/up-left/0003-red-disk-fast.txt
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cineray.errors import UsageError
from cineray.testing.encode import TICKS_PER_SECOND, Pixels, encode

__all__ = ["COLOURS", "DIRECTIONS", "SHAPES", "SPEEDS", "MadeVideo", "draw", "make_shapes"]

Reals = npt.NDArray[np.float64]

# Steps in x (right) and y (down) of each direction, and how its caption says it.
DIRECTIONS: dict[str, tuple[int, int, str]] = {
    "right": (1, 0, "to the right"),
    "down-right": (1, 1, "down and to the right"),
    "down": (0, 1, "down"),
    "down-left": (-1, 1, "down and to the left"),
    "left": (-1, 0, "to the left"),
    "up-left": (-1, -1, "up and to the left"),
    "up": (0, -1, "up"),
    "up-right": (1, -1, "up and to the right"),
}
SPEEDS: dict[str, float] = {"slow": 0.25, "fast": 0.6}
"""Frame widths per second, along the direction."""
SHAPES = ("disk", "square", "diamond", "ring")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (230, 40, 40),
    "green": (50, 200, 70),
    "blue": (60, 90, 240),
    "yellow": (240, 220, 60),
    "purple": (170, 60, 220),
    "white": (240, 240, 240),
}
BACKGROUND_RGB = (18, 20, 28)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeVideo:
    """One made video and the truth about it. `pts` are in `time_base`, one per frame, in display order."""

    path: Path
    direction: str
    speed: str
    shape: str
    colour: str
    caption: str
    size_px: int
    pts: tuple[int, ...]
    time_base: Fraction
    variable_rate: bool


def make_shapes(
    folder: str | Path,
    *,
    videos: int = 24,
    seed: int = 0,
    frames: int = 48,
    rate: int = 24,
    size_px: int = 96,
    gop: int = 12,
    b_frames: int = 2,
    variable_rate_every: int = 4,
) -> list[MadeVideo]:
    """Make this many videos; every fourth (`variable_rate_every`, 0 for none) has frames missing at random.

    The eight directions come in turn, so any eight in a row hold each once. Files that exist already are overwritten.
    """
    if TICKS_PER_SECOND % rate:
        raise UsageError(f"rate is {rate} frames a second; it must divide {TICKS_PER_SECOND}, so that times are exact")
    root = Path(folder)
    made = []
    for number in range(videos):
        variable = variable_rate_every > 0 and number % variable_rate_every == variable_rate_every - 1
        pts = _times(number, seed, frames, rate, drop=variable)
        made.append(_choose(root, number, seed, pts=pts, size_px=size_px, variable=variable))
    for parent in {one.path.parent for one in made}:
        parent.mkdir(parents=True, exist_ok=True)
    # Encoders run as processes of their own: two at a time keep two cores busy, and the files do not depend on it.
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(lambda one: _write(one, seed, gop, b_frames), made))
    return made


def draw(video: MadeVideo, seed: int) -> Iterator[Pixels]:
    """The frames of one made video, HWC in RGB. Positions follow true time, so a dropped frame leaves a wider step."""
    generator = _generator(seed, int(video.path.name[:4]), stream=2)
    start_xy = generator.uniform(0, 1, 2)
    radius = float(generator.uniform(0.12, 0.18))
    step = np.array(DIRECTIONS[video.direction][:2], float)
    velocity_xy = step / np.linalg.norm(step) * SPEEDS[video.speed]
    for pts in video.pts:
        seconds = pts / TICKS_PER_SECOND
        yield _picture(video, (start_xy + velocity_xy * seconds) % 1.0, radius)


def _choose(root: Path, number: int, seed: int, *, pts: tuple[int, ...], size_px: int, variable: bool) -> MadeVideo:
    """What video `number` shows: its direction by turn, the rest by lot."""
    generator = _generator(seed, number, stream=0)
    direction = list(DIRECTIONS)[number % len(DIRECTIONS)]
    speed = str(generator.choice(list(SPEEDS)))
    shape = str(generator.choice(SHAPES))
    colour = str(generator.choice(list(COLOURS)))
    return MadeVideo(
        path=root / direction / f"{number:04d}-{colour}-{shape}-{speed}.mp4",
        direction=direction,
        speed=speed,
        shape=shape,
        colour=colour,
        caption=f"a {colour} {shape} moves {DIRECTIONS[direction][2]}, {speed}",
        size_px=size_px,
        pts=pts,
        time_base=Fraction(1, TICKS_PER_SECOND),
        variable_rate=variable,
    )


def _times(number: int, seed: int, frames: int, rate: int, *, drop: bool) -> tuple[int, ...]:
    """Timestamps of a constant rate; with `drop`, a third of the frames in between is missing, as phones do it."""
    ticks = np.arange(frames) * (TICKS_PER_SECOND // rate)
    if drop and frames > 2:
        keep = _generator(seed, number, stream=1).uniform(size=frames) > 1 / 3
        keep[[0, -1]] = True
        ticks = ticks[keep]
    return tuple(ticks.tolist())


def _generator(seed: int, number: int, *, stream: int) -> np.random.Generator:
    """A generator per video and purpose: a video does not change when others are added or drawn differently."""
    return np.random.Generator(np.random.Philox(key=[seed, number * 8 + stream]))


def _picture(video: MadeVideo, centre_xy: Reals, radius: float) -> Pixels:
    """One frame: the shape on a dark ground, its edge softened over a pixel, wrapping round at the borders."""
    grid = (np.arange(video.size_px) + 0.5) / video.size_px
    dx = np.abs((grid[None, :] - centre_xy[0] + 0.5) % 1.0 - 0.5)
    dy = np.abs((grid[:, None] - centre_xy[1] + 0.5) % 1.0 - 0.5)
    distance = _distance(video.shape, dx, dy, radius)
    cover = np.clip(0.5 - distance * video.size_px, 0.0, 1.0)[..., None]
    picture = cover * COLOURS[video.colour] + (1.0 - cover) * BACKGROUND_RGB
    return np.rint(picture).astype(np.uint8)


def _distance(shape: str, dx: Reals, dy: Reals, radius: float) -> Reals:
    """How far outside the shape's edge each point lies; negative inside."""
    from_centre: Reals = np.hypot(dx, dy)
    outside: dict[str, Reals] = {
        "disk": from_centre - radius,
        "square": np.maximum(dx, dy) - radius * 0.88,
        "diamond": (dx + dy - radius * 1.25) / np.sqrt(2.0),
        "ring": np.abs(from_centre - radius * 0.8) - radius * 0.25,
    }
    return outside[shape]


def _write(video: MadeVideo, seed: int, gop: int, b_frames: int) -> None:
    """The file and its caption."""
    codec = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-g", str(gop)]
    codec += ["-bf", str(b_frames), "-movflags", "+faststart"]
    encode(video.path, draw(video, seed), video.pts, codec, size_px=(video.size_px, video.size_px))
    video.path.with_suffix(".txt").write_text(video.caption + "\n", encoding="utf-8")
