"""Which files a project has: a path in it goes in, its root and the names of its files come out.

In a working tree of git these are the files that git tracks or would track: what it ignores is never seen. Outside of
git only what looks like source is listed, because nothing says what else the folder is for.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from cineray.errors import CinerayError

SOURCES = frozenset({".py", ".yaml", ".yml", ".toml", ".json", ".jsonl", ".txt", ".cfg", ".ini", ".md", ".csv", ".j2"})
"""Endings of what travels from a folder that is in no working tree of git."""
_NOT_ENTERED = frozenset({"__pycache__", "node_modules", "build", "dist"})
_OF_AN_ENVIRONMENT = "pyvenv.cfg"


def project_root(path: Path) -> Path:
    """The working tree of git that holds `path`; outside of git, the folder that it lies in."""
    path = path.resolve()
    folder = path if path.is_dir() else path.parent
    if not _is_in_git(folder):
        return folder
    return Path(_git(folder, "rev-parse", "--show-toplevel").strip())


def project_files(root: Path) -> list[str]:
    """The files below `root`, by their names relative to it, in the order of the alphabet."""
    if not _is_in_git(root):
        return sorted(_sources(root))
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return sorted({name for name in listed if name and os.path.lexists(root / name)})  # some are deleted, not committed


def is_tracked(file: Path) -> bool:
    """Does git keep this file? False for what pip has installed, even where that lies inside of a working tree."""
    if not _is_in_git(file.parent):
        return False
    return bool(_git(file.parent, "ls-files", "--", file.name).strip())


def _is_in_git(folder: Path) -> bool:
    return any((at / ".git").exists() for at in (folder, *folder.parents))


def _git(folder: Path, *words: str) -> str:
    """What git says. Without an answer nothing may travel: nobody knows what is ignored."""
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise CinerayError(
            f"{folder} is a working tree of git, but git could not be started: {error}; install git, which knows the "
            "files that must stay here"
        ) from None
    if done.returncode != 0:
        raise CinerayError(
            f"git could not list {folder}: {os.fsdecode(done.stderr).strip()}; mend that, because only git knows the "
            "files that must stay here"
        )
    return os.fsdecode(done.stdout)


def _sources(root: Path) -> list[str]:
    found: list[str] = []
    for folder, folders, names in os.walk(root):
        inner = [name for name in folders if not name.startswith(".") and name not in _NOT_ENTERED]
        folders[:] = [name for name in inner if not (Path(folder) / name / _OF_AN_ENVIRONMENT).exists()]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in SOURCES:
                found.append((Path(folder) / name).relative_to(root).as_posix())
    return found
