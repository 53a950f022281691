"""Plots, by Plotly: numbers go in, `Figure`s come out. Only this file and sweep_plots.py know the library.

Every figure has words for who cannot see it. Texts that come from data are escaped, for Plotly shows some markup in
labels. Colours of paper, grid and letters are the page's own (`templates/page.js`), so that plots turn dark with it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cineray.report.content import Figure
from cineray.report.palette import BLUE, GREY, RED, SERIES
from cineray.report.wording import clipped

MOST_POINTS = 400
"""Of a line: more than a screen has columns for is averaged, so that a long run's page is no larger than a short
one's."""

_LINE_PX, _MARKER_PX = 2, 7
_FEW = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line: `y` over `x`, maybe with its interval."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    colour: str = ""
    markers: bool = False
    dashed: bool = False
    faint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One value with its interval, and a name."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    colour: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What the axes say."""

    x: str = ""
    y: str = ""
    log_y: bool = False
    share: bool = False
    """`y` is a fraction, shown in percent."""
    whole_y: bool = False
    """`y` begins at 0."""


def lines(title: str, says: str, series: Sequence[Series], axes: Axes, *, height_px: int = 320) -> Figure:
    """Lines over one axis."""
    figure, legend = go.Figure(), []
    for number, one in enumerate(series):
        colour = one.colour or SERIES[number % len(SERIES)]
        legend.append((one.name, colour))
        x, y = thinned(one.x, one.y)
        told: dict[str, Any] = {"name": words(one.name), "x": x, "y": y}
        if one.low is not None and one.high is not None:
            up, down = np.subtract(one.high, one.y), np.subtract(one.y, one.low)
            told["error_y"] = {"type": "data", "array": up.tolist(), "arrayminus": down.tolist(), "thickness": 1.2}
        style = {"color": colour, "width": 1 if one.faint else _LINE_PX, "dash": "dot" if one.dashed else "solid"}
        figure.add_trace(
            go.Scatter(
                **told,
                mode="lines+markers" if one.markers or len(x) < 2 else "lines",
                line=style,
                marker={"size": _MARKER_PX},
                opacity=0.5 if one.faint else 1,
            )
        )
    figure.update_layout(hovermode="x unified")
    return finished(title, says, figure, axes, height_px, legend=legend)


def stack(
    title: str,
    says: str,
    x: Sequence[float],
    layers: Mapping[str, tuple[Sequence[float], str]],
    axes: Axes,
    *,
    height_px: int = 380,
) -> Figure:
    """Layers on top of each other: name -> (values, colour), from the bottom up. Those that are all 0 are left out."""
    figure, legend = go.Figure(), []
    for name, (values, colour) in layers.items():
        if any(values):
            legend.append((name, colour))
            style = {"color": colour, "width": 0, "shape": "hvh"}
            text = "%{y:.1%}" if axes.share else "%{y:.3g}"
            figure.add_trace(
                go.Scatter(
                    x=plain(x),
                    y=plain(values),
                    name=words(name),
                    mode="lines",
                    line=style,
                    stackgroup="all",
                    fillcolor=colour,
                    hovertemplate=text,
                )
            )
    if axes.share:
        figure.update_yaxes(range=[0, 1])
    figure.update_layout(hovermode="x unified")
    return finished(title, says, figure, axes, height_px, legend=legend)


def bars(
    title: str,
    says: str,
    groups: Mapping[str, Sequence[float]],
    names: Sequence[str],
    axes: Axes,
    *,
    colours: Sequence[str] = SERIES,
    height_px: int = 320,
) -> Figure:
    """Upright bars: a place on the axis for each name, a bar there for each group."""
    figure, legend = go.Figure(), []
    for number, (group, values) in enumerate(groups.items()):
        legend.append((group, colours[number % len(colours)]))
        figure.add_trace(
            go.Bar(
                x=[words(name) for name in names],
                y=plain(values),
                name=words(group),
                marker={"color": legend[-1][1]},
                hovertemplate="%{x}: %{y:,.4~g}",
            )
        )
    figure.update_layout(bargap=0.12, bargroupgap=0.05, barmode="group", xaxis={"type": "category"})
    return finished(title, says, figure, axes, height_px, legend=legend)


def counts(title: str, says: str, found: Mapping[str, float], *, unit: str, colour: str = "") -> Figure:
    """Lying bars, the largest on top: how often each name occurs."""
    names, values = list(found), [float(value) for value in found.values()]
    bar = go.Bar(
        x=values,
        y=[words(name, 28) for name in names],
        orientation="h",
        text=[f"{value:,.0f}" for value in values],
        textposition="auto",
        insidetextfont={"color": "#fff"},
        insidetextanchor="end",
        cliponaxis=False,
        marker={"color": colour or SERIES[0]},
        hovertemplate=f"%{{y}}: %{{x:,.0f}} {html.escape(unit)}",
        name="",
    )
    figure = go.Figure(bar)
    figure.update_layout(bargap=0.25, yaxis={"autorange": "reversed", "type": "category", "showgrid": False})
    figure.update_layout(xaxis={"showticklabels": False, "rangemode": "tozero"})
    return finished(title, says, figure, Axes(), 27 * len(names) + 34)


def histogram(
    title: str, says: str, values: Sequence[float], *, unit: str, bins: int = 24, height_px: int = 260
) -> Figure:
    """How many values lie where. Counted here: the page holds the counts, however many values there are."""
    many, edges = np.histogram(np.asarray(values, dtype=np.float64), bins=bins)
    middles = (edges[:-1] + edges[1:]) / 2
    told = [f"{low:.4g} to {high:.4g} {html.escape(unit)}" for low, high in pairwise(edges)]
    bar = go.Bar(
        x=plain(middles),
        y=many.tolist(),
        width=plain(np.diff(edges)),
        customdata=told,
        hovertemplate="%{customdata}: %{y:,}<extra></extra>",
        marker={"color": SERIES[0], "line": {"width": 0}},
    )
    figure = go.Figure(bar)
    figure.update_layout(bargap=0.02)
    _count_whole(figure, many)
    return finished(title, says, figure, Axes(x=unit, whole_y=True), height_px)


def _count_whole(figure: go.Figure, many: Any) -> None:
    """Of few there are no parts on the axis."""
    if max(many, default=0) < _FEW:
        figure.update_yaxes(dtick=1)


def before_after(
    title: str,
    says: str,
    before: Any,
    after: Any,
    *,
    limits: Sequence[tuple[str, float]] = (),
    bins: int = 24,
) -> Figure:
    """Where values lay, and where those that are left of them lie: of each bar, what is grey only is gone.

    The outermost bars hold the hundredth of all values that lies farthest out on their side, of a hundred and fewer
    none. `limits`: names and places of upright lines.
    """
    whole = np.asarray(before, dtype=np.float64)
    low, high = float(np.quantile(whole, 0.01, method="lower")), float(np.quantile(whole, 0.99, method="higher"))
    near = [at for _, at in limits if abs(at - (low + high) / 2) <= 2 * max(high - low, 1e-9)]
    low, high = min(low, *near) if near else low, max(high, *near) if near else high
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    middles, figure = (edges[:-1] + edges[1:]) / 2, go.Figure()
    legend = [("all", GREY), ("left", BLUE)]
    for (name, colour), values in zip(legend, (whole, np.asarray(after, dtype=np.float64)), strict=True):
        many, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
        told = [f"{a:.4g} to {b:.4g}: {count:,} {name}" for (a, b), count in zip(pairwise(edges), many, strict=True)]
        bar = {"x": plain(middles), "y": many.tolist(), "width": plain(np.diff(edges)), "customdata": told}
        hover = "%{customdata}<extra></extra>"
        figure.add_trace(go.Bar(**bar, name=name, hovertemplate=hover, marker={"color": colour, "line": {"width": 0}}))
    for rule, at in limits:
        if edges[0] <= at <= edges[-1]:
            line = {"width": 1.5, "dash": "dash", "color": RED}
            figure.add_vline(x=at, line=line, annotation_text=words(rule, 18), annotation_font_size=11)
    _count_whole(figure, np.histogram(np.clip(whole, edges[0], edges[-1]), bins=edges)[0])
    figure.update_layout(bargap=0.02, barmode="overlay")
    return finished(title, says, figure, Axes(whole_y=True), 200, legend=legend)


def estimates(title: str, says: str, found: Sequence[Estimate], *, zero: bool = False, share: bool = False) -> Figure:
    """Values with their intervals, one below the other; with `zero`, a line where there is no difference."""
    figure = go.Figure()
    for one in found:
        low = one.value if one.low is None else one.low
        high = one.value if one.high is None else one.high
        wide = {"type": "data", "symmetric": False, "thickness": 2, "width": 5}
        bar = wide | {"array": [high - one.value], "arrayminus": [one.value - low], "color": one.colour or SERIES[0]}
        form = ".1%" if share else ".4~g"
        figure.add_trace(
            go.Scatter(
                x=[one.value],
                y=[words(one.name, 22)],
                error_x=bar,
                mode="markers",
                marker={"size": 9, "color": one.colour or SERIES[0]},
                name=words(one.name),
                hovertemplate=f"%{{x:{form}}}  [{low:{_python(form)}}, {high:{_python(form)}}]",
            )
        )
    if zero:
        figure.add_vline(x=0, line={"width": 1, "dash": "dot", "color": SERIES[-1]})
    figure.update_layout(yaxis={"autorange": "reversed", "type": "category", "showgrid": False})
    figure.update_layout(xaxis={"nticks": 5, "tickformat": ".0%" if share else ""})
    return finished(title, says, figure, Axes(), 30 * len(found) + 58)


def marks(
    title: str, says: str, groups: Mapping[str, tuple[Sequence[float], Sequence[str], str]], axes: Axes
) -> Figure:
    """Points at (x, name), a colour and a legend for each group."""
    figure = go.Figure()
    rows = 1
    for name, (x, y, colour) in groups.items():
        rows = max(rows, len(set(y)))
        mark = {"symbol": "line-ns", "size": 11, "line": {"width": 2.5, "color": colour}}
        figure.add_trace(
            go.Scatter(
                x=plain(x),
                y=[words(one, 18) for one in y],
                mode="markers",
                name=words(name),
                marker=mark,
                hovertemplate="%{y}: %{x:.3f} s",
            )
        )
    figure.update_layout(yaxis={"autorange": "reversed", "type": "category"})
    legend = [(name, colour) for name, (_, _, colour) in groups.items()]
    return finished(title, says, figure, axes, min(22 * rows + 70, 720), legend=legend)


def thinned(x: Sequence[float], y: Sequence[float], most: int = MOST_POINTS) -> tuple[list[float], list[float | None]]:
    """At most so many points: means of neighbours; what is not known stays a gap."""
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(xs) > most:
        parts = np.array_split(np.arange(len(xs)), most)
        xs = np.array([xs[part].mean() for part in parts])
        ys = np.array([_mean_of_known(ys[part]) for part in parts])
    return plain(xs), plain(ys)


def words(text: str, most: int = 60) -> str:
    """A text of the data as a label: one line, no markup."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return html.escape(clipped(line, most), quote=False)


def _mean_of_known(values: Any) -> float:
    good = values[np.isfinite(values)]
    return float(good.mean()) if len(good) else math.nan


def plain(values: Any) -> list[Any]:
    """Lists that JSON holds: four to six figures are more than a screen shows; what is not a number is null."""
    return [None if not math.isfinite(v) else float(f"{v:.6g}") for v in np.asarray(values, dtype=np.float64).tolist()]


def _python(form: str) -> str:
    """The number format of Plotly (d3) as Python's."""
    return form.replace("~", "")


def finished(
    title: str, says: str, figure: Any, axes: Axes, height_px: int, *, legend: Sequence[tuple[str, str]] = ()
) -> Figure:
    """The finished figure. The legend is the page's, below the plot: it wraps where the screen is narrow."""
    figure.update_layout(
        template="none", autosize=True, height=height_px, margin={"l": 8, "r": 12, "t": 8, "b": 8}, showlegend=False
    )
    figure.update_xaxes(automargin=True, title={"text": axes.x, "standoff": 8})
    figure.update_yaxes(automargin=True, title={"text": axes.y, "standoff": 8})
    if axes.log_y:
        figure.update_yaxes(type="log", dtick="D2", tickformat=".3~g")
    if axes.share:
        figure.update_yaxes(tickformat=".0%")
    if axes.whole_y:
        figure.update_yaxes(rangemode="tozero")
    told = tuple(legend) if len(legend) > 1 else ()
    return Figure(title=title, says=says, json=figure.to_json(validate=False), height_px=height_px, legend=told)
