"""A loss that is no number ends the run with the addresses of the clips that caused it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from cineray.errors import CinerayError
from cineray.feed import FeedSpec, local_batch
from cineray.records import Batch
from cineray.train.loop import StepFacts
from cineray.train.nan_stop import LossNotFinite, check_finite
from cineray.train.run_folder import RunFolder


@pytest.fixture(scope="module")
def batch(spec: FeedSpec) -> Batch:
    """The second rank's share of step 3: slots 2 and 3 of 4."""
    return local_batch(spec, 3, rank=1, world=2)


def facts(losses: tuple[float, ...], *, loss: float = math.nan, grad_norm: float = 1.0) -> StepFacts:
    told: dict[str, Any] = dict.fromkeys(
        ("epoch", "clips", "frames", "tokens", "forward_flops", "substituted", "frames_decoded"), 0
    )
    return StepFacts(step=3, loss=loss, grad_norm=grad_norm, lr=0.1, padding_fraction=0.0, losses=losses, **told)


def test_a_finite_step_goes_on(run: RunFolder, batch: Batch) -> None:
    check_finite(run, facts((0.5, 0.25), loss=0.4), batch)


def test_the_clip_that_caused_it_is_named_and_can_be_shown(run: RunFolder, batch: Batch) -> None:
    with pytest.raises(LossNotFinite) as stopped:
        check_finite(run, facts((0.5, math.inf)), batch, rank=1)

    guilty = batch.specs[1]
    said = str(stopped.value)
    assert "the loss of step 3 is nan" in said
    assert "of 1 of this process's 2 clips" in said
    assert f"slot 3: clip {guilty.clip_id} of video {guilty.video_id}, frames" in said
    assert f"cineray batch {run.uri} --step 3" in said
    told = json.loads((Path(run.uri) / "not-finite" / "step-00000003-rank-1.json").read_text())
    assert [(one["slot"], one["video_id"], one["loss"]) for one in told["clips"]] == [(3, guilty.video_id, "inf")]
    assert isinstance(stopped.value, CinerayError)


def test_when_every_clip_has_it_the_weights_are_suspected(run: RunFolder, batch: Batch) -> None:
    with pytest.raises(LossNotFinite, match="rather the weights or the rates than a clip"):
        check_finite(run, facts((math.nan, math.nan)), batch)


def test_when_another_process_has_the_clip_this_one_says_so(run: RunFolder, batch: Batch) -> None:
    with pytest.raises(LossNotFinite, match="another process names them"):
        check_finite(run, facts((0.5, 0.25)), batch)


def test_a_gradient_that_is_no_number_stops_before_the_next_batch_is_blamed(run: RunFolder, batch: Batch) -> None:
    with pytest.raises(LossNotFinite, match=r"its gradient's norm inf.*\n.*slot 2"):
        check_finite(run, facts((0.5, 0.25), loss=0.4, grad_norm=math.inf), batch)
