"""Judging a diffusion model the same way each time: fixed clips, noise and noise levels go in, comparable figures out.

Clips, noise and levels follow from the definite job alone, so the figures of two checkpoints, two runs or two numbers
of processes differ by the model and nothing else. The clips take the noise levels in turn; bin 0 is nearest to noise.

    validation/headline            mean loss of the two noisiest bins: what ranks motion (the mean over all does not)
    validation/bin0 ... bin7       loss by noise level
    validation/loss                mean over the bins
    validation/wrong_over_right    headline with another class or caption over that with the right one: 1 means ignored
    validation/skill_mean, _linear headline of the mean clip, and of the best linear denoiser, that was saved: 1 - L/L0
    validation/skill_linear0 ...   the same against the linear one by noise level
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cineray.diffusion.noise import Purpose, normal
from cineray.records import Batch
from cineray.train.clip_losses import HEADLINE_BINS, ClipLosses
from cineray.train.diffusion_model import core_of
from cineray.train.inputs import Inputs, micro_batches
from cineray.train.parallel import World
from cineray.train.watchdog import alive

if TYPE_CHECKING:
    from cineray.train.diffusion_task import DiffusionTask

Batches = Callable[[int, int], Iterator[Batch]]
"""(rank, world) -> that share of the fixed batches, in order."""

Question = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""x_BCTHW, e_BCTHW, t_B, seconds_BT, and which frames are real."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Losses by noise level, summed over clips, and how many clips each level has."""

    right_K: Tensor
    wrong_K: Tensor
    count_K: Tensor
    each_2C: Tensor
    """The right and the wrong loss of each clip."""


class FlowValidation:
    """The validation of one run, in one process of it."""

    def __init__(
        self,
        batches: Batches,
        *,
        bins: int,
        world: World,
        captions: Sequence[str] = (),
        baselines: Callable[[DiffusionTask, nn.Module], Mapping[str, Sequence[float]]] | None = None,
        keep: Callable[[ClipLosses], None] | None = None,
    ) -> None:
        """`captions`: all that occur, to choose wrong ones from. `baselines`: losses by bin, for rank 0 to ask once.
        `keep`: told the losses of single clips at each judgement, on rank 0."""
        self.bins, self.world = bins, world
        self._batches, self._captions = batches, sorted(set(captions))
        self._make_baselines, self._keep = baselines, keep
        self._inputs: list[Inputs] | None = None
        self._clips = 0
        self._baselines: dict[str, Tensor] | None = None

    def measure(self, task: DiffusionTask, model: nn.Module, step: int) -> dict[str, float]:
        """All figures; every process has to call it."""
        sums = self._summed(task, model)
        if self._keep is not None and self.world.rank == 0:
            right, wrong = sums.each_2C.tolist()
            self._keep(ClipLosses(step=step, bins=self.bins, right=right, wrong=wrong * self._can_be_wrong(task)))
        count_K = sums.count_K.clamp(min=1)
        right_K, wrong_K = sums.right_K / count_K, sums.wrong_K / count_K
        told = {f"bin{number}": float(loss) for number, loss in enumerate(right_K)}
        told |= {"headline": headline(right_K), "loss": float(right_K.mean())}
        if self._can_be_wrong(task):
            told["wrong_over_right"] = headline(wrong_K) / headline(right_K)
        for name, base_K in self._known_baselines(task, model).items():
            told[f"skill_{name}"] = 1 - headline(right_K) / headline(base_K)
            if name == "linear":
                told |= {f"skill_linear{n}": float(skill) for n, skill in enumerate(1 - right_K / base_K)}
        return {f"validation/{name}": value for name, value in told.items()}

    # ---- the model's losses ------------------------------------------------------------------------------------------

    def _summed(self, task: DiffusionTask, model: nn.Module) -> Sums:
        fixed = self._fixed(task)
        sums = torch.zeros(3, self.bins, dtype=torch.float64, device=self.world.device)
        each_2C = torch.zeros(2, self._clips, dtype=torch.float64, device=self.world.device)
        for inputs in fixed:
            alive("validation")
            part = inputs.to(self.world.device)
            question = posed(task, part, self.bins)
            right_B = wrong_B = self._losses(task, model, part, question)
            if self._can_be_wrong(task):
                wrong_B = self._losses(task, model, self._wrong(task, part), question)
            weighed = torch.stack([right_B, wrong_B, torch.ones_like(right_B)]) * part.weight_B
            sums.index_add_(1, part.slots_B % self.bins, weighed.double())
            each_2C.index_add_(1, part.slots_B, weighed[:2].double())
        right_K, wrong_K, count_K = self.world.sum_(sums).cpu()
        return Sums(right_K, wrong_K, count_K, self.world.sum_(each_2C).cpu())

    def _fixed(self, task: DiffusionTask) -> list[Inputs]:
        """This process's share of the clips, decoded once and kept in main memory."""
        if self._inputs is None:
            self._inputs, first = [], 0
            for batch in self._batches(self.world.rank, self.world.size):
                alive("decoding the clips of the validation")
                inputs = numbered(task.inputs(batch), first)
                largest = self.world.largest_share(batch.global_size)
                self._inputs += micro_batches(inputs, largest_share=largest, micro_batch=task.job.micro_batch)
                first += batch.global_size
            self._clips = first
        return self._inputs

    def _losses(self, task: DiffusionTask, model: nn.Module, part: Inputs, question: Question) -> Tensor:
        x_BCTHW, e_BCTHW, t_B, seconds_BT, real_BT = question
        t_BT = t_B[:, None].expand_as(seconds_BT)
        flow = core_of(model).flow()
        cond = task.conditioning(part, seconds_BT, real_BT)
        out = model(flow.noised(x_BCTHW, e_BCTHW, t_BT), t_BT, cond, part.captions)
        return flow.losses(out, x_BCTHW, e_BCTHW, t_BT, real_BT)

    def _can_be_wrong(self, task: DiffusionTask) -> bool:
        return len(task.class_ids) > 1 or (task.job.text.kind != "none" and len(self._captions) > 1)

    def _wrong(self, task: DiffusionTask, part: Inputs) -> Inputs:
        """The same clips told to be of another class, as far away in the list as can be, and of another caption."""
        classes = len(task.class_ids)
        class_B, captions = part.class_B, part.captions
        if class_B is not None and classes > 1:
            class_B = torch.where(class_B < classes, (class_B + classes // 2) % classes, class_B)
        if captions and len(self._captions) > 1:
            half, many = len(self._captions) // 2, len(self._captions)
            place = {caption: at for at, caption in enumerate(self._captions)}
            captions = tuple(None if c is None else self._captions[(place[c] + half) % many] for c in captions)
        return replace(part, class_B=class_B, captions=captions)

    # ---- what it is compared with ------------------------------------------------------------------------------------

    def _known_baselines(self, task: DiffusionTask, model: nn.Module) -> dict[str, Tensor]:
        """Made by the first process, the first time that they are asked for; the others are told."""
        if self._baselines is None:
            names = ("mean", "linear") if self._make_baselines is not None else ()
            losses = torch.zeros(len(names), self.bins, dtype=torch.float64, device=self.world.device)
            if names and self.world.rank == 0:
                assert self._make_baselines is not None
                made = self._make_baselines(task, model)
                losses += torch.tensor([made.get(name, [0.0] * self.bins) for name in names]).to(losses)
            self.world.sum_(losses)
            self._baselines = {name: loss for name, loss in zip(names, losses.cpu(), strict=True) if bool(loss.any())}
        return self._baselines


def numbered(inputs: Inputs, first: int) -> Inputs:
    """Slots that go on from batch to batch: no two fixed clips share their noise."""
    return replace(inputs, slots_B=inputs.slots_B + first)


def posed(task: DiffusionTask, part: Inputs, bins: int) -> Question:
    """The question that is always the same, whatever class and caption go with it."""
    x_BCTHW, seconds_BT, real_BT = task.clips(part)
    e_BCTHW = normal(x_BCTHW.shape[1:], seed=0, step=0, slots_B=part.slots_B, purpose=Purpose.VALIDATION)
    t_B = (part.slots_B % bins + 0.5).float() / bins
    return x_BCTHW, e_BCTHW, t_B, seconds_BT, real_BT


def headline(losses_K: Tensor) -> float:
    """The mean of the noisiest bins."""
    return float(losses_K[:HEADLINE_BINS].mean())
