"""The page of a sweep says which trial to take, which figure is which, and why the others were not taken."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cineray.report.content import Commands, FilmTable, Fold, Note, Page, Section, Table, figures_of
from cineray.report.embed import Embedder
from cineray.report.subjects import subject_of
from cineray.report.sweep_choice import front_of
from cineray.report.write import page_of


def page(folder: Path, *, clips: int = 24) -> Page:
    return page_of(subject_of(str(folder)), Embedder(10_000_000), version="latest", clips=clips)


def section(made: Page, title: str) -> Section:
    return next(one for one in made.sections if one.title == title)


def figure(made: Page, title: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(next(one.json for one in figures_of(made) if one.title == title))
    return found


def table(parts: Any) -> Table:
    found: Table = next(part for part in parts if isinstance(part, Table))
    return found


def rows(found: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in found.rows]


def groups(drawn: dict[str, Any]) -> dict[str, list[str]]:
    """Name of a group -> the trials that are drawn in it."""
    return {one["name"]: one["text"] for one in drawn["data"] if "name" in one}


def changed(sweep: Path, folder: Path, **facts: Any) -> Path:
    """The same sweep with other facts."""
    told = json.loads((sweep / "sweep-result.json").read_text()) | facts
    (folder / "sweep-result.json").write_text(json.dumps(told))
    return folder


def test_the_page_begins_with_the_trial_to_take_and_how_each_figure_was_measured(sweep: Path) -> None:
    made = page(sweep)

    best, bounds = made.verdicts
    assert best.text == (
        "Trial 4: sampling stride 2, learning rate 0.002848, batch size 16. It reached skill 70 % (68 % to 72 %, in "
        "the sweep), clips per second 118 (114 to 122, alone; 106 in the sweep), cost to train 0.4 EUR (in the "
        "sweep)."
    )
    assert bounds.text == "What bounds them: 10 trials by compute, 1 trial by data."
    tiles = {tile.name: (tile.value, tile.detail) for tile in made.tiles}
    assert tiles["clips per second"] == ("118", "114 to 122, alone; 106 in the sweep")
    assert tiles["trials"] == ("12", "7 done, 2 stopped, 1 data-bound, 1 failed, 1 lost")
    assert tiles["took"] == ("2 h 13 min", "10 min 00 s of training each")
    assert [one.title for one in made.sections] == [
        *("Choice", "Clips", "Trials", "Importance", "Learning", "Time", "How to go on", "Record"),
    ]


def test_quality_is_drawn_against_speed_and_against_cost_with_the_front_of_those_that_had_the_whole_budget(
    sweep: Path,
) -> None:
    made = page(sweep)
    speed, cost = figure(made, "Skill against clips per second"), figure(made, "Skill against cost to train")

    assert (
        groups(speed)
        == groups(cost)
        == {
            "the best": ["4"],
            "Pareto set": ["1", "6", "7"],
            "other trials": ["0", "2", "3"],
            "not the whole budget": ["5", "8", "9", "10"],
        }
    )
    assert [one["marker"]["symbol"] for one in speed["data"][:2]] == [["circle"], ["circle"] * 3]  # measured alone
    assert cost["data"][0]["marker"]["symbol"] == ["circle-open"]
    assert speed["data"][-1]["x"] == [78, 118, 158, 170]
    assert cost["data"][-1]["x"] == [pytest.approx(0.4), pytest.approx(0.8)]  # trials 8 to 10 were cheaper: they ended
    assert speed["data"][0]["error_y"]["array"] == [pytest.approx(0.02)]
    assert cost["data"][0]["error_x"]["array"] == [None]  # nobody says how sure it is


def test_what_to_know_before_choosing_stands_at_the_top_word_for_word(sweep: Path, tmp_path: Path) -> None:
    notes = ["budgets are not quite equal: of theirs spent trials 3 (130%)", "no <b>GPU</b> was there"]
    made = page(changed(sweep, tmp_path, notes=[*notes, 3]))

    told = [(one.about, one.text, one.tone) for one in made.verdicts[1:-1]]
    assert told == [("Note", note, "warn") for note in notes]


def test_a_share_of_the_budget_is_said_where_it_is_not_as_good_as_all_of_it(sweep: Path, tmp_path: Path) -> None:
    told = json.loads((sweep / "sweep-result.json").read_text())
    for number, share in ((0, 1.3), (1, 1.02), (8, 0.25)):  # 8 was stopped, which is said elsewhere
        told["trials"][number]["budget_share"] = share
    folded = section(page(changed(sweep, tmp_path, trials=told["trials"])), "Trials").parts[-1]

    cells = [row[4] for row in table(folded.parts).rows]  # type: ignore[union-attr]
    assert cells[0].detail.endswith(" steps, 130 % of its budget")
    assert [number for number, cell in enumerate(cells) if cell.tone == "warn"] == [0]
    assert not any("budget" in cell.detail for cell in cells[1:])


def test_an_interval_of_one_training_says_that_it_is_within_it(sweep: Path, tmp_path: Path) -> None:
    told = json.loads((sweep / "sweep-result.json").read_text())
    told["trials"][4]["alone"]["repeats"] = 1
    made = page(changed(sweep, tmp_path, trials=told["trials"]))

    details = [row[2].detail for row in table(section(made, "Choice").parts).rows[:2]]
    assert details == ["114 to 122 within one training, alone; 106 in the sweep", "74 to 82, alone; 70.2 in the sweep"]
    assert "Each is one training" in section(made, "Choice").lead


def test_beside_the_cost_of_training_stands_what_all_of_it_came_to(sweep: Path, tmp_path: Path) -> None:
    tiles = {tile.name: tile for tile in page(sweep).tiles}
    assert tiles["paid, EUR"].value == "6.1"
    assert tiles["paid, EUR"].detail.startswith("5.26 of it for seconds of training; the rest for starts")
    assert not any("paid" in tile.name for tile in page(changed(sweep, tmp_path, bill={}, prices=None)).tiles)


def test_a_front_through_figures_of_both_kinds_says_so(sweep: Path, tmp_path: Path) -> None:
    def says(folder: Path) -> str:
        return next(one.says for one in figures_of(page(folder)) if one.title == "Skill against clips per second")

    assert "beyond the dotted line, by the figures that are drawn, of either kind." in says(sweep)
    told = json.loads((sweep / "sweep-result.json").read_text())
    for trial in told["trials"]:
        if "clips_per_s" in trial["objectives"]:
            trial["objectives"]["clips_per_s"]["measured"] = "in the sweep"
    assert "beyond the dotted line." in says(changed(sweep, tmp_path, trials=told["trials"]))


def test_the_best_of_a_population_cannot_be_trained_again_as_it_was(sweep: Path, tmp_path: Path) -> None:
    told = json.loads((sweep / "sweep-result.json").read_text())
    told["trials"][4]["runs"] = ["run", "run-0002"]
    (commands,) = section(page(changed(sweep, tmp_path, trials=told["trials"])), "How to go on").parts

    assert isinstance(commands, Commands)
    assert commands.lines[0][0] == "Train with the best's last values, from the start, which nobody has done yet"


def test_the_front_is_what_no_point_beats_in_both() -> None:
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 3.0), (3.0, 4.5), (0.5, 5.0)]
    assert front_of(points, x_smaller=False, y_smaller=False) == [(1.0, 5.0), (3.0, 4.5)]
    assert front_of(points, x_smaller=True, y_smaller=False) == [(0.5, 5.0)]
    assert front_of(points, x_smaller=True, y_smaller=True) == [(0.5, 5.0), (2.0, 3.0)]
    assert front_of([], x_smaller=True, y_smaller=True) == []


def test_cost_and_speed_are_drawn_also_when_nobody_chose_by_them(sweep: Path, tmp_path: Path) -> None:
    told = json.loads((sweep / "sweep-result.json").read_text())
    for trial in told["trials"]:
        trial["objectives"] = {name: one for name, one in trial["objectives"].items() if name == "skill"}
    told["trials"][6]["figures"] = {}
    made = page(changed(sweep, tmp_path, objectives=told["objectives"][:1], trials=told["trials"]))

    speed = figure(made, "Skill against clips per second")
    assert speed["data"][0]["x"] == [118]  # as it was measured alone
    assert speed["data"][0]["marker"]["symbol"] == ["circle"]
    assert speed["data"][0]["error_x"]["array"] == [pytest.approx(4)]
    assert speed["data"][1]["x"] == [78, pytest.approx(153), 158]  # trial 6, of its last look: nobody measured it again
    assert speed["data"][1]["marker"]["symbol"] == ["circle", "circle-open", "circle"]
    assert figure(made, "Skill against cost to train")["data"][0]["x"] == [pytest.approx(0.4)]


def test_the_table_of_the_pareto_set_says_which_figure_is_which(sweep: Path) -> None:
    parts = section(page(sweep), "Choice").parts
    found = table(parts)

    assert [column.title for column in found.columns] == [
        *("trial", "skill", "clips per second", "cost to train, EUR", "sampling", "learning rate", "batch size"),
    ]
    assert [row[0] for row in rows(found)] == ["trial 4", "trial 1", "trial 6", "trial 7"]
    assert [cell.detail for cell in found.rows[0]][:4] == [
        *("the best", "68 % to 72 %, in the sweep", "114 to 122, alone; 106 in the sweep", "in the sweep"),
    ]
    assert parts[-1] == Note(
        text="How the best was chosen. Trials within 2 % of the best skill count as equal, and clips per second "
        "decides. Trials within 5 % of the best clips per second count as equal, and cost to train decides."
    )


def test_trials_that_ended_early_say_how_and_why(sweep: Path, subjects: ModuleType) -> None:
    ended = table(section(page(sweep), "Trials").parts)

    assert [row[:3] for row in rows(ended)] == [
        ["trial 5", "lost", "3 min 30 s"],
        ["trial 8", "stopped", "2 min 30 s"],
        ["trial 9", "stopped", "2 min 30 s"],
        ["trial 10", "data-bound", "1 min 15 s"],
        ["trial 11", "failed", "0 s"],
    ]
    assert ended.rows[3][3].text == "42 % of its time waited for data, more than 40 % after 60 s"
    assert ended.rows[4][3].text == subjects.HOSTILE


def test_a_trial_at_work_has_not_ended_early_and_is_not_compared(sweep: Path, tmp_path: Path) -> None:
    told = json.loads((sweep / "sweep-result.json").read_text())
    told["trials"][0] |= {"state": "running", "why": ""}
    made = page(changed(sweep, tmp_path, trials=told["trials"]))

    assert "trial 0" not in [row[0] for row in rows(table(section(made, "Trials").parts))]
    assert "0" in groups(figure(made, "Skill against clips per second"))["not the whole budget"]


def test_all_trials_stand_in_one_table_and_only_what_was_measured_alone_is_marked(sweep: Path) -> None:
    folded = next(part for part in section(page(sweep), "Trials").parts if isinstance(part, Fold))
    found = table(folded.parts)

    assert [row[0] for row in rows(found)] == [f"trial {number}" for number in range(12)]
    marked = [row[2].detail for row in found.rows]
    assert [number for number, detail in enumerate(marked) if ", alone; " in detail] == [1, 4, 6, 7]
    assert {detail for number, detail in enumerate(marked) if number not in (1, 4, 6, 7)} == {""}
    assert found.rows[3][4].detail.endswith(" steps, 2 generations")
    assert rows(found)[11][1:4] == ["\u2013"] * 3


def test_parallel_coordinates_lead_each_trial_through_its_values_to_what_it_reached(sweep: Path) -> None:
    drawn = figure(page(sweep), "Which values went with what")

    heads = ["sampling", "learning rate", "batch size", "skill", "clips per<br>second", "cost to train"]
    assert [head.replace("<b>", "").replace("</b>", "") for head in drawn["layout"]["yaxis"]["ticktext"]] == heads
    names = [one["name"] for one in drawn["data"]]
    assert names == ["not the whole budget", "worst third", "middle third", "best third", "the best"]
    best = drawn["data"][-1]
    assert best["y"] == [0, 1, 2, 3, 4, 5, None]
    assert best["x"][0] == 0.5  # `stride 2` of three strides
    assert best["x"][1] == pytest.approx(math.log(2.848e-3 / 1e-4) / math.log(1e-2 / 1e-4), abs=1e-3)
    assert best["x"][2] == 0.5  # 16 of 8, 16, 32
    assert best["x"][4] == pytest.approx((118 - 59.4) / (170 - 59.4), abs=1e-4)
    dearest, cheapest = (one["text"] for one in drawn["layout"]["annotations"][-2:])
    assert (dearest, cheapest) == ("0.8", "0.05")  # less is better, so the row is turned


def test_what_could_only_be_one_thing_is_no_dimension(sweep: Path, tmp_path: Path) -> None:
    told = json.loads((sweep / "sweep-result.json").read_text())
    told["parameters"][2]["values"] = [8]
    drawn = figure(page(changed(sweep, tmp_path, parameters=told["parameters"])), "Which values went with what")
    assert len(drawn["layout"]["yaxis"]["ticktext"]) == 5


def test_learning_curves_go_over_seconds_and_only_few_have_a_name(sweep: Path) -> None:
    drawn = figure(page(sweep), "Skill over seconds of training")

    named = {one["customdata"][0]: one for one in drawn["data"]}
    assert list(named)[1:5] == ["trial 4 (the best)", "trial 1", "trial 6", "trial 7"]
    assert len(drawn["data"]) == 7  # six, and the others as one
    assert named["trial 7"]["x"] == [75 * look for look in range(1, 9)]
    others = drawn["data"][0]
    assert (others["line"]["color"], others["x"].count(None)) == ("#8A93A0", 5)


def test_each_trials_seconds_are_stacked_by_cause(sweep: Path) -> None:
    drawn = figure(page(sweep), "What each trial's time went into")

    causes = {one["name"]: one for one in drawn["data"]}
    assert list(causes) == [
        *("computing", "waiting for data", "saving checkpoints", "validating", "done in vain", "starting"),
    ]
    assert causes["done in vain"]["x"] == [0, 0, 0, 0, 0, 90, 0, 0, 0, 0, 0]
    assert causes["computing"]["y"][4:6] == ["trial 4 (best)", "trial 5"]
    bounds = table(section(page(sweep), "Time").parts)
    assert [row[:3] for row in rows(bounds)][-1] == ["trial 10", "data", "42 %"]


def test_importance_is_optunas_for_each_objective(sweep: Path) -> None:
    drawn = figure(page(sweep), "Skill")["data"][0]

    assert dict(zip(drawn["y"], drawn["x"], strict=True)) == {
        "sampling": 0.71,
        "learning rate": 0.27,
        "batch size": 0.02,
    }
    lead = section(page(sweep), "Importance").lead
    assert lead.startswith("What tells the better half of 7 trials with the whole budget from all of them")
    (says,) = (one.says for one in figures_of(page(sweep)) if one.title == "Skill")
    assert says == "Sampling tells them apart most: 71 %."


def test_clips_of_the_pareto_set_lie_side_by_side_the_best_first(sweep: Path) -> None:
    films = section(page(sweep, clips=2), "Clips").parts[0]

    assert isinstance(films, FilmTable)
    assert films.columns == ("trial 4, the best, 70 %", "trial 1, 70 %", "trial 6, 55 %", "trial 7, 68 %")
    assert len(films.rows) == 2
    assert all(film is not None and film.moves for row in films.rows for film in row.films)


def test_the_best_can_be_trained_by_what_the_page_says(sweep: Path) -> None:
    (commands,) = section(page(sweep), "How to go on").parts

    assert isinstance(commands, Commands)
    assert dict(commands.lines)["Train the best, from the start"] == f"cineray train {sweep}/best.yaml"
    assert dict(commands.lines)["What the best learnt in the sweep"] == f"cineray report {sweep}/trials/0004/run"


def test_what_a_sweep_left_behind_is_said_at_the_top(sweep: Path, tmp_path: Path) -> None:
    made = page(changed(sweep, tmp_path, leaks={"placement_groups": 2, "actors": 0, "store_bytes": 0}))

    assert (made.verdicts[-1].about, made.verdicts[-1].tone) == ("Leaks", "bad")
    assert made.verdicts[-1].text == "Left behind on the cluster: 2 placement groups."


def test_a_sweep_in_which_nothing_could_be_judged_says_so(sweep: Path, tmp_path: Path) -> None:
    told = json.loads((sweep / "sweep-result.json").read_text())
    made = page(changed(sweep, tmp_path, trials=told["trials"][11:], pareto=[], best=None, importance={}))

    assert made.verdicts[0].text == "None: no trial has had its whole budget."
    assert section(made, "Choice").parts[0] == Note(
        text="No trial has reached a figure that it could be judged by.", tone="warn"
    )
    assert [one.title for one in made.sections] == ["Choice", "Trials", "Learning", "Time", "How to go on", "Record"]


def test_what_nobody_knows_is_named_where_it_keeps_the_best_from_being_chosen(sweep: Path, tmp_path: Path) -> None:
    told = json.loads((sweep / "sweep-result.json").read_text())
    for trial in told["trials"]:
        trial["objectives"].pop("clips_per_s", None)
        trial["figures"] = {}
        trial["curve"] = [look | {"clips_per_s": None} for look in trial["curve"]]
    made = page(changed(sweep, tmp_path, trials=told["trials"], pareto=[], best=None))

    assert made.verdicts[0].text == "None: no trial has a value of clips per second."
    heads = figure(made, "Which values went with what")["layout"]["yaxis"]["ticktext"]
    assert [head.replace("<b>", "").replace("</b>", "") for head in heads][3:] == ["skill", "cost to train"]


@pytest.mark.parametrize(
    "broken",
    [
        {"trials": None, "objectives": None, "parameters": 7},
        {"trials": [{}, 7, {"number": 1, "curve": "x", "objectives": {"skill": 0.5}, "samples": {"file": "../x"}}]},
        {"importance": {"skill": 3}, "leaks": [], "budget": None, "pareto": {"a": 1}, "best": "4"},
        {
            "objectives": [{"name": "odd"}],
            "wasted": {"share": "much"},
            "notes": "odd",
            "prices": 3,
            "bill": {"whole": "x"},
        },
        {
            "comparisons": {"best": 4, "pairs": [{}, 3, {"trial": "x", "objective": 3, "difference": 0.1}]},
            "concurrent": "x",
        },
        {
            "comparisons": {"best": None, "pairs": 3},
            "trials": [{"number": 4, "figures": {"clips_per_s": 3, "odd": None}}],
        },
        {"notes": [3, None], "trials": [{"number": 1, "alone": 3, "budget_share": "all", "state": "done"}]},
    ],
)
def test_a_sweep_of_another_cineray_still_has_a_page(broken: dict[str, Any], sweep: Path, tmp_path: Path) -> None:
    assert page(changed(sweep, tmp_path, **broken)).title == "sampling-1a2b3c4d"
