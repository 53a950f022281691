"""Two recipes held against each other before anything is trained: the same clips through both, and what changed.

Pixels that differ where the same instants are shown, frames that repeat or come late, jumps that the videos do not
have: a model learns all of that faithfully, and looks broken. Each finding says what part of the pipeline it comes from
(decode, resize, sampling), on which side it is worse, and whether it is only what the recipes say (a change) or what
nobody asks for: a pipeline red flag, not a model mystery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from cineray.evaluate.config import PipelineConfig
from cineray.evaluate.intervals import draws, middle
from cineray.evaluate.pipeline_clips import Exported, Pair, export_pairs
from cineray.evaluate.pipeline_measures import MEASURES, bends, measure_clip, pixel_difference
from cineray.evaluate.scores import number
from cineray.feed import FeedSpec, Supply

Severity = Literal["same", "change", "red flag"]

_RESAMPLES = 1000
_WORSE: Mapping[str, float] = {"repeated": 0.01, "discontinuity": 0.5, "flicker": 0.25}
"""Measure -> how much more of it on one side is a red flag, beside `jitter` and `unevenness` of the config."""
_WORDS: Mapping[str, str] = {
    "unevenness": "instants are asked for unevenly",
    "jitter": "frames come too early or late, so motion stutters",
    "repeated": "frames repeat",
    "discontinuity": "the picture jumps",
    "flicker": "pixels go back and forth",
}
_MOST_BENT = 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that changed, or did not."""

    part: str
    """`clips`, `decode`, `resize`, `sampling`."""
    severity: Severity
    text: str


def check_pipelines(a: FeedSpec, b: FeedSpec, config: PipelineConfig) -> tuple[dict[str, Any], Exported]:
    """The record of a check, and the clips that it rests on."""
    supply_a, supply_b = a.open(), b.open()
    out = export_pairs(supply_a, supply_b, config.clips, seed=config.seed)
    measures = _measures(out.pairs, "b")
    pixels = {part: _pixels(out.pairs, part) for part in out.factors if part != "sampling"}
    findings = [
        *_about_clips(out),
        *_about_decode(out, pixels.get("decode"), supply_a, supply_b, config),
        *_about_resize(out, pixels.get("resize")),
        *_about_sampling(out, config),
    ]
    facts = {
        "format": 1,
        "clips": len(out.pairs),
        "names": [pair.name for pair in out.pairs],
        "matched_by": "video name" if out.by_name else "clip id",
        "differ_in": list(out.factors),
        "without_partner": out.without_partner,
        "not_drawn": out.not_drawn,
        "rejected": [asdict(reject) for reject in out.rejected],
        "pixels": pixels,
        "measures": measures,
        "findings": [asdict(finding) for finding in findings],
        "red_flag": any(finding.severity == "red flag" for finding in findings),
        "config": config.model_dump(mode="json"),
        "verdict": verdict_of(findings),
    }
    return facts, out


def verdict_of(findings: Sequence[Finding]) -> str:
    """One sentence."""
    flags = [finding for finding in findings if finding.severity == "red flag"]
    changes = [finding.text for finding in findings if finding.severity == "change"]
    if flags:
        more = f" (and {len(flags) - 1} more)" if len(flags) > 1 else ""
        return f"A pipeline red flag, not a model mystery: {flags[0].part}: {flags[0].text}{more}."
    if changes:
        return f"What changed is what the recipes say: {'; '.join(changes)}. No red flag."
    return "The same clips, pixel for pixel and instant for instant."


# ---- figures ---------------------------------------------------------------------------------------------------------


def _measures(pairs: Sequence[Pair], way: str) -> list[dict[str, Any]]:
    """Each measure of A and of another way, and the difference with its interval; pairs are drawn together."""
    sides = [[measure_clip(pair.ways[one]) for pair in pairs] for one in ("a", way)]
    found = []
    for name, says in MEASURES.items():
        a_N, b_N = (np.array([clip[name] for clip in side]) for side in sides)
        known = np.isfinite(a_N) & np.isfinite(b_N)
        a_N, b_N = a_N[known], b_N[known]
        apart_N = b_N - a_N
        low, high = _interval(apart_N)
        row = {"name": name, "says": says, "a": _mean(a_N), "b": _mean(b_N), "difference": _mean(apart_N)}
        beyond = low is not None and high is not None and (low > 0 or high < 0)
        found.append({**row, "low": low, "high": high, "n": int(known.sum()), "beyond_noise": beyond})
    return found


def _pixels(pairs: Sequence[Pair], part: str) -> dict[str, Any]:
    """How far pixels are apart when only this part is changed."""
    apart = [pixel_difference(pair.ways["a"], pair.ways[part]) for pair in pairs]
    levels_N = np.array([one.levels for one in apart])
    low, high = _interval(levels_N)
    worst = int(levels_N.argmax())
    return {
        "levels": _mean(levels_N),
        "low": low,
        "high": high,
        "n": len(apart),
        "worst": {"clip": pairs[worst].name, "levels": float(levels_N[worst])},
        "shift_rgb": np.mean([one.shift_rgb for one in apart], axis=0).tolist(),
        "same_frames": float(np.mean([one.same_frames for one in apart])),
        "resized": any(one.resized for one in apart),
        "per_clip": {pair.name: one.levels for pair, one in zip(pairs, apart, strict=True)},
    }


def _mean(values_N: np.ndarray) -> float | None:
    return number(float(values_N.mean())) if len(values_N) else None


def _interval(values_N: np.ndarray) -> tuple[float | None, float | None]:
    """The middle 95 % of the means of resampled clips."""
    if len(values_N) < 2:
        return None, None
    low, high = middle(values_N[draws(len(values_N), _RESAMPLES, seed=0)].mean(axis=1))
    return number(low), number(high)


# ---- findings --------------------------------------------------------------------------------------------------------


def _about_clips(out: Exported) -> list[Finding]:
    found = []
    if out.rejected:
        first = out.rejected[0]
        text = f"{_clips(len(out.rejected))} could not be decoded, first {first.name}: {first.reason} ({first.detail})"
        found.append(Finding(part="clips", severity="red flag", text=text))
    if out.without_partner:
        text = f"{_clips(len(out.without_partner))} of A are not in B's data"
        found.append(Finding(part="clips", severity="change", text=text))
    if out.not_drawn:
        text = f"{_clips(len(out.not_drawn))} of A are left out by B's recipe (too short for its clips)"
        found.append(Finding(part="clips", severity="change", text=text))
    return found


def _about_decode(
    out: Exported, pixels: Mapping[str, Any] | None, a: Supply, b: Supply, config: PipelineConfig
) -> list[Finding]:
    """The same instants of the same videos at the same size: whoever decodes them, they are the same pictures."""
    if pixels is None:
        return []
    media = "other files of the same videos" if out.by_name else "the same videos"
    decoders = [one.decode.decoder for one in (a, b)]
    how = f"{media}, decoder {decoders[0]} and {decoders[1]}" if decoders[0] != decoders[1] else media
    if pixels["levels"] == 0:
        return [Finding(part="decode", severity="same", text=f"every pixel agrees ({how})")]
    text = f"the same instants differ by {pixels['levels']:.2f} levels of 255 on average ({how}){_shift(pixels)}"
    severity: Severity = "red flag" if pixels["levels"] > config.pixel_levels else "change"
    return [Finding(part="decode", severity=severity, text=text), *_worse_motion(out, "decode", _WORSE)]


def _shift(pixels: Mapping[str, Any]) -> str:
    """Colour that is off everywhere is no noise: another matrix, or another range."""
    shift = pixels["shift_rgb"]
    if max(abs(channel) for channel in shift) < max(0.5, pixels["levels"] / 2):
        return ""
    red, green, blue = (f"{channel:+.1f}" for channel in shift)
    return f", as a shift of colour (red {red}, green {green}, blue {blue}): another colour matrix or range"


def _about_resize(out: Exported, pixels: Mapping[str, Any] | None) -> list[Finding]:
    if pixels is None:
        return []
    found = []
    sizes = [_sizes(out.pairs, way) for way in ("a", "b")]
    bent = [max(max(one, 1 / one) for one in (bends(pair.ways[way]) for pair in out.pairs)) for way in ("a", "b")]
    if max(bent) > _MOST_BENT and abs(bent[0] - bent[1]) > _MOST_BENT - 1:
        side = "A" if bent[0] > bent[1] else "B"
        text = f"in {side} pictures are bent: up to {max(bent):.2f} times as wide as high, where the other keeps shapes"
        found.append(Finding(part="resize", severity="red flag", text=text))
    if sizes[0] != sizes[1]:
        text = f"pictures of {sizes[0]} became {sizes[1]}"
        found.append(Finding(part="resize", severity="change", text=text))
    if pixels["levels"] > 0:
        brought = ", brought to one size" if pixels["resized"] else ""
        text = f"the same instants show another part or scale: {pixels['levels']:.2f} levels of 255 apart{brought}"
        found.append(Finding(part="resize", severity="change", text=text))
    return found


def _about_sampling(out: Exported, config: PipelineConfig) -> list[Finding]:
    """What happens to time. The picture is A's both times: another size alone changes how pixels move."""
    if "sampling" not in out.factors:
        return []
    found = []
    spacing = next(row for row in _measures(out.pairs, "sampling") if row["name"] == "spacing_seconds")
    other_pace = spacing["a"] is not None and abs(spacing["difference"]) > 1e-3 * spacing["a"]
    if other_pace:
        text = f"frames are {spacing['b']:.4g} s apart instead of {spacing['a']:.4g} s"
        found.append(Finding(part="sampling", severity="change", text=text))
    limits = {**_WORSE, "unevenness": config.jitter, "jitter": config.jitter}
    if other_pace:
        del limits["flicker"]  # what moves further from frame to frame bends more, and nothing is wrong with it
    return [*found, *_worse_motion(out, "sampling", limits)]


def _worse_motion(out: Exported, part: str, limits: Mapping[str, float]) -> list[Finding]:
    """What only one side has more of than its limit, when only this part is changed."""
    by_name = {row["name"]: row for row in _measures(out.pairs, part)}
    flags = {name: _worse(by_name[name], limit) for name, limit in limits.items()}
    texts = (f"{_WORDS[name]}: {flag}" for name, flag in flags.items() if flag)
    return [Finding(part=part, severity="red flag", text=text) for text in texts]


def _worse(row: Mapping[str, Any], limit: float) -> str:
    """On which side there is more of it than the other side and the limit explain; empty for neither."""
    if not row["beyond_noise"] or abs(row["difference"]) <= limit:
        return ""
    side, other = ("B", "A") if row["difference"] > 0 else ("A", "B")
    return f"{row[side.lower()]:.3g} in {side}, {row[other.lower()]:.3g} in {other}"


def _sizes(pairs: Sequence[Pair], way: str) -> str:
    """`32x32`, or several."""
    sizes = sorted({pair.ways[way].frames_THWC.shape[1:3] for pair in pairs})
    return ", ".join(f"{height}x{width}" for height, width in sizes)


def _clips(count: int) -> str:
    return f"{count} clip{'s' if count != 1 else ''}"
