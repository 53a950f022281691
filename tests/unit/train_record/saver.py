"""Saves checkpoints and is killed while it does: `python saver.py RUN ROUNDS`. Prints what is found after each kill.

One process is started and forks for each round, since torch takes seconds to import.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import warnings
from typing import Any

import torch

from cineray.train.checkpoint import Checkpoints
from cineray.train.ranks import Ranks
from cineray.train.run_folder import RunFolder


class Rule:
    keep_last, keep_best, keep_every, best_metric = 2, 1, 5, "loss"


def state_of(step: int) -> dict[str, Any]:
    return {"model": {"w": torch.full((300_000,), float(step))}, "optimisers": {"step": torch.tensor(float(step))}}


def opened(uri: str) -> Checkpoints:
    return Checkpoints(RunFolder.open(uri), Rule(), ranks=Ranks())


def resumed(checkpoints: Checkpoints) -> tuple[int, float]:
    """The step of the newest whole checkpoint, and what its state says."""
    info = checkpoints.latest()
    if info is None:
        return 0, 0.0
    state = state_of(0)
    checkpoints.load(state, info)
    values = [*state["model"]["w"].unique().tolist(), float(state["optimisers"]["step"])]
    assert len(set(values)) == 1, f"a mixture of states: {values}"
    return info.step, values[0]


def save_on(uri: str, said: int) -> None:
    """From the newest on; says a step once its checkpoint is there."""
    checkpoints = opened(uri)
    step, _ = resumed(checkpoints)
    while True:
        step += 1
        checkpoints.save(state_of(step), step, {"loss": 1 / step})
        checkpoints.wait()
        os.write(said, step.to_bytes(4, "little"))


def main() -> None:
    uri, rounds = sys.argv[1], int(sys.argv[2])
    warnings.simplefilter("ignore")
    draw = random.Random(5)
    torch.set_num_threads(1)
    for _ in range(rounds):
        end, said = os.pipe()
        saver = os.fork()
        if saver == 0:
            save_on(uri, said)
        os.close(said)
        os.read(end, 4)  # it is under way
        time.sleep(draw.uniform(0, 0.04))
        os.kill(saver, signal.SIGKILL)
        os.waitpid(saver, 0)
        steps = os.read(end, 1 << 20)
        last = int.from_bytes(steps[-4:], "little") if steps else 0
        looker = os.fork()
        if looker == 0:
            step, value = resumed(opened(uri))
            print(json.dumps({"said": last, "step": step, "value": value}), flush=True)
            os._exit(0)
        os.waitpid(looker, 0)


if __name__ == "__main__":
    main()
