"""A video model that begins as an image model of ours: the image run's export goes in, all that belongs to the network
is taken over with it.

The frozen network reads clips in the units of the data that it learnt, and captions as its own encoder words them. So
mean and spread are the file's, and the caption encoder is the file's and stays as it is: only time is trained. A file
of others holds the network alone; then the job, or the first batch, says mean and spread.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cineray.config import job_from_yaml
from cineray.errors import UsageError
from cineray.models.configs import Image2VideoConfig
from cineray.models.image_weights import ImageFile, copy_weights, read_image_file
from cineray.train.config import TrainJob
from cineray.train.diffusion_model import DiffusionModel

_MUST_AGREE = ("classes", "text.kind", "diffusion.predict", "autoencoder.kind")
"""What changes what the network's numbers mean, and no shape of a weight."""
_MAY_DIFFER = {"attention", "flash"}
"""Of the network: how it is computed."""


def take_over(model: DiffusionModel, job: TrainJob) -> bool:
    """Put what lies beside the image network into the model; whether the file says the data's mean and spread."""
    assert isinstance(job.model, Image2VideoConfig)
    path = job.model.image_weights
    file = read_image_file(path)
    _check_same_meaning(file, job, path)
    if model.text is not None and model.text.trainable:
        if not file.text:
            raise UsageError(
                f"text.kind is {job.text.kind} but {path} has no caption encoder: the image model's own is needed, for "
                "it would not understand another one; give the file that `cineray export` wrote of its run"
            )
        hint = "give `text` the tokens, width, depth and heads that the image model was trained with"
        copy_weights(model.text, file.text, where=f"the caption encoder of {path} is not this job's", hint=hint)
        model.text.requires_grad_(False)
    if file.mean_C is None or file.sd_C is None:
        return False
    for name, buffer, value in (
        ("data_mean", model.data_mean_C, file.mean_C),
        ("data_sd", model.data_sd_C, file.sd_C),
    ):
        _check_units(name, getattr(job.diffusion, name), value, path)
        buffer.copy_(value)
    return True


def _check_units(name: str, told: tuple[float, ...] | None, value: Tensor, path: str) -> None:
    """A job may say them too; it must not say others."""
    # As loose as bfloat16 is: an export may be rounded to it.
    if told is not None and not torch.allclose(torch.tensor(told), value.float(), rtol=1e-2, atol=1e-2):
        raise UsageError(
            f"diffusion.{name} is {list(told)}, and the image model of {path} learnt from data with "
            f"{[round(number, 4) for number in value.tolist()]}; leave diffusion.data_mean and data_sd out"
        )


def _check_same_meaning(file: ImageFile, job: TrainJob, path: str) -> None:
    """By the job that the export carries; of a file of others nothing is known."""
    if "job" not in file.about:
        return
    from cineray.train.job_kinds import JOB_KINDS

    own = job_from_yaml(file.about["job"], JOB_KINDS, where=path)
    if not isinstance(own, TrainJob):
        raise UsageError(f"{path} is of a {type(own).__name__}; wanted the export of a TrainJob on single frames")
    assert isinstance(job.model, Image2VideoConfig)
    pairs = [(name, _value(own, name), _value(job, name)) for name in _MUST_AGREE]
    if own.model.kind != job.model.base.kind:
        pairs.append(("model.base.kind", own.model.kind, job.model.base.kind))
    else:
        given, wanted = own.model.model_dump(), job.model.base.model_dump()
        pairs += [(f"model.base.{name}", given[name], wanted[name]) for name in wanted if name not in _MAY_DIFFER]
    differ = [f"{name}: {theirs!r} -> {ours!r}" for name, theirs, ours in pairs if theirs != ours]
    if differ:
        raise UsageError(
            f"the image model of {path} was trained otherwise than this job would use it: {'; '.join(differ)}; "
            "give this job the image run's values"
        )


def _value(job: Any, name: str) -> Any:
    for part in name.split("."):
        job = getattr(job, part)
    return job
