"""What a status code means, the same for every store that speaks HTTP. A code goes in, an exception comes out."""

from __future__ import annotations

from cineray.errors import PlaceChanged, PlaceError, PlaceMissing
from cineray.storage.retry import TransientError

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Codes of trouble that may pass."""


def failure_of(status: int, uri: str, said: str = "", *, retry_after: str | None = None) -> Exception:
    """The error for an answer that is neither content nor a redirect."""
    told = f"{status} {said}".strip()
    if status in PASSING:
        return TransientError(f"the server answered {told}", wait_seconds=_seconds(retry_after))
    if status in (404, 410):
        return PlaceMissing(f"{uri} does not exist: the server answered {told}. Look at the name, or ingest again")
    if status in (401, 403):
        return PlaceError(
            f"{uri} is not permitted to us: the server answered {told}; wanted 200 or 206. "
            "Look at the credentials in the environment, or at whether a signed address has expired"
        )
    if status in (412, 416):
        return PlaceChanged(f"{uri} was replaced while it was read: the server answered {told}. Ingest it again")
    return PlaceError(f"{uri}: the server answered {told}; wanted 200 or 206. Look at the address")


def _seconds(retry_after: str | None) -> float:
    """Retry-After in seconds; the form with a date is left to our own waits."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
