"""Waiting for what other processes do: a question goes in, its first answer that is true comes out.

Tests wait for events and never for a time to pass: the limit is only there so that what never comes is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

EVENT_SECONDS = 500.0
"""Within which anything happens on a busy machine."""
_LOOK_SECONDS = 0.05


def until(true: Callable[[], Any], what: str, seconds: float = EVENT_SECONDS) -> Any:
    """Wait for an event; `what` tells a TimeoutError which."""
    end = time.monotonic() + seconds
    while not (found := true()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(_LOOK_SECONDS)
    return found
