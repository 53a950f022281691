"""Set-up, its decisions: what is missing, what is broken, which torch. Made folders and made PATHs stand for machines.

The whole set-up is run by `make test` itself, before the first test; what cannot be seen from there is tested here.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import textwrap
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

REPO = Path(__file__).resolve().parents[2]
SCRIPT = REPO / "platform" / "setup_env.py"


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`setup_env` as if it lay in an empty checkout, with nothing on PATH and nothing set."""
    spec = importlib.util.spec_from_file_location("setup_env_under_test", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    (tmp_path / "platform").mkdir()
    for name in ("pyproject.toml", "platform/constraints.txt"):
        (tmp_path / name).write_text((REPO / name).read_text())
    here = {"REPO": tmp_path, "VENV": tmp_path / ".venv", "VENV_PYTHON": tmp_path / ".venv/bin/python"}
    here |= {"STAMP": tmp_path / ".venv/setup-stamp.json", "LOG": tmp_path / "log", "LOCK": tmp_path / "lock"}
    here |= {"CONSTRAINTS": tmp_path / "platform/constraints.txt"}
    for name, value in here.items():
        monkeypatch.setattr(module, name, value)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CINERAY_TORCH_BUILD", raising=False)
    monkeypatch.delenv("CINERAY_TORCH_INDEX", raising=False)
    return module


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], Path]:
    """Put a made program on PATH: `program("nvidia-smi", "echo GPU 0")`."""

    def put(name: str, script: str) -> Path:
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return put


def finished_venv(setup: ModuleType, *, head: str = "") -> Path:
    """A `.venv` without packages, but with a `python` and a `pip` that run."""
    (setup.VENV / "bin").mkdir(parents=True)
    setup.VENV_PYTHON.symlink_to(sys.executable)
    (setup.VENV / "bin/pip").write_text(head or f"#!{setup.VENV_PYTHON}\n")
    return setup.VENV


def package(venv: Path, name: str, *, record: str | None) -> Path:
    """An installed package of one file of seven bytes."""
    site = venv / "lib/python3.11/site-packages"
    (site / f"{name}-1.dist-info").mkdir(parents=True)
    (site / f"{name}.py").write_text("x = 12\n")
    if record is not None:
        (site / f"{name}-1.dist-info/RECORD").write_text(record)
    return site / f"{name}.py"


def test_an_old_python_can_read_the_script_so_that_it_can_say_what_is_wanted() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 8))


def test_the_supported_pythons_are_those_of_pyproject(setup: ModuleType) -> None:
    wanted = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["requires-python"]
    low, high = setup.OLDEST_PYTHON, setup.FIRST_UNSUPPORTED_PYTHON
    assert wanted == f">={low[0]}.{low[1]},<{high[0]}.{high[1]}"


def plain_name(requirement: str) -> str:
    """`moto[server]>=5.2` -> `moto`; packages write `-`, `_` and `.` alike."""
    return re.match(r"[a-z0-9_.-]+", requirement.lower())[0].replace("_", "-").replace(".", "-")


def test_every_dependency_but_the_torch_pair_has_a_version_that_was_tried() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    extras = (entry for extra in ("s3", "gcs", "dev") for entry in project["optional-dependencies"][extra])
    named = {plain_name(entry) for entry in (*project["dependencies"], *extras)}
    locked = (REPO / "platform/constraints.txt").read_text().splitlines()
    tried = {plain_name(line) for line in locked if not line.startswith("#")}
    assert named - tried == {"torch", "torchcodec", "cineray", "jinja2"}  # torch brings jinja2 from its own index


def test_without_an_nvidia_device_the_cpu_pair_is_chosen_and_with_one_the_newest(
    setup: ModuleType, program: Callable[[str, str], Path]
) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has an NVIDIA device")
    assert setup.TORCH_PAIRS[setup.find_device()] == ("torch==2.13.0", "torchcodec==0.13.*")
    program("nvidia-smi", "exit 9")  # a driver without a device
    assert setup.find_device() == "cpu"
    program("nvidia-smi", "echo 'GPU 0: something'")
    assert setup.TORCH_PAIRS[setup.find_device()] == ("torch", "torchcodec")


def test_the_build_of_torch_can_be_forced_and_a_wrong_word_is_told(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CINERAY_TORCH_BUILD", "gpu")
    assert setup.find_device() == "gpu"
    monkeypatch.setenv("CINERAY_TORCH_BUILD", "cuda")
    with pytest.raises(setup.SetupError, match="CINERAY_TORCH_BUILD is 'cuda'; it must be cpu or gpu"):
        setup.find_device()


def test_torch_is_installed_before_everything_else_and_held_in_the_second_step(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(setup, "run_logged", calls.append)
    monkeypatch.setenv("CINERAY_TORCH_INDEX", "some-index")
    for step in setup.package_steps("cpu", ".[dev]")[:2]:
        step.do()
    pair = ["torch==2.13.0", "torchcodec==0.13.*"]
    assert calls[0][-4:] == ["--index-url", "some-index", *pair]
    assert calls[1][-4:] == [*pair, "--editable", ".[dev]"]


def test_missing_ffmpeg_without_root_is_one_sentence_with_the_command(
    setup: ModuleType, program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    program("apt-get", "exit 1")
    assert not setup.ffmpeg_is_here()
    with pytest.raises(setup.SetupError) as told:
        setup.install_ffmpeg()
    assert str(told.value) == (
        "FFmpeg with its shared libraries is missing, and installing it needs root; "
        "run: sudo apt-get update && sudo apt-get install -y ffmpeg"
    )


def test_as_root_ffmpeg_is_installed_by_apt_and_a_failed_update_alone_does_not_stop_it(
    setup: ModuleType, program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(setup, "loads", lambda library: library == "libavcodec.so.59")
    ffmpeg = setup.REPO / "bin/ffmpeg"
    program("env", 'shift; exec "$@"')
    installs = f': > "{ffmpeg}"; /bin/chmod 755 "{ffmpeg}"'
    program("apt-get", f'case "$*" in *update*) exit 100;; *"install -y"*ffmpeg) {installs};; esac')
    setup.install_ffmpeg()
    assert setup.ffmpeg_is_here()


def test_a_failing_apt_is_told_with_its_last_words_and_the_command(
    setup: ModuleType, program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program("env", 'shift; exec "$@"')
    program("apt-get", "echo 'E: no network'; exit 100")
    with pytest.raises(setup.SetupError, match=r"(?s)run by hand: sudo apt-get .* ffmpeg.*E: no network"):
        setup.install_ffmpeg()


def test_a_venv_that_is_missing_moved_or_without_pip_is_made_anew(setup: ModuleType) -> None:
    assert setup.venv_fault("cpu") == "there is none yet"
    finished_venv(setup, head="#!/another/place/.venv/bin/python\n")
    assert setup.venv_fault("cpu") == "the old one has no pip, or was made at another place"
    (setup.VENV / "bin/pip").unlink()
    assert setup.venv_fault("cpu") == "the old one has no pip, or was made at another place"


def test_a_venv_whose_python_does_not_start_is_made_anew(setup: ModuleType) -> None:
    finished_venv(setup)
    setup.VENV_PYTHON.unlink()
    setup.VENV_PYTHON.symlink_to("/usr/bin/python-that-was-removed")
    assert setup.venv_fault("cpu") == "Python or pip does not run in the old one"


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ("some.py,sha256=x,7\nsome-1.dist-info/RECORD,,\n", ""),
        ("some.py,sha256=x,8\n", "some-1.dist-info is half-installed (some.py)"),
        ("lost.py,sha256=x,7\n", "some-1.dist-info is half-installed (lost.py)"),
        (None, "some-1.dist-info is half-installed"),
    ],
    ids=["whole", "cut short", "lost", "no record"],
)
def test_what_a_killed_pip_left_behind_is_seen(setup: ModuleType, record: str | None, fault: str) -> None:
    package(finished_venv(setup), "some", record=record)
    assert setup.venv_fault("cpu") == fault


def test_a_change_of_the_dependencies_or_of_the_device_is_noticed(setup: ModuleType) -> None:
    finished_venv(setup)
    before = setup.stamp("dev")
    setup.STAMP.write_text(setup.json.dumps(before))
    assert setup.read_stamp() == setup.stamp("dev")
    assert setup.venv_fault("gpu") == "the old one has the other build of torch"
    assert setup.venv_fault("cpu") == "torch torchcodec av lance ray pyarrow cineray is missing from the old one"
    (setup.REPO / "pyproject.toml").write_text("[project]\n")
    assert setup.read_stamp() != setup.stamp("dev")


def test_without_a_supported_python_anywhere_it_says_what_to_install(
    setup: ModuleType, program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    program("python3.13", "exit 127")  # the shim of a version manager: on PATH, and does not start
    monkeypatch.setattr(setup, "OLDEST_PYTHON", (4, 0))
    with pytest.raises(setup.SetupError, match=r"Python 3\.11, 3\.12 or 3\.13 is needed.*apt-get install"):
        setup.run_by_supported_python()


def test_two_setups_at_once_wait_for_each_other(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import pathlib, sys, time
        sys.path.insert(0, {str(SCRIPT.parent)!r})
        import setup_env
        setup_env.LOCK = pathlib.Path({str(tmp_path / "lock")!r})
        with setup_env.only_one_at_a_time():
            print("in", flush=True); time.sleep(0.5); print("out", flush=True)
        """
    )
    with (tmp_path / "order").open("w") as out:
        both = [subprocess.Popen([sys.executable, "-S", "-c", code], stdout=out) for _ in range(2)]
        assert [process.wait(30) for process in both] == [0, 0]
    assert (tmp_path / "order").read_text().split() == ["in", "out", "in", "out"]


def test_the_pip_of_a_killed_setup_still_holds_the_lock(tmp_path: Path) -> None:
    """Else the next call would remove the `.venv` that an orphaned pip is writing into."""
    code = textwrap.dedent(
        f"""
        import pathlib, sys
        sys.path.insert(0, {str(SCRIPT.parent)!r})
        import setup_env
        setup_env.LOCK = pathlib.Path({str(tmp_path / "lock")!r})
        setup_env.LOG = pathlib.Path({str(tmp_path / "log")!r})
        with setup_env.only_one_at_a_time():
            print("in", flush=True)
            setup_env.run_logged(["sleep", sys.argv[1]])
        """
    )
    command = [sys.executable, "-S", "-c", code]
    first = subprocess.Popen([*command, "3"], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "in\n"
    time.sleep(0.3)
    first.kill()
    first.wait()
    began = time.monotonic()
    second = subprocess.run([*command, "0"], capture_output=True, text=True, check=False)
    assert second.stdout == "in\n"
    assert "waiting" in second.stderr
    assert time.monotonic() - began > 1.5
    first.stdout.close()


def test_a_failing_command_ends_with_the_end_of_its_log(setup: ModuleType) -> None:
    with pytest.raises(setup.SetupError, match=r"(?s)ended with 3; the end of log:.*no space left"):
        setup.run_logged([sys.executable, "-c", "print('no space left', flush=True); raise SystemExit(3)"])


def test_packages_go_into_the_venv_whatever_the_users_pip_settings_say(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    kept = setup.clean_environment()
    assert "PIP_TARGET" not in kept
    assert kept["PIP_FIND_LINKS"] == "/wheels"
