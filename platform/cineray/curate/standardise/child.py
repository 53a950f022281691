"""The process that encodes videos from strangers: `python -m cineray.curate.standardise.child`, watched by an
`IndexPool` as those that index are, with the same limits.

A request has a file, its index, and how it is to be encoded; the answer has the new file's index and figures, or why
not. The new file lies where the request says, on this machine.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from cineray.curate.standardise.config import EncodingConfig
from cineray.curate.standardise.encode_one import Standardised, encode_one
from cineray.curate.standardise.times import SourceTimes, times_of
from cineray.curate.standardise.wire import standardised_message
from cineray.index.child import serve
from cineray.index.wire import Message, indexed_from_dict
from cineray.records import VideoFile
from cineray.storage import AccessPolicy


def answer(file: VideoFile, request: Mapping[str, Any], raw: bytes, policy: AccessPolicy) -> Message:
    """Encode one video; see `wire.py` for what a request holds."""
    video = indexed_from_dict(request["video"] | {"frames": raw})
    config = EncodingConfig.model_validate(request["encoding"])
    times = times_of(video, config.exact_rate)
    made = encode_one(video, file.place, request["out_path"], config.encoding(), times, policy=policy)
    source_times = SourceTimes.of(video, times, config.digest())
    return standardised_message(made, source_times if isinstance(made, Standardised) else None)


if __name__ == "__main__":
    serve(asks={"standardise": answer})
    sys.exit(0)
