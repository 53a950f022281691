"""The shape of finished work before it is in a version: one row per place, holding all that the commit needs.

`outcome` is `ready` (indexed), `rejected` (its media row says why) or `unchanged` (looked at, nothing new). Committing
opens no video: the media row, the place row and the layer entries are already made.
"""

from __future__ import annotations

import functools
from typing import Any

import pyarrow as pa

Row = dict[str, Any]

READY, REJECTED, UNCHANGED = "ready", "rejected", "unchanged"


@functools.cache
def schema() -> pa.Schema:
    """Columns of a part of the journal."""
    from cineray.lake import LAYER, MEDIA, PLACES

    layer_entry = pa.struct([("layer", pa.string()), *LAYER])
    return pa.schema(
        [
            ("outcome", pa.string()),
            ("key", pa.string()),
            ("signature", pa.string()),
            ("checked_at", pa.float64()),
            ("name", pa.string()),
            ("given_split", pa.string()),
            ("given_group", pa.string()),
            ("bytes_read", pa.int64()),
            ("media", pa.struct(list(MEDIA))),
            ("place", pa.struct(list(PLACES))),
            ("layers", pa.list_(layer_entry)),
        ]
    )
