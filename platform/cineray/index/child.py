"""The process that looks at files from strangers: `python -m cineray.index.child`, started and watched by `pool.py`.

It reads requests from its standard input and writes answers to what was its standard output, one after the other. Its
memory and its processor seconds per video are limited by the kernel; its parent limits the wall time. It ends when its
parent does. It must stay light (a tenth of a second, 40 MB): PyAV, NumPy, BLAKE3 and the standard library, and nothing
else at import.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from cineray.errors import CinerayError
from cineray.index.reasons import reject
from cineray.index.video import index_video
from cineray.index.wire import Message, file_from_dict, indexed_from_dict, pack, result_message, unpack
from cineray.records import IndexedVideo, Reject, VideoFile
from cineray.storage import AccessPolicy

Index = Callable[..., IndexedVideo | Reject]
Ask = Callable[[VideoFile, dict[str, Any], bytes, AccessPolicy], Message]
"""Something else that a child can be asked of a file: the request and its bytes go in, an answer comes out."""

_NO_ASKS: Mapping[str, Ask] = MappingProxyType({})


def serve(index: Index = index_video, *, asks: Mapping[str, Ask] = _NO_ASKS) -> None:
    """Answer requests until the parent closes the pipe. The first message out says that we are ready.

    `asks`: what else this child answers, by the name that `IndexPool.ask` uses. Limits are the same.
    """
    answers = _take_over_stdout()
    _end_with_parent()
    _send(answers, ({"ready": os.getpid()}, b""))
    while True:
        try:
            request, raw = unpack(_read_exactly)
        except EOFError:
            return
        _limit(request)
        _send(answers, _answer(index, asks, request, raw))


def _answer(index: Index, asks: Mapping[str, Ask], request: dict[str, Any], raw: bytes) -> Message:
    file = file_from_dict(request["file"])
    policy = AccessPolicy(allow_hosts=frozenset(request["allow_hosts"]))
    try:
        if "ask" in request:
            return asks[request["ask"]](file, request, raw, policy)
        if "remux" in request:
            from cineray.index.rewrite import remux  # seldom needed, and not to be paid for by everyone

            video = indexed_from_dict(request["remux"] | {"frames": raw})
            return result_message(remux(file, video, request["out_path"], policy=policy))
        return result_message(index(file, level=request["level"], policy=policy, hash_mode=request["hash_mode"]))
    except MemoryError:
        limit = request["memory_bytes"] >> 20
        detail = f"looking at this file took more than {limit} MiB; raise the limit or leave the file out"
        return result_message(reject(file, "out_of_memory", detail))
    except CinerayError as error:
        return {"error": str(error), "exit_code": error.exit_code}, b""
    except Exception as error:
        # Whatever a strange file brings about in us costs that file, with the words that are needed to mend it.
        return result_message(reject(file, "decoder_crashed", unexpected(file, error)))


def unexpected(file: VideoFile, error: Exception) -> str:
    """What to say of an exception that nobody foresaw."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = f" at {os.path.basename(at.tb_frame.f_code.co_filename)}:{at.tb_lineno}" if at is not None else ""
    what = f"indexing met an unexpected {type(error).__name__}{where}: {error}"
    return f"{what}; please report it with the file {file.place.uri!r}"


def _limit(request: dict[str, Any]) -> None:
    """Memory for the whole process, processor seconds from now on, and no core files."""
    resource.setrlimit(resource.RLIMIT_AS, (request["memory_bytes"], resource.RLIM_INFINITY))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + request["cpu_seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _take_over_stdout() -> int:
    """Our answers keep the pipe for themselves; whatever a library prints goes to standard error."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


def _end_with_parent() -> None:
    """End at once when the parent's end of the pipe closes, even in the middle of a long decode.

    Not by PR_SET_PDEATHSIG: that is sent when the *thread* that started us ends, and pools start children from any
    thread.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the parent's to handle

    def watch() -> None:
        poll = select.poll()
        poll.register(0, 0)  # POLLHUP and POLLERR are always reported
        while not poll.poll():
            continue
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _read_exactly(length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = os.read(0, length - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _send(to: int, message: Message) -> None:
    data = memoryview(pack(message))
    while data:
        data = data[os.write(to, data) :]


if __name__ == "__main__":
    serve()
    sys.exit(0)
