"""Work dealt out to Ray Data: small rows and a function for a task go in; what the tasks tell comes out, row by row.

    {"number": 0, "chunk": "..."}  ->  one task each  [->  `then`, such as a pool of actors]  ->  what they return

Rows name work and tell counts. What is made a task puts where it belongs itself, so that memory is flat however much is
dealt out; and under a name that follows from the work, because a task whose worker or node died is run again. Ray Data
does that without end: `count_try` ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cineray import storage
from cineray.errors import CinerayError

TRIES = 4
"""How often a task may begin: one that keeps killing its worker ends the run."""

Rows = Mapping[str, Any]
"""A batch as Ray Data gives it: a column by its name."""


def worked_off(
    rows: Sequence[dict[str, Any]],
    task: Callable[..., Mapping[str, list[Any]]],
    *,
    told: Mapping[str, Any],
    workers: int,
    what: str,
    gpus_per_task: float = 0.0,
    then: Callable[[Any], Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Give each row to `task` with `told` beside it, `workers` at once or as many as there is room for.

    Ray is there already (`connected`). `what` is said of a task that failed; `then` adds to the dataset of what the
    tasks return.
    """
    import ray
    import ray.data

    if not rows:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.verbose_progress = False
    # A video may take its whole time-out; a watchdog on Ray's side would end a healthy run.
    context.execution_no_progress_timeout_s = -1
    dataset = ray.data.from_items(list(rows), override_num_blocks=len(rows)).map_batches(
        task,
        fn_kwargs=dict(told),
        batch_size=None,
        num_cpus=1,
        num_gpus=gpus_per_task or None,
        compute=ray.data.TaskPoolStrategy(size=min(workers, len(rows)) or None),
    )
    try:
        yield from (then(dataset) if then else dataset).iter_rows()
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise CinerayError(
            f"a Ray task of {what} failed: {cause}; what was finished is kept, run the same command to go on"
        ) from error


def count_try(chunk_uri: str) -> None:
    """Note beside a chunk that a task begins it; raises when it did so too often. Works on any store, for any Ray."""
    if not any(storage.put_if_absent(f"{chunk_uri}.try-{number}", b"") for number in range(TRIES)):
        raise died_too_often(chunk_uri)


def died_too_often(work: str) -> CinerayError:
    """What to raise for work of which each worker died."""
    return CinerayError(
        f"the worker of {work} died {TRIES} times, most likely for want of memory; give workers more memory, or run "
        "with fewer at once: --workers"
    )
