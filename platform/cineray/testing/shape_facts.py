"""What is to be seen in a made video: the words for looks and motion go in; a caption, a velocity and facts come out.

Sixteen of the 192 combinations of direction, shape and colour are held out: no training split has them, though each
direction, each shape, each colour and every pair of these is trained on. A model that draws them right has learnt what
the words mean, and not which videos there are.

What a pile of made videos may show is a world. In `shapes`, the usual one, whatever moves can be followed by eye. In
`laps` one disk goes round and round, and it is known how often one must look to see in which direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["COLOURS", "DIRECTIONS", "SHAPES", "SPEEDS", "WORLDS", "ShapeFacts", "World"]

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
SPEEDS: dict[str, float] = {"slow": 0.25, "fast": 0.6, "racing": 1.25}
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


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What made videos may show. The directions come in turn, all else by lot."""

    directions: tuple[str, ...] = tuple(DIRECTIONS)
    speeds: tuple[str, ...] = ("slow", "fast")
    shapes: tuple[str, ...] = SHAPES
    colours: tuple[str, ...] = tuple(COLOURS)
    radii: tuple[float, float] = (0.11, 0.15)
    """Of a disk, in frame widths; the other shapes have about its area."""
    row: float | None = None
    """The height of every shape's middle at the start, in frame widths from the top; None: anywhere."""


WORLDS: dict[str, World] = {
    "shapes": World(),
    # A lap takes 0.8 s. Who looks every 0.4 s sees the disk here and there, and cannot say in which direction it goes;
    # every 0.8 s, and it stands still; every 0.1 s, and there is no doubt.
    "laps": World(
        directions=("left", "right"),
        speeds=("racing",),
        shapes=("disk",),
        colours=("white",),
        radii=(0.22, 0.25),
        row=0.5,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeFacts:
    """What is to be seen, in words."""

    direction: str
    speed: str
    shape: str
    colour: str

    @property
    def caption(self) -> str:
        """`a red disk moves up and to the left, fast`."""
        return f"a {self.colour} {self.shape} moves {DIRECTIONS[self.direction][2]}, {self.speed}"

    @property
    def velocity_xy(self) -> npt.NDArray[np.float64]:
        """Frame widths per second, to the right and down."""
        step_xy: npt.NDArray[np.float64] = np.array(DIRECTIONS[self.direction][:2], float)
        velocity_xy: npt.NDArray[np.float64] = step_xy / np.linalg.norm(step_xy) * SPEEDS[self.speed]
        return velocity_xy

    @property
    def held_out(self) -> bool:
        """Whether this combination is kept from training: of each direction, one shape in two of its six colours.

        direction  0  1  2  3  4  5  6  7
        shape      0  1  2  3  0  1  2  3
        colours    03 14 25 03 14 25 03 14      no shape and colour are held out together in two directions
        """
        direction = list(DIRECTIONS).index(self.direction)
        shape, colour = SHAPES.index(self.shape), list(COLOURS).index(self.colour)
        return shape == direction % len(SHAPES) and colour % 3 == direction % 3

    def to_dict(self) -> dict[str, Any]:
        """As the layer `truth` of a lake holds it."""
        return {
            "direction": self.direction,
            "speed": self.speed,
            "shape": self.shape,
            "colour": self.colour,
            "speed_widths_per_second": SPEEDS[self.speed],
            "held_out": self.held_out,
        }
