"""The page of a lake's version: made videos, two of them broken, and every figure beside what the lake says."""

from __future__ import annotations

from pathlib import Path

import pytest

from cineray.errors import LakeError
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.report.content import Commands, Facts, Gallery, Note, Page, Table, figures_of
from cineray.report.embed import Embedder
from cineray.report.lake_page import lake_page
from cineray.report.lake_tallies import Kept, tally
from cineray.testing import make_shapes


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixteen made videos, one file that is no video, one cut short."""
    folder = tmp_path_factory.mktemp("lake")
    made = make_shapes(folder / "videos", videos=16)
    (folder / "videos/up/<img src=x>.mp4").write_bytes(b"no video at all")
    whole = made[0].path.read_bytes()
    (folder / "videos/up/torn.mp4").write_bytes(whole[: len(whole) // 2])
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


@pytest.fixture(scope="module")
def page(lake: str) -> Page:
    """Its newest version's page."""
    return lake_page(lake, "latest", Embedder(), clips=9)


def test_it_counts_what_the_lake_counts(lake: str, page: Page) -> None:
    facts = Lake.open(lake).show()
    tiles = {tile.name: tile.value for tile in page.tiles}

    assert (facts["videos"], sum(facts["rejected"].values())) == (16, 2)
    assert (tiles["videos"], tiles["rejected"], tiles["with captions"]) == ("16", "2", "16")
    found = tally(Lake.open(lake), Lake.open(lake).resolve("latest"))
    assert (found.frames, found.size_bytes) == (facts["frames"], facts["bytes"])
    assert found.seconds == pytest.approx(facts["hours"] * 3600, abs=0.01)
    assert dict(found.codecs) == facts["codecs"]
    assert sum(found.labels.values()) == facts["clips"]


def test_rejected_files_are_listed_with_their_reasons(page: Page) -> None:
    section = next(one for one in page.sections if one.title == "Rejects")
    rows = {row[0].text: row[1].text for row in next(p for p in section.parts if isinstance(p, Table)).rows}

    assert set(rows) == {"<img src=x>.mp4", "torn.mp4"}
    assert rows["<img src=x>.mp4"] == "not_video"
    assert "2 files were rejected (11 %)" in page.verdicts[0].text


def test_each_split_shows_strips_of_its_clips(lake: str, page: Page) -> None:
    splits = Lake.open(lake).show()["splits"]
    galleries = [part for part in page.sections[0].parts if isinstance(part, Gallery)]

    assert len(galleries) == len(splits)
    films = [film for gallery in galleries for film in gallery.films]
    assert len(films) == sum(min(count, 9 // len(splits)) for count in splits.values())
    assert all(film.source.startswith("data:image/webp;base64,") for film in films)
    assert len({film.source for film in films}) == len(films)


def test_lengths_rates_sizes_codecs_and_labels_are_drawn(page: Page) -> None:
    assert [figure.title for figure in figures_of(page)] == [
        *("Clips by label and split", "Length", "Frames per second", "Size in pixels, upright", "Codec", "Container"),
        "Rejects by reason",
    ]


def test_the_record_names_what_made_the_version(lake: str, page: Page) -> None:
    parts = next(one for one in page.sections if one.title == "Record").parts
    facts = Lake.open(lake).show()

    told = dict(pair for part in parts if isinstance(part, Facts) for pair in part.pairs)
    assert told["fingerprint"] == facts["fingerprint"]
    commands = next(part for part in parts if isinstance(part, Commands))
    assert f"cineray lake show {lake} --version 1" in dict(commands.lines).values()


def test_a_lake_whose_videos_are_gone_still_has_a_page(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cineray.feed.unavailable.PAUSES_SECONDS", ())
    videos = Path(lake).parent / "videos"
    away = videos.rename(tmp_path / "away")
    try:
        made = lake_page(lake, "latest", Embedder(), clips=9)
    finally:
        away.rename(videos)

    (note,) = made.sections[0].parts
    assert isinstance(note, Note)
    assert "cannot be shown" in note.text


def test_a_version_that_is_not_there_is_an_error(lake: str) -> None:
    with pytest.raises(LakeError):
        lake_page(lake, "77", Embedder(), clips=0)


def test_numbers_of_an_endless_stream_are_thinned_evenly() -> None:
    kept = Kept(most=1000)
    for value in range(100_000):
        kept.add(float(value))

    assert len(kept.values) <= 1000
    steps = {b - a for a, b in zip(kept.values, kept.values[1:], strict=False)}
    assert len(steps) == 1
    assert kept.values[0] == 0
