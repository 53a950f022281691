"""Latents of a job, made before it runs: a job goes in, a filled store comes out, whoever is killed on the way.

The plan says which clips the steps show; those whose latents the store has not yet are decoded, encoded and added,
window by window, in this process or in Ray's (`ray_latents.py`). Nothing is kept but the store: run again, it goes on
with what is missing, and two at once only do some of the work twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from cineray.errors import UsageError
from cineray.feed import FeedSpec, SubstitutionLimit, make_batches, tasks_of
from cineray.feed.latent_plan import draws_of, second_epoch_hit_rate
from cineray.feed.latent_store import LatentStore
from cineray.models.autoencoder import load_autoencoder
from cineray.storage import join_uri
from cineray.train.config import TrainJob
from cineray.train.latents import KeptLatents, LatentEncoder, compute_for
from cineray.train.latents_cost import Made, note_cost
from cineray.train.latents_run import open_store
from cineray.train.parallel import World
from cineray.train.resolve import training_spec

CLIPS_PER_TASK = 64


@dataclass(frozen=True, slots=True)
class Todo:
    """What a plan wants of a store."""

    draws: int
    """Clips that the steps show, each as often as it is shown."""
    distinct: int
    """Different ones among them."""
    present: int
    """Of these, in the store already."""
    steps: list[range]
    """Windows' steps that show one that is missing; each missing one is in one of them."""


class LatentsWork:
    """One process's means to fill the store of a definite job."""

    def __init__(self, job: TrainJob, spec: FeedSpec, *, device: torch.device, compute: str) -> None:
        _settle_as_trainers_do(job, device)
        job = with_compute(job, compute)
        self.device, self.store = device, open_store(job, device)
        self._kept = KeptLatents(LatentEncoder(load_autoencoder(job.autoencoder), job.latents), self.store, device)
        # What is found is not even decoded: a task that was killed and runs again does only what is left. And what
        # killed a worker is written down beside the store, so that it does not kill the next one.
        journal = join_uri(self.store.uri, "journal", spec.fingerprint[:16])
        self.supply = replace(spec, latents=self.store.spec, journal=journal).open()

    def make(self, some: Iterable[range], *, careful: bool = False) -> Made:
        """Encode what is missing of these steps; it lies in the store when this returns.

        `careful`: decode in a child process, for a worker died of these steps.
        """
        made, began = Made(), time.perf_counter()
        before = self._kept.encoder.seconds()
        limit = SubstitutionLimit(self.supply.plan.recipe.max_substituted_fraction)
        tasks = (task for steps in some for task in tasks_of(self.supply, steps))
        for task in tasks:
            for batch in make_batches(self.supply, task, careful=careful):
                limit.check(batch)
                self._kept.complete(batch)
                made.clips += len(batch.specs)
                made.encoded += len(batch.frames_BTHWC)
                made.substituted += len(batch.substitutions)
        self._kept.writer.flush()
        self.store.look()
        made.encode_seconds = self._kept.encoder.seconds() - before
        made.seconds = time.perf_counter() - began
        return made


def _settle_as_trainers_do(job: TrainJob, device: torch.device) -> None:
    """What a process decides for all of its kernels is decided here as in a trainer (`setup.py`): they round alike."""
    if job.deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def with_compute(job: TrainJob, compute: str) -> TrainJob:
    """The job with a definite precision: who prepares and who encodes must mean the same."""
    return job.model_copy(update={"latents": job.latents.model_copy(update={"compute": compute})})


def todo(spec: FeedSpec, store: LatentStore, steps: range) -> Todo:
    """By arithmetic and the store's index alone."""
    seen: set[bytes] = set()
    draws = present = 0
    missing: list[range] = []
    for window in draws_of(spec.open().plan, store.key, steps):
        fresh = {key for key in window.keys if bytes.fromhex(key) not in seen}
        seen.update(bytes.fromhex(key) for key in fresh)
        absent = [key for key in fresh if key not in store]
        draws += len(window.keys)
        present += len(fresh) - len(absent)
        if absent:
            missing.append(window.steps)
    return Todo(draws, len(seen), present, missing)


def chunks(spec: FeedSpec, some: Iterable[range], *, clips: int = CLIPS_PER_TASK) -> Iterator[list[range]]:
    """Windows' steps in portions of about so many clips: what one task does."""
    plan = spec.open().plan
    chunk: list[range] = []
    held = 0
    for steps in some:
        chunk.append(steps)
        held += len(steps) * plan.window(steps.start).size
        if held >= clips:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def make_local(prepared: Prepared, on_made: Callable[[Made], None]) -> None:
    """All of it in this process, on its GPU if it has one."""
    device = torch.device("cuda" if prepared.on_gpu else "cpu")
    work = LatentsWork(prepared.job, prepared.spec, device=device, compute=prepared.compute)
    for chunk in chunks(prepared.spec, prepared.wanted.steps):
        on_made(work.make(chunk))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job looked at: what is wanted, what is there, and how the rest is to be made."""

    job: TrainJob
    spec: FeedSpec
    store: LatentStore
    steps: range
    wanted: Todo
    hit_rate: float
    bytes_per_clip: int
    """Of the largest shape."""
    on_gpu: bool
    compute: str

    def make(
        self,
        engine: str,
        *,
        on_made: Callable[[Made], None] = lambda _: None,
        address: str = "",
        workers: int = 0,
        gpus_per_task: float = 0.0,
    ) -> Made:
        """Fill the store; returns what that took."""
        total = Made()

        def add(made: Made) -> None:
            total.add(made)
            on_made(made)

        if engine == "local":
            make_local(self, add)
        else:
            from cineray.train.ray_latents import make_on_ray

            make_on_ray(self, add, address=address, workers=workers, gpus_per_task=gpus_per_task)
        if total.encoded:
            note_cost(self.store, total)
        return total


def prepare(job: TrainJob, steps: range, *, on_gpu: bool | None = None) -> Prepared:
    """Look at a definite job. `on_gpu`: where encoding will run; None: here, as the job would train."""
    spec = training_spec(job)
    gpu = World.here(gpus=job.parallel.gpus_per_worker).device.type == "cuda" if on_gpu is None else on_gpu
    compute = compute_for(job.latents, torch.device("cuda" if gpu else "cpu"))
    store = open_store(with_compute(job, compute), torch.device("cuda" if gpu else "cpu"))
    autoencoder = load_autoencoder(job.autoencoder)
    sizes = [math.prod(autoencoder.latent_shape(bucket.shape)) for bucket in job.recipe.shapes]
    return Prepared(
        job=job,
        spec=spec,
        store=store,
        steps=steps,
        wanted=todo(spec, store, steps),
        hit_rate=second_epoch_hit_rate(spec.open().plan, store.key),
        bytes_per_clip=max(sizes) * (2 if job.latents.dtype == "bf16" else 4),
        on_gpu=gpu,
        compute=compute,
    )


def check_wants_latents(job: Any) -> TrainJob:
    """A job whose latents can be made before it runs, or a refusal."""
    if not isinstance(job, TrainJob):
        raise UsageError(f"the job is a {type(job).__name__}, which has no latents; wanted a training job")
    if job.autoencoder.kind == "pixels":
        raise UsageError("autoencoder.kind is pixels, and pixels have no latents; name an autoencoder")
    if job.latents.mode == "online":
        raise UsageError(
            "latents.mode is online, which keeps nothing; set latents.mode=precomputed and latents.store=FOLDER"
        )
    return job
