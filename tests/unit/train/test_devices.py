"""What a process computes on is what it was given, not what it sees: Ray 2.60 shows GPUs to those who want none."""

from __future__ import annotations

import pytest
import torch

from cineray.errors import UsageError
from cineray.train.parallel import World


@pytest.fixture
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setenv("LOCAL_RANK", "3")


def test_who_was_given_no_gpu_computes_on_cores_however_many_there_are(eight_gpus: None) -> None:
    assert World.here(gpus=0).device == torch.device("cpu")


@pytest.mark.parametrize("gpus", [1, None])
def test_who_was_given_one_takes_that_of_its_place_on_the_node(eight_gpus: None, gpus: int | None) -> None:
    assert World.here(gpus=gpus).device == torch.device("cuda", 3)


def test_a_gpu_that_was_asked_for_and_is_not_there_is_missed_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert World.here().device == torch.device("cpu")
    with pytest.raises(UsageError, match=r"parallel\.gpus_per_worker is 1 and torch sees no GPU .*gpus_per_worker=0"):
        World.here(gpus=1)
