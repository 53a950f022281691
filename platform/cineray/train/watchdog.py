"""A run that hangs says where, and ends: signs of life go in; without any for too long, stacks and an exit come out.

Every rank has its own. In a collective that never returns all of them hang, so each dumps all its threads into the
run's folder, says so, and ends with exit code 75 ("try again"): whoever started the run starts it again from the last
checkpoint. The main thread cannot be told, it may be deep in a library; so the process ends from the watching thread.
Should even that thread not get to run (a library that keeps Python's lock), Python's own timer dumps and ends instead.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import IO, NoReturn

from cineray.errors import CinerayError
from cineray.storage import is_remote, put_object

EXIT_CODE = 75
"""EX_TEMPFAIL: nothing is wrong with the job as far as is known, and trying again is right."""

_GIL_GRACE_SECONDS = 60.0
_LOOKS_PER_LIMIT = 20
_LONGEST_LOOK_SECONDS = 10.0


_watching: list[Watchdog] = []
"""Of this process; more than one only in tests."""


def alive(doing: str) -> None:
    """A sign of life, from whoever does something long: the next clip of a validation, the next part of an upload."""
    for watchdog in _watching:
        watchdog.alive(doing)


class Watchdog:
    """Watches one process while it trains."""

    def __init__(
        self,
        limit_seconds: float,
        stacks_uri: str,
        *,
        who: str = "",
        before_exit: Callable[[str], None] | None = None,
        leave: Callable[[int], NoReturn] = os._exit,
    ) -> None:
        """`stacks_uri`: a file, of this rank and attempt. `before_exit` is told the sentence, and must be quick."""
        self._limit, self._uri, self._who = limit_seconds, stacks_uri, who
        self._before_exit, self._leave = before_exit, leave
        self._every = min(limit_seconds / _LOOKS_PER_LIMIT, _LONGEST_LOOK_SECONDS)
        self._at, self._doing = time.monotonic(), "starting"
        self._stop = threading.Event()
        self._dump = _opened(stacks_uri)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> Watchdog:
        """Begin to watch."""
        self.alive("starting")
        _watching.append(self)
        self._thread.start()
        return self

    def alive(self, doing: str) -> None:
        """A sign of life, and what begins now."""
        self._at, self._doing = time.monotonic(), doing

    def stop(self) -> None:
        """End of the training: nothing is watched any more."""
        if self in _watching:
            _watching.remove(self)
        self._stop.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        if not is_remote(self._uri) and os.path.exists(self._uri) and os.path.getsize(self._uri) == 0:
            os.remove(self._uri)
        self._dump.close()

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            faulthandler.dump_traceback_later(self._limit + _GIL_GRACE_SECONDS, file=self._dump, exit=True)
            silent = time.monotonic() - self._at
            if silent > self._limit:
                self._end(silent)

    def _end(self, silent: float) -> None:
        sentence = (
            f"nothing happened{self._who} for {silent:.0f} s while {self._doing}; limits.no_step_seconds is "
            f"{self._limit:g}. The stacks of all threads are in {self._uri}; this process ends with code {EXIT_CODE}, "
            "and the run resumes from its last checkpoint when it is started again"
        )
        self._dump.write(f"{sentence}\n\n".encode())
        self._dump.flush()
        faulthandler.dump_traceback(file=self._dump, all_threads=True)
        self._dump.flush()
        print(f"error: {sentence}", file=sys.stderr, flush=True)
        try:
            self._keep()
            if self._before_exit is not None:
                self._before_exit(sentence)
            # The others hang too and look as often: once one ends, whoever started them may end them all.
            time.sleep(2 * self._every)
        finally:
            self._leave(EXIT_CODE)

    def _keep(self) -> None:
        if not is_remote(self._uri):
            os.fsync(self._dump.fileno())
            return
        self._dump.seek(0)
        dump = self._dump.read()
        try:
            put_object(self._uri, dump)
        except CinerayError as error:
            print(f"the stacks could not be put to {self._uri}: {error}", file=sys.stderr)
            sys.stderr.write(dump.decode(errors="replace"))


def _opened(uri: str) -> IO[bytes]:
    """Opened in time: a process that hangs may not be able to open files any more."""
    if is_remote(uri):
        return tempfile.TemporaryFile("w+b")
    os.makedirs(os.path.dirname(uri), exist_ok=True)
    return open(uri, "w+b")
