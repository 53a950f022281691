"""From a page's content to one HTML file: a `Page` goes in, bytes come out that need nothing else, not even a network.

All markup is in `templates/`, and everything that is data is escaped there. The file's own policy (CSP) allows no
address at all, and no script but the two of ours, by their hashes: a hostile caption that found a way past the escaping
would still not run. Plotly's script is packed (gzip) within the page and unpacked by the browser: 1.9 MB instead of
4.8, and only where there is a plot.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cineray import __version__
from cineray.report.content import Page, figures_of
from cineray.report.wording import bytes_text, plural

_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; media-src data: blob:; "
    "font-src data:; base-uri 'none'; form-action 'none'"
)
"""Plotly sets styles on elements, which a hash cannot name; styles alone reach no address under this policy."""


def render(page: Page, *, made_at: str, inlined: str = "", left_out: tuple[str, ...] = ()) -> bytes:
    """The file. `inlined` says what pictures and clips it holds; `left_out` which it does not."""
    plots = figures_of(page)
    script = _asset("page.js")
    scripts = [_hash(script), *([_hash(_plotly())] if plots else [])]
    text = (
        _templates()
        .get_template("page.html")
        .render(
            page=page,
            sections=[(f"s{number}", section) for number, section in enumerate(page.sections, 1)],
            policy=_POLICY.format(scripts=" ".join(scripts)),
            style=_asset("page.css"),
            script=script,
            library=_packed_plotly() if plots else "",
            about={"made_at": made_at, "version": __version__, "inlined": inlined, "left_out": left_out},
        )
    )
    return text.encode("utf-8", "backslashreplace")


@functools.cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("cineray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["script_data"] = script_data
    made.filters["plural"] = plural
    made.filters["bytes"] = bytes_text
    return made


def script_data(told: Any) -> Markup:
    """JSON within a script element: no text of it can end the element."""
    text = told if isinstance(told, str) else json.dumps(told)
    escaped = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return Markup(escaped)  # noqa: S704 - nothing in it can end an element or begin one


@functools.cache
def _asset(name: str) -> str:
    return files("cineray.report").joinpath("templates", name).read_text(encoding="utf-8")


@functools.cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


@functools.cache
def _packed_plotly() -> str:
    return base64.b64encode(gzip.compress(_plotly().encode(), 9, mtime=0)).decode("ascii")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"
