"""A container's bytes as they pass by, once and in order; out comes where they stop being what the container says.

FFmpeg skips what it does not understand and goes on with the next thing that it does: frames are then missing and
nobody says so. A `Follower` walks the same bytes without skipping. It sees them through the hash that reads them
anyway, so following costs no read. What it finds it keeps until it is asked: it is fed from inside FFmpeg's reads,
where nothing may be raised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator

from cineray.index.reasons import Unfit

Steps = Generator[int, bytes, None]
Part = Generator[int, bytes, bytes]
"""Yields what comes next: n for n bytes, which it is then sent, or -n to let n bytes pass."""


class Follower(ABC):
    """A walk over one file's bytes. Whoever reads the file calls `saw` for all of them, in order, then `refuse`."""

    def __init__(self, size_bytes: int) -> None:
        self.size, self.at = size_bytes, 0
        self.found: Unfit | None = None
        self.held = b""
        self.steps: Steps | None = self.walk()
        self.wanted = 0
        self.advance(None)

    @abstractmethod
    def walk(self) -> Steps:
        """Go from the first byte to the last; raise `Unfit` where that does not work."""

    def refuse(self, track: int) -> None:  # noqa: ARG002 - some followers know damage by track
        """Raise what was found, once all bytes were seen. `track`: the video stream's number in the container."""
        if self.found is not None:
            raise self.found

    def saw(self, data: bytes) -> None:
        """The next bytes of the file."""
        at = 0
        while self.steps is not None:
            if self.wanted < 0:
                step = min(-self.wanted, len(data) - at)
                self.wanted, at = self.wanted + step, at + step
                if self.wanted:
                    return
                self.advance(b"")
            else:
                step = min(self.wanted - len(self.held), len(data) - at)
                self.held, at = self.held + data[at : at + step], at + step
                if len(self.held) < self.wanted:
                    return
                got, self.held = self.held, b""
                self.advance(got)

    def advance(self, got: bytes | None) -> None:
        """Let the walk take its next step."""
        if self.steps is None:
            return
        try:
            self.wanted = next(self.steps) if got is None else self.steps.send(got)
        except StopIteration:
            self.steps = None
        except Unfit as unfit:
            self.steps, self.found = None, unfit

    def take(self, length: int) -> Part:
        """The next bytes; the file must have them."""
        self.must_hold(length)
        self.at += length
        return (yield length)

    def skip(self, length: int) -> Steps:
        """Let bytes pass; the file must have them."""
        self.must_hold(length)
        self.at += length
        yield -length

    def only_zeros(self) -> Generator[int, bytes, bool]:
        """Whether all bytes to the end are zero: padding."""
        while self.at < self.size:
            if any((yield from self.take(min(1 << 16, self.size - self.at)))):
                return False
        return True

    def must_hold(self, length: int) -> None:
        """Raise `Unfit` when the file ends within the next bytes."""
        if self.at + length > self.size:
            raise Unfit(
                "truncated",
                f"what begins before byte {self.at} ends at {self.at + length}, but the file has {self.size} bytes; "
                "copy the file again",
            )


def damaged(at: int, wanted: str) -> Unfit:
    """What to raise where something else lies than the container says."""
    return Unfit(
        "corrupt",
        f"at byte {at} lies something else than {wanted}: the file was damaged, and frames are missing there; copy it "
        "again, or keep what is left: ffmpeg -i in -c:v libx264 out.mp4",
    )
