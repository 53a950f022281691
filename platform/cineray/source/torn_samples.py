"""Samples of a shard whose members lie apart: groups of members in, a Reject for each that lost something out.

    tar -cf clips.tar .                  1.txt 2.txt 1.mp4 2.mp4      in the folder's order: captions without a video
    tar --sort=name -cf clips.tar .      1.mp4 1.txt | 2.mp4 2.txt    two samples

A reader that streams takes neighbours only, as WebDataset does. What is left without its video is named here, the
first thousand of a shard one by one and the others by their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cineray.records import Reject
from cineray.source.base import reject
from cineray.source.naming import UniqueNames
from cineray.source.shards import Shard

MAX_NAMED = 1000
_NEXT_STEP = "Write the shard with `tar --sort=name`"


class TornSamples:
    """Remembers the keys of one shard, in some 20 bytes each."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._keys, self._keys_with_sidecars = UniqueNames(), UniqueNames()
        self._found = 0

    def group(self, key: str, videos: int, kinds: Sequence[str], *, explained: bool) -> Iterator[Reject]:
        """A Reject if the group's sidecars have no video, or if other videos of its key lie elsewhere.

        Videos of one key that are all without sidecars lose nothing. `explained`: a Reject names the group already.
        """
        alone, torn = bool(kinds) and not videos, False
        if videos:
            torn = not self._keys.add(key) and (bool(kinds) or key in self._keys_with_sidecars)
            if kinds:
                self._keys_with_sidecars.add(key)
        if explained or not (alone or torn):
            return
        self._found += 1
        if self._found <= MAX_NAMED:
            yield reject(f"{self._shard.name}::{key}", "orphan_sidecar", self._detail(key, kinds, alone=alone))

    def summary(self) -> Iterator[Reject]:
        """One Reject for all that were not named."""
        if self._found > MAX_NAMED:
            detail = (
                f"the shard {self._shard.uri}: {self._found - MAX_NAMED:,} more samples have sidecars that are not "
                f"beside their video. {_NEXT_STEP}"
            )
            yield reject(self._shard.name, "orphan_sidecar", detail)

    def _detail(self, key: str, kinds: Sequence[str], *, alone: bool) -> str:
        where = f"of the sample '{key}' in {self._shard.uri}"
        if alone:
            members = ", ".join(f".{kind}" for kind in dict.fromkeys(kinds))
            return f"{members} {where} is not beside its video in the shard and is left out. {_NEXT_STEP}"
        return f"the members {where} lie apart, and a sidecar counts for the videos next to it only. {_NEXT_STEP}"
