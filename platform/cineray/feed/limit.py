"""How much may be replaced: batches go in, and the run stops when too many of their clips are substitutes.

The recipe's fraction holds over any `over_steps` steps in a row, so one bad video at the start of a run does not stop
it, and a source that dies late does, however long the run went well.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction

from cineray.errors import TooManySubstitutions
from cineray.records import Batch, Substitution

OVER_STEPS = 100
_MOST_LISTED = 20


class SubstitutionLimit:
    """Counts over a moving window of steps."""

    def __init__(self, fraction: float, over_steps: int = OVER_STEPS) -> None:
        self.fraction, self.over_steps = Fraction(str(fraction)), over_steps
        self._seen: deque[tuple[int, tuple[Substitution, ...]]] = deque(maxlen=over_steps)

    def check(self, batch: Batch) -> None:
        """Count one batch; raises `TooManySubstitutions` when the steps seen last have more than a full window may."""
        self.count(len(batch.specs), batch.substitutions)

    def count(self, clips_of_step: int, substitutions: tuple[Substitution, ...]) -> None:
        """The same of a batch of any form."""
        self._seen.append((clips_of_step, substitutions))
        replaced = [one for _, some in self._seen for one in some]
        clips = sum(count for count, _ in self._seen)
        allowed = int(self.fraction * clips * self.over_steps / len(self._seen))
        if len(replaced) <= allowed:
            return
        listed = "\n".join(
            f"  step {one.step}, slot {one.slot}: clip {one.wanted_clip_id} ({one.reason}: {one.detail})"
            for one in replaced[-_MOST_LISTED:]
        )
        raise TooManySubstitutions(
            f"{len(replaced)} of {clips} clips of the last {len(self._seen)} steps could not be decoded; "
            f"recipe.max_substituted_fraction is {float(self.fraction):g}, which allows {allowed} in {self.over_steps} "
            f"steps. The last of them:\n{listed}\n"
            "Raise the fraction, or ingest with level `decode` to leave bad videos out"
        )
