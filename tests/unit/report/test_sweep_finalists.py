"""The page of a sweep says what its best trials do alone, and how sure it is that the best is better than the next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cineray.report.content import Fold, Note, Page, Section, Table, figures_of
from cineray.report.embed import Embedder
from cineray.report.subjects import subject_of
from cineray.report.write import page_of


def page(folder: Path, *, clips: int = 24) -> Page:
    return page_of(subject_of(str(folder)), Embedder(10_000_000), version="latest", clips=clips)


def section(made: Page, title: str) -> Section:
    return next(one for one in made.sections if one.title == title)


def table(parts: Any) -> Table:
    found: Table = next(part for part in parts if isinstance(part, Table))
    return found


def rows(found: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in found.rows]


def changed(sweep: Path, folder: Path, **facts: Any) -> Path:
    """The same sweep with other facts."""
    told = json.loads((sweep / "sweep-result.json").read_text()) | facts
    (folder / "sweep-result.json").write_text(json.dumps(told))
    return folder


def test_all_that_was_measured_alone_is_told_also_what_nobody_chose_by(sweep: Path) -> None:
    (found,) = (
        part
        for part in section(page(sweep), "Choice").parts
        if isinstance(part, Table) and part.caption.startswith("Finalists")
    )

    assert [column.title for column in found.columns] == ["trial", "clips per second", "waiting for data"]
    assert rows(found)[0] == ["trial 4", "118", "9.9 %"]
    assert [cell.detail for cell in found.rows[0]] == [
        *("the best", "114 to 122; 106 in the sweep", "8.9 % to 11 %; 11 % in the sweep"),
    ]


def test_the_next_best_are_held_against_the_best_clip_by_clip(sweep: Path, tmp_path: Path) -> None:
    parts = section(page(sweep), "Choice").parts
    (found,) = (part for part in parts if isinstance(part, Table) and part.caption.startswith("Held against trial 4"))

    assert rows(found) == [
        ["trial 1", "+0.5 points (\u22121.0 to +2.0)"],
        ["trial 6", "\u221214.7 points (\u221216.2 to \u221213.2)"],
        ["trial 7", "\u22121.6 points (\u22123.1 to \u22120.1)"],
    ]
    assert [row[1].detail for row in found.rows] == [
        *("within chance: p 0.41, 16 clips", "surely worse: p 0.0006, 16 clips", "surely worse: p 0.0006, 16 clips"),
    ]
    says = parts[parts.index(found) + 1]
    assert isinstance(says, Note)
    assert says.text.startswith("2 are beyond chance on the judged clips. Both trials answered the same clips")
    assert "The best of 12 trials was chosen by these same clips, and p takes that into account: it is how" in says.text
    assert says.text.endswith(
        "Each trial is one training: a difference that is sure on these clips may still be that of two seeds."
    )
    without = section(page(changed(sweep, tmp_path, comparisons={})), "Choice").parts
    assert not any("Held against" in getattr(part, "caption", "") for part in without)


@pytest.mark.parametrize(
    ("concurrent", "told"),
    [(3, "beside other trials"), (None, "beside other trials"), (1, "one trial at a time, with its first seconds")],
)
def test_trials_that_were_never_side_by_side_are_not_said_to_have_been(
    concurrent: int | None, told: str, sweep: Path, tmp_path: Path
) -> None:
    made = page(changed(sweep, tmp_path, concurrent=concurrent))

    (speed,) = (one for one in figures_of(made) if one.title == "Skill against clips per second")
    assert speed.says.endswith(f"rings: in the sweep, {told}.")
    folded = section(made, "Trials").parts[-1]
    assert isinstance(folded, Fold)
    assert table(folded.parts).caption.endswith(f"was measured in the sweep, {told}")
