"""One child process seen from its parent: started when it is first needed, asked, watched, and replaced when lost.

A request and a deadline in; an `IndexedVideo` or a `Reject` out. A crash, a hang and memory running out are told apart
by how the child ended, and become the reason of the file that it was looking at.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from cineray.errors import CinerayError, UsageError
from cineray.index.reasons import reject
from cineray.index.wire import Message, file_to_dict, pack, result_of, unpack
from cineray.records import IndexedVideo, Reject, VideoFile

_START_SECONDS = 60.0
_START_AGAIN_TIMES = 3
_START_AGAIN_SECONDS = 0.2
_LAST_WORDS_BYTES = 2000
_CLOSED = "the IndexPool is closed; open a new one to index more files"
_FILES_PER_CHILD = 1000
"""Then a fresh one: whatever a library leaks on damaged files stays small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What looking at one video may take before it is given up."""

    wall_seconds: float = 120.0
    cpu_seconds: float = 120.0
    memory_bytes: int = 2 << 30
    """Of address space, for the whole child process; it needs 0.4 GiB before it has seen a file."""

    def __post_init__(self) -> None:
        if self.wall_seconds <= 0 or self.cpu_seconds <= 0:
            wall, cpu = self.wall_seconds, self.cpu_seconds
            raise UsageError(f"limits are {wall} s of wall and {cpu} s of CPU; wanted more than 0, set both")
        if self.memory_bytes < 512 << 20:
            raise UsageError(
                f"limits.memory_bytes is {self.memory_bytes}; a child cannot start below 512 MiB, allow more"
            )


@dataclass(frozen=True, slots=True)
class _Running:
    """A started child and its three pipes."""

    process: subprocess.Popen[bytes]
    requests: BinaryIO
    answers: BinaryIO
    words: BinaryIO


class Worker:
    """One child process, started when it is first needed and again after it was lost."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self.child: _Running | None = None
        self.last_words = b""
        self.files = 0
        self.ended = False

    def ask(self, file: VideoFile, request: dict[str, Any], raw: bytes, limits: Limits) -> IndexedVideo | Reject:
        """Hand the file to the child and wait for its answer, its end, or the deadline."""
        answer = self.exchange(file, request, raw, limits)
        return answer if isinstance(answer, Reject) else result_of(answer)

    def exchange(self, file: VideoFile, request: dict[str, Any], raw: bytes, limits: Limits) -> Message | Reject:
        """The same, with the child's answer as it is, whatever was asked."""
        message = pack(({**request, "file": file_to_dict(file)}, raw))
        child = self.send(message)
        try:
            answer = self.receive(child, time.monotonic() + limits.wall_seconds)
        except TimeoutError:
            self.stop()
            detail = f"looking at this file took longer than {limits.wall_seconds:g} s; raise the limit or leave it out"
            return reject(file, "timed_out", detail)
        except EOFError:
            return self.lost(file, limits)
        return self.understood(answer)

    def send(self, message: bytes) -> _Running:
        """Write the request to the child, or to a new one if it died since it was last asked."""
        if self.child is not None and (self.child.process.poll() is not None or self.files >= _FILES_PER_CHILD):
            self.stop()
        child = self.child or self.start()
        try:
            _write_all(child.requests, message)
        except BrokenPipeError:
            self.stop()
            child = self.start()
            _write_all(child.requests, message)
        self.files += 1
        return child

    def understood(self, message: Message) -> Message:
        """The answer, looked at: what is no file's fault is raised, and a child that ran out of memory is ended."""
        if "error" in message[0]:
            error = CinerayError(message[0]["error"])
            error.exit_code = message[0]["exit_code"]
            raise error
        if message[0].get("reject", {}).get("reason") == "out_of_memory":
            self.stop()  # what it holds by now is unknown; a fresh one costs a tenth of a second
        return message

    def start(self) -> _Running:
        """Start a child. One that is killed before it is ready, as when memory is short, is started again, 3 times."""
        killed = 0
        while True:
            child = self.started()
            try:
                self.receive(child, time.monotonic() + _START_SECONDS)
                return child
            except (EOFError, TimeoutError) as error:
                code = self.stop()
                killed += isinstance(error, EOFError) and code < 0
                if killed and killed <= _START_AGAIN_TIMES and not self.ended:
                    time.sleep(_START_AGAIN_SECONDS)
                    continue
                raise CinerayError(
                    f"the process that indexes videos could not start ({' '.join(self.command)}): "
                    f"{self.why_not_started(error, code)}; run that command to see more"
                ) from error

    def why_not_started(self, error: Exception, code: int) -> str:
        """Its last words, or else how it ended."""
        said = self.last_words.decode("utf-8", "replace").strip()
        if said:
            return said
        if isinstance(error, TimeoutError):
            return f"it was not ready after {_START_SECONDS:g} s"
        return (
            f"signal {signal.Signals(-code).name} ended it each time" if code < 0 else f"it ended with exit code {code}"
        )

    def started(self) -> _Running:
        """A new child with its pipes, which may not be ready yet."""
        if self.ended:
            raise UsageError(_CLOSED)
        self.last_words, self.files, pipe = b"", 0, subprocess.PIPE
        process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise CinerayError(f"no pipes to {self.command[0]}; this Python cannot start processes")
        self.child = child = _Running(process, process.stdin, process.stdout, process.stderr)  # type: ignore[arg-type]
        if self.ended:  # since it was asked above, by a thread that did not see this child yet
            self.stop()
            raise UsageError(_CLOSED)
        return child

    def receive(self, child: _Running, deadline: float) -> Message:
        """The child's next message. What it prints meanwhile is drained, so that it never waits, and its end kept."""
        answers, words = child.answers.fileno(), child.words.fileno()
        poll = select.poll()
        poll.register(answers, select.POLLIN)
        poll.register(words, select.POLLIN)

        def read_exactly(length: int) -> bytes:
            data = bytearray()
            while len(data) < length:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                ready = {fd for fd, _ in poll.poll(left * 1000)}
                if words in ready and not self.hear(words):
                    poll.unregister(words)
                if answers in ready:
                    more = os.read(answers, min(length - len(data), 1 << 20))
                    if not more:
                        raise EOFError
                    data += more
            return bytes(data)

        return unpack(read_exactly)

    def hear(self, words: int) -> bool:
        """Keep the end of what the child prints; False when it can print no more."""
        said = os.read(words, 1 << 16)
        self.last_words = (self.last_words + said)[-_LAST_WORDS_BYTES:]
        return bool(said)

    def lost(self, file: VideoFile, limits: Limits) -> Reject:
        """The child ended in the middle of this file: say of what."""
        code = self.stop()
        said = self.last_words.decode("utf-8", "replace").strip()
        if self.ended:
            raise UsageError("the IndexPool was closed while a file was being indexed")
        if code == -signal.SIGXCPU:
            used = f"{limits.cpu_seconds:g} s of CPU"
            return reject(
                file, "timed_out", f"looking at this file took more than {used}; raise the limit or leave it out"
            )
        if code == -signal.SIGKILL or "MemoryError" in said or "Cannot allocate memory" in said:
            detail = "the process that looked at this file ran out of memory; raise the limit or leave the file out"
            return reject(file, "out_of_memory", detail)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        how += f", saying: {said[-300:]}" if said else ""
        detail = f"the process that looked at this file ended by {how}; leave the file out, or repair it: "
        return reject(file, "decoder_crashed", detail + "ffmpeg -i in -c:v libx264 out.mp4")

    def stop(self) -> int:
        """End what is left of the child and give its exit code."""
        child, self.child = self.child, None
        if child is None:
            return 0
        code = _exit_code_if_ending(child)
        if code is None:
            child.process.kill()
            code = child.process.wait()
        for pipe in (child.requests, child.answers, child.words):
            pipe.close()
        return code

    def end(self) -> None:
        """End the child for good, also from another thread while it is at work."""
        self.ended = True
        child = self.child
        if child is not None:
            child.process.kill()
            child.process.wait()


def _exit_code_if_ending(child: _Running) -> int | None:
    """The exit code of a child that has closed its pipe: it is about to end by itself, and its own code tells why."""
    poll = select.poll()
    poll.register(child.answers.fileno(), select.POLLIN)
    if not any(events & select.POLLHUP for _, events in poll.poll(0)):
        return None
    try:
        return child.process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        return None


def _write_all(to: BinaryIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[to.write(left) :]
