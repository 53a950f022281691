"""Which checkpoints stay: manifests and a rule go in, the steps to keep come out. Nothing is deleted here.

The newest is always kept, whatever the rule says: a run that cannot be resumed is worse than a full disk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from cineray.train.checkpoint_manifest import CheckpointInfo


class KeepRule(Protocol):
    """What a run's `CheckpointConfig` says of it."""

    @property
    def keep_last(self) -> int:
        """So many of the newest."""

    @property
    def keep_best(self) -> int:
        """So many of those with the lowest metric; those without it do not take part."""

    @property
    def keep_every(self) -> int | None:
        """Those whose step is a multiple of it, for ever; None: none for that reason."""

    @property
    def best_metric(self) -> str:
        """The metric's name."""


def kept_steps(infos: Sequence[CheckpointInfo], rule: KeepRule) -> set[int]:
    """The steps that the rule keeps."""
    steps = sorted(info.step for info in infos)
    kept = set(steps[-max(1, rule.keep_last) :])
    if rule.keep_every:
        kept |= {step for step in steps if step % rule.keep_every == 0}
    return kept | {info.step for info in best_of(infos, rule)[: rule.keep_best]}


def best_of(infos: Sequence[CheckpointInfo], rule: KeepRule) -> list[CheckpointInfo]:
    """Those that have the metric, lowest first; of equals the earlier one."""
    scored = [info for info in infos if math.isfinite(info.metrics.get(rule.best_metric, math.nan))]
    return sorted(scored, key=lambda info: (info.metrics[rule.best_metric], info.step))
