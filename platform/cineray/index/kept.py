"""Which containers decoders find frames in exactly, so that they may stay as they are. Tried against torchcodec: see
tests/unit/index/test_random_access.py, which takes every frame of every container in random order.
"""

from __future__ import annotations

KEPT = ("mp4", "mov", "matroska", "webm")
_WHY_NOT = {
    "mpegts": "seeking in MPEG transport streams gives wrong frames without an error",
    "mpeg": "seeking in MPEG program streams gives wrong frames without an error",
    "avi": "AVI has no presentation times",
    "flv": "FLV has no index of its frames",
}


def why_rewrite(container: str, times_from: str) -> str | None:
    """Why a video in this container must be rewritten before frames are taken at random; None if it may stay."""
    if container not in KEPT:
        return _WHY_NOT.get(container, f"decoders do not find frames exactly in {container}")
    if times_from != "packets":
        return f"this {container} file does not carry every frame's time"
    return None
