"""Why a clip has no pixels: the codes that its `Reject` carries, and the exception that brings them out of decoders."""

from __future__ import annotations

import time

REASONS: dict[str, str] = {
    "missing": "nothing lies at the video's place any more",
    "refused": "the access policy forbids the place",
    "changed": "the bytes are no longer those that were indexed",
    "unreadable": "the bytes cannot be had, after all retries",
    "truncated": "the bytes end before the frames do",
    "decode_failed": "the decoder gives an error, or no picture, for a frame of the clip",
    "corrupt": "the decoder marks a frame of the clip as damaged",
    "wrong_frame": "a frame's time or place is not what the index says of it",
    "unsupported": "pixels of this kind are not converted: an exotic colour space, a container for another decoder",
    "timed_out": "the visit took longer than its budget",
}

PASSING = frozenset({"missing", "refused", "changed", "unreadable", "timed_out"})
"""Reasons that do not follow from the indexed bytes: they may not hold on another machine or a minute later. A
substitute chosen for one of these would make the batch depend on the weather: whoever replaces clips tries again, and
stops rather than replace."""


class DecodeFault(Exception):
    """One reason and a sentence; becomes the `Reject` of every clip whose frames it kept away."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class Deadline:
    """When a visit must be over."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._ends = seconds, time.monotonic() + seconds

    def check(self, frames_decoded: int) -> None:
        """Raise `DecodeFault` once the time is up."""
        if time.monotonic() > self._ends:
            raise DecodeFault(
                "timed_out",
                f"after {frames_decoded} frames the visit had taken its {self.seconds:g} s; raise "
                "DecodeOptions.budget_seconds, or standardise the video at ingest (shorter groups of pictures)",
            )

    def left_seconds(self) -> float:
        """At least a millisecond, so that it can be waited for."""
        return max(0.001, self._ends - time.monotonic())
