"""How much may be replaced: batches go in, and the run stops when too many of their clips are substitutes.

The recipe's fraction holds over any `over_steps` steps in a row, so one bad video at the start of a run does not stop
it, and a source that dies late does, however long the run went well. Who sees a share of each step counts as many clips
as so many whole steps have, which takes more steps: the fraction means the same for any number of ranks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from cineray.errors import TooManySubstitutions
from cineray.records import Batch, Substitution

OVER_STEPS = 100
_MOST_LISTED = 20


@dataclass(slots=True)
class _Seen:
    """One whole step, or shares of successive steps that come to one."""

    whole_steps: Fraction = Fraction(0)
    batches: int = 0
    clips: int = 0
    replaced: int = 0
    told: list[Substitution] = field(default_factory=list)


class SubstitutionLimit:
    """Counts over a moving window of steps."""

    def __init__(self, fraction: float, over_steps: int = OVER_STEPS) -> None:
        self.fraction, self.over_steps = Fraction(str(fraction)), over_steps
        self._seen: deque[_Seen] = deque()
        self._whole_steps = Fraction(0)

    def check(self, batch: Batch) -> None:
        """Count one batch, whole or a share; raises `TooManySubstitutions` when the last ones seen have more
        substitutes than a full window may."""
        self.count(len(batch.specs), batch.substitutions, of=batch.global_size)

    def count(
        self, clips: int, told: Sequence[Substitution], *, of: int | None = None, replaced: int | None = None
    ) -> None:
        """The same in numbers: so many clips out of a step of `of`, all of them unless said. `replaced`: how many,
        where `told` are only those that this process knows of."""
        if not self._seen or self._seen[-1].whole_steps >= 1:
            self._seen.append(_Seen())
        last, part = self._seen[-1], Fraction(clips, of or clips)
        last.whole_steps += part
        last.batches += 1
        last.clips += clips
        last.replaced += len(told) if replaced is None else replaced
        last.told += told
        self._whole_steps += part
        while self._whole_steps - self._seen[0].whole_steps >= self.over_steps:
            self._whole_steps -= self._seen.popleft().whole_steps
        self._judge()

    def _judge(self) -> None:
        clips, found = sum(seen.clips for seen in self._seen), sum(seen.replaced for seen in self._seen)
        full = self.over_steps / self._whole_steps
        allowed = int(self.fraction * clips * full)
        if found <= allowed:
            return
        batches, told = sum(seen.batches for seen in self._seen), [one for seen in self._seen for one in seen.told]
        listed = "\n".join(
            f"  step {one.step}, slot {one.slot}: clip {one.wanted_clip_id} ({one.reason}: {one.detail})"
            for one in told[-_MOST_LISTED:]
        )
        raise TooManySubstitutions(
            f"{found} of {clips} clips of the last {batches} steps could not be decoded; recipe."
            f"max_substituted_fraction is {float(self.fraction):g}, which allows {allowed} in {round(batches * full)} "
            f"steps. The last of them:\n{listed or '  in the shares of other processes'}\n"
            "Raise the fraction, or ingest with level `decode` to leave bad videos out"
        )
