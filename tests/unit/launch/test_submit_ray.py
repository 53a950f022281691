"""Jobs on a real Ray with its dashboard and a token: sent once, followed, stopped, gone on with, and nothing told.

Ray is started once for all of them. Each test runs the command line as its user does, in a process of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
import requests

from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.launch import package as package_module
from cineray.launch.references import Secret
from cineray.launch.submission import Submission
from cineray.testing import make_shapes
from cineray.testing.ray_head import RayHead
from cineray.train import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

CANARY = "canary-5d81f0a6c93e47b2"
JOB = """
kind: train
name: tiny
recipe:
  datasets: [{lake: lake, split: null}]
  sampling: {mode: fps, fps: "8", frames: 4}
  frame: {height: 16, width: 16}
  batch_size: 4
feed: {driver: local}
steps: 4
model: {kind: stdit, size: custom, width: 24, depth: 1, heads: 2, patch: [1, 8, 8]}
precision: fp32
validation: {every_steps: 0}
checkpoint: {every_steps: 2}
parallel: {cpus_per_worker: 0.5}
"""
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


@dataclass(frozen=True)
class Place:
    """A cluster, and a project outside of it."""

    head: RayHead
    project: Path
    shared: Path
    installed: Path

    def run(self, *words: object, code: int | None = 0, env: dict[str, str] | None = None) -> tuple[Any, str]:
        """A command of cineray's: what it says on standard output, and its words."""
        command = [sys.executable, "-m", "cineray", *map(str, words)]
        done = subprocess.run(
            command, cwd=self.project, env=self.environment | (env or {}), capture_output=True, text=True, check=False
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return (lines[0] if len(lines) == 1 else lines), done.stderr

    def submit(self, *words: object, **how: Any) -> tuple[Any, str]:
        return self.run("submit", *words, "--address", self.head.dashboard, "--json", **how)

    def jobs(self, verb: str, *words: object, **how: Any) -> tuple[Any, str]:
        return self.run("jobs", verb, *words, "--address", self.head.dashboard, **how)

    @property
    def environment(self) -> dict[str, str]:
        """Of a client: the token, and an address of another cluster, which --address must overrule."""
        told = {"PYTHONPATH": str(self.installed), "RAY_ADDRESS": "http://127.0.0.1:9", "COLUMNS": "200"}
        return self.head.environment | told


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("submit")
    project, shared = folder / "project", folder / "shared"
    project.mkdir()
    (project / "job.yaml").write_text(JOB)
    make_shapes(shared / "videos", videos=6)
    ingest(IngestConfig(source=str(shared / "videos"), lake=str(shared / "lake")), EngineConfig(engine="local"))
    # A copy, as pip would install it: nobody edits it while the tests run.
    shutil.copytree(Path(package_module.__file__).parents[1], folder / "installed" / "cineray")
    with RayHead(cpus=3) as head:
        yield Place(head, project, shared, folder / "installed")


@pytest.fixture(scope="module")
def trained(place: Place) -> tuple[dict[str, Any], str]:
    """A training that was sent and followed to its end."""
    return place.submit("train", "job.yaml", "--places", place.shared, "--follow")


def test_a_training_is_followed_to_its_verdict(place: Place, trained: tuple[dict[str, Any], str]) -> None:
    told, said = trained
    assert (told["status"], told["exit_code"], told["how"], told["attempt"]) == ("SUCCEEDED", 0, "sent", 1)
    assert told["result"]["step"] == 4
    assert told["verdict"] == told["result"]["verdict"] != ""
    assert told["run"].startswith(f"{place.shared}/runs/tiny-")
    assert RunFolder.open(told["run"]).job_facts()["feed"]["driver"] == "ray"
    assert "files travel; the largest: " in said
    assert "cineray train on " in said, "its logs are shown"


def test_a_finished_job_that_is_sent_again_is_told_and_not_done_again(
    place: Place, trained: tuple[dict[str, Any], str]
) -> None:
    again, said = place.submit("train", "job.yaml", "--places", place.shared, "--follow")
    assert (again["submission_id"], again["how"]) == (trained[0]["submission_id"], "finished")
    assert again["verdict"] == trained[0]["verdict"]
    assert "has succeeded already; nothing was sent" in said


def test_jobs_are_listed_and_told_of(place: Place, trained: tuple[dict[str, Any], str]) -> None:
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


def test_a_stopped_training_saves_and_sent_again_goes_on_where_it_was(place: Place) -> None:
    words = ("train", "job.yaml", "--places", place.shared, "--set", "steps=5000", "--label", "long")
    sent, _ = place.submit(*words)
    run = Path(sent["run"])
    attached, said = place.submit(*words)
    assert (attached["submission_id"], attached["how"]) == (sent["submission_id"], "attached")
    assert "is at work already; nothing was sent" in said
    _, said = place.submit(*words, "--set", "checkpoint.keep_last=3", "--run", run, code=2)
    assert f"{sent['submission_id']} is at work on the run {run}" in said

    until(lambda: len(list((run / "checkpoints").glob("*"))) > 1)
    stopped, _ = place.jobs("stop", sent["submission_id"])
    assert stopped["status"] == "STOPPED"
    events = RunFolder.open(str(run)).events()
    assert [event["reason"] for event in events if event["event"] == "end"] == ["interrupted"], "told, and not killed"
    saved = [event["step"] for event in events if event["event"] == "saved"][-1]

    again, said = place.submit(*words)
    assert (again["attempt"], again["how"]) == (2, "sent")
    assert "the one before it ended as STOPPED, and this one goes on" in said
    until(lambda: any(event["event"] == "restored" for event in RunFolder.open(str(run)).events()))
    assert [event["step"] for event in RunFolder.open(str(run)).events() if event["event"] == "restored"] == [saved]
    place.jobs("stop", again["submission_id"])


def test_the_exit_code_is_the_jobs_and_a_failed_one_has_a_next_attempt(place: Place) -> None:
    words = ("ingest", place.shared / "none", "--lake", place.shared / "lake2", "--follow")
    told, said = place.submit(*words, code=1)
    assert (told["status"], told["exit_code"], told["attempt"]) == ("FAILED", 1, 1)
    assert "none" in said
    again, said = place.submit(*words, code=1)
    assert again["attempt"] == 2
    assert "ended as FAILED" in said


def test_the_value_of_a_secret_is_found_nowhere(place: Place, tmp_path: Path) -> None:
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


def test_a_secret_reaches_the_driver_and_every_worker(place: Place, tmp_path: Path) -> None:
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


def test_a_secret_that_the_nodes_lack_ends_the_job_before_it_begins(place: Place) -> None:
    words = ("ingest", place.shared / "videos", "--lake", place.shared / "lake4", "--secret", "NOT_THERE_KEY")
    told, said = place.submit(*words, "--follow", code=1)
    assert told["status"] == "FAILED"
    assert "NOT_THERE_KEY: no such variable in the environment of Ray's processes" in said
    assert not (place.shared / "lake4").exists()


def test_a_value_that_would_travel_is_refused_before_anything_is_sent(place: Place) -> None:
    (place.project / "notes.txt").write_text(f"key: {CANARY}")
    _, said = place.submit("train", "job.yaml", "--places", place.shared, code=2, env={"CANARY_KEY": CANARY})
    (place.project / "notes.txt").unlink()
    assert "the file notes.txt holds the value of $CANARY_KEY" in said
    assert CANARY not in said


def test_without_the_token_nothing_is_sent_and_the_error_says_what_is_wanted(place: Place) -> None:
    wrong = {"RAY_AUTH_MODE": "disabled"}
    _, said = place.submit("train", "job.yaml", "--places", place.shared, code=1, env=wrong)
    assert "wants a token" in said
    assert "RAY_AUTH_TOKEN_PATH" in said


def test_rays_own_submission_works_with_a_checkout(place: Place) -> None:
    """What README shows for those who have no cineray on their machine."""
    run = place.shared / "runs" / "plain"
    sets = [f"recipe.datasets.0.lake={place.shared / 'lake'}", "feed.driver=ray"]
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
    assert max(int(path.name.split("-")[-1]) for path in (run / "checkpoints").iterdir()) == 4


def logs(place: Place, submission_id: str) -> str:
    command = [sys.executable, "-m", "cineray", "jobs", "logs", submission_id, "--address", place.head.dashboard]
    return subprocess.run(command, env=place.environment, capture_output=True, text=True, check=True).stdout


def until(holds: Any, seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.5)
