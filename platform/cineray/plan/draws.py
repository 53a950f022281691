"""Random choices without a generator's state: what is drawn for whom goes in, the number comes out.

A draw is a hash of (seed, dataset, clip number, window, epoch, draw, purpose). It never depends on the step, the rank
or the world, nor on how many choices were made before it, so any worker makes any choice alike, in any order. Integers
only: the same on every platform.
"""

from __future__ import annotations

import blake3
import numpy as np
import numpy.typing as npt

from cineray.records import ClipSpec

_BITS = 64


class Draws:
    """All random choices of one clip of one visit; each purpose has its own."""

    __slots__ = ("_prefix",)

    def __init__(self, seed: int, *, dataset: int, clip_number: int, epoch: int, draw: int, window: int = 0) -> None:
        self._prefix = b"%d,%d,%d,%d,%d,%d," % (seed, dataset, clip_number, window, epoch, draw)

    def bits(self, purpose: str) -> int:
        """64 random bits."""
        return int.from_bytes(blake3.blake3(self._prefix + purpose.encode()).digest(length=8), "little")

    def below(self, limit: int, purpose: str) -> int:
        """A whole number in [0, limit), each as likely as any other (to within limit / 2**64)."""
        if limit < 1:
            raise ValueError(f"nothing can be drawn below {limit}")
        return self.bits(purpose) * limit >> _BITS

    def chance(self, probability: float, purpose: str) -> bool:
        """True with this probability; never at 0, always at 1."""
        return (self.bits(purpose) >> 11) < probability * (1 << 53)

    def below_many(self, limit: int, count: int, purpose: str) -> npt.NDArray[np.int64]:
        """`count` whole numbers in [0, limit); limit below 2**31."""
        digest = blake3.blake3(self._prefix + purpose.encode()).digest(length=4 * count)
        drawn = np.frombuffer(digest, "<u4").astype(np.uint64) * np.uint64(limit)
        return (drawn >> np.uint64(32)).astype(np.int64)


def draws_for(seed: int, spec: ClipSpec) -> Draws:
    """Choices that belong to a clip but not to its frames (noise, a diffusion time): same clip, same draws, anywhere.

    Name the purpose: those of the plan itself are `start`, `jitter`, `crop`, `flip`, `caption` and `shot`.
    """
    # The clip's span of frames tells windows of one video apart; the plan's own draws use the window's number.
    window = spec.frame_numbers[0]
    return Draws(
        seed, dataset=spec.dataset, clip_number=spec.clip_number, epoch=spec.epoch, draw=spec.draw, window=-1 - window
    )
