"""What planning costs: `python jobs/benchmarks/plan_order.py [--json] [--quick]`.

Measures `Plan.batch(step)` at random steps of a billion made clips (no list of them exists anywhere), its memory above
that of the imports, one rank's share, one scalar permutation, and the making of the plan itself. Each figure is over
single calls: CPU time, which other work on the machine hardly changes, and wall time. The table goes to
results/plan_order.md, but for `--json` and `--quick`.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from measure import table, write_page

from cineray.plan import DatasetSpec, FrameSpec, Permutation, Plan, Recipe, SamplingSpec, SyntheticCatalog, key_bytes

CLIPS = 1_000_000_000
MODES: dict[str, SamplingSpec] = {
    "random, stride 2": SamplingSpec(mode="random", stride=2, frames=16),
    "fps 8": SamplingSpec(mode="fps", fps="8", frames=16),
    "uniform": SamplingSpec(mode="uniform", frames=16),
    "keyframes": SamplingSpec(mode="keyframes", frames=16),
}

MADE = "Clips are made of their numbers, so this is the order alone; a lake's catalog keeps its columns beside it."
MOST_MS = 5
SHOWN = ("cpu_ms", "wall_ms", "p99_ms")


def recipe_of(sampling: SamplingSpec, batch_size: int, datasets: int = 1) -> Recipe:
    """A recipe as training has it: random crop, flip, four clips a visit."""
    specs = tuple(DatasetSpec(weight=number + 1.0 if datasets > 1 else None) for number in range(datasets))
    frame = FrameSpec(height=128, width=128, crop="random", flip=0.5)
    return Recipe(datasets=specs, sampling=sampling, frame=frame, batch_size=batch_size, clips_per_visit=4)


def milliseconds(call: Callable[[], object], repeats: int) -> dict[str, float]:
    """Of single calls: the middle of their CPU time, and the middle and the 99th percentile of their wall time."""
    call()
    cpu, wall = [], []
    for _ in range(repeats):
        begin, began = time.perf_counter(), time.process_time()
        call()
        cpu.append((time.process_time() - began) * 1e3)
        wall.append((time.perf_counter() - begin) * 1e3)
    wall.sort()
    return {
        "cpu_ms": statistics.median(cpu),
        "wall_ms": statistics.median(wall),
        "p99_ms": wall[int(0.99 * (repeats - 1))],
    }


def memory_bytes() -> int:
    """The most that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(repeats: int) -> dict[str, Any]:
    """All figures."""
    steps = random.Random(7)  # which steps are measured, nothing else
    before = memory_bytes()
    rows = []
    for name, sampling in MODES.items():
        for batch_size, datasets in ((64, 1), (256, 1), (64, 3)):
            plan = Plan([SyntheticCatalog(CLIPS)] * datasets, recipe_of(sampling, batch_size, datasets), 7)
            at = lambda plan=plan: plan.batch(steps.randrange(10 * plan.steps_per_epoch))  # noqa: E731
            rows.append(
                {
                    "what": f"batch of {batch_size}, {name}, {datasets} dataset{'s' * (datasets > 1)}",
                    **milliseconds(at, repeats),
                }
            )
    plan = Plan([SyntheticCatalog(CLIPS)], recipe_of(MODES["fps 8"], 256), 7)
    rows.append(
        {
            "what": "share of rank 3 of 8, batch of 256",
            **milliseconds(lambda: plan.share(steps.randrange(10**9), 3, 8), repeats),
        }
    )
    order = Permutation(CLIPS, key_bytes("benchmark"))
    rows.append(
        {"what": "one number of a permutation", **milliseconds(lambda: order[steps.randrange(CLIPS)], 10 * repeats)}
    )
    make = lambda: Plan([SyntheticCatalog(CLIPS)], recipe_of(MODES["fps 8"], 256), 7)  # noqa: E731
    rows.append({"what": "making the plan", **milliseconds(make, max(3, repeats // 20))})
    return {"clips": CLIPS, "memory_above_imports_bytes": memory_bytes() - before, "figures": rows}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="a tenth of the repeats")
    told = parser.parse_args()
    found = measure(30 if told.quick else 300)
    if told.json:
        print(json.dumps(found))
        return
    rows = [
        [row["what"], *(f"{row[name]:.3g}" for name in SHOWN), "missed" if row["cpu_ms"] > MOST_MS else ""]
        for row in found["figures"]
    ]
    text = f"{found['clips']:,} clips; {found['memory_above_imports_bytes'] / 1e6:.1f} MB above the imports. {MADE}\n\n"
    text += f"Wanted: at most {MOST_MS} ms of CPU time; wall time tells of the machine's other work too.\n\n"
    text += table(["", "CPU ms", "wall ms", "p99 ms", ""], rows)
    if told.quick:
        print(text)
        return
    title = "Planning: one call of `Plan.batch(step)`, and what it is made of"
    write_page("plan_order", title, "python jobs/benchmarks/plan_order.py", text)


if __name__ == "__main__":
    main()
