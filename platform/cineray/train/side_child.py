"""The process that makes samples beside a training: a function's name, a run, a step and a config in; facts out.

    python -m cineray.train.side_child MODULE:FUNCTION RUN STEP CONFIG

It waits until the checkpoint is whole, has low priority, and ends when the end of its standard input says that whoever
started it has gone. Standard output gets one JSON object: the facts, or `error` with the sentence of an error that was
raised on purpose. Anything else is a defect, and leaves its traceback on standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time

from cineray.errors import CinerayError
from cineray.storage import join_uri, object_exists
from cineray.train.checkpoint_manifest import MANIFEST, step_uri, steps_in
from cineray.train.run_folder import RunFolder
from cineray.train.samples_config import SamplesConfig

_NICENESS = 10
"""A process like any other has nine times as much of a core that both want."""
_LOOK_SECONDS = 0.5


def main(arguments: list[str]) -> None:
    """Do as the arguments say."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    _end_with_parent()
    os.nice(_NICENESS)
    name, uri, step, told = arguments
    config = SamplesConfig.model_validate_json(told)
    try:
        wait_for_checkpoint(RunFolder.open(uri), int(step), seconds=config.limit_seconds)
        module, _, function = name.partition(":")
        facts = getattr(importlib.import_module(module), function)(uri, int(step), config)
    except CinerayError as error:
        facts = {"error": str(error)}
    with os.fdopen(answers, "w") as out:
        json.dump(facts, out, default=str)


def wait_for_checkpoint(run: RunFolder, step: int, *, seconds: float) -> None:
    """Until its manifest is there: a save goes on beside the training, and is told of when it begins."""
    checkpoints = run.folder("checkpoints")
    manifest = join_uri(step_uri(checkpoints, step), MANIFEST)
    deadline = time.monotonic() + seconds
    while not object_exists(manifest):
        if max(steps_in(checkpoints), default=-1) > step:
            raise CinerayError(
                f"the checkpoint of step {step} was removed before samples were made of it: they take longer than "
                "checkpoints stay; raise samples.every_steps, checkpoint.keep_last or samples.cpus"
            )
        if time.monotonic() > deadline:
            raise CinerayError(f"the checkpoint of step {step} was not whole after {seconds:g} s")
        time.sleep(_LOOK_SECONDS)


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the parent's to handle

    def watch() -> None:
        while os.read(0, 1):
            continue
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
