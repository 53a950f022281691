"""Latents of a run's clips: encoded here and now, or taken from a store. Batches go in, rounded latents come out.

Every clip is encoded the same way wherever that happens: in groups of one size, in one precision, with the same
kernels, then rounded to the job's `dtype`. So a latent from the store has the bits that it would be given here, and
`online`, `cache` and `precomputed` are one run at three speeds.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

from cineray.decode import DecodeOptions
from cineray.decode.registry import decoder_for
from cineray.feed.latent_store import LatentStore, LatentWriter, StoreIdentity
from cineray.models.autoencoder import Autoencoder
from cineray.plan import Recipe
from cineray.records import Batch, StoredLatents
from cineray.train.latents_config import LatentsConfig

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_MOST_EVENTS, _MOST_STEPS = 64, 4096


def compute_for(config: LatentsConfig, device: torch.device) -> str:
    """What `compute: auto` means on this device."""
    return config.compute if config.compute != "auto" else "bf16" if device.type == "cuda" else "fp32"


def identity_of(autoencoder: Autoencoder, config: LatentsConfig, recipe: Recipe, compute: str) -> StoreIdentity:
    """All that the latents of a run have in common: a store of anything else is refused."""
    return StoreIdentity(
        {
            "autoencoder": {
                "name": autoencoder.name,
                "hash": autoencoder.content_hash,
                "channels": autoencoder.channels,
                "compression": list(autoencoder.compression),
            },
            "dtype": config.dtype,
            "compute": compute,
            "decoder": decoder_for(DecodeOptions().decoder),
            "sampling": recipe.sampling.model_dump(mode="json"),
            "frame": recipe.frame.model_dump(mode="json"),
            "shapes": [list(bucket.shape) for bucket in recipe.shapes],
        }
    )


class LatentEncoder:
    """Frames to latents. Moves the autoencoder to where the frames are."""

    def __init__(self, autoencoder: Autoencoder, config: LatentsConfig) -> None:
        self.autoencoder, self.config = autoencoder, config
        self.dtype = DTYPES[config.dtype]
        self._by_step: dict[int, float] = {}
        self._total = 0.0
        self._device = torch.device("cpu")
        self._events: list[tuple[int, Any, Any]] = []

    @torch.no_grad()
    def encode(self, frames_BTHWC: Tensor, *, step: int | None = None) -> Tensor:
        """uint8 frames of whole clips to latents BCTHW of the job's dtype, on the frames' device. `step`: of training,
        whose seconds are counted; None: for anything else (validation, baselines)."""
        if frames_BTHWC.device != self._device:
            self.autoencoder.to(frames_BTHWC.device)
            self._device = frames_BTHWC.device
        # Its own precision, whatever the training around it computes in.
        autocast = torch.autocast(
            self._device.type, torch.bfloat16, enabled=compute_for(self.config, self._device) == "bf16"
        )
        with self._timed(step), autocast:
            groups = torch.split(frames_BTHWC, self.config.clips_at_once)
            return torch.cat([self._group(group) for group in groups])

    def _group(self, frames_BTHWC: Tensor) -> Tensor:
        """One group, filled up with its last clip: kernels are chosen by shape, and round in their own ways."""
        clips = len(frames_BTHWC)
        missing = self.config.clips_at_once - clips
        if missing:
            frames_BTHWC = torch.cat([frames_BTHWC, frames_BTHWC[-1:].expand(missing, -1, -1, -1, -1)])
        x_BCTHW = rearrange(frames_BTHWC, "b t h w c -> b c t h w").float() / 127.5 - 1
        return self.autoencoder.encode(x_BCTHW)[:clips].to(self.dtype)

    @contextmanager
    def _timed(self, step: int | None) -> Iterator[None]:
        """By events on a GPU: nobody waits for it."""
        if step is None:
            yield
        elif self._device.type != "cuda":
            began = time.perf_counter()
            yield
            self._add(step, time.perf_counter() - began)
        else:
            make: Any = torch.cuda.Event
            begun, done = make(enable_timing=True), make(enable_timing=True)
            begun.record()
            yield
            done.record()
            self._events.append((step, begun, done))
            while len(self._events) > _MOST_EVENTS and self._events[0][2].query():
                self._take_time()

    def _add(self, step: int, seconds: float) -> None:
        self._total += seconds
        self._by_step[step] = self._by_step.get(step, 0.0) + seconds
        if len(self._by_step) > _MOST_STEPS:
            del self._by_step[next(iter(self._by_step))]

    def _take_time(self) -> None:
        step, begun, done = self._events.pop(0)
        done.synchronize()
        self._add(step, begun.elapsed_time(done) / 1000)

    def seconds(self) -> float:
        """What encoding for training steps took so far, on its device."""
        while self._events:
            self._take_time()
        return self._total

    def step_seconds(self) -> list[float]:
        """The same of each of the last steps: all their micro-batches together."""
        self.seconds()
        return list(self._by_step.values())


class KeptLatents:
    """The latents of batches, from the store where it has them; what it has not is encoded and added."""

    def __init__(self, encoder: LatentEncoder, store: LatentStore, device: torch.device) -> None:
        self.encoder, self.store, self.device = encoder, store, device
        config = encoder.config
        self.writer = LatentWriter(store, shard_bytes=config.shard_bytes, flush_seconds=config.flush_seconds)
        self.encoded: dict[int, int] = {}
        self.found: dict[int, int] = {}
        """Step -> clips."""

    def counts(self) -> dict[str, float]:
        """Clips encoded and found so far."""
        encoded, found = sum(self.encoded.values()), sum(self.found.values())
        return {"encoded": encoded, "found": found, "hit_rate": found / max(1, encoded + found)}

    def batches(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches, their latents complete and without pixels. What is not written yet is at the end."""
        try:
            for batch in batches:
                yield self.complete(batch)
        finally:
            self.writer.flush()

    def complete(self, batch: Batch) -> Batch:
        """The batch with the latents of all its clips."""
        stored = batch.latents
        here_B = stored.is_here_B if stored is not None else np.zeros(len(batch.specs), np.bool_)
        self.encoded[batch.step] = int((~here_B).sum())
        self.found[batch.step] = int(here_B.sum())
        if stored is None or not here_B.all():
            rows = self._encoded(batch)
            values = np.empty((len(batch.specs), *rows.shape[1:]), rows.dtype)
            values[~here_B] = rows
            if stored is not None:
                values[here_B] = stored.values_BCTHW[here_B]
            for number in np.flatnonzero(~here_B).tolist():
                self.writer.add(self.store.key(batch.specs[number]), values[number])
            stored = StoredLatents(values_BCTHW=values, is_here_B=np.ones(len(values), np.bool_))
        self.writer.flush_if_due()
        return replace(batch, latents=stored, frames_BTHWC=batch.frames_BTHWC[:0])

    def _encoded(self, batch: Batch) -> npt.NDArray[Any]:
        frames = np.ascontiguousarray(batch.frames_BTHWC)
        with warnings.catch_warnings():
            # Ray's shared memory is read-only; nothing here writes to it.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            frames_BTHWC = torch.from_numpy(frames).to(self.device)
        return from_tensor(self.encoder.encode(frames_BTHWC, step=batch.step).cpu())


def to_tensor(values: npt.NDArray[Any]) -> Tensor:
    """What numpy holds of a store's rows, as torch has it; the memory is shared."""
    tensor = torch.from_numpy(np.require(values, requirements=["W", "A", "C"]))
    return tensor.view(torch.bfloat16) if values.dtype == np.uint16 else tensor


def from_tensor(latents: Tensor) -> npt.NDArray[Any]:
    """The inverse."""
    plain = latents.contiguous()
    bits: npt.NDArray[Any] = (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()
    return bits
