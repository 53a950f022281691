"""What the pages say of runs, evaluations, comparisons, checks and batches whose every figure is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cineray.batch import batch_digest
from cineray.report import write_report
from cineray.report.content import (
    Facts,
    Figure,
    FilmTable,
    Gallery,
    Note,
    Page,
    Part,
    Section,
    Table,
    Verdict,
    figures_of,
)
from cineray.report.embed import Embedder
from cineray.report.subjects import subject_of
from cineray.report.write import page_of


def page(folder: Path, *, clips: int = 24, limit_bytes: int = 10_000_000) -> Page:
    return page_of(subject_of(str(folder)), Embedder(limit_bytes), version="latest", clips=clips)


def section(made: Page, title: str) -> Section:
    return next(one for one in made.sections if one.title == title)


def tables(parts: tuple[Part, ...]) -> list[Table]:
    return [part for part in parts if isinstance(part, Table)]


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def figure(made: Page, title: str) -> dict[str, Any]:
    found: Figure = next(one for one in figures_of(made) if one.title == title)
    return json.loads(found.json)


# ---- a run -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(subjects: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two attempts with two evaluations and samples of two checkpoints."""
    return subjects.make_run(tmp_path_factory.mktemp("run") / "shapes-7")


def test_a_runs_page_has_all_that_is_known_of_it(run: Path) -> None:
    made = page(run)

    assert [one.title for one in made.sections] == [
        *("Metrics", "Clips", "Learning", "Time", "History", "How to repeat it", "Record"),
    ]
    assert made.title == "shapes-1a2b3c4d"
    model, speed = made.verdicts
    assert (model.about, speed.about) == ("Model, step 120", "Speed")
    assert "follows its conditioning" in model.text
    assert "goodput" in speed.text
    tiles = {tile.name: tile.value for tile in made.tiles}
    assert (tiles["direction accuracy"], tiles["steps"], tiles["skill"]) == ("95 %", "120", "62 %")


def test_a_runs_loss_and_skill_are_drawn_by_noise_level(run: Path) -> None:
    made = page(run)

    training = figure(made, "Training loss")["data"]
    assert [len(one["x"]) for one in training] == [120, 120]
    assert training[0]["x"][-1] == 119
    bins = figure(made, "Validation loss by noise level")["data"]
    assert [one["name"] for one in bins] == [str(n) for n in range(8)]
    assert bins[0]["x"] == [30, 60, 90, 120]
    assert [one["name"] for one in figure(made, "Skill by noise level")["data"]] == [
        "noisiest levels",
        "0",
        "1",
        "2",
        "3",
    ]
    beside = figure(made, "Loss beside what needs no learning")["data"]
    assert [one["name"] for one in beside] == ["this model", "best linear denoiser", "the mean clip"]


def test_a_runs_ledger_is_a_stack_of_causes_over_time(run: Path) -> None:
    stack = figure(page(run), "The ledger: what the time went into")

    names = [one["name"] for one in stack["data"]]
    assert {"computing", "waiting for data", "compiling", "done in vain", "between attempts", "starting"} <= set(names)
    assert [sum(values) for values in zip(*(one["y"] for one in stack["data"]), strict=True)] == pytest.approx(
        [1] * 160
    )
    assert stack["layout"]["xaxis"]["title"]["text"] == "minutes since the run began"


def test_a_runs_clips_lie_side_by_side_the_same_prompt_in_each_row(run: Path) -> None:
    over, beside = (part for part in section(page(run), "Clips").parts if isinstance(part, FilmTable))

    assert over.columns == ("step 60", "step 120")
    assert len(over.rows) == 3
    assert all(film is not None and film.moves for row in over.rows for film in row.films)
    assert len({film.source for row in over.rows for film in row.films if film is not None}) == 5
    assert beside.columns == ("generated", "real")


def test_of_a_run_with_little_room_the_newest_clips_are_kept(run: Path) -> None:
    size = max(len(path.read_bytes()) for path in run.rglob("*.mp4"))
    made = page(run, limit_bytes=int(size * 4 / 3 * 3.5))

    over = next(part for part in section(made, "Clips").parts if isinstance(part, FilmTable))
    moving = [[film is not None and film.moves for film in row.films] for row in over.rows]
    assert moving == [[False, True]] * 3


def test_a_runs_metrics_stand_over_its_checkpoints_too(run: Path) -> None:
    over = [one for one in figures_of(page(run)) if one.title == "direction accuracy"]

    assert len(over) == 1
    assert json.loads(over[0].json)["data"][0]["x"] == [60, 120]


def test_a_run_can_be_repeated_by_what_its_page_says(run: Path) -> None:
    commands = dict(section(page(run), "How to repeat it").parts[0].lines)  # type: ignore[union-attr]

    assert commands["Train it again, in a new folder"] == f"cineray train {run}/run.yaml"
    assert "git checkout 0123456789abcdef" in commands.values()
    assert any("2 files were changed" in why for why in commands)


def test_a_runs_attempts_say_how_they_ended(run: Path) -> None:
    attempts = tables(section(page(run), "History").parts)[0]

    assert [row[2:] for row in texts(attempts)] == [
        ["1", "0 to 69", "no end was noted: at work, or killed"],
        ["1", "60 to 119", "done"],
    ]


def test_a_run_whose_seconds_decide_has_as_many_steps_as_was_found_out(run: Path, tmp_path: Path) -> None:
    timed = tmp_path / "timed"
    shutil.copytree(run, timed)
    facts = json.loads((timed / "run.json").read_text())
    facts["job"] = facts["job"].replace("steps: 120", "steps: 1000000\nbudget: {seconds: 60}")
    (timed / "run.json").write_text(json.dumps(facts))

    def steps() -> str:
        return next(tile.detail for tile in page(timed).tiles if tile.name == "steps")

    assert steps() == "of as many as its seconds allow, done"
    planned = {"steps": 160, "at_step": 120, "spent_seconds": 45.0, "budget_seconds": 60.0}
    (timed / "planned.json").write_text(json.dumps(planned))
    assert steps() == "75 % of 160, done"


def test_a_run_that_has_just_begun_has_a_page(run: Path, tmp_path: Path) -> None:
    for name in ("run.json", "events/00001.jsonl", "attempts/00001.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((run / name).read_bytes().split(b"\n")[0])

    made = page(tmp_path)

    assert section(made, "Learning").parts == (Note(text="No step is in the ledger yet."),)
    assert [one.title for one in made.sections] == ["Learning", "Time", "History", "How to repeat it", "Record"]


# ---- an evaluation ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluation(subjects: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation with four clips."""
    return subjects.make_evaluation(tmp_path_factory.mktemp("evaluation") / "step-00000120")


def test_each_metric_stands_beside_its_controls_with_intervals(evaluation: Path) -> None:
    metrics = tables(section(page(evaluation), "Metrics").parts)
    motion = metrics[0]

    assert [column.title for column in motion.columns] == [
        *("metric", "generated", "real", "frames shuffled", "untrained", "labels permuted", "clips"),
    ]
    direction = motion.rows[0]
    assert [cell.text for cell in direction] == ["direction accuracy", "95 %", "100 %", "148 %", "40 %", "12 %", "64"]
    assert direction[1].detail == "89 % to 102 %"
    assert direction[0].detail == "↑ higher is better"
    assert motion.rows[1][0].detail == "of the told speed, ↓ lower is better"
    assert texts(metrics[-1]) == [["fvd", "no weights: set weights.fvd to a local file"]]


def test_each_metric_has_a_plot_with_error_bars_beside_its_controls(evaluation: Path) -> None:
    drawn = figure(page(evaluation), "direction accuracy ↑")["data"]

    assert [one["y"][0] for one in drawn] == ["generated", "real", "frames shuffled", "untrained", "labels permuted"]
    assert drawn[0]["error_x"]["array"] == [pytest.approx(0.953 * 0.06 + 0.01)]


def test_held_out_parts_loss_and_sensitivity_are_told(evaluation: Path) -> None:
    made = page(evaluation)

    held_out = tables(section(made, "Held out").parts)[0]
    assert [column.title for column in held_out.columns] == ["metric", "held out (12 clips)", "seen (52 clips)"]
    assert figure(made, "Loss by noise level")["data"][0]["y"][0] == 0.101
    ranked = tables(section(made, "Can the metrics see?").parts)[0]
    assert texts(ranked) == [
        ["flicker", "jitter", "7", "9.1", "12.4", "20.3", "yes"],
        ["flicker", "blur", "7", "\u2013", "7.1", "6.9", "no"],
    ]


def test_generated_clips_stand_beside_real_ones_and_no_more_than_asked(evaluation: Path) -> None:
    films = section(page(evaluation, clips=2), "Clips").parts[0]

    assert isinstance(films, FilmTable)
    assert (films.caption, films.columns, len(films.rows)) == ("2 of 4 clips", ("generated", "real"), 2)


@pytest.mark.parametrize(
    "broken", [{"metrics": None}, {"metrics": [7, {}]}, {"loss": [], "parts": 7, "samples": {"a": 1}}]
)
def test_an_evaluation_of_another_cineray_still_has_a_page(
    broken: dict[str, Any], evaluation: Path, tmp_path: Path
) -> None:
    told = json.loads((evaluation / "evaluation.json").read_text()) | broken
    (tmp_path / "evaluation.json").write_text(json.dumps(told))

    assert page(tmp_path).title == "shapes, step 120"


# ---- the others ------------------------------------------------------------------------------------------------------


def test_a_comparison_says_what_is_beyond_noise_and_who_is_better(subjects: ModuleType, tmp_path: Path) -> None:
    made = page(subjects.make_comparison(tmp_path / "a-b"))

    assert made.title == "shapes, 60 steps against shapes, 120 steps"
    rows = texts(tables(section(made, "Differences").parts)[0])
    assert [row[4] for row in rows] == [
        "yes, B is better",
        "no",
        "no",
        "yes, B is better",
        "no",
        "no",
        "yes, A is better",
        "not known",
    ]
    assert rows[0][3] == "+19 points"
    assert {tile.name: tile.value for tile in made.tiles}["differ beyond noise"] == "3"
    assert figure(made, "direction accuracy")["layout"]["shapes"][0]["x0"] == 0


def test_a_pipeline_check_shows_its_red_flags_first(subjects: ModuleType, tmp_path: Path) -> None:
    made = page(subjects.make_pipeline(tmp_path / "check"))

    assert made.verdicts == (Verdict(text="A pipeline red flag, not a model mystery.", tone="bad"),)
    findings = tables(section(made, "Findings").parts)[0]
    assert [row[:2] for row in texts(findings)] == [["sampling", "red flag"], ["decode", "same"]]
    assert findings.rows[0][1].tone == "bad"
    assert texts(tables(section(made, "Measures").parts)[0])[0] == ["repeated", "0", "0.25", "0.25", "yes"]
    clips = section(made, "Clips").parts[0]
    assert isinstance(clips, Gallery)
    assert all(film.moves for film in clips.films)


def test_a_batchs_page_names_the_very_hash_that_the_batch_has(subjects: ModuleType, tmp_path: Path) -> None:
    made = page(subjects.make_batch(tmp_path / "step-00000012"))

    record = next(part for part in section(made, "Record").parts if isinstance(part, Facts))
    assert dict(record.pairs)["sha256"] == batch_digest([subjects.batch()])
    clips = section(made, "Clips").parts[0]
    assert isinstance(clips, Gallery)
    assert [film.name for film in clips.films] == ["0 · right", "1 · right", "2 · right"]
    assert all(film.moves for film in clips.films)
    assert texts(tables(section(made, "Substituted").parts)[0])[0][0] == "1"
    padded = figure(made, "Frames in time")["data"][1]
    assert (padded["name"], padded["x"], padded["y"]) == ("padded", [0.875], ["slot 2"])


@pytest.mark.parametrize("kind", ["run", "evaluation", "comparison", "pipeline", "batch", "sweep", "curated"])
def test_hostile_texts_change_no_element_of_any_page(
    kind: str, subjects: ModuleType, seen: Any, tmp_path: Path
) -> None:
    before = write_report(str(getattr(subjects, f"make_{kind}")(tmp_path / "hostile")), str(tmp_path / "hostile.html"))
    hostile, subjects.HOSTILE = subjects.HOSTILE, "a plain text"
    try:
        plain = write_report(str(getattr(subjects, f"make_{kind}")(tmp_path / "plain")), str(tmp_path / "plain.html"))
    finally:
        subjects.HOSTILE = hostile

    a, b = (seen(Path(one.path).read_bytes()) for one in (before, plain))
    assert [name for name, _ in a.elements] == [name for name, _ in b.elements]
    assert before.left_out == ()
