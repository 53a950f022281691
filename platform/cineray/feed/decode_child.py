"""The process behind `isolated.py`: `python -m cineray.feed.decode_child`. Visits come in by a pipe, pixels go out.

It may crash, hang or be killed; its parent finds out by how it ended. It ends by itself when its parent is gone, and by
an alarm when a decoder does not come back.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import sys
from typing import BinaryIO

from cineray.decode import decode_visit
from cineray.errors import CinerayError
from cineray.feed.isolated import GRACE_SECONDS, LENGTH
from cineray.records import Clip

MEMORY_BYTES = 8 << 30
"""Of address space: a damaged header that asks for more is an error here, not the end of the machine."""


def serve() -> None:
    """Answer visits until the parent closes the pipe."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not look like pixels
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    while head := requests.read(LENGTH.size):
        (length,) = LENGTH.unpack(head)
        video, place, specs, options = pickle.loads(requests.read(length))  # noqa: S301 - from our own parent
        signal.alarm(int(options.budget_seconds + GRACE_SECONDS))
        try:
            results = decode_visit(video, place, specs, options=options)
        except MemoryError:
            told = [{"reason": "out_of_memory", "detail": f"decoding took more than {MEMORY_BYTES >> 30} GiB"}]
            _send(answers, {"results": told * len(specs)})
        except CinerayError as error:
            _send(answers, {"error": str(error)})
        else:
            clips = [result for result in results if isinstance(result, Clip)]
            _send(answers, {"results": [_told(result) for result in results]})
            for clip in clips:
                answers.write(clip.frames_THWC.data)
            answers.flush()
        signal.alarm(0)


def _told(result: object) -> dict[str, object]:
    if isinstance(result, Clip):
        return {"frames_decoded": result.frames_decoded}
    return {"reason": getattr(result, "reason", ""), "detail": getattr(result, "detail", "")}


def _send(answers: BinaryIO, told: dict[str, object]) -> None:
    data = json.dumps(told).encode()
    answers.write(LENGTH.pack(len(data)) + data)
    answers.flush()


if __name__ == "__main__":
    serve()
