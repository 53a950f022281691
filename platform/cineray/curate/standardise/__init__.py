"""A version's videos encoded for training, in shards, as the next version: `standardise(config)`; `advise` says how.

    version --> each video encoded, in a disposable child --> staged, a file and its facts --> shards of even size
                same pixels as a batch would have had, every timestamp known in the source      named by content
            --> the next version: media at their place in the shards; clips, captions, masks and all layers moved over

Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cineray.curate.standardise.advisor import Advice, advise
    from cineray.curate.standardise.card import dataset_card
    from cineray.curate.standardise.config import EncodingConfig, StandardiseConfig
    from cineray.curate.standardise.run import StandardiseReport, standardise
    from cineray.curate.standardise.split_check import SplitProblem, check_splits
    from cineray.curate.standardise.times import SourceTimes

_HOME = {
    "advisor": ("Advice", "advise"),
    "card": ("dataset_card",),
    "config": ("EncodingConfig", "StandardiseConfig"),
    "run": ("StandardiseReport", "standardise"),
    "split_check": ("SplitProblem", "check_splits"),
    "times": ("SourceTimes",),
}

__all__ = [
    "Advice",
    "EncodingConfig",
    "SourceTimes",
    "SplitProblem",
    "StandardiseConfig",
    "StandardiseReport",
    "advise",
    "check_splits",
    "dataset_card",
    "standardise",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
