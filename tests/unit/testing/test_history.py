"""The history checker sees each way in which a lake could break its promise; made rows and looks, one broken each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.testing.history import History, Look, between, states_of

MEDIA = [
    {"video_id": "a", "state": "ready", "reason": None},
    {"video_id": "rejected-b", "state": "rejected", "reason": "not_video"},
]
PLACES = [{"uri": "/a", "video_id": "a"}, {"uri": "/a2", "video_id": "a"}, {"uri": "/b", "video_id": "rejected-b"}]
CLIPS = [{"video_id": "a"}]


def test_each_place_is_committed_or_rejected() -> None:
    assert states_of(MEDIA, PLACES, CLIPS) == ({"/a": "committed", "/a2": "committed", "/b": "rejected"}, [])


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"media": [*MEDIA, MEDIA[0]]}, "the video a is there twice"),
        ({"places": [*PLACES, PLACES[0]]}, "/a is there twice"),
        ({"places": [*PLACES, {"uri": "/c", "video_id": "c"}]}, "/c is of the video c, which is not there"),
        ({"media": [MEDIA[0], {**MEDIA[1], "reason": ""}]}, "/b is rejected without a reason"),
        ({"places": PLACES[2:]}, "the video a lies nowhere"),
        ({"clips": []}, "the video a has no clip"),
        ({"clips": [*CLIPS, {"video_id": "rejected-b"}]}, "a clip is of rejected-b, which is no ready video"),
    ],
    ids=lambda told: told if isinstance(told, str) else "",
)
def test_rows_that_contradict_each_other_are_named(broken: dict[str, Any], said: str) -> None:
    rows = {"media": MEDIA, "places": PLACES, "clips": CLIPS} | broken
    assert states_of(**rows)[1] == [said]


FIRST = Look(number=2, fingerprint="f2", states={"/a": "committed"}, keys=frozenset("a"), finished=frozenset("xy"))


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (Look(number=1), "version 2 was the newest, and then 1"),
        (Look(number=2, fingerprint="other"), "version 2 had the fingerprint f2, and then other"),
        (
            Look(number=3, finished=frozenset("xy")),
            "/a was committed in version 2 and not as that in version 3: it is pending again",
        ),
        (
            Look(number=3, states={"/a": "rejected"}, finished=frozenset("xy")),
            "/a was committed in version 2 and not as that in version 3: it is rejected",
        ),
        (
            Look(number=3, states={"/a": "committed"}, keys=frozenset("x")),
            "the finished work y is neither in the journal any more nor in a version",
        ),
    ],
    ids=lambda told: told if isinstance(told, str) else "",
)
def test_what_must_not_happen_between_two_looks_is_named(after: Look, said: str) -> None:
    assert between(FIRST, after) == [said]


def test_what_may_happen_between_two_looks_is_no_problem() -> None:
    later = Look(number=3, states={"/a": "committed", "/b": "rejected"}, keys=frozenset("axy"))
    assert between(Look(), FIRST) == between(FIRST, FIRST) == between(FIRST, later) == []
    changed = Look(number=3, states={"/a": "rejected"}, keys=frozenset("xy"))
    assert between(FIRST, changed, may_change={"/a"}) == []


def test_a_real_lake_is_read_as_it_grows_and_a_version_that_vanishes_is_seen(
    tmp_path: Path, ffmpeg: Callable[..., None]
) -> None:
    videos, lake = tmp_path / "videos", tmp_path / "lake"
    videos.mkdir()
    history = History(str(lake))
    assert history.look() == Look()
    (videos / "text.mp4").write_text("not a video\n" * 100)
    for colour in ("red", "blue"):
        ffmpeg("-f", "lavfi", "-i", f"color={colour}:size=64x48:rate=10", "-frames:v", 5, videos / f"{colour}.mp4")
        ingest(IngestConfig(source=str(videos), lake=str(lake)), EngineConfig(engine="local"))
        history.look()
    assert history.looks[-1].states == {
        str(videos / "blue.mp4"): "committed",
        str(videos / "red.mp4"): "committed",
        str(videos / "text.mp4"): "rejected",
    }
    assert history.read_again() == 2
    assert history.problems == []

    (lake / "versions" / "00000002.json").unlink()
    history.look()
    assert history.problems == ["version 2 was the newest, and then 1"]


def test_a_watcher_that_cannot_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "lake" / "staging" / "k").mkdir(parents=True)
    (tmp_path / "lake" / "staging" / "k" / "part-0.parquet").write_text("no table")
    with pytest.raises(ValueError, match="Parquet magic bytes"), History(str(tmp_path / "lake")).watching():
        pass
