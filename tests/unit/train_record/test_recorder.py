"""What a process of a run writes down: only the first writes, all of them stop for a loss that is no number."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cineray.errors import CinerayError, Interrupted
from cineray.feed import FeedSpec, local_batch
from cineray.records import Batch
from cineray.train import ledger
from cineray.train.ledger import read_all_rows
from cineray.train.loop import StepFacts
from cineray.train.nan_stop import LossNotFinite
from cineray.train.recorder import RunRecorder, closed_after
from cineray.train.run_folder import RunFolder


class Limits:
    no_step_seconds, stop_on_nan = 600.0, True


class Told:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.judgements: list[Any] = []
        self.summary: Any = None

    def row(self, row: Any) -> None:
        self.rows.append(row)

    def judged(self, step: int, metrics: Any) -> None:
        self.judgements.append((step, metrics))

    def close(self, summary: Any) -> None:
        self.summary = summary


@pytest.fixture(scope="module")
def batch(spec: FeedSpec) -> Batch:
    return local_batch(spec, 0)


def step(recorder: RunRecorder, batch: Batch, number: int, loss: float = 0.5) -> None:
    with recorder.phase("data_wait"):
        pass
    recorder.add("host_to_device", 0.25)
    with recorder.phase("compute"):
        pass
    told: dict[str, Any] = dict.fromkeys(("epoch", "tokens", "forward_flops", "substituted", "frames_decoded"), 0)
    facts = StepFacts(
        step=number,
        loss=loss,
        grad_norm=1.0,
        lr=0.1,
        clips=4,
        frames=16,
        padding_fraction=0.0,
        losses=(loss,) * 4,
        **told,
    )
    recorder.stepped(facts, batch)


def recorder_of(run: RunFolder, *, first: bool = True, sinks: Any = ()) -> RunRecorder:
    attempt = run.begin_attempt() if first else None
    return RunRecorder(run, Limits(), attempt=attempt, device=torch.device("cpu"), rank=int(not first), sinks=sinks)


def ends(run: RunFolder) -> list[str]:
    return [one["reason"] for one in run.events() if one["event"] == "end"]


def test_the_first_process_writes_rows_and_the_verdict(run: RunFolder, batch: Batch) -> None:
    told = Told()
    recorder = recorder_of(run, sinks=[told])
    with closed_after(recorder):
        for number in range(3):
            step(recorder, batch, number)
        recorder.validated(3, {"validation/headline": 0.25})

    rows = read_all_rows(run.folder("ledger"))
    assert [(one["step"], one["bucket"], one["host_to_device_s"]) for one in rows] == [
        (number, "4x32x32", 0.25) for number in range(3)
    ]
    seconds = rows[-1]["training_seconds"]
    assert seconds == pytest.approx(sum(one["step_s"] for one in rows) - rows[0]["data_wait_s"])
    assert (len(told.rows), told.judgements) == (3, [(3, {"validation/headline": 0.25, "training_seconds": seconds})])
    assert told.summary == recorder.summary
    assert (recorder.summary["step"], recorder.summary["loss"], recorder.summary["mfu"]) == (3, 0.5, None)
    assert ends(run) == ["done"]


def test_who_is_told_of_a_judgement_finds_all_steps_before_it_on_record(
    run: RunFolder, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where rows are put now and then only, as into an object store: here after an hour."""
    monkeypatch.setattr(ledger, "is_remote", lambda uri: True)
    monkeypatch.setattr(ledger, "PUT_EVERY_SECONDS", 3600.0)
    found = []

    class Reads(Told):
        def judged(self, step: int, metrics: Any) -> None:
            found.append([row["step"] for row in read_all_rows(run.folder("ledger"))])

    recorder = recorder_of(run, sinks=[Reads()])
    with closed_after(recorder):
        for number in range(4):
            step(recorder, batch, number)
            if number % 2:
                recorder.validated(number + 1, {})
    assert found == [[0, 1], [0, 1, 2, 3]]


def test_the_others_write_nothing(run: RunFolder, batch: Batch) -> None:
    recorder = recorder_of(run, first=False)
    with closed_after(recorder):
        step(recorder, batch, 0)
    assert (read_all_rows(run.folder("ledger")), run.events(), recorder.summary) == ([], [], {})


@pytest.mark.parametrize("first", [True, False])
def test_all_stop_for_a_loss_that_is_no_number(run: RunFolder, batch: Batch, first: bool) -> None:
    recorder = recorder_of(run, first=first)
    step(recorder, batch, 0)
    with pytest.raises(LossNotFinite, match="--step 1"), closed_after(recorder):
        step(recorder, batch, 1, loss=math.nan)
    if first:
        assert [one["step"] for one in read_all_rows(run.folder("ledger"))] == [0, 1], "the bad step is on record"
        assert ends(run)[0].startswith("failed: LossNotFinite: the loss of step 1 is nan")


@pytest.mark.parametrize(
    ("error", "reason"), [(Interrupted("Ctrl-C"), "interrupted"), (CinerayError("a b"), "failed: CinerayError: a b")]
)
def test_why_an_attempt_ended_is_on_record(run: RunFolder, error: Exception, reason: str) -> None:
    with pytest.raises(type(error)), closed_after(recorder_of(run)):
        raise error
    assert ends(run) == [reason]
