"""Random numbers with an address: (seed, step, slot, purpose) goes in, a clip's noise comes out, the same anywhere.

The address is the counter of a Philox4x32-10 generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"),
so nothing is kept between calls, and no rank, device, order or micro-batch can change what a clip is given. Integers
agree bit for bit on every device; the normal numbers made of them are computed in double precision and then rounded,
so they agree too, but for a rare last bit.

    key      low and high half of the seed
    counter  number within the clip / 4 | slot | low half of the step | high part of the step, purpose
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from typing import Any

import torch
from torch import Tensor

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10
_LOW = 0xFFFFFFFF
_MOST_STEPS = 1 << 56


class Purpose(IntEnum):
    """What numbers are for: each purpose has its own, whatever else is drawn. A number is never used again."""

    NOISE = 1
    TIMESTEP = 2
    DROP = 3
    FIRST_FRAME = 4
    VALIDATION = 5
    SAMPLE = 6
    LATENT = 7


def normal(shape: Sequence[int], *, seed: int, step: int, slots_B: Tensor, purpose: Purpose) -> Tensor:
    """Standard normal numbers of `shape` for each slot: (B, *shape), float32, on the device of `slots_B`."""
    count = math.prod(shape)
    make = _compiled(_normal) if slots_B.is_cuda else _normal
    made: Tensor = make(_address(count, seed, step, slots_B, purpose))
    return made[:, :count].reshape(-1, *shape)


def uniform(shape: Sequence[int], *, seed: int, step: int, slots_B: Tensor, purpose: Purpose) -> Tensor:
    """Numbers above 0 and below 1 of `shape` for each slot: (B, *shape), float64, on the device of `slots_B`."""
    count = math.prod(shape)
    made = _uniform(_words(_address(count, seed, step, slots_B, purpose)))
    return made[:, :count].reshape(-1, *shape)


def _address(count: int, seed: int, step: int, slots_B: Tensor, purpose: Purpose) -> tuple[Tensor, ...]:
    """The counter's four words, to be broadcast over (B, blocks), and the key's two."""
    if not 0 <= step < _MOST_STEPS:
        raise ValueError(f"step is {step}; noise has addresses for steps from 0 to 2^56 - 1")
    device = slots_B.device
    block = torch.arange(-(-count // 4), device=device)[None, :]
    # Tensors, not Python numbers: a compiled kernel would be made anew for each step.
    words = (step & _LOW, (step >> 32) << 8 | int(purpose), seed & _LOW, seed >> 32 & _LOW)
    low, high, key0, key1 = torch.tensor(words, device=device).unbind()
    return block, slots_B[:, None], low, high, key0, key1


def _words(address: Sequence[Tensor]) -> Sequence[Tensor]:
    """Four random 32-bit words per counter, held in int64: torch multiplies no unsigned 32-bit numbers."""
    c0, c1, c2, c3, k0, k1 = address
    for _ in range(_ROUNDS):
        p0, p1 = c0 * _M0, c2 * _M1  # the sign bit may be set, but all 64 bits are right
        c0, c1, c2, c3 = (p1 >> 32 & _LOW) ^ c1 ^ k0, p1 & _LOW, (p0 >> 32 & _LOW) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


def _uniform(words: Sequence[Tensor]) -> Tensor:
    """(B, 4 * blocks), float64: the middles of 2^32 equal pieces of (0, 1), so that neither end is met."""
    return (torch.stack(list(words), -1).flatten(1).double() + 0.5) * 2.0**-32


def _normal(address: Sequence[Tensor]) -> Tensor:
    """Box and Muller: two words give a length and an angle, so two normal numbers."""
    u0, u1, u2, u3 = (_uniform((word,)) for word in _words(address))
    made = []
    for length, angle in ((u0, u1), (u2, u3)):
        radius = torch.sqrt(-2.0 * torch.log(length))
        made += [radius * torch.cos(2 * math.pi * angle), radius * torch.sin(2 * math.pi * angle)]
    return torch.stack(made, -1).flatten(1).float()


@cache
def _compiled(function: Any) -> Any:
    """One kernel on a GPU: in single operations, the words alone would pass through memory a hundred times."""
    return torch.compile(function, dynamic=True)
