"""How fast do batches come, and what bounds them? A job's feed is run beside the bare decode loop on the same cores.

    bare      one process per core, each the plain loop over its own steps: what the cores can decode
    feed      the job's driver, drained as fast as it gives
    resident  one batch handed over again and again: what is left when nothing is decoded

Start-up and warm-up are cut off; the verdict names the stage that bounds the feed, by how much, and what to change.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import numpy as np

from cineray.errors import CinerayError
from cineray.feed.job import DataJob
from cineray.feed.local import local_batches
from cineray.feed.supply import FeedSpec
from cineray.records import Batch
from cineray.storage import is_remote
from cineray.telemetry.processes import watched

WITHIN = 0.9
"""A feed that gives this share of what the cores can decode is bound by decoding, not by itself."""
MOST_STEPS = 20_000
"""More than any measurement comes to."""
IDLE_CPU = 0.6
"""Cores that are less busy than this while decoding wait for bytes."""

_MORE = {
    "local": "it decodes in the trainer's process, on one core: set feed.driver to torch or ray",
    "torch": "give each worker more work (clips_per_visit, batch_size), or more prefetch (feed.prefetch_steps)",
    "ray": "give each task more work (clips_per_visit, batch_size, feed.task_seconds), or more prefetch "
    "(feed.prefetch_steps)",
}
"""What to change where a driver gives less than the cores can decode."""


@dataclass(slots=True)
class Rate:
    """What came, in how long, at which cost."""

    clips: int = 0
    frames: int = 0
    frames_decoded: int = 0
    array_bytes: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    startup_seconds: float = 0.0

    @property
    def clips_per_s(self) -> float:
        """Steady rate."""
        return self.clips / self.seconds if self.seconds else 0.0

    def add(self, batch: Batch) -> None:
        """Count one batch."""
        self.clips += len(batch.specs)
        self.frames += int(batch.frame_is_real_BT.sum())
        self.frames_decoded += batch.frames_decoded
        self.array_bytes += batch.frames_BTHWC.nbytes


def measure(job: DataJob, *, seconds: float, step_seconds: float | None = None) -> dict[str, Any]:
    """The facts that `cineray bench` prints."""
    spec = FeedSpec(recipe=job.recipe, seed=job.seed).pinned()
    cores = job.feed.workers or len(os.sched_getaffinity(0))
    with watched() as usage:
        before = bare_rate(spec, cores=cores, seconds=seconds / 2)
        fed = feed_rate(job, spec, cores=cores, seconds=seconds)
        after = bare_rate(spec, cores=cores, seconds=seconds / 2)
    bare = (before.clips_per_s + after.clips_per_s) / 2
    busy = (before.cpu_seconds + after.cpu_seconds) / ((before.seconds + after.seconds) * cores)
    facts = {
        "driver": job.feed.driver,
        "cores": cores,
        "clips_per_s": fed.clips_per_s,
        "frames_per_s": fed.frames / fed.seconds,
        "bytes_per_s": fed.array_bytes / fed.seconds,
        "bare_clips_per_s": bare,
        "ratio": fed.clips_per_s / bare if bare else 0.0,
        "resident_clips_per_s": resident_rate(spec, seconds=min(1.0, seconds)),
        "frames_decoded_per_frame_used": fed.frames_decoded / fed.frames if fed.frames else 0.0,
        "cpu_busy": busy,
        "remote": _is_remote(spec),
        "startup_s": fed.startup_seconds,
        "peak_rss_bytes": usage.peak_rss_bytes,
        "measured_s": fed.seconds,
    }
    size = job.recipe.size_of(job.recipe.shapes[0])
    return facts | {"verdict": verdict(facts, wanted=size / step_seconds if step_seconds else None)}


def verdict(facts: dict[str, Any], *, wanted: float | None) -> str:
    """What bounds the feed, by how much, what to change."""
    rate, bare, ratio = facts["clips_per_s"], facts["bare_clips_per_s"], facts["ratio"]
    if wanted is not None and rate >= wanted:
        return f"trainer: it takes {wanted:.1f} clips/s and the feed gives {rate:.1f}; nothing to gain in the data path"
    short = f", and the trainer takes {wanted:.1f}" if wanted is not None else ""
    if rate >= 0.5 * facts["resident_clips_per_s"]:
        return f"copy: {rate:.1f} clips/s of at most {facts['resident_clips_per_s']:.1f} that can be handed over{short}"
    if ratio < WITHIN:
        return f"feed: {rate:.1f} clips/s where the cores decode {bare:.1f}{short}; {_MORE[facts['driver']]}"
    if facts["remote"] and facts["cpu_busy"] < IDLE_CPU:
        return (
            f"storage: the cores are busy for {100 * facts['cpu_busy']:.0f} % of the time, the rest they wait for bytes"
            f"{short}; read from nearer, or more videos at once"
        )
    waste = facts["frames_decoded_per_frame_used"]
    return (
        f"decode: {rate:.1f} clips/s on {facts['cores']} cores, {waste:.1f} frames decoded for each one used{short}; "
        "add decode cores, raise clips_per_visit, or standardise the media to shorter GOPs and smaller pictures"
    )


def bare_rate(spec: FeedSpec, *, cores: int, seconds: float) -> Rate:
    """The plain loop in a process per core, each over steps of its own, all measured over the same time.

    Raises what one of them raises; the others are ended.
    """
    context = multiprocessing.get_context("spawn")
    barrier, loops = context.Barrier(cores), []
    try:
        for number in range(cores):
            answer, tell = context.Pipe(duplex=False)
            process = context.Process(target=_bare, args=(spec, (number, cores), seconds, barrier, tell))
            process.start()
            tell.close()  # its copy is the only one: when it ends, however it ends, waiting ends
            loops.append((process, answer))
        rates = _answers(loops)
    finally:
        for process, answer in loops:
            process.terminate()  # one that has answered is at its end; others wait for one that will not come
            process.join()
            answer.close()
    total = Rate(seconds=sum(rate.seconds for rate in rates) / cores)
    for rate in rates:
        for name in ("clips", "frames", "frames_decoded", "array_bytes", "cpu_seconds"):
            setattr(total, name, getattr(total, name) + getattr(rate, name))
    return total


def _answers(loops: list[tuple[Any, Connection]]) -> list[Rate]:
    """What the loops have measured, in any order: the first that fails is heard at once."""
    rates, waiting = [], {answer: process for process, answer in loops}
    while waiting:
        for answer in wait(list(waiting)):
            process = waiting.pop(cast("Connection", answer))
            try:
                told = cast("Connection", answer).recv()
            except EOFError:
                process.join()
                raise CinerayError(
                    f"a process of the bare decode loop ended with exit code {process.exitcode} before it had measured "
                    "anything; what it said is above. Decode the same batches with feed.driver=local to find the clip"
                ) from None
            if isinstance(told, CinerayError):
                raise told
            rates.append(told)
    return rates


def _is_remote(spec: FeedSpec) -> bool:
    """Whether the first clip's bytes come over a network."""
    _, place = spec.open().catalogs[0].located(0)
    return is_remote(place.uri)


def _bare(spec: FeedSpec, share: tuple[int, int], seconds: float, barrier: Any, tell: Connection) -> None:
    try:
        tell.send(_bare_rate(spec, share, seconds, barrier))
    except CinerayError as error:
        tell.send(error)


def _bare_rate(spec: FeedSpec, share: tuple[int, int], seconds: float, barrier: Any) -> Rate:
    number, cores = share
    visits = spec.recipe.clips_per_visit
    supply = spec.open()
    windows = (range((number + k * cores) * visits, (number + k * cores + 1) * visits) for k in itertools.count())
    batches = (batch for window in windows for batch in local_batches(supply, window))
    for _ in range(visits):
        next(batches)
    barrier.wait()
    rate = Rate()
    began, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        rate.add(next(batches))
    rate.seconds, rate.cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    return rate


def feed_rate(job: DataJob, spec: FeedSpec, *, cores: int, seconds: float) -> Rate:
    """The job's driver, drained."""
    rate, visits = Rate(), job.recipe.clips_per_visit
    started = time.perf_counter()
    with _batches(job, spec, cores) as batches:
        for count, batch in enumerate(batches):
            if count == 0:
                rate.startup_seconds = time.perf_counter() - started
            if count < 2 * visits * cores:  # what was decoded while everything started comes in one go
                began = time.perf_counter()
                continue
            rate.add(batch)
            rate.seconds = time.perf_counter() - began
            if rate.seconds >= seconds:
                break
    return rate


@contextmanager
def _batches(job: DataJob, spec: FeedSpec, cores: int) -> Iterator[Iterator[Batch]]:
    steps = range(MOST_STEPS)
    if job.feed.driver == "local":
        yield local_batches(spec, steps)
    elif job.feed.driver == "torch":
        from cineray.feed.torch_feed import from_torch, loader_of

        yield (from_torch(batch) for batch in loader_of(spec, steps, job.feed.model_copy(update={"workers": cores})))
    else:
        from cineray.feed.ray_feed import ray_batches
        from cineray.feed.ray_options import ray_options
        from cineray.telemetry.ray_session import connected

        with connected(num_cpus=cores):
            yield ray_batches(ray_options(spec, job.feed.model_copy(update={"workers": cores})), steps)


def resident_rate(spec: FeedSpec, *, seconds: float) -> float:
    """Clips per second when one batch is only copied, as a trainer's host-to-device copy would."""
    batch = next(local_batches(spec, range(1)))
    target = np.empty_like(batch.frames_BTHWC)
    began, clips = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        np.copyto(target, batch.frames_BTHWC)
        clips += len(batch.specs)
    return clips / (time.perf_counter() - began)
