"""A run's record: what is in it, that it opens whenever its maker was killed, and that it takes no other plan."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from cineray.batch import batch_digest
from cineray.config import load_job
from cineray.errors import UsageError
from cineray.feed import DataJob, FeedSpec, local_batch
from cineray.storage import put_if_absent
from cineray.train.append_log import open_log, read_logs
from cineray.train.run_facts import commit_of
from cineray.train.run_folder import RunFolder, is_run, new_run_uri


def test_a_run_says_what_made_it(run: RunFolder, spec: FeedSpec) -> None:
    opened = RunFolder.open(run.uri)

    assert opened.facts == run.facts
    assert opened.run_id.startswith("tiny-")
    assert opened.facts["fingerprint"] == spec.fingerprint == opened.identity.fingerprint
    assert {"python", "torch", "cineray"} <= set(opened.facts["software"])
    assert {"host", "processor", "cores", "memory_bytes"} <= set(opened.facts["machine"])
    assert "environ" not in json.dumps(run.facts)


def test_its_yaml_is_a_job_with_pinned_versions(run: RunFolder, job: DataJob, spec: FeedSpec) -> None:
    again = load_job(Path(run.uri) / "run.yaml", {"data": DataJob})

    assert job.recipe.datasets[0].version == "latest"
    assert again == job.model_copy(update={"recipe": spec.recipe})


def test_its_plan_gives_the_batches_of_the_job(run: RunFolder, spec: FeedSpec) -> None:
    assert batch_digest([local_batch(RunFolder.open(run.uri).spec(), 5)]) == batch_digest([local_batch(spec, 5)])


def test_a_second_run_in_the_same_place_is_refused(run: RunFolder, job: DataJob, spec: FeedSpec) -> None:
    with pytest.raises(UsageError, match=r"there is a run at .*run already; resume it"):
        RunFolder.create(job, spec, run.uri)


def test_a_plan_that_may_change_is_refused(job: DataJob, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"pass spec\.pinned\(\)"):
        RunFolder.create(job, FeedSpec(recipe=job.recipe), str(tmp_path / "run"))


def test_another_plan_is_refused_with_what_differs(run: RunFolder, spec: FeedSpec) -> None:
    other = FeedSpec(recipe=spec.recipe.model_copy(update={"batch_size": 5}), seed=4).pinned()

    with pytest.raises(UsageError) as refused:
        run.check_same_plan(other)

    run.check_same_plan(spec)
    assert "recipe.batch_size: 4 -> 5" in str(refused.value)
    assert "seed: 3 -> 4" in str(refused.value)


def test_a_folder_that_is_no_run_is_told_so(tmp_path: Path, run: RunFolder) -> None:
    with pytest.raises(UsageError, match=r"there is no run at .*: it has no run.json"):
        RunFolder.open(str(tmp_path))
    assert (is_run(str(tmp_path)), is_run(run.uri)) == (False, True)


def test_attempts_are_numbered_and_their_events_are_kept_apart(run: RunFolder) -> None:
    first = run.begin_attempt(world_size=2)
    first.note("compile", seconds=1.5)
    second = RunFolder.open(run.uri).begin_attempt()  # the first was killed: it never ended
    second.end("done")

    told = [(one["attempt"], one["event"]) for one in RunFolder.open(run.uri).events()]

    assert told == [(1, "begin"), (1, "compile"), (2, "begin"), (2, "end")]
    assert [one["world_size"] for one in run.attempts()] == [2, 1]


def test_a_run_whose_maker_was_killed_before_its_yaml_gets_it_at_the_next_start(run: RunFolder) -> None:
    yaml = Path(run.uri) / "run.yaml"
    before = yaml.read_text()
    yaml.unlink()
    RunFolder.open(run.uri).begin_attempt()
    assert yaml.read_text() == before


def test_two_starts_at_once_get_two_numbers(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    real, beaten = put_if_absent, []

    def late(uri: str, data: bytes) -> bool:
        if "/attempts/" in uri and not beaten:
            beaten.append(real(uri, b'{"attempt": 1}'))
        return real(uri, data)

    monkeypatch.setattr("cineray.train.run_folder.put_if_absent", late)
    assert run.begin_attempt().number == 2


MAKER = """
import sys
from cineray.feed import DataJob, FeedSpec
from cineray.config import load_job
from cineray.train.run_folder import RunFolder, is_run
job = load_job(sys.argv[1], {"data": DataJob})
spec = FeedSpec(recipe=job.recipe, seed=job.seed).pinned()
for number in range(1000):
    uri = f"{sys.argv[2]}/{number}"
    print(uri, flush=True)
    attempt = RunFolder.create(job, spec, uri).begin_attempt()
    for line in range(20):
        attempt.note("line", number=line)
"""


def test_killed_at_any_moment_a_run_is_none_yet_or_one_that_opens(run: RunFolder, tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKER, f"{run.uri}/run.yaml", str(tmp_path)]
    maker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    for _ in range(12):
        maker.stdout.readline()
    time.sleep(0.003)
    os.kill(maker.pid, signal.SIGKILL)
    maker.wait()

    found = [path for path in tmp_path.iterdir() if path.name.isdecimal()]
    runs = [RunFolder.open(str(path)) for path in found if is_run(str(path))]
    assert len(runs) >= 11
    for one in runs:
        one.begin_attempt().end("done")  # it can be resumed, and its job is there
        assert [event["number"] for event in one.events() if event["event"] == "line"] == list(
            range(len([event for event in one.events() if event["event"] == "line"]))
        )
        assert (Path(one.uri) / "run.yaml").read_text() == one.job_text()


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    log = open_log(str(tmp_path), "00001")
    log.add({"a": 1})
    log.close()
    (tmp_path / "00001.jsonl").write_bytes((tmp_path / "00001.jsonl").read_bytes() + b'{"b": ')

    assert list(read_logs(str(tmp_path))) == [("00001", {"a": 1})]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_log_that_cannot_be_written_warns_once_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "00001.jsonl").symlink_to("/dev/full")
    log = open_log(str(tmp_path), "00001")
    with pytest.warns(UserWarning, match="No space left"):
        log.add({"a": 1})
    with warnings.catch_warnings(action="error"):
        log.add({"a": 2})


@pytest.mark.network
def test_on_an_object_store_a_run_is_the_same(job: DataJob, spec: FeedSpec, s3_bucket: str) -> None:
    run = RunFolder.create(job, spec, new_run_uri(f"{s3_bucket}/runs", job))
    attempt = run.begin_attempt()
    attempt.note("compile", seconds=1.5)
    attempt.end("done")

    opened = RunFolder.open(run.uri)
    assert opened.facts == run.facts
    assert [one["event"] for one in opened.events()] == ["begin", "compile", "end"]
    assert [one["attempt"] for one in opened.attempts()] == [1]


def test_the_commit_says_whether_files_were_changed(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    assert commit_of(tmp_path) is None
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "a")
    clean = commit_of(tmp_path)
    (tmp_path / "a").write_text("2")
    changed = commit_of(tmp_path)

    assert clean is not None
    assert (len(clean["commit"]), clean["changed_files"]) == (40, 0)
    assert changed == clean | {"changed_files": 1}
