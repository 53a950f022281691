"""What a run must remember to show the same batches again: clips that were replaced since a decoder did not survive.

    <journal>/verdicts/<clip>.json           it killed a decoder, or held it for ever: never try it again
    <journal>/trying/<step>-<rank>of<world>  a worker is at it; left behind, the worker died of it (local folders)

Other substitutions follow from the bytes and happen again by themselves; what cannot be read now is waited for, and
never replaced. A decoder that brought its process down may do better next time, and the batch would be another: so the
first verdict is written down, once and for good, before the batch is handed out, and whoever makes the batch again
reads it first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import blake3

from cineray.errors import CinerayError, PlaceMissing
from cineray.records import ClipSpec, Reject
from cineray.storage import is_remote, join_uri, list_objects, normalise_uri, put_if_absent, read_object

LASTING = frozenset({"truncated", "decode_failed", "corrupt", "wrong_frame", "unsupported"})
"""Reasons that follow from the indexed bytes: whoever decodes them again finds the same."""

_LIMIT_BYTES = 1 << 20


class Journal:
    """The verdicts of one run, under one folder or object-store prefix."""

    def __init__(self, uri: str) -> None:
        self.uri = normalise_uri(uri)
        self._known: dict[str, Reject] = {}
        self._pass = ""
        self._trying = None if is_remote(self.uri) else join_uri(self.uri, "trying")
        self.reload()

    def reload(self) -> None:
        """Read what others wrote."""
        for found in list_objects(join_uri(self.uri, "verdicts")) if self._exists() else ():
            name = found.uri.rsplit("/", 1)[-1].removesuffix(".json")
            if name not in self._known and found.uri.endswith(".json"):
                self._known[name] = _read(found.uri)

    def begin(self, name: str) -> None:
        """A pass over some steps begins, in whichever process: what earlier passes wrote is read, once."""
        if name != self._pass:
            self.reload()
            self._pass = name

    def verdict(self, spec: ClipSpec) -> Reject | None:
        """What was found of this very clip before."""
        return self._known.get(clip_key(spec))

    def judge(self, spec: ClipSpec, reject: Reject) -> Reject:
        """Write down why a clip is replaced, unless that is sure to be found again; returns the first verdict."""
        if reject.reason in LASTING:
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
        try:
            yield found
        except CinerayError:
            os.remove(path)  # it came to an end of its own
            raise
        # Not in a `finally`: an error that nobody has thought of leaves the marker, and the next attempt is careful.
        with suppress(FileNotFoundError):  # two that fill one store of latents at once share a journal
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
