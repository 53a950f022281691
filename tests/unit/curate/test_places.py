"""One video at three places: where it is asked for when it is no longer where it was found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cineray.curate.videos import asked_of_places, survey, take_videos
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.records import Reject, VideoFile
from cineray.testing.stamped import stamp_video


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("places")
    stamp_video(folder / "videos" / "a.mp4", frames=4, size_px=(128, 96))
    for name in ("b.mp4", "c.mp4"):
        shutil.copy(folder / "videos" / "a.mp4", folder / "videos" / name)
    where = str(folder / "lake")
    ingest(IngestConfig(source=str(folder / "videos"), lake=where), EngineConfig(engine="local", workers=1))
    return Lake.open(where)


@pytest.mark.parametrize(
    ("answers", "asked", "last"),
    [
        (["good"], 1, "good"),
        (["corrupt"], 1, "corrupt"),
        (["missing", "good"], 2, "good"),
        (["changed", "timed_out"], 2, "timed_out"),
        (["missing", "refused", "missing"], 3, "missing"),
    ],
)
def test_other_places_are_asked_until_the_bytes_are_found(
    lake: Lake, answers: list[str], asked: int, last: str
) -> None:
    version, places, rest = lake.resolve("latest"), list[str](), iter(answers)
    (video,) = take_videos(lake, version, survey(lake, version, None))

    def ask(file: VideoFile) -> str | Reject:
        places.append(Path(file.place.uri).name)
        answer = next(rest)
        return answer if answer == "good" else Reject(name="v", stage="t", reason=answer, detail="")

    found = asked_of_places(ask, lake, version, video)
    assert (found.reason if isinstance(found, Reject) else found) == last
    assert places == ["a.mp4", "b.mp4", "c.mp4"][:asked]
