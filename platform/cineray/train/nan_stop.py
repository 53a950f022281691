"""A loss that is no number ends the run: a step's figures and its batch go in, the addresses that caused it come out.

The step's loss is known to all ranks, so all of them stop at the same step; each names the clips of its own share. The
weights have moved by then: the checkpoint before is what is resumed from, after the cause is found. Since a batch has
an address, `cineray batch RUN --step N` shows the very clips.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from cineray.errors import CinerayError
from cineray.records import Batch
from cineray.storage import put_object
from cineray.train.run_folder import RunFolder

if TYPE_CHECKING:
    from cineray.train.loop import StepFacts

_MOST_LISTED = 20


class LossNotFinite(CinerayError):
    """The loss or the gradient of a step is infinite or no number; the message names the clips."""

    def __init__(self, message: str, *, clips: int = 0) -> None:
        super().__init__(message)
        self.clips = clips
        """How many it names: of several ranks' errors, the one with the most tells the most."""


def check_finite(run: RunFolder, facts: StepFacts, batch: Batch, *, rank: int = 0) -> None:
    """Raise LossNotFinite where loss or gradient of a step are not finite, after writing the clips down in the run."""
    if math.isfinite(facts.loss) and math.isfinite(facts.grad_norm):
        return
    clips = suspects(facts, batch)
    place = run.folder(f"not-finite/step-{facts.step:08d}-rank-{rank}.json")
    told = {"step": facts.step, "loss": str(facts.loss), "grad_norm": str(facts.grad_norm), "clips": clips}
    put_object(place, json.dumps(told, indent=1).encode())
    raise LossNotFinite(_sentence(run, facts, clips, len(batch.specs), place), clips=len(clips))


def suspects(facts: StepFacts, batch: Batch) -> list[dict[str, Any]]:
    """This rank's clips whose own loss is not finite; all of them where each is, and only the gradient is not."""
    clips = [
        {
            "slot": batch.first_slot + number,
            "clip_id": spec.clip_id,
            "video_id": spec.video_id,
            "frames": [spec.frame_numbers[0], spec.frame_numbers[-1]],
            "loss": str(loss),
        }
        for number, (spec, loss) in enumerate(zip(batch.specs, facts.losses, strict=True))
    ]
    bad = [clip for clip, loss in zip(clips, facts.losses, strict=True) if not math.isfinite(loss)]
    return bad if bad or not math.isfinite(facts.loss) else clips


def _sentence(run: RunFolder, facts: StepFacts, clips: list[dict[str, Any]], share: int, place: str) -> str:
    what = f"the loss of step {facts.step} is {facts.loss:g}, its gradient's norm {facts.grad_norm:g}"
    if not clips:
        cause = "none of this process's clips has such a loss: another process names them"
    elif len(clips) == share:
        cause = "of every clip of this process: rather the weights or the rates than a clip. They are"
    else:
        cause = f"of {len(clips)} of this process's {share} clips"
    listed = "\n".join(
        f"  slot {clip['slot']}: clip {clip['clip_id']} of video {clip['video_id']}, frames {clip['frames'][0]} to "
        f"{clip['frames'][1]}, loss {clip['loss']}"
        for clip in clips[:_MOST_LISTED]
    )
    more = f"\n  and {len(clips) - _MOST_LISTED} more, in {place}" if len(clips) > _MOST_LISTED else ""
    return (
        f"{what}; {cause}{':' if clips else ''}\n{listed}{more}\n"
        f"To see them: cineray batch {run.uri} --step {facts.step}\n"
        "No checkpoint was made of it; look at the clips, lower optimiser.lr or optimiser.clip_norm, or leave "
        "videos out by recipe.datasets.N.filter, in a new run from the last checkpoint"
    )
