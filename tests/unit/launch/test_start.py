"""The first program on the cluster: it checks, says where it runs, and becomes the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cineray
from cineray.errors import CinerayError
from cineray.launch import start

SOURCE = str(Path(cineray.__file__).parents[1])


def started(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cineray.launch.start", *words]
    env = os.environ | {"PYTHONPATH": SOURCE} | environment
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_it_becomes_the_command_with_its_output_and_exit_code() -> None:
    done = started("--", "--version")
    assert (done.returncode, done.stdout) == (0, f"{cineray.__version__}\n")
    assert done.stderr.startswith("cineray --version on ")
    assert started("--", "plan", "no/such/job.py").returncode == 2


def test_a_signal_reaches_the_command_because_it_is_the_same_process(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("import os\nraise SystemExit(40 + (os.getpid() == int(open('pid').read())))")
    command = f"echo $$ > pid; exec {sys.executable} -m cineray.launch.start -- plan job.py"
    env = os.environ | {"PYTHONPATH": SOURCE}
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 41, done.stderr


def test_a_missing_secret_ends_it_before_the_command_begins() -> None:
    done = started("--", "--version", CINERAY_SECRETS="NOT_THERE_KEY")
    assert (done.returncode, done.stdout) == (1, "")
    assert "NOT_THERE_KEY: no such variable" in done.stderr


def test_the_command_has_the_secrets(tmp_path: Path) -> None:
    (tmp_path / "held").write_text("canary\n")
    (tmp_path / "job.py").write_text("import os\nraise SystemExit(40 + (os.environ['HELD_KEY'] == 'canary'))")
    done = started("--", "plan", str(tmp_path / "job.py"), CINERAY_SECRETS=f"HELD_KEY@{tmp_path / 'held'}")
    assert done.returncode == 41, done.stderr


def test_with_a_run_there_it_goes_on_with_that_and_without_one_it_begins(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--continue", str(run), "--", "train", "no/such/job.py", "--run", str(run))
    assert "there is no job at no/such/job.py" in started(*words).stderr
    run.mkdir()
    (run / "run.json").write_text("{}")
    goes_on = started(*words).stderr
    assert f", going on with {run}\n" in goes_on
    assert "no/such/job.py" not in goes_on


def test_a_sweep_that_is_there_goes_on_as_it_is_and_not_with_another_job(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    words = ("--continue", str(sweep), "--", "sweep", "no/such/job.py", "--sweep", str(sweep), "--set", "trials=1")
    assert "there is no job at no/such/job.py" in started(*words).stderr
    sweep.mkdir()
    (sweep / "sweep.json").write_text('{"format": 0}')
    goes_on = started(*words).stderr
    assert f", going on with {sweep}\n" in goes_on
    assert f"the sweep at {sweep} has format 0" in goes_on


def test_what_the_image_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    start.check_libraries()
    monkeypatch.setattr(start, "NEEDED", ("av", "not_installed_here"))
    with pytest.raises(CinerayError, match=r"where the job starts, lacks not_installed_here in .*; use an image"):
        start.check_libraries()
