"""How an encoding is asked for and answered, between this process and its children: plain values and one `bytes`.

request   {"video": index, "encoding": config, "out_path": path} | the frame table
answer    {"video": index, "psnr_db": ..., "source_times": ...} | the new frame table; or {"reject": ...}
"""

from __future__ import annotations

from dataclasses import asdict

from cineray.curate.standardise.config import EncodingConfig
from cineray.curate.standardise.encode_one import Standardised
from cineray.curate.standardise.times import SourceTimes
from cineray.index.wire import Message, indexed_from_dict, indexed_to_dict
from cineray.records import IndexedVideo, Reject


def request_of(video: IndexedVideo, version_tag: str, encoding: EncodingConfig, out_path: str) -> Message:
    """What a child is told beside the file. `version_tag`: of the bytes at that place, empty where it is not known."""
    values = indexed_to_dict(video) | {"version_tag": version_tag}
    frames: bytes = values.pop("frames")
    return {"video": values, "encoding": encoding.model_dump(mode="json"), "out_path": out_path}, frames


def standardised_message(made: Standardised | Reject, times: SourceTimes | None) -> Message:
    """A child's answer."""
    if isinstance(made, Reject) or times is None:
        return {"reject": asdict(made)}, b""
    values = indexed_to_dict(made.video)
    frames: bytes = values.pop("frames")
    figures = {"psnr_db": made.psnr_db, "worst_psnr_db": made.worst_psnr_db, "source_times": times.to_json()}
    return {"video": values, **figures}, frames


def standardised_from(message: Message) -> tuple[Standardised, SourceTimes]:
    """The inverse."""
    told, frames = message
    video = indexed_from_dict(told["video"] | {"frames": frames})
    made = Standardised(video=video, psnr_db=told["psnr_db"], worst_psnr_db=told["worst_psnr_db"])
    return made, SourceTimes.from_json(told["source_times"])
