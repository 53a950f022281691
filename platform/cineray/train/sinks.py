"""Who else is told of a run's figures, beside its ledger: rows and notes go in; nobody who is told can end the run.

    wandb        Weights & Biases, offline (files that `wandb sync` sends) or online; one id per run, over all attempts
    tensorboard  event files in the run's folder; needs the extra `tensorboard`
    prometheus   gauges through Ray (`ray_metrics.py`), where Ray runs

Each sees every row once, in the writing process's own thread. One that fails is told once as a warning and is then left
alone: a tracker that is down must not cost a day on a hundred GPUs.
"""

from __future__ import annotations

import glob
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from cineray.errors import CinerayError
from cineray.storage import is_remote, upload_file
from cineray.train.run_folder import RunFolder

_LOOKS, _QUIET_LOOKS = 100, 5
NOT_SHOWN = frozenset({"step", "attempt", "at", "bucket"})


class Sink(Protocol):
    """Somebody who is told."""

    def row(self, row: Mapping[str, Any]) -> None:
        """A step, as the ledger has it."""

    def judged(self, step: int, metrics: Mapping[str, float]) -> None:
        """A validation."""

    def close(self, summary: Mapping[str, Any]) -> None:
        """End of the attempt; `summary` has plain values (verdict, goodput)."""


class Tracking(Protocol):
    """What a job's `TrackingConfig` says."""

    @property
    def wandb(self) -> str:
        """`off`, `offline` or `online`."""

    @property
    def wandb_project(self) -> str:
        """Its project."""

    @property
    def wandb_group(self) -> str:
        """Of the runs that it shows together; empty for none."""

    @property
    def tensorboard(self) -> bool:
        """Event files."""

    @property
    def prometheus(self) -> bool:
        """Gauges through Ray."""


def open_sinks(tracking: Tracking, run: RunFolder, config: Mapping[str, Any]) -> list[Sink]:
    """Those that a job asks for. What cannot be opened is an error now, before anything is computed."""
    sinks: list[Sink] = []
    if tracking.wandb != "off":
        where = {"project": tracking.wandb_project, "group": tracking.wandb_group}
        sinks.append(WandbSink(run, config, mode=tracking.wandb, **where))
    if tracking.tensorboard:
        sinks.append(TensorboardSink(run))
    if tracking.prometheus and "ray" in sys.modules:  # who has not imported Ray is in none
        from cineray.train.ray_metrics import PrometheusSink, ray_is_there

        if ray_is_there():
            sinks.append(PrometheusSink(run))
    return sinks


class Guarded:
    """Sinks that may fail."""

    def __init__(self, sinks: list[Sink]) -> None:
        self._sinks = list(sinks)

    def row(self, row: Mapping[str, Any]) -> None:
        """Tell all."""
        for sink in list(self._sinks):
            with self._left_alone(sink):
                sink.row(row)

    def judged(self, step: int, metrics: Mapping[str, float]) -> None:
        """Tell all."""
        for sink in list(self._sinks):
            with self._left_alone(sink):
                sink.judged(step, metrics)

    def close(self, summary: Mapping[str, Any]) -> None:
        """Tell all."""
        for sink in list(self._sinks):
            with self._left_alone(sink):
                sink.close(summary)

    @contextmanager
    def _left_alone(self, sink: Sink) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._sinks.remove(sink)
            told = f"{type(sink).__name__} failed and is told no more: {type(error).__name__}: {error}"
            warnings.warn(told, stacklevel=4)


class WandbSink:
    """One W&B run per run of ours: attempts go on in it, and a step that is done again is one point more."""

    def __init__(self, run: RunFolder, config: Mapping[str, Any], *, mode: str, project: str, group: str = "") -> None:
        import wandb

        self._files = KeptFiles(run)
        settings = wandb.Settings(
            console="off",  # what is printed belongs to the terminal
            disable_git=True,  # the run's own record has the commit
            disable_code=True,
            x_disable_meta=True,  # nor the command line, which may hold secrets
            silent=True,
        )
        self._run = wandb.init(
            project=project,
            group=group or None,
            id=run.run_id,
            name=run.run_id,
            mode="offline" if mode == "offline" else "online",
            resume=None if mode == "offline" else "allow",
            dir=self._files.folder,  # W&B adds `wandb/` to it
            config={**config, "fingerprint": run.facts["fingerprint"]},
            settings=settings,
        )
        # Our own step, not W&B's: that one may only grow, and a resumed run does steps again.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def row(self, row: Mapping[str, Any]) -> None:
        """All figures under `train/`."""
        self._run.log({"step": row["step"], **{f"train/{name}": value for name, value in figures(row).items()}})

    def judged(self, step: int, metrics: Mapping[str, float]) -> None:
        """Under the names that they have."""
        self._run.log({"step": step, **metrics})

    def close(self, summary: Mapping[str, Any]) -> None:
        """Send, or leave the files."""
        self._run.summary.update(dict(summary))
        self._run.finish()
        _until_quiet(self._files.inner("wandb"))
        self._files.keep()


class TensorboardSink:
    """Event files, one per attempt; TensorBoard joins them."""

    def __init__(self, run: RunFolder) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise CinerayError(
                f"tracking.tensorboard needs tensorboardX: pip install 'cineray[tensorboard]' ({error})"
            ) from error
        self._files = KeptFiles(run)
        self._writer = SummaryWriter(logdir=self._files.inner("tensorboard"))

    def row(self, row: Mapping[str, Any]) -> None:
        """All figures under `train/`."""
        for name, value in figures(row).items():
            self._writer.add_scalar(f"train/{name}", value, global_step=row["step"], walltime=row["at"])

    def judged(self, step: int, metrics: Mapping[str, float]) -> None:
        """Under the names that they have."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, global_step=step)

    def close(self, summary: Mapping[str, Any]) -> None:
        """The verdict is a text."""
        self._writer.add_text("verdict", str(summary.get("verdict", "")))
        self._writer.close()
        self._files.keep()


class KeptFiles:
    """A local folder that stands for the run's, for libraries that can only write there; uploaded if the run is remote.

    What is put into its `wandb/` comes to lie in the run's `wandb/`.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._made = tempfile.TemporaryDirectory(prefix="cineray-run-") if is_remote(run.uri) else None
        self.folder = run.uri if self._made is None else self._made.name

    def inner(self, name: str) -> str:
        """A folder in it, which is there now."""
        path = os.path.join(self.folder, name)
        os.makedirs(path, exist_ok=True)
        return path

    def keep(self) -> None:
        """Now nothing is written any more."""
        if self._made is None:
            return
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    upload_file(path, self._run.folder(os.path.relpath(path, self.folder).replace(os.sep, "/")))
        self._made.cleanup()


def _until_quiet(folder: str) -> None:
    """W&B's own process writes its last records a moment after `finish` has returned (seen with 0.31)."""
    sizes: list[dict[str, int]] = []
    for _ in range(_LOOKS):
        found = {path: os.path.getsize(path) for path in glob.glob(f"{glob.escape(folder)}/**/*.wandb", recursive=True)}
        sizes.append(found)
        if len(sizes) > _QUIET_LOOKS and all(found == before for before in sizes[-_QUIET_LOOKS:]):
            return
        time.sleep(0.05)


def figures(row: Mapping[str, Any]) -> dict[str, float]:
    """What can be drawn: numbers that are numbers."""
    return {
        name: float(value)
        for name, value in row.items()
        if name not in NOT_SHOWN and isinstance(value, int | float) and math.isfinite(value)
    }
