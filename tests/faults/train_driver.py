"""`cineray train` as a process of its own, whose workers meet troubles at steps that a test has chosen.

    RAY_ADDRESS=... python train_driver.py FOLDER [words of `cineray train`]

A file `FOLDER/<step>-<rank>.<trouble>` comes true when that rank has that step's batch in hand, and only once: it is
renamed to `.happened`. So nothing depends on how fast a machine is. What each rank holds is written to `FOLDER/seen`.
`FOLDER/claims.json` has resources that each worker takes beside its core, as `{"accelerator": 1}`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def note_what_is_held(folder: Path, batch: Any, rank: int) -> None:
    """Pixels too; a file per time that a rank had a step, put there whole."""
    from cineray.batch.digest import slot_digest

    held = {batch.first_slot + b: slot_digest(batch, b).hex() for b in range(len(batch.specs))}
    name = f"{batch.step:04d}-{rank}-{time.time_ns()}.json"
    (folder / "seen").mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(held))
    (folder / name).rename(folder / "seen" / name)


def happen(folder: Path, loop: Any, step: int) -> None:
    """The troubles that are due."""
    for path in sorted(folder.glob(f"{step}-{loop.world.rank}.*")):
        trouble = TROUBLES.get(path.suffix[1:])
        if trouble is not None:
            path.rename(path.with_name(f"{path.name}.happened"))
            trouble(loop, path)


def kill(_loop: Any, _path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hold(_loop: Any, path: Path) -> None:
    """Until told to go on, or killed."""
    while not path.with_suffix(".go").exists():
        time.sleep(0.05)


def until_two(loop: Any, path: Path) -> None:
    """One worker alone waits to be replaced by two."""
    path.with_suffix(".alone").touch()
    while loop.world.size < 2:
        time.sleep(0.05)


def until_notice(_loop: Any, _path: Path) -> None:
    from cineray.train.ray_train import _preemption_notice

    while _preemption_notice() is None:
        time.sleep(0.05)


def until_wish(loop: Any, _path: Path) -> None:
    """Until the driver's wish has come to this worker."""
    while not loop._stop.reason:
        time.sleep(0.05)


def impatient(loop: Any, path: Path) -> None:
    """As if the watchdog's limit had passed since another rank hung."""
    while not list(path.parent.glob("*.hang.happened")):
        time.sleep(0.05)
    loop._recorder._watchdog._limit = 2.0


def hang(loop: Any, path: Path) -> None:
    impatient(loop, path)
    a_collective_that_never_returns()


def a_collective_that_never_returns() -> None:
    while True:
        time.sleep(3600)


def poison(loop: Any, _path: Path) -> None:
    """This rank's weights are no numbers any more, and so are its losses."""
    next(iter(loop.learner.model.parameters())).data.fill_(float("nan"))


def full(_loop: Any, _path: Path) -> None:
    """No file of this process may grow beyond a few pages."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


TROUBLES: dict[str, Callable[[Any, Path], None]] = {
    "kill": kill,
    "hold": hold,
    "until_two": until_two,
    "until_notice": until_notice,
    "until_wish": until_wish,
    "impatient": impatient,
    "hang": hang,
    "poison": poison,
    "full": full,
}


def troubled(folder: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What workers do instead of `ray_train._work`; pickled whole, since this file is the driver's `__main__`."""

    def work(told: dict[str, Any]) -> dict[str, Any]:
        import ray

        from cineray.train import ray_train
        from cineray.train.loop import Loop

        rank = ray.train.get_context().get_world_rank()
        (folder / f"rank-{rank}").write_text(ray.get_runtime_context().get_node_id())
        real = Loop._step

        def step(self: Any, arrived: Any) -> None:
            note_what_is_held(folder, arrived.batch, self.world.rank)
            happen(folder, self, arrived.batch.step)
            real(self, arrived)

        Loop._step = step  # type: ignore[method-assign]
        return ray_train._work(told)

    return work


def claim(more: dict[str, float]) -> None:
    """Workers take this, too: an accelerator that only Ray believes in."""
    import ray.train

    real = ray.train.ScalingConfig

    def scaling(*, resources_per_worker: dict[str, float], **told: Any) -> Any:
        return real(resources_per_worker=resources_per_worker | more, **told)

    ray.train.ScalingConfig = scaling


def main() -> None:
    from cineray.cli.main import main as cineray
    from cineray.train import ray_train

    folder = Path(sys.argv[1])
    ray_train._work = troubled(folder)
    if (folder / "claims.json").exists():
        claim(json.loads((folder / "claims.json").read_text()))
    sys.argv = ["cineray", "train", *sys.argv[2:], "--json"]
    cineray()


if __name__ == "__main__":
    main()
