"""Clips made in memory: a count and a seed go in; moving shapes whose every pixel and fact is known come out.

Each clip shows one softly drawn shape on a dark ground, whose whole path lies inside the frame, at an even pace. Number
`i` moves in direction `i` of eight, and the first eight are slow, the next eight fast, and so on. Clip `i` of a seed is
the same whatever the count.
"""

from __future__ import annotations

import numpy as np

from cineray.evaluate.clip_set import ClipSet
from cineray.testing.shape_facts import COLOURS, DIRECTIONS, SPEEDS, WORLDS

GROUND_RGB = (18.0, 20.0, 28.0)
RADIUS_WIDTHS = 0.14
SHAPES = ("disk", "square")
SPEEDS_IN_TURN = WORLDS["shapes"].speeds


def made_clips(
    count: int,
    *,
    frames: int = 8,
    side_px: int = 32,
    frames_per_second: float = 8.0,
    seed: int = 0,
    ground_rgb: tuple[float, float, float] = GROUND_RGB,
) -> ClipSet:
    """So many clips, with their facts."""
    seconds_T = np.arange(frames) / frames_per_second
    pictures, labels, facts = [], [], []
    for number in range(count):
        draw = np.random.Generator(np.random.Philox(key=[seed, number]))
        direction = list(DIRECTIONS)[number % len(DIRECTIONS)]
        speed = SPEEDS_IN_TURN[number // len(DIRECTIONS) % len(SPEEDS_IN_TURN)]
        shape, colour = str(draw.choice(SHAPES)), str(draw.choice(list(COLOURS)))
        step = np.array(DIRECTIONS[direction][:2], float)
        travel_XY = step / np.linalg.norm(step) * SPEEDS[speed] * seconds_T[-1]
        inside = 0.5 - RADIUS_WIDTHS - 2 / side_px
        most = np.maximum(inside - np.abs(travel_XY) / 2, 0)
        middle_XY = 0.5 + draw.uniform(-1, 1, 2) * most
        path_TX = middle_XY + travel_XY * (np.linspace(0, 1, frames)[:, None] - 0.5)
        cover_THW = np.stack([_cover(shape, centre_XY, side_px) for centre_XY in path_TX])[..., None]
        clip_THWC = cover_THW * np.array(COLOURS[colour], float) + (1 - cover_THW) * np.array(ground_rgb)
        pictures.append(np.rint(clip_THWC).astype(np.uint8))
        labels.append(direction)
        told = {"direction": direction, "speed": speed, "speed_widths_per_second": SPEEDS[speed]}
        facts.append({**told, "shape": shape, "colour": colour})
    return ClipSet(
        frames_NTHWC=np.stack(pictures) if count else np.empty((0, frames, side_px, side_px, 3), np.uint8),
        seconds_NT=np.tile(seconds_T, (count, 1)),
        names=tuple(f"made-{seed}-{number:04d}" for number in range(count)),
        labels=tuple(labels),
        captions=("",) * count,
        facts=tuple(facts),
    )


def _cover(shape: str, centre_XY: np.ndarray, side_px: int) -> np.ndarray:
    """(H, W): how much of each pixel the shape covers."""
    grid = (np.arange(side_px) + 0.5) / side_px
    dx, dy = np.abs(grid[None, :] - centre_XY[0]), np.abs(grid[:, None] - centre_XY[1])
    outside = np.hypot(dx, dy) - RADIUS_WIDTHS if shape == "disk" else np.maximum(dx, dy) - RADIUS_WIDTHS * 0.88
    return np.asarray(np.clip(0.5 - outside * side_px, 0, 1))
