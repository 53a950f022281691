"""Timed lines: the text of an .srt or a .vtt in, (start_ms, end_ms, text) of each cue out, text as it was written.

    2                                 a number or a name, which is not part of the text
    00:00:01,250 --> 00:00:02,500     hours may be missing, the fraction stands behind a comma or a point
    <v Bob>Hello                      text, to the next blank line in VTT, to the next cue in SRT

Our own forty lines because pysubs2 1.8 is not right here: it takes a text line with two inline times, as automatic
captions have them (`big<00:00:00.480> world<00:00:00.900>`), for a new cue and loses the words; it adds VTT's notes and
cue names to the text before them; and a long run of empty lines costs it quadratic time.
"""

from __future__ import annotations

import re
from itertools import takewhile

_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_TIMING = re.compile(rf"[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}(?:[ \t].*)?", re.ASCII)


class BadCueError(ValueError):
    """A cue ends before it begins."""


def parse_cues(text: str, kind: str) -> list[tuple[int, int, str]]:
    """Every cue in the file's order; `kind` is srt or vtt. Lines that belong to no cue are passed over."""
    lines = re.sub(r"\r\n?", "\n", text).split("\n")
    found = [(number, timing) for number, line in enumerate(lines) if (timing := _TIMING.fullmatch(line))]
    ends = [number for number, _ in found[1:]] + [len(lines)]
    cues = []
    for (number, timing), end in zip(found, ends, strict=False):  # without a cue, `ends` is one longer
        start_ms, end_ms = _milliseconds(*timing.groups()[:4]), _milliseconds(*timing.groups()[4:])
        if end_ms < start_ms:
            raise BadCueError(f"line {number + 1} ends before it begins: {lines[number].strip()}")
        block = lines[number + 1 : end]
        words = _vtt_text(block) if kind == "vtt" else _srt_text(block, is_last=end == len(lines))
        cues.append((start_ms, end_ms, words))
    return cues


def _vtt_text(lines: list[str]) -> str:
    """Up to the first blank line; what follows is notes, styles, and the next cue's name."""
    return "\n".join(takewhile(str.strip, lines)).strip()


def _srt_text(lines: list[str], *, is_last: bool) -> str:
    """All lines but the number of the next cue: blank lines inside a text are common in SRT, though not allowed."""
    kept = list(lines)
    if not is_last:
        while kept and not kept[-1].strip():
            kept.pop()
        if kept and kept[-1].strip().isdecimal() and (len(kept) == 1 or not kept[-2].strip()):
            kept.pop()
    return "\n".join(kept).strip()


def _milliseconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> int:
    return (int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)) * 1000 + int(fraction.ljust(3, "0"))
