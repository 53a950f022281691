"""What `cineray sweep` takes for its job, what it refuses, and what it prints at the end."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

import cineray.cli.sweep as command
from cineray.cli.main import app
from cineray.cli.sweep_table import sweep_tables
from cineray.cli.train import trained
from cineray.errors import UsageError
from cineray.sweep import SweepFolder, SweepJob

MADE = Path(__file__).resolve().parents[1] / "report/made_sweep.py"
TOLD: dict[str, Any] = {
    "kind": "sweep",
    "name": "sampling",
    "base": {"name": "base", "steps": 10, "recipe": {"datasets": [{"lake": "lake"}], "batch_size": 4}},
    "space": {"stride": {"kind": "choice", "field": "recipe.sampling.stride", "values": [1, 2]}},
    "objectives": [{"name": "skill"}],
    "budget": {"seconds": 600},
    "quick": ["budget.seconds=20", "trials=2"],
}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(TOLD))
    return path


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A sweep's folder with a result, of twelve trials."""
    spec = importlib.util.spec_from_file_location("cineray_made_sweep", MADE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def clip(path: Path, number: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no video")

    folder: Path = module.make_sweep(tmp_path / "made", hostile="a worker [red]died", clip=clip)
    return folder


def facts(made: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((made / "sweep-result.json").read_text())
    return command.printed(told, f"{made}/report.html")


def told(where: str, sets: list[str], *, quick: bool = False, sweep: str = "") -> tuple[SweepJob, str]:
    return command._told(where, sets, quick=quick, sweep=sweep)


def begun(job: Path, place: Path) -> SweepFolder:
    """A sweep of this job that has no trial yet."""
    config, _ = told(str(job), [])
    judge = config.judge.model_copy(update={"recipe": config.base.recipe})
    return SweepFolder.create(config.model_copy(update={"judge": judge}), str(place))


def test_quick_lays_the_jobs_own_settings_over_it_and_set_over_those(job: Path) -> None:
    assert told(str(job), [])[0].budget.seconds == 600
    quick, place = told(str(job), ["trials=3"], quick=True, sweep="here")

    assert (quick.budget.seconds, quick.trials, place) == (20, 3, "here")


def test_a_job_without_quick_settings_cannot_be_quick(job: Path) -> None:
    job.write_text(yaml.safe_dump(TOLD | {"quick": []}))
    with pytest.raises(UsageError, match=r"--quick is given but .* has no quick settings"):
        told(str(job), [], quick=True)


def test_one_job_is_no_sweep_and_a_sweep_is_not_one_job(job: Path, tmp_path: Path) -> None:
    one = tmp_path / "train.yaml"
    one.write_text(yaml.safe_dump({"kind": "train", **TOLD["base"]}))

    with pytest.raises(UsageError, match="is a TrainJob, which is one job and not a space of them; wanted a SweepJob"):
        told(str(one), [])
    with pytest.raises(UsageError, match=f"many trainings; start them with: cineray sweep {job}"):
        trained(str(job), [])


def test_a_sweeps_folder_goes_on_with_its_own_job(job: Path, tmp_path: Path) -> None:
    sweep = begun(job, tmp_path / "sweeps/one")

    again, place = told(sweep.uri, [])

    assert (again, place) == (sweep.job(), sweep.uri)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"sets": ["trials=9"]}, r"its job does not change, and --set trials=9 is given.*sweep\.yaml --set trials=9"),
        ({"quick": True}, "and --quick is given; leave it out"),
        ({"sweep": "other"}, "--sweep names other; leave --sweep out to go on with it"),
    ],
)
def test_a_sweep_that_goes_on_does_not_change(given: dict[str, Any], complaint: str, job: Path, tmp_path: Path) -> None:
    sweep = begun(job, tmp_path / "one")
    with pytest.raises(UsageError, match=complaint):
        told(sweep.uri, given.pop("sets", []), **given)


def test_what_is_printed_as_json_is_the_result_without_its_curves(made: Path) -> None:
    found = facts(made)

    assert {"trials", "pareto", "best", "report", "importance", "wasted", "leaks"} <= set(found)
    assert (found["best"], found["pareto"]) == (4, [1, 4, 6, 7])
    assert not {"curve", "seconds_by_cause", "samples"} & set(found["trials"][4])
    assert found["trials"][4]["objectives"]["clips_per_s"]["measured"] == "alone"


def printed(found: dict[str, Any], width: int = 160) -> list[str]:
    out = io.StringIO()
    for part in sweep_tables(found):
        Console(file=out, width=width).print(part)
    return [" ".join(line.split()) for line in out.getvalue().splitlines() if line.strip()]


def test_the_table_begins_with_the_best_and_marks_what_was_measured_alone(made: Path) -> None:
    lines = printed(facts(made))

    assert lines[1] == "trial sampling learning rate batch size skill clips per second cost to train bound by"
    assert lines[2] == "4 best stride 2 0.00285 16 0.696±0.02 118±4* 0.4 compute"
    assert [line.split()[:2] for line in lines[3:9]] == [
        *(["1", "Pareto"], ["7", "Pareto"], ["6", "Pareto"], ["3", "done"], ["2", "done"], ["0", "done"]),
    ]
    assert " ".join(lines[14:16]) == (
        "± is half of the 95 % interval; * was measured again, alone, in 3 trainings; all else in the sweep, beside "
        "other trials; each trial is one training: small differences in quality may be its seed's"
    )
    assert lines[13] == "11 failed stride 4 0.00187 8 - - - -"


def test_an_interval_of_hundreds_is_no_power_of_ten(made: Path) -> None:
    found = facts(made)
    found["trials"][4]["objectives"]["clips_per_s"] |= {"value": 348.2, "low": 273.4, "high": 470.1}
    assert printed(found)[2] == "4 best stride 2 0.00285 16 0.696±0.02 348±122* 0.4 compute"


def test_trials_that_ended_early_have_their_reason_below(made: Path) -> None:
    lines = printed(facts(made))
    early = lines[lines.index("ended early") + 1 :][:5]

    assert early[0] == "5 lost its machine was lost, 3 times"
    assert early[-1] == "11 failed a worker [red]died"


def test_a_trial_at_work_has_not_ended_early(made: Path) -> None:
    found = facts(made)
    found["trials"][11] |= {"state": "running", "why": ""}
    lines = printed(found)
    assert lines[lines.index("ended early") + 4].startswith("10 data-bound")
    assert lines[lines.index("ended early") + 5].startswith("sweep ")


def test_an_interval_of_one_training_says_that_it_is_within_it(made: Path) -> None:
    found = facts(made)
    found["trials"][4]["alone"]["repeats"] = 1
    assert "alone, in one training, and its ± is within that; all else in the sweep" in " ".join(printed(found))


def test_without_figures_that_were_measured_alone_there_is_no_star_to_explain(made: Path) -> None:
    found = facts(made)
    found["trials"] = [trial for trial in found["trials"] if not trial["alone"]]
    text = " ".join(printed(found))
    assert "*" not in text
    assert "each trial is one training: small differences in quality may be its seed's" in text


def test_trials_one_at_a_time_are_not_said_to_have_been_beside_each_other(made: Path) -> None:
    text = " ".join(printed(facts(made) | {"concurrent": 1}))
    assert "all else in the sweep, one trial at a time, with its first seconds; each trial" in text
    assert "beside other trials" not in text


def test_what_was_measured_alone_is_told_where_it_has_no_column(made: Path) -> None:
    found = facts(made)
    found["objectives"] = found["objectives"][:1]
    assert "measured alone trial 4 118±4, trial 1 78±4, trial 7 158±4, trial 6 170±4 clips per second" in printed(found)
    assert not any(line.startswith("measured alone") for line in printed(facts(made)))


def test_what_to_know_before_choosing_stands_below_the_table_word_for_word(made: Path) -> None:
    lines = printed(facts(made) | {"notes": ["budgets are not quite equal", "[red]odd[/] but true"]})
    at = lines.index("to know before choosing")
    assert lines[at + 1 : at + 3] == ["! budgets are not quite equal", "! [red]odd[/] but true"]
    assert "to know before choosing" not in printed(facts(made))


def test_budgets_that_were_not_equal_show_by_how_much(made: Path) -> None:
    found = facts(made)
    assert "budget 600 s of training each" in printed(found)
    found["trials"][0]["budget_share"], found["trials"][8]["budget_share"] = 1.3, 0.1  # trial 8 was stopped
    assert "budget 600 s of training each; the trials had 100% to 130% of it" in printed(found)


def test_eighty_columns_are_enough(made: Path) -> None:
    lines = printed(facts(made), width=80)
    assert "4 best stride 2 0.00285 16 0.696±0.02 118±4* 0.4 compute" in lines


def test_below_the_table_stands_what_to_do_next(made: Path) -> None:
    told_facts = facts(made) | {"leaks": {"placement_groups": 1, "actors": 0, "store_bytes": 0}}
    lines = printed(told_facts)

    assert lines[-11:] == [
        f"sweep {made}",
        "trials 12: 7 done, 1 lost, 2 stopped, 1 data-bound, 1 failed",
        "took 7,980 s",
        "budget 600 s of training each",
        "paid about 6.1 EUR, 5.26 of it for seconds of training; without evaluations",
        "clip by clip skill: trial 1 within chance, trials 6, 7 surely worse than the best; on the same clips, by one "
        "training each",
        "mattered most sampling for skill, batch size for clips per s",
        "ended early 12% of all seconds of training",
        "left behind 1 placement group",
        f"best trial 4: cineray train {made}/best.yaml",
        f"report {made}/report.html",
    ]


def test_the_command_sweeps_makes_the_page_and_prints_what_came_of_it(
    made: Path, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials themselves are tests/unit/sweep's; here they have been run before, and Ray is not even loaded."""
    asked: list[Any] = []

    def run_sweep(given: SweepJob, *, uri: str, address: str, watchers: list[Any]) -> dict[str, Any]:
        asked.append((given.trials, uri, address, len(watchers)))
        result: dict[str, Any] = json.loads((made / "sweep-result.json").read_text())
        return result

    ray_sweep = ModuleType("cineray.sweep.ray_sweep")
    ray_sweep.run_sweep = run_sweep  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, ray_sweep.__name__, ray_sweep)
    done = CliRunner().invoke(app, ["sweep", str(job), "--quick", "--sweep", str(made), "--json"])

    assert done.exit_code == 0, done.output
    assert asked == [(2, str(made), "", 1)]
    assert json.loads(done.stdout)["report"] == str(made / "report.html")
    assert (made / "report.html").stat().st_size > 100_000
