"""A sweep while it goes on: rows of trials come in; a terminal shows one table, everything else a JSON line per change.

    0:41:07  sweep sampling: 12 trials, 7 done, 3 stopped, 2 running
    trial  state    budget  skill   clips per s  values
        4  running    62 %  0.604         118.2  sampling stride 2, learning rate 0.00285
        1  done      100 %  0.701          78.0  sampling stride 2, learning rate 0.000811

Trials at work come first, then those that ended, the newest first; as many as the terminal has lines for. Words go to
stderr, so that stdout is only the result.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cineray.cli.output import plain, visible
from cineray.cli.sweep_table import values_text

if TYPE_CHECKING:
    from cineray.sweep import SweepJob, TrialRow

_EVERY_SECONDS = 0.25
_FIXED_LINES = 4
_WIDE = 110
"""Columns of a terminal that has room for what bounds a trial."""
_TONES = {"running": "cyan", "judging": "cyan", "measured alone": "cyan", "done": "green", "data-bound": "yellow"}
_TONES |= {"failed": "red", "lost": "red", "waiting": "dim", "stopped": "dim"}
_AT_WORK = ("running", "judging", "measured alone")


class SweepLive:
    """A watcher that people look at."""

    def __init__(self, job: SweepJob, *, stream: TextIO | None = None, console: Console | None = None) -> None:
        self._name, self._objectives = job.name, [one.name for one in job.objectives]
        self._stream = sys.stderr if stream is None else stream
        self._console = console or Console(file=self._stream, highlight=False)
        self._begun, self._shown = time.monotonic(), -math.inf
        self._told: dict[int, dict[str, Any]] = {}
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live("starting", console=self._console, transient=True, auto_refresh=False)
            self._live.start()

    def changed(self, rows: Sequence[TrialRow]) -> None:
        """All trials as they are now."""
        if self._live is None:
            self._tell(rows)
        elif time.monotonic() - self._shown >= _EVERY_SECONDS:
            self._shown = time.monotonic()
            self._live.update(self.table(rows), refresh=True)

    def say(self, text: str) -> None:
        """A sentence that stays."""
        if self._live is not None:
            self._live.console.print(visible(text), markup=False)
        else:
            self._line({"said": text})

    def close(self) -> None:
        """The table goes; the command shows what came of it."""
        if self._live is not None:
            self._live.stop()

    def table(self, rows: Sequence[TrialRow]) -> Table:
        """What a terminal shows."""
        wide = self._console.width >= _WIDE
        table = Table(title=self._head(rows), title_justify="left", box=None, pad_edge=False, expand=True)
        for column in ("trial", "state", "budget"):
            table.add_column(column, no_wrap=True, justify="left" if column == "state" else "right")
        for name in self._objectives:
            table.add_column(escape(name.rpartition("/")[2].replace("_", " ")), justify="right", no_wrap=True)
        table.add_column("values", no_wrap=True, overflow="ellipsis", ratio=3)
        if wide:
            table.add_column("what bounds it, or why it ended", no_wrap=True, overflow="ellipsis", ratio=2)
        most = max(self._console.height - _FIXED_LINES, 3)
        for row in in_order(rows)[:most]:
            table.add_row(*self._cells(row), *([plain(row.why or row.verdict)] if wide else []))
        return table

    def _cells(self, row: TrialRow) -> list[str]:
        spent = f"{100 * min(row.spent / row.budget, 1):.0f} %" if row.budget else "-"
        known = {name: float(value) for name, value in row.objectives.items() if math.isfinite(value)}
        reached = [plain(known[name]) if name in known else "" for name in self._objectives]
        tone = _TONES.get(row.state, "")
        state = f"[{tone}]{escape(row.state)}[/]" if tone else escape(row.state)
        return [str(row.number), state, spent, *reached, values_text(row.values)]

    def _head(self, rows: Sequence[TrialRow]) -> str:
        states = Counter(row.state for row in rows)
        told = ", ".join(f"{count} {state}" for state, count in states.most_common())
        minutes, seconds = divmod(round(time.monotonic() - self._begun), 60)
        clock = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
        return escape(f"{clock}  sweep {self._name}: {len(rows)} trials, {told or 'none yet'}")

    def _tell(self, rows: Sequence[TrialRow]) -> None:
        """A line for each trial that is in another state, or was judged, since it was last told of."""
        for row in rows:
            now = {"state": row.state, "objectives": {k: _number(v) for k, v in row.objectives.items()}}
            if self._told.get(row.number) != now:
                self._told[row.number] = now
                spent = {f"spent_{row.unit}": round(row.spent, 3), "step": row.step}
                why = {"why": row.why} if row.why else {}
                self._line({"trial": row.number, **now, **spent, **why, "values": dict(row.values)})

    def _line(self, told: Mapping[str, Any]) -> None:
        print(json.dumps(told, default=str), file=self._stream, flush=True)


def in_order(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Trials at work first, then those that ended, the newest first; those that wait for their turn last."""

    def key(row: TrialRow) -> tuple[int, int]:
        return (0 if row.state in _AT_WORK else 2 if row.state == "waiting" else 1, -row.number)

    return sorted(rows, key=key)


def _number(value: float) -> float | None:
    """JSON has no word for what is no number."""
    return value if math.isfinite(value) else None
