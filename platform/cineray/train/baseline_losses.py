"""What denoisers that learn nothing score on the fixed clips: training and validation batches in, losses by bin out.

They are made from training clips in the units that the model learns, per shape of batch, and asked the very questions
that the model is asked. A run computes them once, on one process, and keeps them in its folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cineray.diffusion.baselines import Denoiser, LinearDenoiser, MeanDenoiser
from cineray.records import Batch
from cineray.train.diffusion_model import core_of
from cineray.train.validation import numbered, posed
from cineray.train.watchdog import alive

if TYPE_CHECKING:
    from cineray.train.diffusion_task import DiffusionTask

MOST_VALUES = 1 << 27
"""Of all clips together that a linear denoiser is made from: a gigabyte in double precision."""
FEWEST_CLIPS = 8
MOST_LOOKED_AT = 8
"""Times as many clips as are wanted of all shapes together: a rare shape may have fewer, or none. One process decodes
them, one after the other, and all others wait for it."""

Shape = tuple[int, ...]


@torch.no_grad()
def baseline_losses(
    task: DiffusionTask,
    model: nn.Module,
    training: Iterator[Batch],
    validating: Iterable[Batch],
    *,
    clips: int,
    bins: int,
) -> dict[str, list[float]]:
    """`mean` and `linear`: the loss of each bin; without one for which a shape has too few training clips."""
    flow = core_of(model).flow()
    device = flow.mean_C.device
    fixed, first = [], 0
    for batch in validating:
        fixed.append(numbered(task.inputs(batch), first).to(device))
        first += batch.global_size
    questions = [posed(task, inputs, bins) for inputs in fixed]
    found_shapes = {tuple(question[0].shape[1:]) for question in questions}
    made = _made(task, training, found_shapes, clips, device)
    everywhere = set.intersection(*(set(one) for one in made.values())) if len(made) == len(found_shapes) else set()
    sums = {name: torch.zeros(2, bins, dtype=torch.float64) for name in sorted(everywhere)}
    for inputs, (x_BCTHW, e_BCTHW, t_B, seconds_BT, real_BT) in zip(fixed, questions, strict=True):
        t_BT = t_B[:, None].expand_as(seconds_BT)
        z_BCTHW = flow.noised(x_BCTHW, e_BCTHW, t_BT)
        for name, sum_2K in sums.items():
            denoiser = made[tuple(x_BCTHW.shape[1:])][name]
            losses_B = flow.losses_of_clean(denoiser.clean(z_BCTHW, t_B), x_BCTHW, t_BT, real_BT)
            both = torch.stack([losses_B, torch.ones_like(losses_B)]).double().cpu()
            sum_2K.index_add_(1, (inputs.slots_B % bins).cpu(), both)
    return {name: (loss_K / count_K).tolist() for name, (loss_K, count_K) in sums.items() if bool((count_K > 0).all())}


def _made(
    task: DiffusionTask, training: Iterator[Batch], shapes: set[Shape], clips: int, device: torch.device
) -> dict[Shape, dict[str, Denoiser]]:
    """Denoisers per shape, of the first training clips of that shape."""
    found: dict[Shape, list[Tensor]] = {shape: [] for shape in shapes}
    wanted = {shape: min(clips, MOST_VALUES // max(1, int(torch.Size(shape).numel()))) for shape in shapes}
    looked_at = 0
    for batch in training:
        alive("making baselines")
        x_BCTHW = task.clips(task.inputs(batch).to(device))[0]
        looked_at += batch.global_size
        shape = tuple(x_BCTHW.shape[1:])
        if shape in shapes and (missing := wanted[shape] - _count(found[shape])) > 0:
            found[shape].append(x_BCTHW[:missing])
        if looked_at >= MOST_LOOKED_AT * sum(wanted.values()) or all(_count(found[s]) >= wanted[s] for s in shapes):
            break
    made: dict[Shape, dict[str, Denoiser]] = {}
    for shape, some in found.items():
        if _count(some) and wanted[shape]:
            seen_NCTHW = torch.cat(some)
            made[shape] = {"mean": MeanDenoiser(seen_NCTHW)}
            if len(seen_NCTHW) >= FEWEST_CLIPS:
                made[shape]["linear"] = LinearDenoiser(seen_NCTHW)
    return made


def _count(some: list[Tensor]) -> int:
    return sum(len(one) for one in some)
