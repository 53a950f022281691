"""Clips that kill a decoder, or hold it for ever: told once, repeated for good."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cineray.decode import DecodeOptions
from cineray.feed import FeedSpec, Journal, Supply, Task, isolated, local_batches, make_batches
from cineray.feed import visits as visits_module
from cineray.records import Batch, ClipSpec, Reject

SpecOf = Callable[..., FeedSpec]
Digests = Callable[[Iterable[Batch]], list[str]]

DEADLY_CHILD = (sys.executable, str(Path(__file__).with_name("deadly_child.py")))


def opened(spec: FeedSpec) -> Supply:
    return spec._opened()


def name_of(spec: ClipSpec) -> str:
    return f"{spec.clip_id}.{spec.draw}"


def test_pixels_from_a_child_process_are_the_same(spec_of: SpecOf, digests: Digests) -> None:
    supply = spec_of(clips_per_visit=4).open()
    task = Task(range(4))
    assert digests(make_batches(supply, task, careful=True)) == digests(make_batches(supply, task))


def test_a_clip_that_kills_its_process_is_told_from_its_neighbours(
    spec_of: SpecOf, digests: Digests, monkeypatch: pytest.MonkeyPatch
) -> None:
    supply = spec_of(clips_per_visit=4, max_substituted_fraction=1.0).open()
    deadly, endless = supply.plan.batch(1)[2], supply.plan.batch(3)[4]
    monkeypatch.setattr(isolated, "COMMAND", DEADLY_CHILD)
    monkeypatch.setattr(isolated, "GRACE_SECONDS", 1.0)
    monkeypatch.setenv("DEADLY", name_of(deadly))
    monkeypatch.setenv("ENDLESS", name_of(endless))
    patient = dataclasses.replace(supply, decode=DecodeOptions(budget_seconds=2))

    batches = make_batches(patient, Task(range(4)), careful=True)

    found = [(one.step, one.slot, one.reason) for batch in batches for one in batch.substitutions]
    assert found == [(1, 2, "decoder_crashed"), (3, 4, "decoder_stuck")]
    good = make_batches(supply, Task(range(4)))
    assert digests([batches[0], batches[2]]) == digests([good[0], good[2]])
    assert np.array_equal(batches[1].frames_BTHWC[3], good[1].frames_BTHWC[3])


def in_a_process_that_dies(make: Callable[[], object]) -> int:
    """The signal that ended it."""
    pid = os.fork()
    if pid == 0:
        make()
        os._exit(0)
    return os.WTERMSIG(os.waitpid(pid, 0)[1])


def test_who_died_of_a_task_is_followed_by_someone_careful_and_the_verdict_stays(
    spec_of: SpecOf, digests: Digests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(journal=str(tmp_path / "journal"), max_substituted_fraction=1.0)
    supply = opened(spec)
    good = digests(local_batches(dataclasses.replace(supply, journal=None), range(4)))
    deadly = supply.plan.batch(2)[1]
    task = Task(range(2, 3))
    supply.catalogs[0].prefetch(range(24))  # what reads the lake does not survive the fork below

    def dies(video: Any, place: Any, specs: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(visits_module, "decode_visit", dies)
        assert in_a_process_that_dies(lambda: make_batches(supply, task)) == signal.SIGKILL
    with monkeypatch.context() as patch:
        patch.setattr(isolated, "COMMAND", DEADLY_CHILD)
        patch.setenv("DEADLY", name_of(deadly))
        (batch,) = make_batches(opened(spec), task)  # nobody says `careful`: the marker of the dead worker does
    assert [(one.slot, one.wanted_clip_id, one.reason) for one in batch.substitutions] == [
        (1, deadly.clip_id, "decoder_crashed")
    ]

    # The clip would decode now; the run has seen another, so everyone who makes the batch again sees that one.
    again = digests(local_batches(opened(spec), range(4)))
    assert again[2] == digests([batch])[0] != good[2]
    assert again[:2] + again[3:] == good[:2] + good[3:]


def test_the_first_verdict_counts_and_lasting_reasons_need_none(spec_of: SpecOf, tmp_path: Path) -> None:
    clip = spec_of().open().plan.batch(0)[0]
    mine, other = Journal(str(tmp_path)), Journal(str(tmp_path))
    lasting = Reject(name=clip.clip_id, stage="decode", reason="corrupt", detail="")
    assert mine.judge(clip, lasting) is lasting
    assert mine.verdict(clip) is None
    first = Reject(name=clip.clip_id, stage="decode", reason="decoder_stuck", detail="after 120 s")
    mine.judge(clip, first)
    assert other.judge(clip, Reject(name=clip.clip_id, stage="decode", reason="out_of_memory", detail="8 GiB")) == first
    assert Journal(str(tmp_path)).verdict(clip) == first


def test_a_pass_begins_with_what_earlier_passes_found(spec_of: SpecOf, digests: Digests, tmp_path: Path) -> None:
    spec = spec_of(journal=str(tmp_path / "journal"), max_substituted_fraction=1.0)
    held = opened(spec)  # a process that has opened the plan before anything was found
    clip = held.plan.batch(1)[3]
    Journal(spec.journal).judge(clip, Reject(name=clip.clip_id, stage="decode", reason="decoder_crashed", detail=""))

    assert [batch.step for batch in local_batches(held, range(3)) if batch.substitutions] == [1]
    again = opened(dataclasses.replace(spec, journal=spec.journal))
    again.journal._known.clear()  # type: ignore[union-attr]
    again.journal.begin("second")  # type: ignore[union-attr]
    assert again.journal.verdict(clip) is not None  # type: ignore[union-attr]


def test_markers_are_gone_when_work_is_done(spec_of: SpecOf, tmp_path: Path) -> None:
    list(local_batches(opened(spec_of(journal=str(tmp_path))), range(3)))
    assert list((tmp_path / "trying").iterdir()) == []
