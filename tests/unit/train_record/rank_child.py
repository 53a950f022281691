"""One rank of a group: `python rank_child.py RANK WORLD MEET RUN TASK`. What it prints is JSON.

save    two steps of training under fully_shard, a checkpoint beside training, two steps more
load    from the newest checkpoint: the whole state as it was loaded, then the two steps more
full    a save whose second rank meets a file size limit
hang    a collective that the second rank never joins, watched
"""

from __future__ import annotations

import json
import resource
import sys
import threading
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import fully_shard

from cineray.errors import CinerayError
from cineray.train.checkpoint import Checkpoints
from cineray.train.run_folder import RunFolder
from cineray.train.watchdog import Watchdog


class Rule:
    keep_last, keep_best, keep_every, best_metric = 3, 0, None, "loss"


def made(world: int) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 30), nn.Linear(30, 8))
    if world > 1:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (world,))
        for layer in model:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    first, rest = list(model[0].parameters()), list(model[1].parameters())
    return model, [torch.optim.AdamW(first, lr=0.01), torch.optim.SGD(rest, lr=0.01, momentum=0.9)]


def trained(model: nn.Module, optimisers: list[torch.optim.Optimizer], steps: range) -> None:
    for step in steps:
        x_BC = torch.randn(12, 8, generator=torch.Generator().manual_seed(step))
        model(x_BC).square().mean().backward()  # every rank sees the whole batch: the average is that of one rank
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()


def state_of(model: nn.Module, optimisers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    weights, optimiser_state = get_state_dict(model, optimisers)
    return {"model": weights, "optimisers": optimiser_state}


def whole(model: nn.Module) -> dict[str, Any]:
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    return {name: weight.tolist() for name, weight in weights.items()}


def main() -> None:
    rank, world, meet, uri, task = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:6]
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{meet}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
        )
    told: dict[str, Any] = {}
    checkpoints = Checkpoints(RunFolder.open(uri), Rule())
    model, optimisers = made(world)
    if task == "save":
        trained(model, optimisers, range(2))
        told["saved"] = whole(model)
        checkpoints.save(state_of(model, optimisers), 2)
        trained(model, optimisers, range(2, 4))
        checkpoints.close()
    elif task == "load":
        info = checkpoints.latest()
        assert info is not None
        state = state_of(model, optimisers)
        checkpoints.load(state, info)
        set_state_dict(model, optimisers, model_state_dict=state["model"], optim_state_dict=state["optimisers"])
        told |= {"step": info.step, "loaded": whole(model), "written_by": info.facts["world_size"]}
        trained(model, optimisers, range(2, 4))
    elif task == "full":
        if rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            checkpoints.save(state_of(model, optimisers), 9)
            checkpoints.wait()
        except CinerayError as error:
            told["error"] = str(error)
    elif task == "hang":
        Watchdog(1.5, f"{uri}/stacks/rank-{rank}.txt", who=f" on rank {rank} of {world}").start()
        if rank == 0:
            dist.all_reduce(torch.ones(3))
        threading.Event().wait()
    told["after"] = whole(model)
    print(json.dumps(told), flush=True)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
