"""Things that a report can be of (made_subjects.py), and pages as a parser sees them."""

from __future__ import annotations

import importlib.util
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def subjects() -> ModuleType:
    """`subjects.make_run(folder)`, ...: loaded by its path, for with --import-mode=importlib tests are no package."""
    spec = importlib.util.spec_from_file_location("cineray_report_subjects", HERE / "made_subjects.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sweep(subjects: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve trials: seven with the whole budget, four of them the Pareto set, number 4 the best."""
    made: Path = subjects.make_sweep(tmp_path_factory.mktemp("sweep") / "sampling-1")
    return made


class Seen(HTMLParser):
    """A page as a browser's parser takes it apart: elements, their attributes, and the text that is shown."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.shown = ""
        self._open: list[str] = []
        self.feed(page.decode("utf-8"))
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self._open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1] == tag, f"</{tag}> closes <{self._open[-1]}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        elif self._open and self._open[-1] != "style":
            self.shown += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of this name."""
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="session")
def seen() -> type[Seen]:
    """`seen(page)`: the page, parsed."""
    return Seen
