"""One file that needs nothing and obeys nobody: no address in it, no script but ours, and texts stay texts."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from types import ModuleType
from typing import Any

import pytest

from cineray.report.content import (
    Cell,
    Column,
    Commands,
    Facts,
    Figure,
    Film,
    FilmRow,
    FilmTable,
    Fold,
    Gallery,
    Heading,
    Note,
    Page,
    Part,
    Section,
    Table,
    Text,
    Tile,
    Verdict,
)
from cineray.report.plots import Axes, Series, bars, estimates, lines
from cineray.report.plots import Estimate as One
from cineray.report.render import render


def page_of(*parts: Part, text: str = "plain") -> Page:
    section = Section(title=text, lead=text, parts=parts)
    tile = Tile(name=text, value=text, detail=text)
    verdict = Verdict(text=text, about=text)
    return Page(
        subject="Run",
        title=text,
        where=text,
        tiles=(tile,),
        sections=(section,),
        verdicts=(verdict,),
        made_at=text,
    )


def made(page: Page, **more: Any) -> bytes:
    return render(page, made_at="2026-11-21 05:00 UTC", **more)


def every_part(text: str) -> tuple[Part, ...]:
    """One of each kind, `text` wherever a text can be."""
    film = Film(source="data:image/png;base64,AAAA", name=text, detail=text)
    absent = Film(source="", name=text, detail=text)
    video = Film(source="data:video/mp4;base64,AAAA", name=text)
    line = Series(name=text, x=[0, 1], y=[1, 2])
    return (
        Table(
            caption=text,
            columns=(Column(text), Column(text, number=True)),
            rows=((Cell(text, text), Cell(text)),),
        ),
        Facts(pairs=((text, text),), mono=True),
        lines(text, text, [line, line], Axes(x=text, y=text)),
        bars(text, text, {text: [1.0], text + "2": [2.0]}, [text], Axes()),
        estimates(text, text, [One(name=text, value=1.0, low=0.5, high=1.5)], zero=True),
        Gallery(films=(film, absent, video)),
        FilmTable(caption=text, columns=(text,), rows=(FilmRow(name=text, detail=text, films=(film, None)),)),
        Commands(lines=((text, text),)),
        Text(text=text),
        Note(text=text),
        Heading(text=text, detail=text),
        Fold(title=text, parts=(Note(text=text),)),
    )


def test_texts_of_data_stay_texts_in_every_kind_of_part(subjects: ModuleType, seen: Any) -> None:
    plain = seen(made(page_of(*every_part("plain"), text="plain"), left_out=("plain",)))
    hostile = seen(made(page_of(*every_part(subjects.HOSTILE), text=subjects.HOSTILE), left_out=(subjects.HOSTILE,)))

    assert [name for name, _ in hostile.elements] == [name for name, _ in plain.elements]
    assert all(set(a) == set(b) for (_, a), (_, b) in zip(hostile.elements, plain.elements, strict=True))
    assert subjects.HOSTILE in hostile.shown


def test_a_page_names_no_address_from_which_anything_could_be_loaded(seen: Any) -> None:
    page = seen(made(page_of(*every_part("plain"))))

    loaded = [(tag, name, value) for tag, attributes in page.elements for name, value in attributes.items()]
    addresses = [(tag, value) for tag, name, value in loaded if name in ("src", "srcset", "poster", "data", "action")]
    assert addresses
    assert all(value.startswith("data:") for _, value in addresses)
    links = [value for tag, name, value in loaded if name == "href"]
    assert all(value.startswith(("#", "data:")) for value in links)
    assert not re.search(r"url\(|@import", "".join(re.findall(r"<style>(.*?)</style>", made(page_of()).decode(), re.S)))


def test_only_scripts_whose_hash_the_page_itself_names_may_run(seen: Any) -> None:
    page = seen(made(page_of(*every_part("plain"))))
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    kinds = [attributes.get("type", "run") for attributes in page.all("script")]
    by_kind = dict(zip(kinds, page.scripts, strict=True))
    library = gzip.decompress(base64.b64decode(by_kind["text/plain"]))

    def named(script: bytes) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"

    assert rules["default-src"] == ["'none'"]
    assert kinds.count("run") == 1
    assert rules["script-src"] == [named(by_kind["run"].encode()), named(library)]
    assert not re.search(r"https?:", policy)


def test_no_text_within_a_plot_ends_its_script_element(seen: Any) -> None:
    told = {"name": "</script><b>x</b><!--<script>", "other": "a & b"}
    page = seen(made(page_of(Figure(title="plot", says="says", json=json.dumps(told)))))

    assert json.loads(page.scripts[0]) == told
    assert page.all("b") == [{}, {"class": "tag"}, {}]


def test_a_page_without_plots_carries_no_plotting_library_and_is_small(seen: Any) -> None:
    page = made(page_of(Note(text="nothing to draw")))

    assert len(page) < 60_000
    assert [attributes.get("type", "run") for attributes in seen(page).all("script")] == ["run"]


def test_a_page_fits_a_phone_and_says_how_it_is_read_without_eyes(seen: Any) -> None:
    page = seen(made(page_of(*every_part("plain"))))

    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert [one["lang"] for one in page.all("html")] == ["en"]
    assert len(page.all("h1")) == 1
    assert all(one.get("scope") in ("col", "row") for one in page.all("th"))
    assert all(one.get("alt") for one in page.all("img"))
    canvases = [one for one in page.all("div") if one.get("class") == "canvas"]
    assert len(canvases) == 3
    assert all(one["role"] == "img" and one["aria-label"] == "plain. plain" for one in canvases)
    anchors = {one["href"][1:] for one in page.all("a")}
    assert anchors <= {one["id"] for _, one in page.elements if "id" in one}


@pytest.mark.parametrize("text", ["\ud800 lone surrogate", "nul \x00 and \x1b[31m", "\u2028 line", "עברית 日本語 🎬"])
def test_no_text_breaks_the_file(text: str, seen: Any) -> None:
    page = seen(made(page_of(*every_part(text), text=text)))
    assert len(page.all("h1")) == 1


def test_the_same_page_is_the_same_bytes() -> None:
    assert made(page_of(*every_part("plain"))) == made(page_of(*every_part("plain")))
