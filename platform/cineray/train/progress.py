"""The live line of a training: rows go in; a terminal shows one line, everything else a JSON line now and then.

    step 1,240/5,000  loss 0.0843  312.4 clips/s  wait 1.2 %  0:41:07 left

Words go to stderr, so that stdout is only the result. Where stderr is no terminal (a log, a Ray job's driver) one JSON
object per half minute says the same. Rates are of the last steps, so that the line follows what happens now.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cineray.train.goodput import waited

LOOKED_BACK = 50
LINE_EVERY_SECONDS = 30.0


class ProgressLine:
    """A sink that people look at."""

    def __init__(
        self,
        steps: int,
        *,
        budget_seconds: float | None = None,
        stream: TextIO | None = None,
        every_seconds: float = LINE_EVERY_SECONDS,
    ) -> None:
        """`budget_seconds`: training seconds that the run may take, where it may end before its `steps`."""
        self._steps, self._budget, self._every = steps, budget_seconds, every_seconds
        self._stream = sys.stderr if stream is None else stream
        self._rows: deque[Mapping[str, Any]] = deque(maxlen=LOOKED_BACK)
        self._told = -math.inf
        self._live: Live | None = None
        if self._stream.isatty():
            console = Console(file=self._stream, highlight=False)
            self._live = Live(Text("starting"), console=console, transient=True, auto_refresh=False)
            self._live.start()

    def row(self, row: Mapping[str, Any]) -> None:
        """A step."""
        self._rows.append(row)
        if self._live is not None:
            # Not at each step: a terminal over a slow line must not hold up small models.
            if time.monotonic() - self._told >= 0.1:
                self._told = time.monotonic()
                self._live.update(Text(line_of(self.facts()), no_wrap=True, overflow="ellipsis"), refresh=True)
        elif time.monotonic() - self._told >= self._every:
            self._told = time.monotonic()
            print(json.dumps(self.facts()), file=self._stream, flush=True)

    def judged(self, step: int, metrics: Mapping[str, float]) -> None:
        """A validation: a line that stays."""
        if self._live is not None:
            told = "  ".join(f"{name} {value:.4g}" for name, value in list(metrics.items())[:4])
            self._live.console.print(Text(f"step {step:,}  {told}"))
        else:
            told_all = {name: _number(value) for name, value in metrics.items()}
            print(json.dumps({"step": step, **told_all}), file=self._stream, flush=True)

    def close(self, summary: Mapping[str, Any]) -> None:  # noqa: ARG002 - the command shows it
        """The line goes."""
        if self._live is not None:
            self._live.stop()

    def facts(self) -> dict[str, Any]:
        """What the line says, from the last steps."""
        last = self._rows[-1]
        seconds = sum(float(row["step_s"]) for row in self._rows)
        clips = sum(int(row["clips"]) for row in self._rows)
        wait = sum(waited(row) for row in self._rows)
        done = int(last["step"]) + 1
        left = (self._steps - done) * seconds / len(self._rows)
        by_time = math.inf if self._budget is None else max(self._budget - float(last["training_seconds"]), 0.0)
        return {
            "step": done,
            "steps": self._steps if left <= by_time else None,
            "loss": _number(round(float(last["loss"]), 6)),
            "clips_per_s": round(clips / seconds, 2) if seconds else 0.0,
            "data_wait_fraction": round(wait / seconds, 4) if seconds else 0.0,
            "seconds_left": round(min(left, by_time), 1),
        }


def _number(value: float) -> float | None:
    """JSON has no word for what is no number."""
    return value if math.isfinite(value) else None


def line_of(facts: Mapping[str, Any]) -> str:
    """The facts as people read them."""
    minutes, seconds = divmod(round(float(facts["seconds_left"])), 60)
    hours, minutes = divmod(minutes, 60)
    loss = math.nan if facts["loss"] is None else facts["loss"]
    steps = "" if facts["steps"] is None else f"/{facts['steps']:,}"
    return (
        f"step {facts['step']:,}{steps}  loss {loss:.4g}  {facts['clips_per_s']:,.1f} clips/s  "
        f"wait {100 * facts['data_wait_fraction']:.1f} %  {hours}:{minutes:02d}:{seconds:02d} left"
    )
