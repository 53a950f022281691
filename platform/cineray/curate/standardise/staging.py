"""Encoded videos on their way into shards: what each became goes in; all that is finished, by whichever run, comes out.

    staging/standardise-<settings>/<source id>-<hash>.mp4     the encoded bytes, written first
    staging/standardise-<settings>/<source id>.json           what they are: the finished mark
    staging/standardise-<settings>/<source id>.reject.json    why there are none: as well a finished mark

A killed run leaves whole pairs and at most some bytes without a mark. The folder is named by the settings alone, so the
next run with the same settings, of any engine, goes on from there, and two at once share it; what a version holds is
cleared.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass

from cineray import storage
from cineray.curate.standardise.encode_one import Standardised
from cineray.curate.standardise.wire import standardised_from
from cineray.errors import PlaceMissing
from cineray.index.wire import Message
from cineray.records import IndexedVideo, Reject

MACHINE_REASONS = frozenset({"timed_out", "out_of_memory", "decoder_crashed", "unreadable"})
"""Rejects that may be the machine's fault and not the video's: the next run tries again."""
TRIES = "tries"
"""Where Ray's tasks count how often they began."""
AT_ONCE = 32
"""Marks read together."""
_REJECT = ".reject.json"
_LIMIT_BYTES = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """What became of one source."""

    source_id: str
    made: Standardised | None = None
    source_times: str = ""
    """`SourceTimes` as JSON."""
    uri: str = ""
    """Where the encoded bytes lie."""
    reject: Reject | None = None


class Staging:
    """The finished work of all runs with the same settings."""

    def __init__(self, lake_uri: str, work_key: str) -> None:
        self.folder = storage.join_uri(lake_uri, "staging", work_key)

    def finished(self) -> set[str]:
        """Ids of the sources of which it is known what became of them."""
        return {name.removesuffix(_REJECT).removesuffix(".json") for name in self._names() if name.endswith(".json")}

    def _names(self) -> list[str]:
        return [info.uri.rsplit("/", 1)[-1] for info in storage.list_objects(self.folder)]

    def is_finished(self, source_id: str) -> bool:
        """Whether it is known what became of a source."""
        return any(storage.object_exists(self._uri(source_id, ending)) for ending in (".json", _REJECT))

    def _uri(self, source_id: str, ending: str) -> str:
        return storage.join_uri(self.folder, f"{source_id}{ending}")

    def put(self, source_id: str, message: Message, local_path: str) -> None:
        """One encoded video: its bytes, then the mark. Durable when this returns; done twice it changes nothing."""
        told, frames = message
        uri = storage.join_uri(self.folder, f"{source_id}-{told['video']['video_id']}.mp4")
        storage.upload_file(local_path, uri)
        name = uri.rsplit("/", 1)[-1]
        made = {"made": told, "frames": base64.b64encode(frames).decode(), "file": name}
        storage.put_object(self._uri(source_id, ".json"), json.dumps(made).encode())

    def put_reject(self, source_id: str, reject: Reject) -> None:
        """One video that is left out."""
        storage.put_object(self._uri(source_id, _REJECT), json.dumps({"reject": asdict(reject)}).encode())

    def take(self, source_id: str) -> Staged:
        """What became of one source that is finished."""
        try:
            told = json.loads(storage.read_object(self._uri(source_id, ".json"), limit_bytes=_LIMIT_BYTES))
        except PlaceMissing:
            told = json.loads(storage.read_object(self._uri(source_id, _REJECT), limit_bytes=_LIMIT_BYTES))
            return Staged(source_id=source_id, reject=Reject(**told["reject"]))
        made, times = standardised_from((told["made"], base64.b64decode(told["frames"])))
        bytes_uri = storage.join_uri(self.folder, told["file"])
        return Staged(source_id=source_id, made=made, source_times=times.to_json(), uri=bytes_uri)

    def take_all(self, source_ids: Sequence[str]) -> list[Staged]:
        """What became of each of them, in this order; a store answers many at once."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            return list(threads.map(self.take, source_ids))

    def videos(self, source_ids: Sequence[str]) -> dict[str, IndexedVideo]:
        """What each of these was encoded to, by the source's id."""
        return {one.source_id: one.made.video for one in self.take_all(source_ids) if one.made is not None}

    def forget_machine_rejects(self) -> None:
        """Let what a machine may have brought about be tried again."""
        for source_id in sorted(name.removesuffix(_REJECT) for name in self._names() if name.endswith(_REJECT)):
            with suppress(PlaceMissing):  # another run has just made its version, and cleared this
                reject = self.take(source_id).reject
                if reject is not None and reject.reason in MACHINE_REASONS:
                    storage.delete_object(self._uri(source_id, _REJECT))

    def drop_halves(self) -> None:
        """Let go of marks whose bytes are gone, because another run cleared between the two."""
        names = set(self._names())
        for source_id in sorted(self.finished()):
            staged = self.take(source_id)
            if staged.made is not None and staged.uri.rsplit("/", 1)[-1] not in names:
                storage.delete_object(self._uri(source_id, ".json"))

    def clear(self, keep: Set[str]) -> None:
        """Drop all work but that on the sources `keep`, which another run may be at, or come back to."""
        lies = {
            info.uri: _owner(info.uri.removeprefix(f"{self.folder}/")) for info in storage.list_objects(self.folder)
        }
        if keep.isdisjoint(lies.values()):
            storage.delete_object(self.folder, recursive=True)
            return
        for uri, owner in lies.items():
            if owner not in keep and owner != TRIES:
                storage.delete_object(uri)


def _owner(path: str) -> str:
    """The source's id of `<id>.json` and `<id>-<hash>.mp4`; `tries` of what Ray's tasks leave there."""
    return re.split("[-./]", path, maxsplit=1)[0]
