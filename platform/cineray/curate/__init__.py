"""From messy footage to clips worth training on. A lake and a job go in; a new version and reasons come out.

    Footage (one decode, in a child) -> stages -> columns and spans -> cuts, rules, duplicates -> clips of a new version

`curate(job)` does it; `explain` tells all that is known of one video and what became of it. Names are loaded when they
are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cineray.curate.config import CURATE_KINDS, CurateEngine, CurateJob, CutsConfig, DuplicatesConfig, RuleConfig
    from cineray.curate.curate_report import CurateReport
    from cineray.curate.footage import Footage
    from cineray.curate.network_config import NetworkConfig
    from cineray.curate.run import CurateProgress, check_limit, curate
    from cineray.curate.stage import Columns, Span, Stage
    from cineray.curate.stages import STAGES
    from cineray.curate.vectors import vectors_of

_HOME = {
    "config": ("CURATE_KINDS", "CurateEngine", "CurateJob", "CutsConfig", "DuplicatesConfig", "RuleConfig"),
    "curate_report": ("CurateReport",),
    "footage": ("Footage",),
    "network_config": ("NetworkConfig",),
    "run": ("CurateProgress", "check_limit", "curate"),
    "stage": ("Columns", "Span", "Stage"),
    "stages": ("STAGES",),
    "vectors": ("vectors_of",),
}

__all__ = [
    "CURATE_KINDS",
    "STAGES",
    "Columns",
    "CurateEngine",
    "CurateJob",
    "CurateProgress",
    "CurateReport",
    "CutsConfig",
    "DuplicatesConfig",
    "Footage",
    "NetworkConfig",
    "RuleConfig",
    "Span",
    "Stage",
    "check_limit",
    "curate",
    "vectors_of",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
