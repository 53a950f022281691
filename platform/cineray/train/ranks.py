"""The ranks of a run, as far as its record needs them: each rank's work goes in, all results come out, or one error.

Checkpoints are written by a thread beside training, so they must not use the group that training uses: collectives of
two threads on one group may pair up wrongly. `Ranks.beside()` makes a gloo group of its own. With one process there is
no group, and everything is a plain call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch.distributed as dist

T = TypeVar("T")

_LONGEST = timedelta(hours=2)
"""An upload of one rank may take long while the others wait; a rank that died is noticed by its closed connection."""


class RanksDisagree(Exception):
    """Some ranks failed; `failures` has rank -> what happened there."""

    def __init__(self, failures: dict[int, str]) -> None:
        self.failures = failures
        super().__init__("; ".join(f"rank {rank}: {text}" for rank, text in sorted(failures.items())))


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among the others."""

    rank: int = 0
    world: int = 1
    group: dist.ProcessGroup | None = None

    @classmethod
    def beside(cls) -> Ranks:
        """A gloo group of all ranks beside the one that trains; every rank must call this at the same point."""
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return cls()
        group = cast("dist.ProcessGroup", dist.new_group(backend="gloo", timeout=_LONGEST))
        return cls(dist.get_rank(), dist.get_world_size(), group)

    @property
    def first(self) -> bool:
        """Is this the rank that writes what only one may write?"""
        return self.rank == 0

    def each(self, work: Callable[[], T]) -> list[T]:
        """Every rank does its part; all get all results in the order of ranks, or all get the same RanksDisagree."""
        if self.world == 1:
            return [work()]
        mine: tuple[bool, Any]
        try:
            mine = (True, work())
        except Exception as error:
            mine = (False, f"{type(error).__name__}: {error}")
        everyone: list[tuple[bool, Any]] = [mine] * self.world
        dist.all_gather_object(everyone, mine, group=self.group)
        failures = {rank: str(told) for rank, (good, told) in enumerate(everyone) if not good}
        if failures:
            raise RanksDisagree(failures)
        return [cast("T", told) for _, told in everyone]

    def only_first(self, work: Callable[[], T]) -> T:
        """Rank 0 does it; all get its result, or the error that it met."""
        return cast("T", self.each(lambda: work() if self.first else None)[0])
