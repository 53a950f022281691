"""One rank's rows out of Ray Data, without a thread: asked for ahead, in order, with a limit on every wait.

    coordinator --asked--> this node --held--> in use
                 one         ahead              one

Ray Data's own way (`iter_batches`) takes four threads per pass, which cannot be ended while they wait: they hold more
rows than were asked for, outlive the loop, and one that calls Ray after its end takes the whole process with it. So
this asks the coordinator of `streaming_split` itself: three calls that Ray does not promise to keep, all of them here.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import ray
from ray.data.block import BlockAccessor

from cineray.telemetry.ray_session import never_start_by_itself


class RowPuller:
    """The rows of one split."""

    ahead = 1
    """How many are asked for, or lie here, beside the one in use. The first row says how many it may be."""

    def __init__(self, iterator: Any) -> None:
        never_start_by_itself()
        self._coordinator, self._split = iterator._coord_actor, iterator._output_split_idx
        self._epoch: int | None = None
        self._asked: Any = self._coordinator.start_epoch.remote(self._split)
        self._held: deque[Any] = deque()
        self._ended = False

    def get(self, seconds: float) -> dict[str, Any] | None:
        """The next row, a dict of arrays, or None behind the last one. Raises TimeoutError, and what Ray raises."""
        ends = time.monotonic() + seconds
        while not self._held and not self._ended:
            self.look(max(0.0, ends - time.monotonic()))
            if not self._held and not self._ended and time.monotonic() >= ends:
                raise TimeoutError
        if not self._held:
            return None
        block = self._held[0]
        if not ray.wait([block], timeout=max(0.0, ends - time.monotonic()))[0]:
            raise TimeoutError
        self._held.popleft()
        self.look()
        row: dict[str, Any] = BlockAccessor.for_block(ray.get(block)).to_numpy()
        return row

    def look(self, seconds: float = 0.0) -> None:
        """Take what has come and ask for more; call it now and then between rows, so that rows come near."""
        while not self._ended:
            # One at a time: the coordinator answers several at once in any order.
            if self._asked is None and len(self._held) < self.ahead:
                self._asked = self._coordinator.get.remote(self._epoch, self._split, 0)
            if self._asked is None or not ray.wait([self._asked], timeout=seconds)[0]:
                return
            found, self._asked, seconds = ray.get(self._asked), None, 0.0
            if self._epoch is None:
                self._epoch = found
            elif found is None:
                self._ended = True
            else:
                self._held += [entry.ref for entry in found.blocks]
                ray.wait([self._held[-1]], timeout=0)  # begins to bring it to this node, while others are used

    def close(self) -> None:
        """Ask for no more; Ray Data stops making rows once all ranks have said so."""
        self._held.clear()
        self._asked, self._ended = None, True
        if self._epoch is not None and ray.is_initialized():
            self._coordinator.notify_split_finished.remote(self._epoch, self._split)
            self._epoch = None
