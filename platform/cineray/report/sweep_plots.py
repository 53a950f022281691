"""Plots of many trials, by Plotly: what trials reached goes in, `Figure`s come out.

Parallel coordinates are drawn here, not by Plotly's own kind: that one computes in the graphics card by programs that
it writes at run time, which the page's policy forbids, and it cannot be read on a phone. Here each dimension is a row,
so names and values stay readable at any width.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go

from cineray.report.content import Figure
from cineray.report.palette import GREY
from cineray.report.plots import Axes, Series, finished, plain, thinned, words

_GAP = (None,)
_FAINT = 0.55


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One trial in a plot of two objectives; `low` and `high` of each where an interval is known."""

    name: str
    x: float
    y: float
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None
    filled: bool = True
    said: str = ""
    """What is told of it when it is pointed at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Points of one kind."""

    name: str
    colour: str
    points: Sequence[Point]
    labelled: bool = False
    """Their names stand beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """A row of parallel coordinates: its name, and what stands where from its left end (0) to its right (1)."""

    name: str
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One trial in parallel coordinates: a place from 0 to 1 in each dimension, nan where it has none."""

    places: Sequence[float]
    said: str


def trade_off(
    title: str, says: str, groups: Sequence[Group], axes: Axes, front: Sequence[tuple[float, float]], *, x_smaller: bool
) -> Figure:
    """Two objectives against each other, and the line that nothing tried is beyond."""
    figure, legend = go.Figure(), []
    for group in groups:
        legend.append((group.name, group.colour))
        figure.add_trace(_cloud(group))
    xs, ys = zip(*front, strict=True) if len(front) > 1 else ((), ())
    style = {"color": GREY, "width": 1.5, "dash": "dot", "shape": "hv" if x_smaller else "vh"}
    figure.add_trace(go.Scatter(x=plain(xs), y=plain(ys), mode="lines", line=style, hoverinfo="skip"))
    figure.update_layout(hovermode="closest", xaxis={"nticks": 6}, yaxis={"nticks": 7})
    return finished(title, says, figure, axes, 380, legend=legend)


def _cloud(group: Group) -> Any:
    told: dict[str, Any] = {}
    for axis, ends in (("x", [p.x_ends for p in group.points]), ("y", [p.y_ends for p in group.points])):
        middles = [getattr(p, axis) for p in group.points]
        up = [math.nan if e is None else e[1] - m for e, m in zip(ends, middles, strict=True)]
        down = [math.nan if e is None else m - e[0] for e, m in zip(ends, middles, strict=True)]
        told[axis] = plain(middles)
        told[f"error_{axis}"] = {"type": "data", "array": plain(up), "arrayminus": plain(down)}
        told[f"error_{axis}"] |= {"thickness": 1.2, "width": 0, "color": group.colour}
    marker: dict[str, Any] = {
        "size": 12 if group.labelled else 8,
        "color": group.colour,
        "line": {"width": 2, "color": group.colour},
    }
    marker["symbol"] = ["circle" if p.filled else "circle-open" for p in group.points]
    return go.Scatter(
        **told,
        mode="markers+text" if group.labelled else "markers",
        text=[words(p.name) for p in group.points],
        textposition="top right",
        marker=marker,
        opacity=1 if group.labelled else _FAINT,
        cliponaxis=False,
        name=words(group.name),
        customdata=[_lines(p.said) for p in group.points],
        hovertemplate="%{customdata}<extra></extra>",
    )


def paths(
    title: str, says: str, dimensions: Sequence[Dimension], groups: Mapping[str, tuple[Sequence[Path], str, float]]
) -> Figure:
    """Parallel coordinates, from top to bottom: group -> (its trials, colour, width of the line)."""
    figure, legend = go.Figure(), []
    rows = list(range(len(dimensions)))
    for name, (some, colour, width) in groups.items():
        legend.append((name, colour))
        x = [place for path in some for place in (*plain(path.places), None)]
        told = [said for path in some for said in (*[_lines(path.said)] * len(rows), "")]
        figure.add_trace(
            go.Scatter(
                x=x,
                y=[row for _ in some for row in (*rows, *_GAP)],
                mode="lines+markers",
                line={"color": colour, "width": width, "shape": "spline", "smoothing": 0.5},
                marker={"size": 5 + width, "color": colour},
                opacity=min(0.4 + 0.25 * width, 1),
                connectgaps=False,
                customdata=told,
                hovertemplate="%{customdata}<extra></extra>",
                name=words(name),
            )
        )
    for row, dimension in zip(rows, dimensions, strict=True):
        _scale(figure, row, dimension)
    heads = ["<br>".join(f"<b>{words(part)}</b>" for part in wrap(one.name, 14)[:3]) for one in dimensions]
    figure.update_layout(hovermode="closest", xaxis={"visible": False, "range": [-0.06, 1.06]})
    figure.update_yaxes(
        tickvals=rows, ticktext=heads, range=[len(rows) - 0.4, -0.4], showgrid=False, zeroline=False, ticks=""
    )
    return finished(title, says, figure, Axes(), 74 * len(rows) + 40, legend=legend)


def _scale(figure: Any, row: int, dimension: Dimension) -> None:
    """The row's own line, and what stands where, below it."""
    figure.add_shape(
        {"type": "line", "x0": 0, "x1": 1, "y0": row, "y1": row, "line": {"color": GREY, "width": 1}, "layer": "below"}
    )
    for place, text in dimension.ticks:
        side = {0.0: "left", 1.0: "right"}.get(place, "center")  # nothing is written beyond the row's ends
        told = {"x": place, "y": row, "text": words(text, 16), "xanchor": side, "showarrow": False, "yshift": -17}
        figure.add_annotation(told | {"font": {"size": 11}})


def lying_stack(
    title: str, says: str, names: Sequence[str], layers: Mapping[str, tuple[Sequence[float], str]], *, unit: str
) -> Figure:
    """A lying bar for each name, made of layers: layer -> (a value for each name, colour); empty ones are left out."""
    figure, legend = go.Figure(), []
    for layer, (values, colour) in layers.items():
        if not any(values):
            continue
        legend.append((layer, colour))
        figure.add_trace(
            go.Bar(
                x=plain(values),
                y=[words(name, 22) for name in names],
                orientation="h",
                name=words(layer),
                marker={"color": colour, "line": {"width": 0}},
                hovertemplate=f"%{{y}}, {html.escape(layer)}: %{{x:,.4~g}} {html.escape(unit)}<extra></extra>",
            )
        )
    figure.update_layout(barmode="stack", bargap=0.28, hovermode="closest", xaxis={"nticks": 6})
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False, ticklabelstandoff=6)
    return finished(title, says, figure, Axes(x=unit), 26 * len(names) + 66, legend=legend)


def shares(title: str, says: str, found: Mapping[str, float], colour: str) -> Figure:
    """Parts of a whole as lying bars, in percent, the largest on top."""
    ordered = dict(sorted(found.items(), key=lambda one: -one[1]))
    bar = go.Bar(
        x=plain(list(ordered.values())),
        y=[words(name, 28) for name in ordered],
        orientation="h",
        text=[f"{value:.0%}" for value in ordered.values()],
        textposition="auto",
        cliponaxis=False,
        marker={"color": colour},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    figure = go.Figure(bar)
    figure.update_layout(bargap=0.3, yaxis={"autorange": "reversed", "type": "category", "showgrid": False})
    figure.update_yaxes(ticklabelstandoff=6)
    figure.update_layout(xaxis={"visible": False, "range": [0, max([*ordered.values(), 0.01]) * 1.12]})
    return finished(title, says, figure, Axes(), 32 * len(ordered) + 30)


def curves(title: str, says: str, named: Sequence[Series], others: Sequence[Series], axes: Axes) -> Figure:
    """Learning curves: each named one with its colour, the others as one grey group, so that fifty can be looked at."""
    figure, legend = go.Figure(), []
    if others:
        legend.append(("the others", GREY))
        x, y, told = [], [], []
        for one in others:
            some_x, some_y = thinned(one.x, one.y, most=60)
            x += [*some_x, None]
            y += [*some_y, None]
            told += [words(one.name)] * (len(some_x) + 1)
        figure.add_trace(_curve(x, y, told, {"color": GREY, "width": 1}, opacity=_FAINT))
    for one in named:
        legend.append((one.name, one.colour))
        some_x, some_y = thinned(one.x, one.y)
        figure.add_trace(_curve(some_x, some_y, [words(one.name)] * len(some_x), {"color": one.colour, "width": 2.5}))
    figure.update_layout(hovermode="closest", xaxis={"nticks": 7, "rangemode": "tozero"}, yaxis={"nticks": 7})
    return finished(title, says, figure, axes, 360, legend=legend)


def _curve(x: Sequence[Any], y: Sequence[Any], told: Sequence[str], line: Mapping[str, Any], opacity: float = 1) -> Any:
    return go.Scatter(
        x=list(x),
        y=list(y),
        mode="lines+markers",
        line=dict(line),
        marker={"size": 4, "color": line["color"]},
        opacity=opacity,
        connectgaps=False,
        customdata=list(told),
        hovertemplate="%{customdata}: %{y:.4~g} at %{x:,.4~g}<extra></extra>",
    )


def place_between(value: float | None, low: float, high: float, *, log: bool = False) -> float:
    """Where a value stands from 0 (`low`) to 1 (`high`); in the middle where the two are one, nan for none."""
    if value is None or not math.isfinite(value) or (log and min(value, low) <= 0):
        return math.nan
    a, b, v = (math.log(low), math.log(high), math.log(value)) if log else (low, high, value)
    return 0.5 if b == a else (v - a) / (b - a)


def _lines(text: str) -> str:
    """A text of the data for a hover label, broken at `|`."""
    return "<br>".join(words(part, 70) for part in text.split("|"))
