"""From a plan to batches: the one function that all drivers share. Steps of one window and a rank go in, batches out.

    steps of a window   0    1    2    3
    slot 0              a0   a1   a2   a3      one visit to video a: one open, one pass forward, four clips,
    slot 1              b0   b1   b2   b3      each written straight into its place of frames_KBTHWC

Bad media never raises. A clip that cannot be decoded is replaced by the plan's next candidate that can, always the
same, and the batch says which and why. So every driver, worker and restart makes the same batches. Bytes that cannot be
had now are no such clip: they are tried again for a while, and then the run stops (`unavailable.py`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cineray.batch.assemble import assemble
from cineray.decode import PASSING, decode_visit
from cineray.errors import PlaceError, TooManySubstitutions, UsageError
from cineray.feed.isolated import IsolatedDecoder
from cineray.feed.latent_shard import Row
from cineray.feed.supply import Supply
from cineray.feed.unavailable import Tries
from cineray.records import (
    Batch,
    Clip,
    ClipSpec,
    IndexedVideo,
    Place,
    Reject,
    StoredLatents,
    Substitution,
)
from cineray.storage import is_remote

Frames = npt.NDArray[np.uint8]
Decode = Callable[..., list[Clip | Reject]]

MOST_SUBSTITUTES = 16
"""Candidates that are tried for one clip; where so many fail, the data is not what was indexed."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one worker makes at once: some steps of one window, for one rank."""

    steps: range
    rank: int = 0
    world: int = 1

    @property
    def name(self) -> str:
        """`00000012-1of3`."""
        return f"{self.steps.start:08d}-{self.rank}of{self.world}"


def tasks_of(supply: Supply, steps: range, rank: int = 0, world: int = 1) -> Iterable[Task]:
    """The tasks of one rank that make these steps, window by window; the first and the last may be cut."""
    each = supply.plan.recipe.clips_per_visit
    start = steps.start
    while start < steps.stop:
        stop = min(steps.stop, (start // each + 1) * each)
        yield Task(range(start, stop), rank, world)
        start = stop


def frames_bytes(supply: Supply, task: Task) -> int:
    """How large the pictures of a task's batches are, one behind the other."""
    window = supply.plan.window(task.steps.start)
    frames, height, width = supply.plan.recipe.shapes[window.bucket].shape
    return len(task.steps) * len(window.slots(task.rank, task.world)) * frames * height * width * 3


def make_batches(supply: Supply, task: Task, *, careful: bool = False, out: Frames | None = None) -> list[Batch]:
    """The batches of one task, one per step.

    `careful`: decode in a child process, for a worker died of this task. `out`: a flat array for their pictures.
    """
    if out is None:
        out = np.empty(frames_bytes(supply, task), np.uint8)
    if supply.journal is None:
        return _made(supply, task, out, careful=careful)
    with supply.journal.trying(task.name) as died:
        if careful or died:
            supply.journal.reload()
        return _made(supply, task, out, careful=careful or died)


def _made(supply: Supply, task: Task, out: Frames, *, careful: bool) -> list[Batch]:
    if not careful:
        return _Making(supply, task, decode_visit, out).batches()
    with IsolatedDecoder() as child:
        return _Making(supply, task, child.decode_visit, out).batches()


@dataclass(slots=True)
class _Slot:
    """One clip of the task on its way: what is to be shown, where it goes, and what has become of it."""

    step: int
    slot: int
    wanted: ClipSpec
    out: Frames
    spec: ClipSpec
    clip: Clip | None = None
    latent: Row | None = None
    """What a store has in place of pixels."""
    failures: list[Reject] = field(default_factory=list)
    kept_away: Reject | None = None
    """Why it could not be had this time, where that may pass."""


class _Visit(NamedTuple):
    """Clips of one video, and where it lies."""

    clips: Sequence[_Slot]
    video: IndexedVideo
    place: Place


class _Making:
    """The making of one task's batches."""

    def __init__(self, supply: Supply, task: Task, decode: Decode, out: Frames) -> None:
        self.supply, self.task, self._decode = supply, task, decode
        plan = supply.plan
        self.window = plan.window(task.steps.start)
        if task.steps.stop > self.window.steps.stop:
            raise UsageError(f"steps {task.steps} reach over window {self.window.steps}; wanted steps of one window")
        self.slots = self.window.slots(task.rank, task.world)
        if not self.slots:
            raise UsageError(
                f"step {task.steps.start} has {self.window.size} clips, too few for {task.world} ranks: rank "
                f"{task.rank} would get none; raise the batch size of that shape, or use fewer ranks"
            )
        first_draw = task.steps.start - self.window.steps.start
        shape = plan.recipe.shapes[self.window.bucket]
        size = (len(task.steps), len(self.slots), shape.frames, shape.height, shape.width, 3)
        self.frames_KBTHWC: Frames = out.reshape(size)
        columns = plan.columns(self.window, self.slots)
        self.clips = [
            [
                _Slot(step, slot, column[first_draw + k], self.frames_KBTHWC[k, b], column[first_draw + k])
                for k, step in enumerate(task.steps)
            ]
            for b, (slot, column) in enumerate(zip(self.slots, columns, strict=True))
        ]

    def batches(self) -> list[Batch]:
        """Decode, replace what failed until nothing is left to replace, put together."""
        waiting = [clip for column in self.clips for clip in column]
        while waiting:
            waiting = self._without_stored(waiting)
            self._visit_all(waiting)
            waiting = [clip for clip in waiting if clip.clip is None]
            for clip in waiting:
                clip.spec = self._substitute(clip)
        return [self._batch(k, step) for k, step in enumerate(self.task.steps)]

    def _without_stored(self, clips: list[_Slot]) -> list[_Slot]:
        """Those that must be decoded; the others are given their latents."""
        store = self.supply.latents
        if store is None:
            return clips
        for clip, row in zip(clips, store.find([store.key(clip.spec) for clip in clips]), strict=True):
            clip.latent = row
        return [clip for clip in clips if clip.latent is None]

    def _visit_all(self, clips: Sequence[_Slot]) -> None:
        """Every video once, however many of the clips are from it; again, after a pause, what could not be had."""
        waiting = []
        for clip in clips:
            verdict = self.supply.journal.verdict(clip.spec) if self.supply.journal else None
            if verdict is None:
                waiting.append(clip)
            else:
                clip.failures.append(verdict)
        tries = Tries()
        self._visit_once(waiting)
        while waiting := [clip for clip in waiting if clip.kept_away is not None]:
            tries.pause_or_stop([(clip.step, clip.slot, clip.kept_away) for clip in waiting if clip.kept_away])
            self._visit_once(waiting, again=True)

    def _visit_once(self, clips: Sequence[_Slot], *, again: bool = False) -> None:
        visits: dict[tuple[int, str], list[_Slot]] = {}
        for clip in clips:
            clip.kept_away = None
            visits.setdefault((clip.spec.dataset, clip.spec.video_id), []).append(clip)
        placed = [visit for some in visits.values() if (visit := self._placed(some, again)) is not None]
        remote = any(is_remote(visit.place.uri) for visit in placed)
        # A child decodes one visit at a time; local media would only fight for the core.
        if remote and self._decode is decode_visit and self.supply.visits_at_once > 1:
            list(_threads(self.supply.visits_at_once).map(self._make, placed))
        else:
            for visit in placed:
                self._make(visit)

    def _placed(self, clips: Sequence[_Slot], again: bool) -> _Visit | None:
        """The visit that these clips of one video need; None, and the clips kept away, where it lies nowhere."""
        spec = clips[0].spec
        try:
            return _Visit(clips, *self.supply.catalogs[spec.dataset].located(spec.clip_number, again=again))
        except PlaceError as error:
            for clip in clips:
                name = clip.spec.clip_id
                clip.kept_away = Reject(name=name, stage="decode", reason=error.reason, detail=str(error))
            return None

    def _make(self, visit: _Visit) -> None:
        specs, out = [clip.spec for clip in visit.clips], [clip.out for clip in visit.clips]
        results = self._decode(visit.video, visit.place, specs, out=out, options=self.supply.decode)
        for clip, result in zip(visit.clips, results, strict=True):
            if isinstance(result, Clip):
                clip.clip = result
            elif result.reason in PASSING:
                clip.kept_away = result
            else:
                self._failed(clip, result)

    def _failed(self, clip: _Slot, reject: Reject) -> None:
        clip.failures.append(self.supply.journal.judge(clip.spec, reject) if self.supply.journal else reject)

    def _substitute(self, clip: _Slot) -> ClipSpec:
        attempt = len(clip.failures) - 1
        if attempt >= MOST_SUBSTITUTES:
            tried = "; ".join(f"{reject.name}: {reject.reason}" for reject in clip.failures)
            raise TooManySubstitutions(
                f"step {clip.step}, slot {clip.slot}: neither the clip nor {attempt} substitutes could be decoded "
                f"({tried}). Ingest with level `decode` to leave broken videos out"
            )
        return self.supply.plan.substitute(clip.wanted, attempt)

    def _batch(self, k: int, step: int) -> Batch:
        clips = [column[k] for column in self.clips]
        latents = _stored([clip.latent for clip in clips])
        frames_BTHWC = self.frames_KBTHWC[k] if latents is None else self.frames_KBTHWC[k][~latents.is_here_B]
        return assemble(
            step,
            self.slots.start,
            self.window.size,
            [clip.spec for clip in clips],
            [clip.clip for clip in clips if clip.clip is not None],
            [_substitution(clip) for clip in clips if clip.failures],
            frames_BTHWC=frames_BTHWC,
            latents=latents,
        )


def _stored(rows: Sequence[Row | None]) -> StoredLatents | None:
    """The rows of a batch's clips as one array; None without any."""
    known = next((row for row in rows if row is not None), None)
    if known is None:
        return None
    values = np.zeros((len(rows), *known.shape), known.dtype)
    for value, row in zip(values, rows, strict=True):
        if row is not None:
            value[...] = row
    return StoredLatents(values_BCTHW=values, is_here_B=np.array([row is not None for row in rows]))


def _substitution(clip: _Slot) -> Substitution:
    """What stands in, and why what was wanted does not; that substitutes failed too is told behind it."""
    first, *others = clip.failures
    further = "".join(f"; then {reject.name} ({reject.reason})" for reject in others)
    return Substitution(
        step=clip.step,
        slot=clip.slot,
        wanted_clip_id=clip.wanted.clip_id,
        used_clip_id=clip.spec.clip_id,
        reason=first.reason,
        detail=first.detail + further,
    )


_pools: dict[int, ThreadPoolExecutor] = {}
_pools_lock = threading.Lock()


def _threads(count: int) -> ThreadPoolExecutor:
    """One pool per process: its threads keep videos open, and do not survive a fork."""
    with _pools_lock:
        if os.getpid() not in _pools:
            _pools.clear()
            _pools[os.getpid()] = ThreadPoolExecutor(count, thread_name_prefix="cineray-visit")
        return _pools[os.getpid()]
