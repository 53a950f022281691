"""Pages in a real browser, from disk and without a network: they load in silence, plots are drawn, clips play, and
nothing is wider than a phone.

The browser is the system's Chromium (Debian: `apt-get install chromium`), or what CINERAY_BROWSER names; without one
these tests skip themselves.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.testing import make_shapes

pytestmark = [pytest.mark.slow]

MADE = Path(__file__).resolve().parents[1] / "unit/report/made_subjects.py"
KINDS = ("run", "evaluation", "comparison", "pipeline", "batch", "lake", "standardised", "sweep")
WITH_CLIPS = ("run", "evaluation", "pipeline", "batch", "sweep")
DESKTOP = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "is_mobile": True, "has_touch": True}
SCREENS = {"desktop": DESKTOP, "phone": PHONE}


@pytest.fixture(scope="module")
def subjects() -> ModuleType:
    """What tests/unit/report makes: a run, an evaluation, ... with hostile texts in them."""
    spec = importlib.util.spec_from_file_location("cineray_report_subjects_seen", MADE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(subjects: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`pages("run")`: the page of a run, made by the command that a user types; each is made once."""
    folder = tmp_path_factory.mktemp("pages")

    def made(kind: str) -> Path:
        page = folder / f"{kind}.html"
        if not page.exists():
            what = _lake(folder / "lake") if kind == "lake" else getattr(subjects, f"make_{kind}")(folder / kind)
            command = [sys.executable, "-m", "cineray", "report", str(what), "--out", str(page), "--json"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            told = json.loads(done.stdout)
            expected = (str(page), "lake" if kind == "standardised" else kind, page.stat().st_size)
            assert (told["report"], told["kind"], told["size_bytes"]) == expected
        return page

    return made


def _lake(folder: Path) -> Path:
    make_shapes(folder / "videos", videos=8)
    (folder / "videos/up/<script>alert(1)<").write_bytes(b"")
    (folder / "videos/up/<b>torn<b>.mp4").write_bytes(b"torn")
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return folder / "lake"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CINERAY_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"no browser here ({', '.join(names)}): apt-get install chromium, or name one in CINERAY_BROWSER")
    with driver.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Shown:
    """A page as a browser shows it, and all that it said and asked for."""

    def __init__(self, browser: Any, file: Path, **screen: Any) -> None:
        self.context = browser.new_context(**screen)
        self.context.set_offline(True)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url.split(",")[0]))
        self.page.goto(file.as_uri())

    def ask(self, script: str) -> Any:
        """What an expression is, on the page."""
        return self.page.evaluate(script)

    def wait_for(self, script: str) -> None:
        """Until it is true. Asked from here: the page's own policy forbids what `wait_for_function` does in it."""
        until = time.monotonic() + 60
        while not self.ask(script):
            assert time.monotonic() < until, f"never became true: {script}; the page said {self.said}"
            self.page.wait_for_timeout(50)

    def see_all(self) -> None:
        """Open all that is folded and scroll to the end, as a reader does; then all plots are drawn."""
        self.ask("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        for top in range(0, int(self.ask("document.documentElement.scrollHeight")), 700):
            self.ask(f"window.scrollTo({{top: {top}, behavior: 'instant'}})")
            self.page.wait_for_timeout(50)
        self.wait_for("[...document.querySelectorAll('.canvas')].every(c => c.querySelector('.main-svg'))")


@pytest.fixture
def show(browser: Any, pages: Callable[[str], Path]) -> Iterator[Callable[..., Shown]]:
    """`show("run", **PHONE)`: a page on a screen."""
    opened: list[Shown] = []

    def shown(kind: str | Path, **screen: Any) -> Shown:
        file = kind if isinstance(kind, Path) else pages(kind)
        opened.append(Shown(browser, file, **(screen or DESKTOP)))
        return opened[-1]

    yield shown
    for one in opened:
        one.context.close()


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_loads_in_silence_draws_its_plots_and_fits_the_screen(kind: str, screen: str, show: Any) -> None:
    shown = show(kind, **SCREENS[screen])
    shown.see_all()

    assert shown.said == []
    assert {url.partition(":")[0] for url in shown.asked} <= {"file", "data", "blob"}
    assert sum(url.startswith("file:") for url in shown.asked) == 1
    assert shown.ask("window.broken") is None
    assert shown.ask("document.querySelectorAll('.canvas').length") > 0
    assert shown.ask("[...document.querySelectorAll('.main-svg')].every(s => s.getBoundingClientRect().height > 40)")
    assert shown.ask("document.documentElement.scrollWidth") == SCREENS[screen]["viewport"]["width"]  # type: ignore[index]
    assert shown.ask("[...document.images].every(i => i.loading === 'lazy' || i.naturalWidth > 0)")


@pytest.mark.parametrize("kind", WITH_CLIPS)
def test_clips_play_when_they_are_seen_and_stop_when_they_are_told(kind: str, show: Any) -> None:
    shown = show(kind)
    group = "document.querySelector('.films-group')"
    shown.ask(f"{group}.scrollIntoView({{behavior: 'instant'}})")
    videos = f"[...{group}.querySelectorAll('video')].slice(0, 2)"

    shown.wait_for(f"{videos}.every(v => !v.paused && v.videoWidth > 0 && v.currentTime > 0)")
    assert shown.ask(f"{videos}.every(v => v.src.startsWith('blob:') && v.error === null)")

    shown.page.click(".films-group .play")
    shown.wait_for(f"{videos}.every(v => v.paused)")
    shown.page.click(".films-group .again")
    shown.wait_for(f"{videos}.every(v => !v.paused)")
    assert shown.said == []


def test_strips_of_a_lakes_clips_are_pictures(show: Any) -> None:
    shown = show("lake")
    shown.see_all()

    widths = shown.ask("[...document.querySelectorAll('.gallery img')].map(i => i.naturalWidth)")
    assert len(widths) >= 3
    assert all(width == 6 * 96 + 5 * 4 for width in widths)


def test_what_was_left_out_can_be_searched(show: Any) -> None:
    shown = show("standardised")
    rows = "[...document.querySelectorAll('.search + .scroll tbody tr')].filter(r => !r.hidden).map(r => r.innerText)"
    assert len(shown.ask(rows)) == 4

    shown.page.fill(".search input", "Duplicate COPY")
    (found,) = shown.ask(rows)
    assert "kept is a/one.mp4" in found
    assert shown.page.inner_text(".search output") == "1 of 4 rows"

    shown.page.fill(".search input", "nobody")
    assert shown.ask(rows) == []
    shown.page.fill(".search input", "")
    assert len(shown.ask(rows)) == 4
    assert shown.said == []


def test_who_wants_no_motion_gets_none(show: Any) -> None:
    shown = show("evaluation", reduced_motion="reduce", **DESKTOP)
    shown.ask("document.querySelector('.films-group').scrollIntoView()")
    shown.wait_for("document.querySelector('video').readyState >= 2")
    shown.page.wait_for_timeout(300)

    assert shown.ask("[...document.querySelectorAll('video')].every(v => v.paused)")
    assert shown.page.inner_text(".films-group .play") == "Play"


def test_the_page_and_its_plots_can_be_turned_dark(show: Any) -> None:
    shown = show("run")
    shown.see_all()
    ink = "getComputedStyle(document.querySelector('.main-svg .xtick text')).fill"
    paper = "getComputedStyle(document.body).backgroundColor"
    light = shown.ask(ink), shown.ask(paper)

    shown.page.click("#turn")
    shown.page.wait_for_timeout(500)

    dark = shown.ask(ink), shown.ask(paper)
    assert (light[1], dark[1]) == ("rgb(246, 247, 249)", "rgb(15, 17, 21)")
    assert light[0] != dark[0]
    assert shown.said == []


def test_a_click_in_a_legend_takes_a_line_away_and_brings_it_back(show: Any) -> None:
    shown = show("run")
    shown.see_all()
    plot = "[...document.querySelectorAll('.plot')].find(p => p.innerText.includes('Validation loss by noise level'))"
    drawn = f"{plot}.querySelectorAll('.scatterlayer .trace').length"
    assert shown.ask(drawn) == 8

    shown.ask(f"{plot}.querySelector('.legend button').click()")
    shown.wait_for(f"{drawn} === 7")
    shown.ask(f"{plot}.querySelector('.legend button').click()")
    shown.wait_for(f"{drawn} === 8")


def test_a_script_that_found_its_way_in_would_not_run(pages: Any, show: Any, tmp_path: Path) -> None:
    hacked = tmp_path / "hacked.html"
    found = pages("comparison").read_text(encoding="utf-8")
    hacked.write_text(found.replace("<main", "<script>window.broken = 1</script><main", 1), encoding="utf-8")

    shown = show(hacked)
    shown.see_all()

    assert shown.ask("window.broken") is None
    assert len(shown.said) == 1
    assert "Content Security Policy" in shown.said[0]


def test_without_scripts_all_words_and_tables_are_there(show: Any) -> None:
    shown = show("evaluation", java_script_enabled=False, **DESKTOP)

    assert shown.page.locator("tbody tr").count() > 10
    assert "The model follows its conditioning" in shown.page.inner_text(".verdict")
    assert "This plot needs scripts." in shown.page.inner_text("main")
