"""SECURITY.md's promises have tests, and what can run a program out of a file is in few places, which are known."""

from __future__ import annotations

import ast
import os
import pickle
import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PACKAGE = REPO / "platform" / "cineray"
TEXT = (REPO / "SECURITY.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_promise_has_tests_that_are_there() -> None:
    promises = [one.rstrip(".") for one in re.findall(r"^- \*\*(.+?)\*\*", section("What we promise"), flags=re.M)]
    rows = dict(re.findall(r"^\| ([A-Z].+?) \| (`.+?) \|$", section("How it is held"), flags=re.M))
    assert list(rows) == promises
    for tests in rows.values():
        for name in re.findall(r"`([^`]+)`", tests):
            assert "def test_" in (REPO / name).read_text(encoding="utf-8"), f"{name} has no tests"


# ---- nothing from data is run ----------------------------------------------------------------------------------------

RUNS = {
    "feed/decode_child.py: pickle.loads": "what its own parent process sends it",
    "launch/cluster/schemas.py: yaml.load": "KubeRay's definitions, by the safe loader that is written in C",
    "sweep/ray_tune.py: cloudpickle.load": "an error of the sweep's own trial, out of Tune's scratch of this start",
    "evaluate/weights/files.py: torch.jit.load": "a network for a metric, which SECURITY.md calls a program",
    "curate/networks.py: torch.jit.load": "a network that a curation's job names, which SECURITY.md calls a program",
    "config.py: runpy.run_path": "a job's Python file, which SECURITY.md calls a program",
}
"""Where something can run that was read, and why it may."""
SAFE = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
}
"""Calls that are safe with this said outright."""
UNSAFE = re.compile(
    r"(pickle|cloudpickle|dill|joblib|marshal|shelve)\.(loads?|open|Unpickler)|torch\.(load|jit\.load|export\.load)|np\.load|numpy\.load"
    r"|yaml\.(load|load_all|full_load\w*|unsafe_load\w*)|eval|exec|os\.(system|popen)|\S+\.exec_module|runpy\.\w+"
)


def test_nothing_that_was_read_can_run_but_in_these_places() -> None:
    found = [one for file in sorted(PACKAGE.rglob("*.py")) for one in dangers(file, PACKAGE)]
    assert sorted(set(found)) == sorted(RUNS)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pickle.loads(data)", ["x.py: pickle.loads"]),
        ("torch.load(path)", ["x.py: torch.load"]),
        ("torch.load(path, weights_only=False)", ["x.py: torch.load"]),
        ("torch.load(path, weights_only=True)", []),
        ("torch.export.load(path)", ["x.py: torch.export.load"]),
        ("np.load(path, allow_pickle=True)", ["x.py: np.load"]),
        ("yaml.load(text, Loader=yaml.Loader)", ["x.py: yaml.load"]),
        ("yaml.safe_load(text)", []),
        ("eval(text)", ["x.py: eval"]),
        ("subprocess.run(told, shell=True)", ["x.py: a shell"]),
        ("model.eval()", []),
    ],
)
def test_the_search_finds_what_can_run(line: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(f"def f():\n    return {line}\n")
    assert dangers(tmp_path / "x.py", tmp_path) == found


def dangers(file: Path, root: Path) -> list[str]:
    told, where = [], file.relative_to(root).as_posix()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if UNSAFE.fullmatch(name) and not said_safe(node, name):
                told.append(f"{where}: {name}")
            if any(word.arg == "shell" and not is_const(word.value, False) for word in node.keywords):
                told.append(f"{where}: a shell")
    return told


def said_safe(call: ast.Call, name: str) -> bool:
    option, value = SAFE.get(name, ("", None))
    return any(word.arg == option and is_const(word.value, value) for word in call.keywords)


def is_const(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


class Bomb:
    """Whoever unpickles it makes a file."""

    def __init__(self, at: Path) -> None:
        self.at = at

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self.at),)


@pytest.mark.parametrize("way", ["weights of images", "weights of a metric"])
def test_a_file_of_weights_with_a_program_in_it_is_refused_and_the_program_does_not_run(
    way: str, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    from cineray.errors import UsageError
    from cineray.evaluate.weights.raft import load_raft
    from cineray.models.image_weights import read_state_dict

    bomb, went_off = tmp_path / "weights.pt", tmp_path / "went-off"
    torch.save({"x": Bomb(went_off)}, bomb)
    with pytest.raises(Exception, match=r"weights\.pt (cannot be read|is neither)") as refused:
        read_state_dict(str(bomb)) if way == "weights of images" else load_raft(bomb, "cpu")
    assert isinstance(refused.value, UsageError) or "MetricUnavailable" in type(refused.value).__name__
    assert not went_off.exists()
    pickle.loads(pickle.dumps(Bomb(went_off)))
    assert went_off.exists(), "as it would have"
