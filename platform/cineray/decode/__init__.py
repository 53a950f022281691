"""Pixels. The clips of one video go in as `ClipSpec`s; a `Clip` comes out for each, or a `Reject` with a reason.

`decode_visit` opens the video once and goes forward once over the frames that any of its clips wants: it starts at key
frames, skips what nobody needs, and writes cut, resized and turned pictures straight into the arrays that it was given.
`ranges_for` says which bytes that takes. `reencode` writes a video anew for training, and `write_mp4` is the way back,
for people who want to look. FFmpeg is touched here; names are loaded when they are first used, and torch only by the
decoder that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cineray.decode.mp4_file import write_mp4
    from cineray.decode.opened import close_all
    from cineray.decode.options import DecodeOptions
    from cineray.decode.ranges import ranges_for
    from cineray.decode.reasons import PASSING, REASONS
    from cineray.decode.registry import DECODERS, decoder_for
    from cineray.decode.runs import Run, runs_for
    from cineray.decode.visit import decode_visit

__all__ = [
    "DECODERS",
    "PASSING",
    "REASONS",
    "DecodeOptions",
    "Run",
    "close_all",
    "decode_visit",
    "decoder_for",
    "ranges_for",
    "runs_for",
    "write_mp4",
]

_HOMES = {
    "DECODERS": "registry",
    "REASONS": "reasons",
    "DecodeOptions": "options",
    "PASSING": "reasons",
    "Run": "runs",
    "close_all": "opened",
    "decode_visit": "visit",
    "decoder_for": "registry",
    "ranges_for": "ranges",
    "runs_for": "runs",
    "write_mp4": "mp4_file",
}


def __getattr__(name: str) -> Any:
    """Load a name from its module; importing the package alone loads neither PyAV nor torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
