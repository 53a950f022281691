"""What tests and demos are made of: made videos whose every pixel and timestamp is known, broken files, contract tests.

Nothing here needs a download. `make_shapes` gives real MP4 files with captions, `stamp_video` a file whose frames carry
their numbers, `broken_videos` one file of each kind that is no video. The contract tests that a new source inherits are
modules of their own (`testing/source_contract.py`), because they need pytest and the rest does not.
"""

from cineray.testing.broken import broken_videos
from cineray.testing.shapes import MadeVideo, make_shapes, write_splits, write_truth
from cineray.testing.stamped import read_stamp, stamp_video

__all__ = [
    "MadeVideo",
    "broken_videos",
    "make_shapes",
    "read_stamp",
    "stamp_video",
    "write_splits",
    "write_truth",
]
