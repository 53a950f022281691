"""Open videos stay where they were opened: each thread has its own, a forked child opens its own, none is pickled."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cineray.decode import DecodeOptions, decode_visit, opened
from cineray.records import Clip, ClipSpec, IndexedVideo, Place
from cineray.testing import read_stamp, stamp_video

Index = Callable[[Path], IndexedVideo]
SpecOf = Callable[..., ClipSpec]


@pytest.fixture
def stamped(tmp_path: Path, index_of: Index) -> tuple[IndexedVideo, Place]:
    stamp_video(tmp_path / "stamped.mp4", frames=24)
    return index_of(tmp_path / "stamped.mp4"), Place(uri=str(tmp_path / "stamped.mp4"))


def shown(video: IndexedVideo, place: Place, spec: ClipSpec) -> list[int]:
    (clip,) = decode_visit(video, place, [spec])
    assert isinstance(clip, Clip), clip
    return [read_stamp(picture) for picture in clip.frames_THWC]


def test_an_open_video_refuses_to_be_pickled_and_says_what_to_send_instead(stamped: tuple[IndexedVideo, Place]) -> None:
    _, video = opened.take(*stamped, DecodeOptions())
    with pytest.raises(TypeError, match="send its IndexedVideo and its Place"):
        pickle.dumps(video)
    video.close()


def test_what_is_sent_instead_can_be_pickled_and_decodes_the_same(
    stamped: tuple[IndexedVideo, Place], spec_of: SpecOf
) -> None:
    spec = spec_of(stamped[0], [3, 23])
    video, place, sent, _ = pickle.loads(pickle.dumps((*stamped, spec, DecodeOptions())))
    assert shown(video, place, sent) == [3, 23]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_opens_its_own_and_leaves_the_parents_alone(
    stamped: tuple[IndexedVideo, Place], spec_of: SpecOf
) -> None:
    video, place = stamped
    assert shown(video, place, spec_of(video, [5])) == [5]  # the parent keeps it open, in the middle of the file
    child = os.fork()
    if child == 0:
        opens, really = [], opened.open_place
        opened.open_place = lambda *a, **k: opens.append(1) or really(*a, **k)
        same = shown(video, place, spec_of(video, [20, 7])) == [20, 7]
        os._exit(0 if same and opens == [1] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert shown(video, place, spec_of(video, [9, 10])) == [9, 10]


def test_six_threads_decode_one_video_at_once(stamped: tuple[IndexedVideo, Place], spec_of: SpecOf) -> None:
    video, place = stamped
    wanted = [[int(n) for n in np.random.default_rng(seed).choice(24, 5)] for seed in range(60)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda frames: shown(video, place, spec_of(video, frames)), wanted))
    assert found == wanted


def test_no_more_videos_stay_open_than_asked_for(tmp_path: Path, index_of: Index, spec_of: SpecOf) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        path = tmp_path / f"{number}.mp4"
        stamp_video(path, frames=4 + number)
        video = index_of(path)
        decode_visit(video, Place(uri=str(path)), [spec_of(video, [1])], options=DecodeOptions(keep_open=1))
    assert len(os.listdir("/proc/self/fd")) == descriptors + 1
    opened.close_all()
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_decoding_with_pyav_imports_no_torch() -> None:
    code = (
        "import sys, cineray.decode, cineray.decode.visit, cineray.decode.pyav_decoder; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_program_that_ends_with_videos_open_ends_in_silence(
    stamped: tuple[IndexedVideo, Place], spec_of: SpecOf
) -> None:
    """As where an extension holds modules: Python then empties them one by one, and what they hold goes in between."""
    code = """
import pickle, sys
from cineray.decode import decode_visit
from cineray.storage import local, open_place
video, place, specs = pickle.loads(sys.stdin.buffer.read())
decode_visit(video, place, specs)
local.held_till_late = open_place(place)
sys.held = list(sys.modules.values())
"""
    video, place = stamped
    sent = pickle.dumps((video, place, [spec_of(video, [3])]))
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stderr.decode() == ""
