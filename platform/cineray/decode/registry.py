"""The decoders, by name, and the rule that chooses one. A name and an index go in, a class comes out.

`auto` is `pyav` for every video: it was cheaper than torchcodec on every file that was measured, by what it does not
decode and by what it does not open (decisions/0010-decoders.md). The choice depends on nothing but name and index, so
the same batch is decoded by the same decoder everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from cineray.decode.options import DecoderName, decoder_name
from cineray.decode.seam import FrameDecoder
from cineray.decode.visit_file import VisitFile
from cineray.errors import UsageError
from cineray.records import IndexedVideo

DECODERS: dict[str, str] = {
    "pyav": "cineray.decode.pyav_decoder:PyavDecoder",
    "torchcodec": "cineray.decode.torchcodec_decoder:TorchcodecDecoder",
}
"""name -> module:class, imported when first used: torchcodec needs torch, which is slow and large."""


def decoder_for(name: DecoderName, _video: IndexedVideo | None = None) -> str:
    """The registry's name of the decoder that decodes this video."""
    chosen = decoder_name(name)
    if chosen not in DECODERS:
        raise UsageError(f"decoder is {name!r}; wanted one of auto, {', '.join(DECODERS)}")
    return chosen


def decoder_class(name: str) -> Callable[[IndexedVideo, VisitFile], FrameDecoder]:
    """The class behind a name of the registry."""
    module, _, attribute = DECODERS[name].partition(":")
    return cast("Callable[[IndexedVideo, VisitFile], FrameDecoder]", getattr(import_module(module), attribute))
