"""What a run must remember to show the same batches again: clips that were replaced for a reason that may pass.

    <journal>/verdicts/<clip>.json           it timed out, could not be read, killed a decoder: never try it again
    <journal>/trying/<step>-<rank>of<world>  a worker is at it; left behind, the worker died of it (local folders)

Most substitutions follow from the bytes and happen again by themselves. A network that failed, a decoder that took too
long or brought its process down may do better next time, and the batch would be another: so the first verdict is
written down, once and for good, before the batch is handed out, and whoever makes the batch again reads it first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import blake3

from cineray.errors import PlaceMissing
from cineray.records import ClipSpec, Reject
from cineray.storage import is_remote, join_uri, list_objects, normalise_uri, put_if_absent, read_object

MAY_PASS = frozenset({"timed_out", "unreadable", "missing", "refused", "changed", "decoder_crashed", "out_of_memory"})
"""Reasons that do not follow from the indexed bytes alone."""

_LIMIT_BYTES = 1 << 20


class Journal:
    """The verdicts of one run, under one folder or object-store prefix."""

    def __init__(self, uri: str) -> None:
        self.uri = normalise_uri(uri)
        self._known: dict[str, Reject] = {}
        self._trying = None if is_remote(self.uri) else join_uri(self.uri, "trying")
        self.reload()

    def reload(self) -> None:
        """Read what others wrote."""
        for found in list_objects(join_uri(self.uri, "verdicts")) if self._exists() else ():
            name = found.uri.rsplit("/", 1)[-1].removesuffix(".json")
            if name not in self._known and found.uri.endswith(".json"):
                self._known[name] = _read(found.uri)

    def verdict(self, spec: ClipSpec) -> Reject | None:
        """What was found of this very clip before."""
        return self._known.get(clip_key(spec))

    def judge(self, spec: ClipSpec, reject: Reject) -> Reject:
        """Write down why a clip is replaced, where the reason may pass; returns the first verdict, whoever wrote it."""
        if reject.reason not in MAY_PASS:
            return reject
        key = clip_key(spec)
        uri = join_uri(self.uri, "verdicts", f"{key}.json")
        told = {"clip": spec.clip_id, "video": spec.video_id, "reason": reject.reason, "detail": reject.detail}
        first = reject if put_if_absent(uri, json.dumps(told).encode()) else _read(uri)
        self._known[key] = first
        return first

    @contextmanager
    def trying(self, name: str) -> Iterator[bool]:
        """Hold a marker while inside; yields whether one lay there already: then this work has killed a worker."""
        if self._trying is None:
            yield False
            return
        path = os.path.join(self._trying, name)
        found = os.path.exists(path)
        os.makedirs(self._trying, exist_ok=True)
        with open(path, "w", encoding="utf-8") as marker:
            marker.write(str(os.getpid()))
        yield found
        # Not in a `finally`: an error that ends the run leaves the marker, and the next attempt is a careful one.
        os.remove(path)

    def _exists(self) -> bool:
        return is_remote(self.uri) or os.path.isdir(join_uri(self.uri, "verdicts"))


def clip_key(spec: ClipSpec) -> str:
    """Names one clip: the same frames of the same row, drawn at the same place of the plan."""
    told = (spec.clip_id, spec.dataset, spec.clip_number, spec.epoch, spec.draw, spec.frame_numbers)
    return blake3.blake3(repr(told).encode()).hexdigest()[:32]


def _read(uri: str) -> Reject:
    try:
        told = json.loads(read_object(uri, limit_bytes=_LIMIT_BYTES))
    except PlaceMissing:
        raise PlaceMissing(f"the verdict {uri} was removed while the run goes on; a journal is only added to") from None
    return Reject(name=told["clip"], stage="decode", reason=told["reason"], detail=told["detail"])
