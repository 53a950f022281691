"""What a store of latents has cost: whoever fills it notes that beside it, whoever reads it can tell when that pays."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict, dataclass

from cineray.feed.latent_store import LatentStore
from cineray.storage import join_uri, list_objects, put_if_absent, read_object

_LIMIT_BYTES = 1 << 20


@dataclass(slots=True)
class Made:
    """What was done, in numbers that add up."""

    clips: int = 0
    """Looked at: encoded now, or found after all."""
    encoded: int = 0
    substituted: int = 0
    encode_seconds: float = 0.0
    seconds: float = 0.0
    """Decoding, encoding and writing, of one worker after the other."""

    def add(self, other: Made) -> None:
        """Take up what another worker did."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


def note_cost(store: LatentStore, made: Made) -> None:
    """Add it to what is noted."""
    name = f"{time.time_ns():016x}-{secrets.token_hex(4)}.json"
    put_if_absent(join_uri(store.uri, "costs", name), json.dumps(asdict(made)).encode())


def known_cost(store: LatentStore) -> Made:
    """All that was noted, added up."""
    total = Made()
    for found in list_objects(join_uri(store.uri, "costs")):
        total.add(Made(**json.loads(read_object(found.uri, limit_bytes=_LIMIT_BYTES))))
    return total
