"""Who moves which weight: a model goes in, torch's own optimisers over disjoint groups of its weights come out.

    muon    the blocks' hidden matrices, as the model names them (2-D only)
    adamw   all else: embeddings, tables, norms, biases, convolutions; decayed where it is a matrix or larger

Rates are set at each step from the job (`schedule.py`), never read back from a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cineray.errors import CinerayError
from cineray.train.config import OptimiserConfig


def build_optimisers(config: OptimiserConfig, model: nn.Module, hidden: Sequence[nn.Parameter]) -> list[Optimizer]:
    """`hidden`: the matrices for Muon. Weights that do not want gradients belong to nobody."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if not trained:
        raise CinerayError("the model has no weight that is trained; every one has requires_grad=False")
    muon = [weight for weight in hidden if weight.requires_grad] if config.kind == "muon+adamw" else []
    flat = [tuple(weight.shape) for weight in muon if weight.ndim != 2]
    if flat:
        raise CinerayError(f"Muon moves matrices, and the model names weights of shape {flat[0]} for it")
    by_muon = {id(weight) for weight in muon}
    rest = [weight for weight in trained if id(weight) not in by_muon]
    made: list[Optimizer] = []
    if muon:
        made.append(
            torch.optim.Muon(
                muon,
                lr=config.muon_lr,
                momentum=config.muon_momentum,
                weight_decay=config.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    if rest:
        made.append(_adamw(config, rest))
    return made


def _adamw(config: OptimiserConfig, weights: Sequence[nn.Parameter]) -> Optimizer:
    matrices = [weight for weight in weights if weight.ndim >= 2]
    others = [weight for weight in weights if weight.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps)


def set_rates(config: OptimiserConfig, optimisers: Iterable[Optimizer], share: float) -> None:
    """`share` of each optimiser's highest rate."""
    for optimiser in optimisers:
        highest = config.muon_lr if isinstance(optimiser, torch.optim.Muon) else config.lr
        for group in optimiser.param_groups:
            group["lr"] = highest * share


@torch.no_grad()
def clip_gradients(weights: Iterable[nn.Parameter], clip_norm: float | None) -> Tensor:
    """The length of all gradients together, over all processes, before they are shortened to `clip_norm`.

    Nothing is read back to the host: whether to shorten is decided on the device.
    """
    trained = [weight for weight in weights if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in trained if weight.grad is not None])
    if hasattr(norm, "full_tensor"):  # weights are shared out: each process has seen its part only
        norm = norm.full_tensor()
    if clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(trained, clip_norm, norm)
    return norm
