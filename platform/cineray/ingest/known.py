"""What need not be done again: which places the lake and the journal hold already, in which state of bytes and facts.

A place has a key (where: `lake.place_id`) and a signature (which bytes, and what its surroundings said). Same key and
same signature: nothing to do. Keys and signatures are kept as two sorted arrays of fixed width, so ten million places
take 640 MB, not six GB.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from blake3 import blake3

from cineray.records import VideoFile


def signature(version_tag: str, facts: str) -> str:
    """Names the bytes at a place together with what the source said of them; empty when the bytes' tag is not known."""
    return _digest(version_tag, facts) if version_tag else ""


def facts_digest(video: VideoFile) -> str:
    """Names what the source says of a video beside its bytes: a changed caption or label changes it."""
    sidecars = [(s.kind, s.place.uri, s.place.offset, s.place.length, s.version_tag) for s in video.sidecars]
    return _digest(video.split, video.label, video.group, video.captions, sidecars, sorted(video.columns.items()))


def _digest(*parts: object) -> str:
    text = json.dumps(parts, ensure_ascii=True, default=str)
    return blake3(text.encode()).hexdigest()[:32]


class KnownPlaces:
    """Key to signature, for many keys at once."""

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        keys, signatures = [np.empty(0, "S32")], [np.empty(0, "S32")]
        for table in tables:
            keys.append(np.asarray(table["key"].to_pylist(), "S32"))
            signatures.append(np.asarray(table["signature"].to_pylist(), "S32"))
        all_keys, all_signatures = np.concatenate(keys), np.concatenate(signatures)
        order = np.argsort(all_keys, kind="stable")
        self._keys, self._signatures = all_keys[order], all_signatures[order]

    def __len__(self) -> int:
        return len(self._keys)

    def signatures(self, keys: Sequence[str]) -> list[str]:
        """For each key its latest signature, or an empty string."""
        if not len(self._keys) or not keys:
            return [""] * len(keys)
        wanted = np.asarray(keys, "S32")
        at = np.searchsorted(self._keys, wanted, side="right") - 1
        found = (at >= 0) & (self._keys[at] == wanted)
        return [self._signatures[i].decode() if hit else "" for i, hit in zip(at.tolist(), found.tolist(), strict=True)]
