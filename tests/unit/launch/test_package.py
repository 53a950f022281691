"""What travels to a cluster: the project's files and cineray; no data, no secrets, nothing that git ignores."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cineray.errors import CinerayError, UsageError
from cineray.launch import package as package_module
from cineray.launch.package import make_package
from cineray.launch.working_tree import project_files, project_root


def git(folder: Path, *words: str) -> None:
    named = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *named, *words], check=True, capture_output=True)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A working tree of git: two tracked files, a new one, and one that is ignored."""
    root = tmp_path / "project"
    write(root, {"jobs/a.py": "a", "notes.md": "n", ".gitignore": "scratch/\n"})
    git(tmp_path, "init", "-q", "project")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    write(root, {"jobs/new.py": "not added yet", "scratch/big.py": "ignored"})
    return root


def names(root: Path, **how: object) -> list[str]:
    return [one.name for one in make_package(root, code="cluster", **how).files]  # type: ignore[arg-type]


def test_tracked_and_new_files_travel_and_ignored_ones_are_never_seen(project: Path) -> None:
    package = make_package(project, code="cluster")
    assert [one.name for one in package.files] == [".gitignore", "jobs/a.py", "jobs/new.py", "notes.md"]
    assert package.left_out == {}


def test_a_job_in_a_folder_of_the_project_has_the_whole_project(project: Path) -> None:
    assert project_root(project / "jobs" / "a.py") == project.resolve()


def test_a_file_that_was_deleted_but_is_still_in_git_does_not_travel(project: Path) -> None:
    (project / "notes.md").unlink()
    assert "notes.md" not in names(project)
    assert make_package(project, code="cluster").left_out == {}


def test_data_secrets_lakes_and_runs_stay_and_are_named_with_the_reason(project: Path, tmp_path: Path) -> None:
    lake = {"out/lake/lake.json": "{}", "out/lake/versions/1.json": "{}", "out/r/run.json": "{}", "out/r/a.txt": "x"}
    write(project, {"clip.MP4": "x", "t.lance/data/1.txt": "x", ".env": "K=v", "deploy/id_rsa": "x", **lake})
    (project / "etc").symlink_to(tmp_path)
    write(tmp_path, {"outside.py": "x"})
    (project / "linked.py").symlink_to(tmp_path / "outside.py")
    (project / "same.py").symlink_to(project / "jobs" / "a.py")
    package = make_package(project, code="cluster")
    assert package.left_out == {
        "data": ("clip.MP4", "t.lance/data/1.txt"),
        "may hold a secret": (".env", "deploy/id_rsa"),
        "of a lake or a run": ("out/lake/lake.json", "out/lake/versions/1.json", "out/r/a.txt", "out/r/run.json"),
        "a link out of the project": ("etc", "linked.py"),
    }
    assert [one.name for one in package.files] == [".gitignore", "jobs/a.py", "jobs/new.py", "notes.md", "same.py"]


def test_only_chooses_folders_and_files(project: Path) -> None:
    assert names(project, only=("jobs",)) == ["jobs/a.py", "jobs/new.py"]
    with pytest.raises(UsageError, match=r"--only got 'job', and .* has no file there"):
        names(project, only=("job",))


def test_outside_of_git_only_what_looks_like_source_travels(tmp_path: Path) -> None:
    write(tmp_path, {"job.py": "x", "deep/more.yaml": "x", "clip.mp4": "x", "a.out": "x", ".secret/k.py": "x"})
    write(tmp_path, {"venv/pyvenv.cfg": "", "venv/lib/x.py": "x", "__pycache__/y.py": "x", ".hidden.py": "x"})
    assert project_files(tmp_path) == ["deep/more.yaml", "job.py"]


def test_where_git_cannot_say_what_is_ignored_nothing_travels(project: Path) -> None:
    (project / ".git" / "HEAD").write_text("broken")
    with pytest.raises(CinerayError, match="only git knows the files that must stay here"):
        make_package(project, code="cluster")


def test_the_same_files_make_the_same_package_byte_for_byte(project: Path, tmp_path: Path) -> None:
    one = make_package(project, code="cluster")
    first = one.write(tmp_path).read_bytes()
    os.utime(project / "jobs" / "a.py", (1, 1))
    (project / "jobs" / "a.py").chmod(0o755)
    again = make_package(project, code="cluster")
    assert (again.digest(), again.write(tmp_path).read_bytes()) == (one.digest(), first)
    (project / "jobs" / "a.py").write_text("b")
    assert make_package(project, code="cluster").digest() != one.digest()


def test_this_cineray_travels_under_its_own_name_without_what_python_leaves_behind(tmp_path: Path) -> None:
    package = make_package(None)
    assert {"cineray/__init__.py", "cineray/launch/package.py", "cineray/py.typed"} <= package.names
    assert not [name for name in package.names if "__pycache__" in name or not name.startswith("cineray/")]
    with zipfile.ZipFile(package.write(tmp_path)) as packed:
        assert packed.read("cineray/launch/package.py") == Path(package_module.__file__).read_bytes()


def test_a_cineray_that_pip_has_installed_travels_the_same(tmp_path: Path) -> None:
    shutil.copytree(Path(package_module.__file__).parents[1], tmp_path / "cineray")
    write(tmp_path, {"cineray/__pycache__/left.pyc": "x", "cineray/launch/__pycache__/behind.pyc": "x"})
    code = "from cineray.launch.package import make_package; print(*sorted(make_package(None).names))"
    told = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(make_package(None).names)


def test_the_cineray_of_a_wheel_travels_unpacked(tmp_path: Path) -> None:
    wheel = tmp_path / "cineray-9-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("cineray/__init__.py", "nine")
        packed.writestr("cineray-9.dist-info/METADATA", "x")
    assert [(one.name, one.data) for one in make_package(None, code=str(wheel)).files] == [
        ("cineray/__init__.py", b"nine")
    ]
    with pytest.raises(UsageError, match="wanted `here`, `cluster`, or the path of a wheel"):
        make_package(None, code="heer")


def test_a_project_of_that_name_does_not_hide_cineray(project: Path) -> None:
    write(project, {"cineray/__init__.py": "mine", "cineray.py": "mine"})
    package = make_package(project)
    assert package.left_out == {"it would hide cineray's own": ("cineray.py", "cineray/__init__.py")}


def test_too_much_is_refused_with_the_largest_files(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, {"jobs/table.py": "x" * 3_000_000})
    monkeypatch.setattr(package_module, "LIMIT_BYTES", 2_000_000)
    with pytest.raises(UsageError) as refused:
        make_package(project, code="cluster")
    lines = str(refused.value).splitlines()
    assert lines[0] == "3.0 MB would travel, and a cluster takes 2.0 MB; the largest files are"
    assert lines[1].split() == ["3.0", "MB", "jobs/table.py"]
    assert lines[-1] == "Let git ignore what the job does not need, or choose folders: --only jobs"


def test_the_limit_is_that_of_rays_dashboard() -> None:
    constants = pytest.importorskip("ray._private.ray_constants")
    assert constants.DASHBOARD_CLIENT_MAX_SIZE == package_module.LIMIT_BYTES
