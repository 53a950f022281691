"""Who may import whom: reads every module's syntax tree, imports inside functions too, and prints the offending route.

The rules are data: what a folder may import of its own package (`MAY_IMPORT`), which files may name a heavy library
(`ONLY_IN`), and what a folder must not reach by any route (`MUST_NOT_REACH`); platform/README.md draws them.
The checker is itself tested on small made-up trees, so that it is known to be able to fail.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "platform" / "cineray"

# ---- the rules -------------------------------------------------------------------------------------------------------

BASE = ("errors", "records", "config", "storage", "telemetry")  # each may import those before it, everyone else all
STATIONS = ("source", "index", "lake", "plan", "decode", "batch")  # siblings: they meet in records, not in each other
JOINS = ("feed", "ingest", "curate")
NETS = ("models", "diffusion")
JUDGES = ("train", "evaluate")
TOP = ("launch", "sweep", "report")

MAY_IMPORT: dict[str, frozenset[str]] = {
    **{name: frozenset(BASE[:at]) for at, name in enumerate(BASE)},
    **{name: frozenset(BASE) for name in STATIONS},
    **{name: frozenset(BASE + STATIONS) for name in JOINS},
    **{name: frozenset((*BASE, "models")) for name in NETS},
    **{name: frozenset((*BASE, *STATIONS, *JOINS, *NETS, "train")) for name in JUDGES},
    **{name: frozenset((*BASE, *STATIONS, *JOINS, *NETS, *JUDGES)) for name in TOP},
    "testing": frozenset((*BASE, *STATIONS, *NETS, "evaluate")),  # contract tests know the seams that they hold to
    "__main__": frozenset({"cli"}),
    "cli": frozenset((*BASE, *STATIONS, *JOINS, *NETS, *JUDGES, *TOP, "testing")),
}
"""First-level folder or module -> which others it may import. What is not here has no place in the design yet."""

ONLY_IN: dict[str, tuple[str, ...]] = {
    "ray": ("*/ray_*.py", "launch/*"),
    "av": ("index/*", "decode/*", "testing/*"),
    "torchcodec": ("index/*", "decode/*", "testing/*"),
    "plotly": ("report/plots.py", "report/sweep_plots.py", "report/render.py"),
    "jinja2": ("report/render.py",),
    "lance": ("lake/tables.py", "storage/lance_blob.py", "source/lance_table.py"),
}
"""Library -> the only files that may import it, even inside a function."""

MUST_NOT_REACH: dict[str, tuple[str, ...]] = {
    "torch": ("errors", "records", "config", "storage", "source", "index", "lake", "plan", "ingest"),
    "torchcodec": ("errors", "records", "config", "storage", "source", "index", "lake", "plan", "ingest"),
    "ray": ("errors", "records", "config", "storage", "source", "index", "lake", "plan", "decode", "batch"),
}
"""Library -> folders from which no chain of imports may lead to it."""


# ---- reading a tree --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """One import as written: `module` imports `target` (a module of the package, or a library's first name)."""

    module: str
    target: str
    where: str


def module_name(file: Path, package: Path) -> str:
    """`cineray/lake/schema.py` -> `cineray.lake.schema`; a folder's `__init__.py` is the folder."""
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_imports(package: Path) -> list[Import]:
    """Every import statement of every module, wherever in the module it stands."""
    files = {module_name(file, package): file for file in sorted(package.rglob("*.py"))}
    found = []
    for module, file in files.items():
        where = file.relative_to(package.parent).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), filename=str(file))):
            for target in targets(node, module, is_package=file.name == "__init__.py", known=files):
                found.append(Import(module, target, f"{where}:{node.lineno}"))  # type: ignore[attr-defined]
    return found


def targets(node: ast.AST, module: str, *, is_package: bool, known: Mapping[str, Path]) -> list[str]:
    """What one statement imports; `from cineray.lake import schema` means the module `schema` where there is one."""
    if isinstance(node, ast.Import):
        return [nearest(alias.name, known) for alias in node.names]
    if isinstance(node, ast.Call) and called_name(node) in {"import_module", "__import__"} and node.args:
        name = node.args[0]
        return [nearest(name.value, known)] if isinstance(name, ast.Constant) and isinstance(name.value, str) else []
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        own = module.split(".") if is_package else module.split(".")[:-1]
        base = ".".join([*own[: len(own) - node.level + 1], *([base] if base else [])])
    return [nearest(f"{base}.{alias.name}", known) for alias in node.names]


def called_name(call: ast.Call) -> str:
    """`importlib.import_module(...)` -> `import_module`."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def nearest(name: str, known: Mapping[str, Path]) -> str:
    """The module that a dotted name lies in; of a library only the first name matters."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in known:
            return ".".join(parts[:length])
    return parts[0]


def folder_of(module: str) -> str:
    """`cineray.lake.schema` -> `lake`; the package itself -> ``."""
    return module.partition(".")[2].partition(".")[0]


# ---- checking --------------------------------------------------------------------------------------------------------


def forbidden_arrows(imports: Iterable[Import], package: str) -> list[str]:
    """Imports between folders that the design does not allow."""
    wrong = []
    for one in imports:
        here, there = folder_of(one.module), folder_of(one.target)
        if not one.target.startswith(package + ".") or here == there:
            continue
        if any(part.startswith("_") and not part.startswith("__") for part in one.target.split(".")):
            wrong.append(f"{one.module} -> {one.target} ({one.where}): a private module of another folder")
        elif here and there not in MAY_IMPORT.get(here, frozenset()):
            allowed = ", ".join(sorted(MAY_IMPORT.get(here, ()))) or "nothing of the package"
            wrong.append(f"{one.module} -> {one.target} ({one.where}): {here} may import {allowed}")
        elif not here:
            wrong.append(f"{one.module} -> {one.target} ({one.where}): the package itself imports nothing")
    return wrong


def misplaced_libraries(imports: Iterable[Import], package: str) -> list[str]:
    """Heavy libraries that are named outside their few files."""
    wrong = []
    for one in imports:
        path = one.where.rsplit(":", 1)[0].removeprefix(package + "/")
        allowed = ONLY_IN.get(one.target)
        if allowed is not None and not any(fnmatch(path, pattern) for pattern in allowed):
            wrong.append(f"{one.module} -> {one.target} ({one.where}): only {', '.join(allowed)} may")
    return wrong


def forbidden_routes(imports: Iterable[Import], rules: Mapping[str, Iterable[str]]) -> list[str]:
    """Chains of imports, through any number of modules, from a folder to a library that it must not reach."""
    leaving: dict[str, list[Import]] = {}
    for one in imports:
        leaving.setdefault(one.module, []).append(one)
    wrong = []
    for library, folders in rules.items():
        for start in sorted(module for module in leaving if folder_of(module) in set(folders)):
            route = shortest_route(start, library, leaving)
            if route:
                wrong.append(" -> ".join([start, *(f"{step.target} ({step.where})" for step in route)]))
    return wrong


def shortest_route(start: str, goal: str, leaving: Mapping[str, list[Import]]) -> list[Import]:
    """The fewest imports that lead from a module to a library; empty when none do."""
    queue: deque[tuple[str, list[Import]]] = deque([(start, [])])
    seen = {start}
    while queue:
        module, route = queue.popleft()
        for step in leaving.get(module, []):
            if step.target == goal:
                return [*route, step]
            # A seam (ray_*.py) is entered on purpose, by one lazy import in the folder that owns it.
            if step.target not in seen and not step.target.split(".")[-1].startswith("ray_"):
                seen.add(step.target)
                queue.append((step.target, [*route, step]))
    return []


def missing_words(package: Path) -> list[str]:
    """Modules without an opening paragraph, and folders that do not say which names are public."""
    wrong = []
    for file in sorted(package.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        where = file.relative_to(package.parent).as_posix()
        if not ast.get_docstring(tree):
            wrong.append(f"{where}: no docstring; say what enters, what leaves and what it promises")
        assigned = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        if file.name == "__init__.py" and file.parent != package and "__all__" not in assigned:
            wrong.append(f"{where}: no __all__; list the folder's public names")
    return wrong


# ---- the rules hold --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    return read_imports(PACKAGE)


def told(wrong: list[str]) -> str:
    return "\n".join(["", *wrong, "The map of who may import whom is in platform/README.md."])


def test_folders_import_only_downwards(imports: list[Import]) -> None:
    wrong = forbidden_arrows(imports, "cineray")
    assert not wrong, told(wrong)


def test_heavy_libraries_are_named_in_few_files(imports: list[Import]) -> None:
    wrong = misplaced_libraries(imports, "cineray")
    assert not wrong, told(wrong)


def test_no_route_leads_from_planning_to_a_gpu_library_or_a_cluster(imports: list[Import]) -> None:
    wrong = forbidden_routes(imports, MUST_NOT_REACH)
    assert not wrong, told(wrong)


def test_every_module_opens_with_a_paragraph_and_every_folder_lists_its_names() -> None:
    wrong = missing_words(PACKAGE)
    assert not wrong, told(wrong)


def test_platform_is_a_source_root_and_not_a_package() -> None:
    assert not (REPO / "platform" / "__init__.py").exists(), "it would shadow Python's own module `platform`"


def test_every_folder_of_the_package_has_a_place_in_the_design() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert folders | modules <= set(MAY_IMPORT), "add it to MAY_IMPORT, and to the map in platform/README.md"


@pytest.mark.parametrize(
    "module", ["cineray.index", "cineray.source", "cineray.lake", "cineray.ingest", "cineray.cli.main"]
)
def test_importing_a_station_loads_no_heavy_library(module: str) -> None:
    """Indexing starts one process per core: with torch each would take 340 MB and seconds, without 32 MB and 0.13 s."""
    code = f"import sys, {module}; print(*sorted({{'torch', 'torchcodec', 'ray', 'lance'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


# ---- the checker can fail --------------------------------------------------------------------------------------------


def tree(folder: Path, files: Mapping[str, str]) -> list[Import]:
    """A made-up package `cineray`."""
    for name, text in files.items():
        path = folder / "cineray" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_imports(folder / "cineray")


def test_a_sibling_import_inside_a_function_is_found(tmp_path: Path) -> None:
    made = tree(tmp_path, {"source/folder.py": "def f():\n    from cineray.lake import tables\n", "lake/tables.py": ""})
    (wrong,) = forbidden_arrows(made, "cineray")
    assert wrong.startswith(
        "cineray.source.folder -> cineray.lake.tables (cineray/source/folder.py:2): source may import"
    )


def test_a_relative_import_across_folders_is_found(tmp_path: Path) -> None:
    made = tree(tmp_path, {"index/probe.py": "from ..source.folder import x\n", "source/folder.py": "x = 1"})
    assert len(forbidden_arrows(made, "cineray")) == 1


def test_an_import_of_another_folders_private_module_is_found(tmp_path: Path) -> None:
    made = tree(tmp_path, {"ingest/run.py": "from cineray.index._parse import x\n", "index/_parse.py": "x = 1"})
    (wrong,) = forbidden_arrows(made, "cineray")
    assert "a private module of another folder" in wrong


def test_downward_imports_and_libraries_are_allowed(tmp_path: Path) -> None:
    made = tree(
        tmp_path,
        {"ingest/run.py": "import numpy\nfrom cineray import lake, records\n", "lake/tables.py": "", "records.py": ""},
    )
    assert forbidden_arrows(made, "cineray") == []


def test_ray_outside_its_seams_is_found_and_inside_is_not(tmp_path: Path) -> None:
    made = tree(tmp_path, {"ingest/run.py": "import ray.data\n", "ingest/ray_index.py": "import ray.data\n"})
    assert misplaced_libraries(made, "cineray") == [
        "cineray.ingest.run -> ray (cineray/ingest/run.py:1): only */ray_*.py, launch/* may"
    ]


def test_a_library_imported_by_name_in_a_string_is_found(tmp_path: Path) -> None:
    made = tree(tmp_path, {"lake/log.py": "import importlib\nx = importlib.import_module('lance.dataset')\n"})
    assert len(misplaced_libraries(made, "cineray")) == 1


def test_the_whole_route_to_a_forbidden_library_is_printed(tmp_path: Path) -> None:
    files = {"plan/order.py": "from cineray import records\n", "records.py": "def f():\n    import cineray.config\n"}
    made = tree(tmp_path, files | {"config.py": "import torch\n"})
    assert forbidden_routes(made, {"torch": ["plan"]}) == [
        "cineray.plan.order -> cineray.records (cineray/plan/order.py:1) -> cineray.config (cineray/records.py:2) "
        "-> torch (cineray/config.py:1)"
    ]


def test_missing_docstrings_and_missing_all_are_found(tmp_path: Path) -> None:
    tree(tmp_path, {"lake/__init__.py": '"""A lake."""\n', "lake/tables.py": "x = 1\n"})
    assert [line.split(":")[0] for line in missing_words(tmp_path / "cineray")] == [
        "cineray/lake/__init__.py",
        "cineray/lake/tables.py",
    ]
