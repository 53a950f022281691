"""Where a step's seconds went: by the host's clock on a CPU, by events on a GPU."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch

from cineray.train import device_clock
from cineray.train.device_clock import StepClock


class Hand:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(device_clock.time, "perf_counter", lambda: self.now)

    def spend(self, clock: StepClock, name: str, seconds: float) -> None:
        with clock.phase(name):
            self.now += seconds


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    return Hand(monkeypatch)


def test_phases_add_up_to_the_step(hand: Hand) -> None:
    clock = StepClock()
    hand.now += 9  # before the first phase: nothing of a step yet
    hand.spend(clock, "data_wait", 2)
    hand.spend(clock, "host_to_device", 0.5)
    hand.spend(clock, "compute", 4)

    found = clock.take()

    assert (found.data_wait_s, found.host_to_device_s, found.compute_s, found.step_s) == (2, 0.5, 4, 6.5)
    assert math.isnan(found.gpu_stall_s), "there is no GPU that could stall"


def test_what_happens_after_a_step_belongs_to_the_next(hand: Hand) -> None:
    clock = StepClock()
    for wait in (1, 2):
        hand.spend(clock, "data_wait", wait)
        hand.spend(clock, "compute", 4)
        hand.spend(clock, "validation", 8)
        hand.spend(clock, "checkpoint", 16)

    first, second = clock.take(), clock.take()

    assert (first.validation_s, first.checkpoint_s, first.step_s) == (0, 0, 5)
    assert (second.validation_s, second.checkpoint_s, second.step_s) == (8, 16, 2 + 4 + 8 + 16)
    assert clock.rest() == {"validation": 8, "checkpoint": 16}


def test_training_is_waiting_and_computing_but_for_the_wait_for_a_feed_that_starts(hand: Hand) -> None:
    """A feed that needs a minute to start would else use up what a short run has, whatever its recipe."""
    clock = StepClock()
    for wait in (60, 2):
        hand.spend(clock, "data_wait", wait)
        hand.spend(clock, "compute", 4)
        hand.spend(clock, "validation", 8)
        hand.spend(clock, "checkpoint", 16)
    assert [clock.take().training_s for _ in range(2)] == [4, 2 + 4]


def test_steps_may_be_taken_later_than_they_end(hand: Hand) -> None:
    clock = StepClock()
    for seconds in (1, 2, 3):
        hand.spend(clock, "compute", seconds)
    assert [clock.take().compute_s for _ in range(3)] == [1, 2, 3]


class Device:
    """A GPU as far as the clock sees it: marks lie on its own time line, on which work is done in turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = self.busy_until = 0.0
        device = self

        class Mark:
            def __init__(self) -> None:
                self.at = max(device.host, device.busy_until)

            def seconds_until(self, later: Any) -> float:
                return float(later.at - self.at)

        monkeypatch.setattr(device_clock, "CudaMark", Mark)

    def launch(self, seconds: float) -> None:
        self.busy_until = max(self.host, self.busy_until) + seconds


def test_a_host_that_waits_while_the_device_works_is_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    clock = StepClock(torch.device("cuda"))
    for wait in (0.5, 0.5, 3.0):  # the device works 2 s per step: only the last wait is longer
        with clock.phase("data_wait"):
            device.host += wait
        with clock.phase("compute"):
            device.launch(2.0)
    assert [clock.take().gpu_stall_s for _ in range(3)] == [pytest.approx(0.5), 0.0, pytest.approx(0.0)]
    with clock.phase("data_wait"):
        device.host += 5.0
    with clock.phase("compute"):
        device.launch(2.0)
    assert clock.take().gpu_stall_s == pytest.approx(9.0 - 6.5)


def test_a_validation_between_steps_is_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    clock = StepClock(torch.device("cuda"))
    with clock.phase("compute"):
        device.launch(2.0)
    with clock.phase("validation"):
        device.launch(7.0)
        device.host = device.busy_until
    device.host += 1.0
    with clock.phase("compute"):
        device.launch(2.0)
    clock.take()
    second = clock.take()
    assert (second.validation_s, second.gpu_stall_s, second.step_s) == (7.0, pytest.approx(1.0), 10.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_late_batch_is_a_stall_and_a_busy_device_is_none() -> None:
    device = torch.device("cuda")
    clock, x = StepClock(device), torch.randn(4096, 4096, device=device)
    stalls = []
    for wait in (0.0, 0.0, 0.3):
        time.sleep(wait)
        with clock.phase("compute"):
            for _ in range(50):
                x = torch.tanh(x @ x)
        torch.cuda.synchronize()
        stalls.append(clock.take().gpu_stall_s)
    assert stalls[1] < 0.05
    assert 0.28 < stalls[2] < 0.6
