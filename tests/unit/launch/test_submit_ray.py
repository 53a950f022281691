"""Jobs on a real Ray with its dashboard and a token: sent once, followed, stopped, gone on with, and nothing told.

The Ray and the project are those of conftest.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
import requests

from cineray.launch.references import Secret
from cineray.launch.submission import Submission
from cineray.train import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

CANARY = "canary-5d81f0a6c93e47b2"
TELLS = """
import os
from cineray.launch.references import VARIABLE, check_secrets
check_secrets("here")  # as cineray.launch.start does, before it becomes the command
import ray
ray.init(logging_level="error", log_to_driver=False)
@ray.remote(num_cpus=0.1)
def has(): return len(os.environ.get("CANARY_KEY", ""))
print({"here": len(os.environ.get("CANARY_KEY", "")), "worker": ray.get(has.remote()), "told": os.environ[VARIABLE]})
"""


@pytest.fixture(scope="module")
def trained(place: Any) -> tuple[dict[str, Any], str]:
    """A training that was sent and followed to its end."""
    return place.submit("train", "job.yaml", "--places", place.shared, "--follow")


def test_a_training_is_followed_to_its_verdict(place: Any, trained: tuple[dict[str, Any], str]) -> None:
    told, said = trained
    assert (told["status"], told["exit_code"], told["how"], told["attempt"]) == ("SUCCEEDED", 0, "sent", 1)
    assert told["result"]["step"] == 4
    assert told["verdict"] == told["result"]["verdict"] != ""
    assert told["run"].startswith(f"{place.shared}/runs/tiny-")
    assert RunFolder.open(told["run"]).job_facts()["feed"]["driver"] == "ray"
    assert "files travel; the largest: " in said
    assert "cineray train on " in said, "its logs are shown"


def test_it_decodes_on_the_nodes_that_are_for_that_and_trains_on_others(
    place: Any, trained: tuple[dict[str, Any], str]
) -> None:
    told, said = trained
    field = "feed.decode_subcluster=decode"
    assert f"for the cluster: --set {field}, because nodes of the cluster carry ray-subcluster=decode" in said
    assert told["command"].endswith(f"--set {field}")
    assert RunFolder.open(told["run"]).job_facts()["feed"]["decode_subcluster"] == "decode"
    (decodes,) = [node["node_id"] for node in place.facts("nodes") if "ray-subcluster" in node["labels"]]
    tasks = place.facts("tasks")
    assert {task["node_id"] for task in tasks if "MapBatches" in task["name"]} == {decodes}
    listed = {task["node_id"] for task in tasks if "PlanRows" in task["name"]}
    assert len(listed) == 1, "rows are listed where decoding is not: a node that lists is never idle"
    assert decodes not in listed
    bundles = [bundle for group in place.facts("placement_groups") for bundle in group["bundles"]]
    assert len(bundles) > 0
    assert decodes not in {bundle["node_id"] for bundle in bundles}


def test_a_finished_job_that_is_sent_again_is_told_and_not_done_again(
    place: Any, trained: tuple[dict[str, Any], str]
) -> None:
    again, said = place.submit("train", "job.yaml", "--places", place.shared, "--follow")
    assert (again["submission_id"], again["how"]) == (trained[0]["submission_id"], "finished")
    assert again["verdict"] == trained[0]["verdict"]
    assert "has succeeded already; nothing was sent" in said


def test_jobs_are_listed_and_told_of(place: Any, trained: tuple[dict[str, Any], str]) -> None:
    wanted = trained[0]["submission_id"]
    rows, _ = place.jobs("list")
    rows = rows if isinstance(rows, list) else [rows]
    (row,) = [row for row in rows if row["submission_id"] == wanted]
    assert (row["status"], row["command"], row["run"]) == ("SUCCEEDED", "train", trained[0]["run"])
    status, _ = place.jobs("status", wanted[:-2])
    assert (status["submission_id"], status["verdict"]) == (wanted, trained[0]["verdict"])
    _, said = place.jobs("status", "nothing", code=2)
    assert "no jobs at" in said
    assert wanted in said


def test_a_stopped_training_saves_and_sent_again_goes_on_where_it_was(place: Any) -> None:
    sets = ("--set", "steps=100000", "--set", "feed.driver=local")  # under Ray it starts later, and stops the same way
    words = ("train", "job.yaml", "--places", place.shared, *sets, "--label", "long")
    sent, _ = place.submit(*words)
    run = Path(sent["run"])
    attached, said = place.submit(*words)
    assert (attached["submission_id"], attached["how"]) == (sent["submission_id"], "attached")
    assert "is at work already; nothing was sent" in said
    _, said = place.submit(*words, "--set", "checkpoint.keep_last=3", "--run", run, code=2)
    assert f"{sent['submission_id']} is at work on the run {run}" in said

    place.until(lambda: len(list((run / "checkpoints").glob("*"))) > 1)
    stopped, _ = place.jobs("stop", sent["submission_id"])
    assert stopped["status"] == "STOPPED"
    events = RunFolder.open(str(run)).events()
    assert [event["reason"] for event in events if event["event"] == "end"] == ["interrupted"], "told, and not killed"
    saved = [event["step"] for event in events if event["event"] == "saved"][-1]

    again, said = place.submit(*words)
    assert (again["attempt"], again["how"]) == (2, "sent")
    assert "the one before it ended as STOPPED, and this one goes on" in said
    place.until(lambda: any(event["event"] == "restored" for event in RunFolder.open(str(run)).events()))
    assert [event["step"] for event in RunFolder.open(str(run)).events() if event["event"] == "restored"] == [saved]
    place.jobs("stop", again["submission_id"], "--wait", 0)


def test_a_secret_that_the_nodes_lack_ends_the_job_before_it_begins_with_its_exit_code_and_another_try_is_the_next(
    place: Any,
) -> None:
    words = ("ingest", place.shared / "videos", "--lake", place.shared / "lake4", "--secret", "NOT_THERE_KEY")
    told, said = place.submit(*words, "--follow", code=1)
    assert (told["status"], told["exit_code"], told["attempt"]) == ("FAILED", 1, 1)
    assert "NOT_THERE_KEY: no such variable in the environment of Ray's processes" in said
    assert not (place.shared / "lake4").exists()
    again, said = place.submit(*words, "--cpus", 0.5)
    assert (again["attempt"], again["how"]) == (2, "sent")
    assert "ended as FAILED, and this one goes on" in said
    starts = {one["name"]: one["required_resources"] for one in place.facts("actors") if one["name"]}
    assert starts[f"_ray_internal_job_actor_{again['submission_id']}"]["CPU"] == 0.5, "it starts where there is room"


def test_the_value_of_a_secret_is_found_nowhere_and_an_ingest_sent_again_looks_again(
    place: Any, tmp_path: Path
) -> None:
    held = tmp_path / "canary"
    held.write_text(CANARY + "\n")
    held.chmod(0o600)
    words = ("ingest", place.shared / "videos", "--lake", place.shared / "lake3", "--code", "here")
    told, said = place.submit(*words, "--secret", f"CANARY_KEY@{held}", "--follow", env={"CANARY_KEY": CANARY})
    assert told["secrets"] == [f"CANARY_KEY@{held}"]
    seen = [json.dumps(told), said, json.dumps(place.jobs("list")[0]), logs(place, told["submission_id"])]
    headers = {"Authorization": f"Bearer {place.head.token}"}
    for route in ("api/jobs/", f"api/jobs/{told['submission_id']}", "api/v0/jobs?detail=1", "api/v0/runtime_envs"):
        seen.append(requests.get(f"{place.head.dashboard}/{route}", headers=headers, timeout=60).text)
    assert f"CANARY_KEY@{held}" in seen[4], "the job was there to be asked for"
    folders = (place.head.session().resolve(), place.shared)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    seen += [path.read_text(errors="replace") for path in files]
    assert len(files) > 20
    assert not [text[:200] for text in seen if CANARY in text]
    assert (told["result"]["videos"], told["how"]) == (6, "sent")
    again, said = place.submit(*words, "--secret", f"CANARY_KEY@{held}", env={"CANARY_KEY": CANARY})
    assert (again["attempt"], again["how"]) == (2, "sent"), "there may be new videos by now"
    assert "ended as SUCCEEDED, and this one looks again at what lies there now" in said


def test_a_secret_reaches_the_driver_and_every_worker(place: Any, tmp_path: Path) -> None:
    held = tmp_path / "canary"
    held.write_text(CANARY)
    submission = Submission(words=("x",), name="x", package="x", secrets=(Secret("CANARY_KEY", str(held)),))
    told = submission.runtime_env(None)
    own = place.environment["PYTHONPATH"]
    told["env_vars"]["PYTHONPATH"] = own
    (tmp_path / "tells.py").write_text(TELLS)
    ray_job = [*(sys.executable, "-m", "ray.scripts.scripts", "job", "submit"), "--address", place.head.dashboard]
    env = {name: value for name, value in place.environment.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [*ray_job, "--runtime-env-json", json.dumps(told), "--", sys.executable, str(tmp_path / "tells.py")],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    wanted = {"here": len(CANARY), "worker": len(CANARY), "told": f"CANARY_KEY@{held}"}
    assert str(wanted) in done.stdout, done.stdout[-2000:]
    assert CANARY not in done.stdout + done.stderr


def test_a_value_that_would_travel_is_refused_before_anything_is_sent(place: Any) -> None:
    (place.project / "notes.txt").write_text(f"key: {CANARY}")
    _, said = place.submit("train", "job.yaml", "--places", place.shared, code=2, env={"CANARY_KEY": CANARY})
    (place.project / "notes.txt").unlink()
    assert "the file notes.txt holds the value of $CANARY_KEY" in said
    assert CANARY not in said


def test_without_the_token_nothing_is_sent_and_the_error_says_what_is_wanted(place: Any) -> None:
    wrong = {"RAY_AUTH_MODE": "disabled"}
    _, said = place.submit("train", "job.yaml", "--places", place.shared, code=1, env=wrong)
    assert "wants a token" in said
    assert "RAY_AUTH_TOKEN_PATH" in said


def test_rays_own_submission_works_with_a_checkout(place: Any) -> None:
    """What README shows for those who have no cineray on their machine."""
    run = place.shared / "runs" / "plain"
    sets = [f"recipe.datasets.0.lake={place.shared / 'lake'}", "feed.driver=local", "steps=2"]
    words = ["python", "-m", "cineray", "train", "job.yaml", "--run", run, *(w for one in sets for w in ("--set", one))]
    env = {name: value for name, value in place.environment.items() if name != "RAY_ADDRESS"}
    environment = json.dumps({"env_vars": {"PYTHONPATH": place.environment["PYTHONPATH"]}})
    ray_job = [*(sys.executable, "-m", "ray.scripts.scripts", "job", "submit"), "--address", place.head.dashboard]
    done = subprocess.run(
        [*ray_job, "--working-dir", ".", "--runtime-env-json", environment, "--", *map(str, words)],
        cwd=place.project,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"verdict": ' in done.stdout
    assert max(int(path.name.split("-")[-1]) for path in (run / "checkpoints").iterdir()) == 2


def logs(place: Any, submission_id: str) -> str:
    command = [sys.executable, "-m", "cineray", "jobs", "logs", submission_id, "--address", place.head.dashboard]
    return subprocess.run(command, env=place.environment, capture_output=True, text=True, check=True).stdout
