"""What is inside a video: a `VideoFile` in; every frame's exact time, place and size out, or the reason why not.

`index_video` looks at one file in this process. `IndexPool` does the same in child processes with limits, for files
from strangers. `needs_remux` says whether decoders are known to go wrong on a container, and `remux` rewrites it
without touching a picture. FFmpeg is touched here through PyAV; torch is not imported. The names below are loaded when
they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cineray.index.pool import IndexPool
    from cineray.index.reasons import REASONS
    from cineray.index.rewrite import needs_remux, remux
    from cineray.index.video import HashMode, Level, index_video
    from cineray.index.wire import indexed_from_dict, indexed_to_dict
    from cineray.index.worker import Limits

__all__ = [
    "REASONS",
    "HashMode",
    "IndexPool",
    "Level",
    "Limits",
    "index_video",
    "indexed_from_dict",
    "indexed_to_dict",
    "needs_remux",
    "remux",
]

_HOMES = {
    "REASONS": "reasons",
    "HashMode": "video",
    "IndexPool": "pool",
    "Level": "video",
    "Limits": "worker",
    "index_video": "video",
    "indexed_from_dict": "wire",
    "indexed_to_dict": "wire",
    "needs_remux": "rewrite",
    "remux": "rewrite",
}


def __getattr__(name: str) -> Any:
    """Load a name from its module; importing the package alone loads neither PyAV nor NumPy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
