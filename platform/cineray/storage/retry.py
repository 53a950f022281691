"""Trying again. One attempt at reading goes in; its bytes come out, or one error that tells the whole story.

An attempt raises `TransientError` for what may pass (a 503, a reset, a body that ends too soon, a time-out); every
other error is final and goes through. The waits grow and are drawn at random, so that a thousand workers that met one
slow moment of a store do not come back together.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from cineray.errors import PlaceError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long to be patient with a store. The defaults give up after about 20 s of waiting, plus the time-outs."""

    tries: int = 6
    first_wait_seconds: float = 0.25
    longest_wait_seconds: float = 8.0
    connect_timeout_seconds: float = 10.0
    idle_timeout_seconds: float = 20.0
    """The longest silence within an answer."""
    slowest_bytes_per_second: float = 64 * 1024
    """An answer that trickles more slowly than this, after one idle time-out of grace, is given up and asked again."""

    def wait_seconds(self, tries_so_far: int, asked_seconds: float = 0.0) -> float:
        """Between half and all of a doubling wait; a server's Retry-After counts, as far as our longest wait."""
        full: float = min(self.longest_wait_seconds, self.first_wait_seconds * 2.0 ** (tries_so_far - 1))
        drawn = full * (0.5 + 0.5 * random.random())  # noqa: S311 - spreads load, guards nothing
        return max(drawn, min(asked_seconds, self.longest_wait_seconds))

    def deadline_seconds(self, length: int) -> float:
        """How long one attempt at `length` bytes may take as a whole."""
        return self.connect_timeout_seconds + self.idle_timeout_seconds + length / self.slowest_bytes_per_second


@dataclass(slots=True)
class ReadCounter:
    """What reading cost: requests sent, bytes that came back (wasted ones too), attempts that were repeated."""

    requests: int = 0
    bytes_read: int = 0
    retries: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, *, requests: int = 0, bytes_read: int = 0, retries: int = 0) -> None:
        """Count, from any thread."""
        with self._lock:
            self.requests += requests
            self.bytes_read += bytes_read
            self.retries += retries


class TransientError(Exception):
    """One attempt failed in a way that may pass; never leaves this package."""

    def __init__(self, cause: str, *, wait_seconds: float = 0.0) -> None:
        super().__init__(cause)
        self.wait_seconds = wait_seconds


def with_retries(attempt: Callable[[], T], *, what: str, policy: RetryPolicy, counter: ReadCounter) -> T:
    """The result of the first attempt that succeeds, else PlaceError(reason="unreadable") naming the last cause."""
    began = time.monotonic()
    for tries in range(1, policy.tries + 1):
        try:
            return attempt()
        except TransientError as failure:
            if tries == policy.tries:
                spent = time.monotonic() - began
                raise PlaceError(
                    f"{what} failed {tries} times in {spent:.1f} s, the last time with: {failure}; "
                    "wanted an answer. Look at the store and the network, then run the same command again"
                ) from failure
            counter.add(retries=1)
            time.sleep(policy.wait_seconds(tries, failure.wait_seconds))
    raise ValueError(f"RetryPolicy.tries is {policy.tries}; it must be 1 or more")
