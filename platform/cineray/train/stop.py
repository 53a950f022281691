"""Being told to stop: signals of this process go in; a wish comes out that the loop asks for at each step.

The first Ctrl-C or SIGTERM lets the step under way finish and a checkpoint be saved; a second one ends at once, as
usual. Others who want a run to stop or to save (a cluster that takes a machine away) call `wish` themselves.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class StopRequest:
    """What is wished of a run. Every process has one; the loop sees to it that all of them agree."""

    def __init__(self) -> None:
        self.reason = ""
        """Why the run is to stop; empty while it is not."""
        self._save = False

    def wish(self, reason: str) -> None:
        """Stop after the step under way, with a checkpoint."""
        self.reason = self.reason or reason

    def wish_checkpoint(self) -> None:
        """Save after the step under way, and go on."""
        self._save = True

    def take_checkpoint_wish(self) -> bool:
        """Is a checkpoint wished? Asking takes the wish back."""
        wished, self._save = self._save, False
        return wished


@contextmanager
def stopping_by_signals(request: StopRequest) -> Iterator[StopRequest]:
    """While inside, the first signal is a wish, the second one what it was. Only the main thread hears signals."""
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def heard(number: int, _frame: Any) -> None:
        signal.signal(number, before[signal.Signals(number)])
        request.wish(signal.Signals(number).name)

    for number in before:
        signal.signal(number, heard)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
