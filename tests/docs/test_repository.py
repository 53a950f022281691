"""What the repository says of itself is so: its maps are its folders, its links lead somewhere, its versions agree.

Also what must not be in it: paths of somebody's machine, hosts of package registries, media files.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import cineray

REPO = Path(__file__).resolve().parents[2]
PACKAGE = REPO / "platform" / "cineray"
DOCUMENTS = sorted([*REPO.glob("*.md"), *REPO.glob("platform/**/*.md"), *REPO.glob("jobs/**/*.md")])


def files_of_the_repository() -> list[Path]:
    """What git has or would add; without git (an unpacked archive), everything outside hidden and made folders."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        found = [REPO / name for name in listed.stdout.split("\0") if name]
    else:
        made = {".venv", "__pycache__", "build", "dist", "demo-out"}
        inside = (path.relative_to(REPO) for path in REPO.rglob("*"))
        found = [REPO / p for p in inside if not any(part in made or part.startswith(".") for part in p.parts)]
    return sorted(path for path in found if path.is_file())


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def code_folders() -> set[str]:
    return {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}


def test_the_map_in_readme_names_the_folders_that_are_there() -> None:
    (block,) = re.findall(r"^## The map$.*?^```text\n(.*?)^```$", text_of(REPO / "README.md"), flags=re.M | re.S)
    assert set(re.findall(r"^  ([a-z_]+)/ ", block, flags=re.M)) == code_folders()
    for folder in re.findall(r"^([a-z_/]+)/", block, flags=re.M):
        assert (REPO / folder).is_dir(), f"README's map names {folder}/, which is not there"
    for name in re.findall(r"\b([a-z_]+)/(?= |,|$)", re.search(r"^tests/(.*)$", block, flags=re.M)[1]):
        assert any((REPO / "tests" / name).rglob("*.py")), f"README's map names tests/{name}/, which has no tests"


def test_the_map_of_the_platform_names_the_folders_that_are_there() -> None:
    text = text_of(REPO / "platform" / "README.md")
    stations = text.split("## Stations")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z_]+)/` \|", stations, flags=re.M)) == code_folders()


def test_files_that_the_maps_name_are_there() -> None:
    text = text_of(REPO / "platform" / "README.md")
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|txt))`", text)
    assert len(named) > 5
    for name in named:
        assert any((root / name).exists() for root in (REPO, REPO / "platform", PACKAGE)), f"{name} is not there"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(REPO).as_posix())
def test_links_in_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text_of(document)):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_make_help_names_every_target_that_the_documents_use() -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", text_of(REPO / "Makefile"), flags=re.M))
    uses = re.compile(r"(?:`|\$ |^)make (?:-s )?([a-z]+)", flags=re.M)
    used = {name for document in DOCUMENTS for name in uses.findall(text_of(document))}
    assert {"demo", "test"} <= used <= targets


def test_the_version_is_one_and_the_changelog_has_a_place_for_the_next() -> None:
    project = tomllib.loads(text_of(REPO / "pyproject.toml"))["project"]
    assert project["version"] == cineray.__version__
    assert re.search(r"^## Unreleased$", text_of(REPO / "CHANGELOG.md"), flags=re.M)


@pytest.mark.parametrize("page", sorted(REPO.glob("platform/decisions/*.md")), ids=lambda path: path.stem)
def test_each_decision_has_a_number_a_problem_a_choice_and_an_end(page: Path) -> None:
    text = text_of(page)
    assert text.startswith(f"# {page.name[:4]}: ")
    for part in ("**Problem.**", "**Choice.**", "**What would change our mind.**"):
        assert part in text, f"{page.name} lacks {part}"
    assert len(text) < 6000, "one page"


# Written in pieces, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "py" + "torch.org/whl",
    "conda" + ".org",
    "deb." + "debian.org",
]
MACHINE_PATHS = re.compile(r"(?<![\w./])/(?:" + "|".join(["home", "root", "work", "Users", "mnt"]) + r")/[\w.]")


def test_no_file_names_a_package_registry_or_a_path_of_somebodys_machine() -> None:
    found = []
    for path in files_of_the_repository():
        for number, line in enumerate(text_of(path).splitlines(), start=1):
            if any(host in line for host in REGISTRY_HOSTS) or MACHINE_PATHS.search(line):
                found.append(f"{path.relative_to(REPO)}:{number}: {line.strip()[:120]}")
    assert not found, "\n" + "\n".join(found)


def test_no_media_and_nothing_large_is_in_the_repository() -> None:
    media = {".mp4", ".mkv", ".mov", ".avi", ".webm", ".tar", ".parquet", ".pt", ".bin"}
    for path in files_of_the_repository():
        assert path.suffix not in media, f"{path}: tests make their media; nobody should have to trust a binary"
        assert path.stat().st_size < 400_000, f"{path} has {path.stat().st_size} bytes"


def test_python_files_hold_no_loose_ends() -> None:
    loose = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    found = [
        f"{path.relative_to(REPO)}:{number}: {line.strip()[:100]}"
        for path in files_of_the_repository()
        if path.suffix == ".py"
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if loose.search(line)
    ]
    assert not found, "\n" + "\n".join(found)
