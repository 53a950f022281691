"""Made videos: moving shapes with captions, whose every pixel, timestamp and label is known because we made them.

In: a folder and a seed. Out: real MP4 files (H.264) with `.txt` captions beside them, laid out as a VideoFolder, and a
list of what was made. It promises that the same seed gives the same pixels and timestamps everywhere, and the same
bytes on one machine; part of the videos have a variable frame rate, with timestamps known exactly.

    <folder>/up-left/0003-red-disk-fast.mp4      "a red disk moves up and to the left, fast"
    <folder>/up-left/0003-red-disk-fast.txt

A shape stays inside the picture for the whole video where its way is short enough for that (a fast one's is for 24
frames at 24 a second); else it leaves at one side and comes in again at the other. The caption says all that cannot be
guessed: a model that is told the direction alone makes the mean of two speeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cineray.errors import UsageError
from cineray.testing.encode import TICKS_PER_SECOND, Pixels, encode_h264
from cineray.testing.shape_facts import COLOURS, DIRECTIONS, WORLDS, ShapeFacts, World

__all__ = ["MadeVideo", "draw", "make_shapes", "write_splits", "write_truth"]

Reals = npt.NDArray[np.float64]

BACKGROUND_RGB = (18, 20, 28)
REACHES = {"disk": 1.0, "square": 0.88, "diamond": 1.25, "ring": 1.1}
"""How far each shape goes from its middle to the right, left, up and down, in radii."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeVideo(ShapeFacts):
    """One made video and the truth about it. `pts` are in `time_base`, one per frame, in display order."""

    number: int
    path: Path
    size_px: int
    pts: tuple[int, ...]
    time_base: Fraction
    variable_rate: bool
    world: World = WORLDS["shapes"]

    @property
    def split(self) -> str:
        """Held-out combinations are for validation, and so is one in twelve of the others."""
        turn = self.number // len(DIRECTIONS)
        return "validation" if self.held_out or turn % 12 == 5 else "train"

    def to_dict(self) -> dict[str, Any]:
        """And whether it may leave through one edge and come back through the opposite one."""
        low_xy, high_xy = _room(self, self.world.radii[1])
        return {**ShapeFacts.to_dict(self), "wraps": not bool((low_xy <= high_xy).all())}


def make_shapes(
    folder: str | Path,
    *,
    videos: int = 24,
    seed: int = 0,
    world: World = WORLDS["shapes"],
    frames: int = 48,
    rate: int = 24,
    size_px: int = 96,
    gop: int = 12,
    b_frames: int = 2,
    variable_rate_every: int = 4,
) -> list[MadeVideo]:
    """Make this many videos; every fourth (`variable_rate_every`, 0 for none) has frames missing at random.

    The world's directions come in turn: of the usual eight, any eight videos in a row hold each once. Files that exist
    already are overwritten.
    """
    if TICKS_PER_SECOND % rate:
        raise UsageError(f"rate is {rate} frames a second; it must divide {TICKS_PER_SECOND}, so that times are exact")
    root = Path(folder)
    made = []
    for number in range(videos):
        variable = variable_rate_every > 0 and number % variable_rate_every == variable_rate_every - 1
        pts = _times(number, seed, frames, rate, drop=variable)
        made.append(_choose(root, number, seed, world, pts=pts, size_px=size_px, variable=variable))
    for parent in {one.path.parent for one in made}:
        parent.mkdir(parents=True, exist_ok=True)
    # Encoding leaves Python's lock: two at a time keep two cores busy, and the files do not depend on it.
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(lambda one: _write(one, seed, gop, b_frames), made))
    return made


def write_splits(folder: str | Path, made: Iterable[MadeVideo]) -> Path:
    """`metadata.csv` in the videos' folder: what is for training and what for validation, as an ingest reads it."""
    root = Path(folder)
    rows = (f"{video.path.relative_to(root).as_posix()},{video.split}" for video in made)
    path = root / "metadata.csv"
    path.write_text("\n".join(["file_name,split", *rows]) + "\n", encoding="utf-8")
    return path


def write_truth(path: str | Path, made: Iterable[MadeVideo]) -> Path:
    """JSON lines for `cineray lake annotate LAKE truth`: what is true of each video, by its file."""
    rows = (json.dumps({"uri": str(video.path.resolve()), "value": video.to_dict()}) for video in made)
    target = Path(path)
    target.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return target


def draw(video: MadeVideo, seed: int) -> Iterator[Pixels]:
    """The frames of one made video, HWC in RGB. Positions follow true time, so a dropped frame leaves a wider step."""
    generator = _generator(seed, video.number, stream=2)
    radius = float(generator.uniform(*video.world.radii))
    start_xy = _start(video, radius, generator.uniform(0, 1, 2))
    for pts in video.pts:
        yield _picture(video, (start_xy + video.velocity_xy * (pts / TICKS_PER_SECOND)) % 1.0, radius)


def _start(video: MadeVideo, radius: float, drawn_xy: Reals) -> Reals:
    """Where the shape begins: anywhere from which it stays inside, or anywhere at all where its way is too long."""
    low_xy, high_xy = _room(video, radius)
    start_xy = low_xy + (high_xy - low_xy) * drawn_xy if bool((low_xy <= high_xy).all()) else drawn_xy
    return start_xy if video.world.row is None else np.array([start_xy[0], video.world.row])


def _room(video: MadeVideo, radius: float) -> tuple[Reals, Reals]:
    """Least and greatest place of a start from which a shape stays inside; none where the least is the greater one."""
    way_xy = video.velocity_xy * (video.pts[-1] / TICKS_PER_SECOND)
    border = radius * REACHES[video.shape] + 1 / video.size_px  # its edge is a pixel wide
    return border - np.minimum(way_xy, 0), 1 - border - np.maximum(way_xy, 0)


def _choose(
    root: Path, number: int, seed: int, world: World, *, pts: tuple[int, ...], size_px: int, variable: bool
) -> MadeVideo:
    """What video `number` shows: its direction by turn, the rest by lot."""
    generator = _generator(seed, number, stream=0)
    direction = world.directions[number % len(world.directions)]
    speed = str(generator.choice(world.speeds))
    shape = str(generator.choice(world.shapes))
    colour = str(generator.choice(world.colours))
    return MadeVideo(
        number=number,
        path=root / direction / f"{number:04d}-{colour}-{shape}-{speed}.mp4",
        direction=direction,
        speed=speed,
        shape=shape,
        colour=colour,
        size_px=size_px,
        pts=pts,
        time_base=Fraction(1, TICKS_PER_SECOND),
        variable_rate=variable,
        world=world,
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
        "ring": np.abs(from_centre - radius * 0.75) - radius * 0.35,
    }
    return outside[shape]


def _write(video: MadeVideo, seed: int, gop: int, b_frames: int) -> None:
    """The file and its caption."""
    encode_h264(video.path, draw(video, seed), video.pts, size_px=video.size_px, gop=gop, b_frames=b_frames)
    video.path.with_suffix(".txt").write_text(video.caption + "\n", encoding="utf-8")
