"""JSON from strangers: bytes in, plain values out, in time and memory that grow with the bytes alone.

Python's parser recurses once per nesting level, takes any number of digits, and reads `NaN` and `1e999`; here size,
depth and numbers are limited, and duplicate keys cannot hide anything (the last one wins, as in every parser).
"""

from __future__ import annotations

import json
import math
import re

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_DIGITS = 40

# A string, closed or not, or one bracket. Possessive, and an open string runs to the end: linear on any input.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?|[\[\]{}]', re.DOTALL)


class StrictJsonError(ValueError):
    """This JSON is not valid, or larger, deeper or with longer numbers than we read."""


def parse_strict(data: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> object:
    """The value that these UTF-8 bytes say; StrictJsonError (what, got, wanted) for everything else."""
    if len(data) > max_bytes:
        raise StrictJsonError(f"JSON of {len(data):,} bytes; at most {max_bytes:,} are read")
    depth = _depth(data, max_depth)
    if depth > max_depth:
        raise StrictJsonError(f"JSON nested more than {max_depth} levels deep")
    try:
        text = data.decode("utf-8-sig")
        return json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=_no_constant)
    except StrictJsonError:
        raise
    except UnicodeDecodeError as error:
        raise StrictJsonError(f"JSON is not UTF-8: byte {data[error.start]:#04x} at {error.start}") from error
    except ValueError as error:
        raise StrictJsonError(f"not valid JSON: {error}") from error


def _depth(data: bytes, enough: int) -> int:
    """How deep brackets nest outside strings; stops counting when it is past `enough`."""
    if data.count(b"[") + data.count(b"{") <= enough:
        return 0
    depth = deepest = 0
    for found in _TOKEN.finditer(data):
        token = found[0]
        if token in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
            if deepest > enough:
                break
        elif token in (b"]", b"}"):
            depth -= 1
    return deepest


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise StrictJsonError(f"JSON number with {len(digits):,} digits; at most {MAX_DIGITS} are read")
    return int(digits)


def _finite(digits: str) -> float:
    if len(digits) > MAX_BYTES or not math.isfinite(value := float(digits)):
        raise StrictJsonError(f"JSON number {digits[:20]} is out of a float's range")
    return value


def _no_constant(word: str) -> float:
    raise StrictJsonError(f"JSON has no number {word}")
