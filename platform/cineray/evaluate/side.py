"""Samples beside a training: what `cineray train` hands to the trainer, which knows nothing of sampling.

It is called by its name, in a process of its own (`cineray.train.side_child`), with a run, a checkpoint's step and what
the job says of samples; the samples come to lie where `cineray sample` would put them.
"""

from __future__ import annotations

from typing import Any

from cineray.evaluate.sample_config import SampleConfig
from cineray.train.run_folder import RunFolder
from cineray.train.samples_config import SamplesConfig


def make_samples(uri: str, step: int, config: SamplesConfig) -> dict[str, Any]:
    """Make the samples of a checkpoint and write them; the facts of `cineray sample`."""
    import torch

    from cineray.evaluate.sample_files import sample_run

    device = torch.device("cuda" if config.gpus and torch.cuda.is_available() else "cpu")
    return sample_run(RunFolder.open(uri), sample_config(config), step=step, device=device)


def sample_config(config: SamplesConfig) -> SampleConfig:
    """The same as `cineray sample` takes it."""
    shared = SamplesConfig.model_fields.keys() & SampleConfig.model_fields.keys()
    return SampleConfig(**{name: getattr(config, name) for name in shared})
