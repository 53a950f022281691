"""A run's latents from end to end: what is checked before it starts, where its batches pass, what is said at its end.

    job, run  ->  `feed_of`     the run's plan, with the store that the feed looks into; or why the store cannot serve
    batches   ->  `RunLatents`  the same batches, their latents complete; `online` leaves that to the task
    rows      ->  `told`        what encoding cost, and from how many epochs on it pays to do it once

It pays from encode cost / (step with encoding - step without) epochs on, each of them per step, as this run measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from cineray.errors import UsageError
from cineray.feed import FeedSpec
from cineray.feed.latent_plan import draws_of, second_epoch_hit_rate
from cineray.feed.latent_store import LatentStore
from cineray.models.autoencoder import load_autoencoder
from cineray.plan import Plan
from cineray.records import Batch
from cineray.train.config import LearningJob, TrainJob
from cineray.train.latents import KeptLatents, LatentEncoder, compute_for, identity_of
from cineray.train.latents_cost import known_cost
from cineray.train.loop import Batches
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
    each = plan.recipe.clips_per_visit
    windows = -(-job.steps // each)
    chosen = min(windows, _SAMPLED_WINDOWS)
    drawn = missing = 0
    for number in range(chosen):
        first = number * windows // chosen * each
        for window in draws_of(plan, store.key, range(first, min(job.steps, first + each))):
            drawn += len(window.keys)
            missing += sum(key not in store for key in window.keys)
    if missing > math.ceil(plan.recipe.max_substituted_fraction * drawn):
        raise UsageError(
            f"latents.mode is precomputed, and of {drawn:,} clips of the run that were looked up, {missing:,} have no "
            f"latent in {store.uri}. Make them first, `cineray latents JOB`, or choose latents.mode=cache"
        )


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

    def told(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Facts for the end of the run, from its ledger's rows; nothing where it learns pixels."""
        if self.encoder is None or not isinstance(self._job, TrainJob):
            return {}
        if self._kept is None:
            return _online(self.encoder, rows)
        return _kept(self._job.latents.mode, self._kept, rows)


def _online(encoder: LatentEncoder, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Without a step that encodes nothing, one is estimated: the same step less what encoding took."""
    encode_s = encoder.seconds() / max(1, encoder.calls)
    online_s = _typical([float(row["step_s"]) for row in rows])
    facts = {"mode": "online", "encode_s": encode_s, "online_step_s": online_s, "cached_step_s": online_s - encode_s}
    return facts | _break_even(encode_s, online_s, online_s - encode_s, "estimated")


def _kept(mode: str, kept: KeptLatents, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Steps of both kinds, as far as the run had them."""
    seconds = {int(row["step"]): float(row["step_s"]) for row in rows}
    with_encoding = [seconds[step] for step, clips in kept.encoded.items() if clips and step in seconds]
    without = [seconds[step] for step, clips in kept.encoded.items() if not clips and step in seconds]
    encoded, found = sum(kept.encoded.values()), sum(kept.found.values())
    clips_per_step = (encoded + found) / max(1, len(kept.encoded))
    before = known_cost(kept.store)
    encode_s = kept.encoder.seconds() / max(1, encoded) * clips_per_step
    if not encoded and before.encoded:
        encode_s = before.seconds / before.encoded * clips_per_step
    cached_s = _typical(without)
    # Whoever has all latents from the start has no step with encoding: it would take as much longer as that takes.
    online_s = _typical(with_encoding) if with_encoding else cached_s + encode_s
    facts = {
        "mode": mode,
        "encoded": encoded,
        "found": found,
        "hit_rate": found / max(1, encoded + found),
        "encode_s": encode_s,
        "online_step_s": online_s,
        "cached_step_s": cached_s,
    }
    return facts | _break_even(encode_s, online_s, cached_s, "measured" if with_encoding and without else "estimated")


def _break_even(encode_s: float, online_s: float, cached_s: float, how: str) -> dict[str, Any]:
    saved = online_s - cached_s
    epochs = encode_s / saved if saved > 0 else math.inf
    words = f"a step takes {online_s:.3g} s with encoding and {cached_s:.3g} s without"
    if math.isfinite(epochs):
        words += f"; making latents before costs {encode_s:.3g} s a step, and pays from {epochs:.1f} epochs on ({how})"
    elif not math.isnan(saved):
        words += ": keeping latents saves nothing here, something else bounds the step"
    return {"break_even_epochs": epochs if math.isfinite(epochs) else None, "sentence": words}


def _typical(seconds: Sequence[float]) -> float:
    """The median, without the first step, which warms up; no number without any."""
    kept = list(seconds[1:]) or list(seconds)
    return median(kept) if kept else math.nan
