"""A run's latents from end to end: what is checked before it starts, where its batches pass, what is said at its end.

    job, run  ->  `feed_of`     the run's plan, with the store that the feed looks into; or why the store cannot serve
    batches   ->  `RunLatents`  the same batches, their latents complete; `online` leaves that to the task
    rows      ->  `told`        what encoding cost, and from how many epochs on it pays to do it once

It pays from (cost of making them before) / (step with encoding - step without) epochs on, all of them per step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch

from cineray.errors import UsageError
from cineray.feed import FeedSpec
from cineray.feed.latent_plan import draws_of, second_epoch_hit_rate
from cineray.feed.latent_store import LatentStore, identity_at
from cineray.models.autoencoder import load_autoencoder
from cineray.plan import Plan
from cineray.records import Batch
from cineray.train.config import LearningJob, TrainJob
from cineray.train.latents import KeptLatents, LatentEncoder, compute_for, identity_of
from cineray.train.latents_cost import known_cost
from cineray.train.loop import Batches
from cineray.train.resolve import training_spec
from cineray.train.run_folder import RunFolder

_SAMPLED_WINDOWS = 256


def feed_of(job: LearningJob, run: RunFolder, *, on_gpu: bool) -> FeedSpec:
    """The run's plan in words, with the job's store of latents where it has one."""
    spec = run.spec()
    if not isinstance(job, TrainJob) or job.latents.mode == "online":
        return spec
    store = open_store(job, torch.device("cuda" if on_gpu else "cpu"))
    check_store(job, spec.open().plan, store)
    return replace(spec, latents=store.spec)


def open_store(job: TrainJob, device: torch.device) -> LatentStore:
    """The job's store as encoding on this device fills it; begun if it is not there, refused if it is of another."""
    autoencoder = load_autoencoder(job.autoencoder)
    identity = identity_of(autoencoder, job.latents, job.recipe, compute_for(job.latents, device))
    return LatentStore.open(job.latents.store, identity)


def check_store(job: TrainJob, plan: Plan, store: LatentStore) -> None:
    """A cache must be able to serve, and what was to be made before must be there. Nothing is decoded for it."""
    if job.latents.mode == "precomputed":
        _check_made(job, plan, store)
        return
    rate, least = second_epoch_hit_rate(plan, store.key), job.latents.least_hit_rate
    if rate < least:
        raise UsageError(
            f"latents.mode is cache, and by the plan {100 * rate:.0f} % of the second epoch's clips would be found in "
            f"it; wanted at least {100 * least:.0f} %. Clips are drawn anew each epoch: {_drawn_anew(job)}. Use "
            "latents.mode=online, draw the same (sampling.start=first, frame.crop=center, frame.flip=0), or make the "
            "latents of all steps before (latents.mode=precomputed)"
        )


def _drawn_anew(job: TrainJob) -> str:
    """What of a recipe differs from epoch to epoch."""
    sampling, frame = job.recipe.sampling, job.recipe.frame
    found = [f"sampling.mode is {sampling.mode}, sampling.start is {sampling.start}"]
    found += [f"sampling.jitter is {sampling.jitter:g}"] if sampling.jitter else []
    found += ["frame.crop is random"] if frame.crop == "random" else []
    found += [f"frame.flip is {frame.flip:g}"] if frame.flip else []
    return ", ".join(found)


def _check_made(job: TrainJob, plan: Plan, store: LatentStore) -> None:
    """By a sample of the run's windows. As many may be missing as clips may be substituted: they cannot be decoded."""
    each, steps = plan.recipe.clips_per_visit, job.latents.made_steps(job.steps)
    windows = -(-steps // each)
    chosen = min(windows, _SAMPLED_WINDOWS)
    drawn = missing = 0
    for number in range(chosen):
        first = number * windows // chosen * each
        for window in draws_of(plan, store.key, range(first, min(steps, first + each))):
            drawn += len(window.keys)
            missing += sum(key not in store for key in window.keys)
    if missing > math.ceil(plan.recipe.max_substituted_fraction * drawn):
        raise UsageError(
            f"latents.mode is precomputed, and of {drawn:,} clips of the run's {steps:,} steps that were looked up, "
            f"{missing:,} have no latent in {store.uri}. Make them first, `cineray latents JOB`, or choose "
            "latents.mode=cache"
        )


def check_made_before(job: TrainJob) -> None:
    """The same of a definite job, and nothing is begun. It may be asked wherever one is, with or without a GPU: what
    `latents.compute=auto` will mean is not known there, and is taken as the store has it."""
    there = identity_at(job.latents.store)
    if there is None:
        raise UsageError(
            f"latents.mode is precomputed, and nothing is in {job.latents.store}. Make them first, `cineray latents "
            "JOB`, or choose latents.mode=cache or online"
        )
    config = job.latents
    compute = str(there.values.get("compute")) if config.compute == "auto" else config.compute
    identity = identity_of(load_autoencoder(job.autoencoder), config, job.recipe, compute)
    _check_made(job, training_spec(job).open().plan, LatentStore.open(config.store, identity))


class RunLatents:
    """What one process of a run does with latents."""

    def __init__(self, job: LearningJob, device: torch.device) -> None:
        self.encoder: LatentEncoder | None = None
        self._kept: KeptLatents | None = None
        self._job = job
        if not isinstance(job, TrainJob) or job.autoencoder.kind == "pixels":
            return
        self.encoder = LatentEncoder(load_autoencoder(job.autoencoder), job.latents)
        if job.latents.mode != "online":
            self._kept = KeptLatents(self.encoder, open_store(job, device), device)

    def batches(self, batches: Batches) -> Batches:
        """The same, with latents in place of pixels where the job keeps them."""
        kept = self._kept
        if kept is None:
            return batches

        def passed(steps: range) -> Iterator[Batch]:
            return kept.batches(batches(steps))

        return passed

    def told(self, rows: Sequence[Mapping[str, Any]], plan: Plan, *, world: int = 1) -> dict[str, Any]:
        """Facts for the end of the run, from its ledger's rows; nothing where it learns pixels. Seconds are one
        process's: its share of each step."""
        if self.encoder is None or not isinstance(self._job, TrainJob):
            return {}
        seen = _online(self.encoder, rows) if self._kept is None else _kept(self._kept, rows)
        if math.isnan(seen.make_s):
            cost = plan.cost()
            seen = replace(
                seen, make_s=seen.encode_s + cost.decode_cpu_seconds_per_epoch / cost.steps_per_epoch / world
            )
        counts = {} if self._kept is None else self._kept.counts()
        return {"mode": self._job.latents.mode, **counts, **asdict(seen), **_break_even(seen)}


@dataclass(frozen=True, slots=True)
class _Seen:
    """Seconds per step."""

    encode_s: float
    make_s: float
    """Of making its latents before the run: decoding and encoding; no number where nobody has noted it."""
    online_step_s: float
    cached_step_s: float
    measured: bool
    """Both kinds of step were there to measure; else one is the other with, or without, what encoding takes."""


def _online(encoder: LatentEncoder, rows: Sequence[Mapping[str, Any]]) -> _Seen:
    """All steps encode; without that, they would neither encode nor wait for pixels."""
    encode_s = _typical(encoder.step_seconds())
    online_s = _typical([float(row["step_s"]) for row in rows])
    wait_s = _typical([float(row["data_wait_s"]) for row in rows])
    return _Seen(encode_s, math.nan, online_s, online_s - encode_s - wait_s, measured=False)


def _kept(kept: KeptLatents, rows: Sequence[Mapping[str, Any]]) -> _Seen:
    """Steps of both kinds, as far as the run had them."""
    seconds = {int(row["step"]): float(row["step_s"]) for row in rows}
    encoding = [seconds[step] for step, clips in kept.encoded.items() if clips and step in seconds]
    finding = [seconds[step] for step, clips in kept.encoded.items() if not clips and step in seconds]
    encoded, steps = sum(kept.encoded.values()), max(1, len(kept.encoded))
    clips_per_step = (encoded + sum(kept.found.values())) / steps
    noted = known_cost(kept.store)
    encode_s = kept.encoder.seconds() / max(1, encoded) * clips_per_step
    if not encoded and noted.encoded:
        encode_s = noted.encode_seconds / noted.encoded * clips_per_step
    make_s = noted.seconds / noted.encoded * clips_per_step if noted.encoded else math.nan
    cached_s = _typical(finding) if finding else _typical(encoding) - encode_s
    online_s = _typical(encoding) if encoding else cached_s + encode_s
    return _Seen(encode_s, make_s, online_s, cached_s, measured=bool(encoding and finding))


def _break_even(seen: _Seen) -> dict[str, Any]:
    saved = seen.online_step_s - seen.cached_step_s
    epochs = seen.make_s / saved if saved > 0 else math.inf
    words = f"a step takes {seen.online_step_s:.3g} s with encoding and {seen.cached_step_s:.3g} s without"
    if math.isfinite(epochs):
        how = "measured" if seen.measured else "estimated"
        words += f" ({how}); latents made before cost {seen.make_s:.3g} s a step, and pay from {epochs:.1f} epochs on"
    elif not math.isnan(saved):
        words += ": keeping latents saves nothing here, something else bounds the step"
    return {"break_even_epochs": epochs if math.isfinite(epochs) else None, "sentence": words}


def _typical(seconds: Sequence[float]) -> float:
    """The median, without the first step, which warms up; no number without any."""
    kept = list(seconds[1:]) or list(seconds)
    return median(kept) if kept else math.nan
