"""JSON that somebody else wrote: a uri goes in, an object comes out, or a sentence that says what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

from cineray.errors import CinerayError
from cineray.storage import read_object

_LIMIT_BYTES = 64 << 20


def read_json(uri: str) -> dict[str, Any]:
    """The object in a file; anything else in it is refused."""
    try:
        told = json.loads(read_object(uri, limit_bytes=_LIMIT_BYTES))
    except (ValueError, RecursionError) as error:
        raise CinerayError(f"{uri} is no JSON: {error}; wanted the file as cineray wrote it") from None
    if not isinstance(told, dict):
        raise CinerayError(f"{uri} holds a {type(told).__name__}; wanted an object as cineray wrote it")
    return told
