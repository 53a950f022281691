"""What a lake's page says of a curation and of a standardising: seven made videos, and what became of each is known."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cineray.curate.review import Review, curation_of, review
from cineray.curate.rules import counts
from cineray.lake import Lake
from cineray.report import lake_curation
from cineray.report.content import Facts, Gallery, Heading, Page, Part, Section, Table, figures_of
from cineray.report.embed import Embedder
from cineray.report.lake_page import lake_page
from cineray.report.plots import before_after
from cineray.report.wording import TIMES


@pytest.fixture(scope="module")
def lake(subjects: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Version 1 ingested, 2 curated, 3 standardised."""
    hostile, subjects.HOSTILE = subjects.HOSTILE, "plain"
    try:
        return str(subjects.make_standardised(tmp_path_factory.mktemp("curated")))
    finally:
        subjects.HOSTILE = hostile


@pytest.fixture(scope="module")
def curated(lake: str) -> Page:
    """The page of version 2."""
    return lake_page(lake, "2", Embedder(), clips=24)


@pytest.fixture(scope="module")
def standardised(lake: str) -> Page:
    """The page of version 3."""
    return lake_page(lake, "latest", Embedder(), clips=24)


def section(page: Page, title: str) -> Section:
    return next(one for one in page.sections if one.title == title)


def only(parts: Sequence[Part], kind: type[Any]) -> list[Any]:
    return [part for part in parts if isinstance(part, kind)]


def told_by(lake: str, version: int) -> Review:
    opened = Lake.open(lake)
    found = opened.resolve(version)
    made_by = curation_of(opened, found)
    assert made_by is not None
    return review(opened, found, made_by)


def test_rules_are_counted_as_the_curation_itself_counts_them(lake: str) -> None:
    curation_itself = json.loads(Path(lake).with_name("rules.json").read_text())
    told = told_by(lake, 2)

    by_rows = {one.name: one for one in counts(told.table, told.reasons)}
    assert [asdict(one) for one in by_rows.values()] == [rule for rule in curation_itself if rule["name"] in by_rows]
    assert list(by_rows) == ["too_short", "dark", "dim", "never", "duplicate"]
    assert (int(told.kept.sum()), len(told.kept)) == (6, 10)
    assert {name: (one.alone, one.first, one.only) for name, one in by_rows.items()} == {
        "too_short": (2, 2, 1),
        "dark": (1, 1, 0),
        "dim": (2, 0, 0),
        "never": (0, 0, 0),
        "duplicate": (1, 1, 1),
    }


def test_a_standardised_version_tells_the_same_curation(lake: str) -> None:
    before, after = told_by(lake, 2), told_by(lake, 3)

    assert after.made_by.number == 2
    assert counts(after.table, after.reasons) == counts(before.table, before.reasons)
    assert sorted(after.seconds.tolist()) == pytest.approx(sorted(before.seconds.tolist()))
    for column in ("clip_black_fraction", "brightness_mean"):
        assert sorted(after.values(column).tolist()) == pytest.approx(
            sorted(before.values(column).tolist()), nan_ok=True
        )


def test_the_verdict_and_the_tile_say_how_much_is_left(curated: Page) -> None:
    assert [verdict.about for verdict in curated.verdicts] == ["Verdict", "Curation"]
    assert curated.verdicts[0].text.startswith("7 videos, ")
    assert curated.verdicts[1].text.startswith("6 clips of 10 are left (9 s of 13.2 s). Left out most: too_short 2")
    tile = next(tile for tile in curated.tiles if tile.name == "left out")
    assert (tile.value, tile.detail) == ("4", "clips, 40 % of 10")


def test_every_clip_that_was_left_out_is_a_row_with_its_reason(curated: Page) -> None:
    rules, listed = only(section(curated, "Left out").parts, Table)

    assert [[cell.text for cell in row] for row in rules.rows] == [
        ["too_short", "2", "2", "1", "0.5 s"],
        ["dark", "1", "1", "0", "1.67 s"],
        ["dim", "2", "0", "0", "0 s"],
        ["never", "0", "0", "0", "0 s"],
        ["duplicate", "1", "1", "1", "2 s"],
        ["all of them", "", "4", "", "4.17 s"],
    ]
    assert rules.rows[1][0].detail == "clip_black_fraction > 0.5"
    assert sorted([cell.text for cell in row] for row in listed.rows) == [
        ["a/copy.mp4", "0", "2", "duplicate", "kept is a/one.mp4"],
        ["a/plain dark.mp4", "0", "0.25", "too_short", "brightness_mean 17, clip_seconds 0.25"],
        ["a/plain dark.mp4", "0.25", "1.92", "dark", "brightness_mean 17, clip_black_fraction 1"],
        ["plain/stub.mp4", "0", "0.25", "too_short", "clip_seconds 0.25"],
    ]
    assert {row[3].detail for row in listed.rows} == {"", "also dim"}
    assert listed.search


def test_a_long_list_is_cut_with_some_of_each_rule_and_says_so(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_curation, "MOST_NAMED", 3)
    page = lake_page(lake, "2", Embedder(), clips=0)

    _, listed = only(section(page, "Left out").parts, Table)
    assert sorted(row[3].text for row in listed.rows) == ["dark", "duplicate", "too_short"]
    assert listed.caption == "Left out: 3 of 4 clips, some of each rule"
    assert all(one.title != "At the edge of each rule" for one in page.sections)


def test_the_edge_of_a_rule_shows_what_it_left_out_and_then_what_it_kept(curated: Page) -> None:
    parts = section(curated, "At the edge of each rule").parts

    assert [part.text for part in only(parts, Heading)] == ["too_short", "dark", "dim"]
    out, kept = only(parts, Gallery)[2:4]
    assert [(film.name, film.detail) for film in out.films] == [
        ("left out: clip_black_fraction 1", "a/plain dark.mp4, 0.25 to 1.92 s")
    ]
    assert {film.name for film in kept.films} == {"kept: clip_black_fraction 0"}
    assert all(film.source.startswith("data:image/webp;") for film in (*out.films, *kept.films))


def test_copies_are_seen_beside_the_one_that_is_kept(curated: Page) -> None:
    parts = section(curated, "Copies").parts

    assert dict(only(parts, Facts)[0].pairs)["sets"] == "1"
    (gallery,) = only(parts, Gallery)
    assert [film.name for film in gallery.films] == ["kept: a/one.mp4", "left out: a/copy.mp4"]
    assert gallery.films[0].source != gallery.films[1].source


def test_cuts_are_counted_by_kind_and_seen(curated: Page) -> None:
    (gallery,) = only(section(curated, "Cuts").parts, Gallery)

    assert sorted((film.name, film.detail) for film in gallery.films) == [
        ("cut: a/both.mp4", "at 1 s"),
        ("cut: plain/stub.mp4", "at 0.25 s"),
        ("fade: a/plain dark.mp4", "at 0.25 s"),
    ]


def test_measures_are_drawn_before_and_after_with_the_rules_thresholds(curated: Page) -> None:
    drawn = {figure.title: json.loads(figure.json) for figure in figures_of(curated)}

    before, after = drawn["clip_black_fraction"]["data"]
    assert (sum(before["y"]), sum(after["y"])) == (10, 6)
    assert (before["y"][0], after["y"][0], before["y"][-1]) == (9, 6, 1)
    (line,) = drawn["clip_black_fraction"]["layout"]["shapes"]
    assert line["x0"] == 0.5
    assert "aspect_ratio" not in drawn, "it is the same for all"


def test_a_plot_of_a_million_clips_is_no_larger_than_one_of_ten() -> None:
    values = np.random.default_rng(0).normal(size=1_000_000)
    many = before_after("x", "says", values, values[:1000])

    assert len(many.json) < len(before_after("x", "says", values[:10], values[:5]).json) * 1.5
    assert sum(json.loads(many.json)["data"][0]["y"]) == 1_000_000


def test_standardising_is_told_by_what_the_rows_and_frame_tables_say(lake: str, standardised: Page) -> None:
    parts = section(standardised, "Standardised").parts
    (table,) = only(parts, Table)
    rows = {row[0].text: (row[1].text, row[2].text) for row in table.rows}

    assert table.caption.startswith("5 videos; ")
    assert rows["pixels"] == (f"64 {TIMES} 64", f"32 {TIMES} 32")
    between = [float(text.split()[0]) for text in rows["from key frame to key frame"]]
    assert between[0] > 24 > 8 >= between[1]
    decoded = [float(text.split()[0]) for text in rows["decoded for each frame of a clip"]]
    assert decoded[0] > decoded[1] >= 1
    facts = dict(only(parts, Facts)[0].pairs)
    layer = Lake.open(lake).read(3, "layers/encoding", columns=["value"])["value"].to_pylist()
    worst = min(json.loads(value)["worst_psnr_db"] for value in layer)
    assert float(facts["PSNR, worst frame looked at"].split()[0]) == pytest.approx(worst, rel=0.01)
    assert facts["gop"] == "8"


def test_versions_are_told_back_to_the_first(standardised: Page) -> None:
    (table,) = only(section(standardised, "Versions").parts, Table)

    assert [[cell.text for cell in row][:4] for row in table.rows] == [
        ["3", "standardise", "7", "6"],
        ["2", "curate", "7", "6"],
        ["1", "ingest", "7", "7"],
    ]


def test_without_its_videos_a_curations_page_has_all_but_the_pictures(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cineray.feed.unavailable.PAUSES_SECONDS", ())
    videos = Path(lake).parent / "videos"
    os.rename(videos, tmp_path / "away")
    try:
        page = lake_page(lake, "2", Embedder(), clips=6)
    finally:
        os.rename(tmp_path / "away", videos)

    films = [film for one in page.sections for part in only(one.parts, Gallery) for film in part.films]
    assert films
    assert all(film.source == "" for film in films)
    assert films[0].detail.startswith("missing: ")
    assert films[-1].detail.startswith("not looked for")
    assert len(only(section(page, "Left out").parts, Table)) == 2
