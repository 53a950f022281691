"""What a child is asked of a video: to measure it, or to show some of its frames. A request in, an answer out.

A video is decoded once and the stages are applied to it here, so that nothing but their columns travels. A stage that
fails on strange footage costs that video, and its name is in the reason.
"""

from __future__ import annotations

from typing import Any

from cineray.curate.footage import footage_of
from cineray.curate.stage import build_stages, columns_to_json, stage_key
from cineray.curate.stages import STAGES
from cineray.errors import CinerayError, PlaceError
from cineray.index import indexed_from_dict
from cineray.index.child import Ask
from cineray.index.footage import Squares, see
from cineray.index.reasons import Unfit
from cineray.index.wire import Message, result_message
from cineray.records import Reject, VideoFile
from cineray.storage import AccessPolicy

MEASURE, SHOW = "measure", "show"
SHOWN_SHORT_SIDE = 96


def measure(file: VideoFile, request: dict[str, Any], raw: bytes, policy: AccessPolicy) -> Message:
    """The columns of each asked stage, as text, by the stage's key, and the pictures that are asked for, as bytes one
    behind the other; or why there are none."""
    video = indexed_from_dict(request["video"] | {"frames": raw})
    squares = [Squares(**asked) for asked in request["squares"]]
    try:
        seen = see(file, video, policy=policy, sound=bool(request["stages"]), squares=squares)
    except (Unfit, PlaceError) as error:
        return result_message(_reject(file, error.reason, str(error)))
    footage = footage_of(
        video, seen, captions=tuple(request["captions"]), label=request["label"], columns=request["columns"]
    )
    found = {}
    for stage in build_stages(request["stages"], STAGES):
        try:
            found[stage_key(stage)] = columns_to_json(stage(footage))
        except (MemoryError, CinerayError):
            raise
        except Exception as error:  # whatever footage brings about in a stage costs that video, with the stage's name
            detail = f"the stage {stage.name} failed with {type(error).__name__}: {error}; leave it out of the job"
            return result_message(_reject(file, "stage_failed", detail))
    return {"columns": found}, b"".join(pictures.tobytes() for pictures in seen.squares)


def show(file: VideoFile, request: dict[str, Any], raw: bytes, policy: AccessPolicy) -> Message:
    """Some frames of a video in colour, for people; or why there are none."""
    from cineray.curate.glimpses import glimpses  # what seeks is not needed for measuring

    video = indexed_from_dict(request["video"] | {"frames": raw})
    try:
        shown = glimpses(file, video, request["numbers"], short_side=SHOWN_SHORT_SIDE, policy=policy)
    except (Unfit, PlaceError) as error:
        return result_message(_reject(file, error.reason, str(error)))
    return {"shape": shown.shape}, shown.tobytes()


def _reject(file: VideoFile, reason: str, detail: str) -> Reject:
    return Reject(name=file.name, stage="curate", reason=reason, detail=detail)


ASKS: dict[str, Ask] = {MEASURE: measure, SHOW: show}
