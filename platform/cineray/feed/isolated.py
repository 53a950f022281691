"""Decoding behind a wall: the clips of a visit go to a child process, their pixels or rejects come back.

Used where a worker has died before. A clip that kills the child is told from its neighbours by asking for each on its
own; it comes back as a `Reject` with reason `decoder_crashed`, `decoder_stuck` or `out_of_memory`, and nothing else is
lost. The child is trusted with nothing: what it sends is JSON and pixels of a known size, never a pickle.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cineray.decode import DecodeOptions
from cineray.errors import CinerayError
from cineray.records import Clip, ClipSpec, IndexedVideo, Place, Reject

Frames = npt.NDArray[np.uint8]
LENGTH = struct.Struct("<Q")
GRACE_SECONDS = 30.0
"""On top of the visit's own budget, for starting the child and for what does not look at the budget."""
COMMAND: tuple[str, ...] = (sys.executable, "-m", "cineray.feed.decode_child")
_HEADER_LIMIT = 16 << 20


class _Lost(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class IsolatedDecoder:
    """`decode_visit` with the same arguments and the same results, in a child that may die. Close it, or use `with`."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> IsolatedDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child, if one is there."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()

    def decode_visit(
        self,
        video: IndexedVideo,
        place: Place,
        specs: Sequence[ClipSpec],
        *,
        out: Sequence[Frames],
        options: DecodeOptions,
    ) -> list[Clip | Reject]:
        """All clips at once; where that kills the child, one by one."""
        try:
            return self._ask(video, place, specs, out, options)
        except _Lost as lost:
            if len(specs) == 1:
                return [Reject(name=specs[0].clip_id, stage="decode", reason=lost.reason, detail=lost.detail)]
        each = zip(specs, out, strict=True)
        return [self.decode_visit(video, place, [s], out=[array], options=options)[0] for s, array in each]

    def _ask(
        self,
        video: IndexedVideo,
        place: Place,
        specs: Sequence[ClipSpec],
        out: Sequence[Frames],
        options: DecodeOptions,
    ) -> list[Clip | Reject]:
        deadline = time.monotonic() + options.budget_seconds + GRACE_SECONDS
        request = pickle.dumps((video, place, list(specs), options), protocol=5)
        child = self._started()
        assert child.stdin is not None
        try:
            child.stdin.write(LENGTH.pack(len(request)) + request)
            child.stdin.flush()
            (length,) = LENGTH.unpack(self._read(LENGTH.size, deadline))
            told = json.loads(self._read(min(length, _HEADER_LIMIT), deadline))
            if "error" in told:
                raise CinerayError(told["error"])
            return [
                self._result(spec, one, array, deadline)
                for spec, one, array in zip(specs, told["results"], out, strict=True)
            ]
        except (BrokenPipeError, EOFError, TimeoutError) as error:
            raise self._how_it_ended(error) from None

    def _result(self, spec: ClipSpec, told: dict[str, str], array: Frames, deadline: float) -> Clip | Reject:
        if "reason" in told:
            return Reject(name=spec.clip_id, stage="decode", reason=told["reason"], detail=told["detail"])
        np.copyto(array, np.frombuffer(self._read(array.nbytes, deadline), np.uint8).reshape(array.shape))
        return Clip(spec=spec, frames_THWC=array, frames_decoded=int(told["frames_decoded"]))

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self.close()
            # A Ray worker finds the package by its own sys.path; a child process is told by the environment.
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            self._child = subprocess.Popen(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0
            )
        return self._child

    def _read(self, size: int, deadline: float) -> bytearray:
        assert self._child is not None
        assert self._child.stdout is not None
        found = bytearray()
        while len(found) < size:
            ready, _, _ = select.select([self._child.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            data = os.read(self._child.stdout.fileno(), min(size - len(found), 1 << 20))
            if not data:
                raise EOFError
            found += data
        return found

    def _how_it_ended(self, error: Exception) -> _Lost:
        child = self._child
        assert child is not None
        if isinstance(error, TimeoutError):
            self.close()
            return _Lost(
                "decoder_stuck", "a decoder in a process of its own did not come to an end; the process was ended"
            )
        code = child.wait()
        self.close()
        if code == -signal.SIGALRM:
            return _Lost(
                "decoder_stuck", "a decoder in a process of its own did not come to an end; the process ended itself"
            )
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return _Lost("decoder_crashed", f"a decoder in a process of its own ended it ({how})")
