"""Clips whose bytes cannot be had now: why goes in; a pause before the next try comes out, or the end of the run.

A store that is down, a mount that is gone, a file that was moved or written over: none of it follows from the version,
so none of it may change a batch. What was tried often enough stops the run, with what to do; nothing is replaced, and a
restart goes on with the very batch that was due.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from cineray.errors import MediaUnavailable
from cineray.records import Reject

PAUSES_SECONDS = (1.0, 4.0, 15.0)
"""Between tries, give or take a half: the workers of a cluster should not come back all at once. Each try has the
storage layer's own retries within it, which are for hiccups; these are for a store that comes back."""
MOST_TRIES = {"refused": 1, "timed_out": 2}
"""Fewer where waiting does not help: what the access policy forbids, and what has taken its whole budget twice."""
_MOST_LISTED = 5

_NEXT_STEP = {
    "missing": "Put the file back where it was, or ingest again and train on the new version",
    "changed": "Put the indexed bytes back, or ingest again and train on the new version",
    "refused": "Allow the host (CINERAY_ALLOW_HOSTS) where this runs",
    "unreadable": "See whether the store can be reached from here, with these credentials",
    "timed_out": "Raise DecodeOptions.budget_seconds, read from nearer, or standardise the media to shorter GOPs",
}

KeptAway = Sequence[tuple[int, int, Reject]]
"""Step, slot, and why."""


class Tries:
    """How often some clips were tried, and since when."""

    def __init__(self) -> None:
        self.made, self._began = 1, time.monotonic()

    def pause_or_stop(self, clips: KeptAway) -> None:
        """Wait for the next try, or raise MediaUnavailable where there is none."""
        most = min(MOST_TRIES.get(reject.reason, len(PAUSES_SECONDS) + 1) for _, _, reject in clips)
        if self.made >= most:
            raise MediaUnavailable(self._told(clips), reason=clips[0][2].reason)
        time.sleep(PAUSES_SECONDS[self.made - 1] * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
        self.made += 1

    def _told(self, clips: KeptAway) -> str:
        listed = "\n".join(
            f"  step {step}, slot {slot}: clip {reject.name} ({reject.reason}: {reject.detail})"
            for step, slot, reject in clips[:_MOST_LISTED]
        )
        more = f"\n  and {len(clips) - _MOST_LISTED} more" if len(clips) > _MOST_LISTED else ""
        steps = "; ".join(dict.fromkeys(_NEXT_STEP.get(reject.reason, reject.detail) for _, _, reject in clips))
        return (
            f"{len(clips)} clips cannot be had, after {self.made} tries in {time.monotonic() - self._began:.0f} s. No "
            f"other clip stands in for them, or the batch would depend on the weather:\n{listed}{more}\n{steps}; then "
            "start again, it goes on from here"
        )
