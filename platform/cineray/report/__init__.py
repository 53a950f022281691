"""Pages for people. A lake, a run, a batch, an evaluation, a comparison or a sweep goes in; one HTML file comes out,
which needs nothing else, not even a network.

    subjects.py      what lies at a path                 embed.py         pictures and clips, within a bound
    *_page.py        what there is to say of each kind   *plots.py        plots, by Plotly
    content.py       what a page holds, without markup   render.py        markup, by Jinja and templates/

Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cineray.report.subjects import Subject, subject_of
    from cineray.report.write import Report, write_report

_HOME = {"subjects": ("Subject", "subject_of"), "write": ("Report", "write_report")}

__all__ = ["Report", "Subject", "subject_of", "write_report"]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
