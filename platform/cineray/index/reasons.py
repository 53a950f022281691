"""Why a video is left out. Every code that indexing can give, each with what it means; `Unfit` carries one inside this
folder.

`Unfit` never leaves `index_video`: there it becomes a `Reject`, so a bad video is a row with a reason and not an
accident.
"""

from __future__ import annotations

from cineray.records import Reject, VideoFile

REASONS: dict[str, str] = {
    "missing": "nothing lies at the place",
    "refused": "the access policy forbids the place",
    "changed": "the bytes changed since listing, or while they were read",
    "unreadable": "the place could not be read after several tries",
    "too_large": "a part that must be read whole is larger than any honest file's",
    "empty": "there are no bytes",
    "not_video": "the bytes are something else: text, an image, an archive, a document",
    "lfs_pointer": "this is a Git LFS pointer; the video itself was never fetched",
    "truncated": "the file ends before what its own index declares",
    "encrypted": "the frames are encrypted",
    "no_video_stream": "there is sound or data, but no moving picture",
    "no_frames": "there is a video stream without a single frame to show",
    "bad_timestamps": "the frames have no usable times",
    "corrupt": "the container contradicts itself",
    "decode_failed": "frames cannot be decoded, or are not those that the container declares",
    "decoder_crashed": "the process that looked at the file died",
    "timed_out": "looking at the file took longer than allowed",
    "out_of_memory": "looking at the file took more memory than allowed",
}


class Unfit(Exception):
    """This video cannot be used; `reason` is one of `REASONS`, `detail` a sentence that ends in the next step."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is not one of the reasons that indexing may give: {', '.join(REASONS)}")
        self.reason, self.detail = reason, detail


def reject(file: VideoFile, reason: str, detail: str) -> Reject:
    """The row that says why `file` is left out."""
    return Reject(name=file.name, stage="index", reason=reason, detail=detail)
