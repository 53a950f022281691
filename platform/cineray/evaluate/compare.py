"""Two checkpoints held against each other: two runs go in; by how much they differ, per metric, and if that is noise.

Both answer the same prompts (the first run's) from the same noise and are judged by the same feature network, so their
clips are paired: an interval is made of the differences of pairs that are drawn together, and what all clips have in
common does not count as noise. A difference whose 95 % interval leaves 0 out is beyond noise. One in twenty is so by
chance alone, and two checkpoints are two trainings: that a recipe is better takes several seeds of each.

    <run A>/evaluations/step-00001100/against-<id of run B>-step-00000825/comparison.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from cineray.errors import PlaceMissing
from cineray.evaluate.config import EvaluateConfig
from cineray.evaluate.evaluation import Evaluation, RowsOf
from cineray.evaluate.metric import Metric
from cineray.evaluate.net_of_run import net_place
from cineray.evaluate.procedure import evaluate
from cineray.evaluate.registry import METRICS
from cineray.evaluate.scores import Difference, Score
from cineray.evaluate.stages import Tell
from cineray.evaluate.verdict import TOLD
from cineray.storage import join_uri, object_exists, put_object, read_object
from cineray.train.run_folder import RunFolder

FORMAT = 1
RECORD = "comparison.json"
_LIMIT_BYTES = 1 << 28
_IDENTITY = ("run", "run_id", "job", "checkpoint", "weights", "fingerprint", "record", "verdict")

_AS_USUAL = EvaluateConfig()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison that was made; `facts` is what its comparison.json says."""

    uri: str
    facts: Mapping[str, Any]


def compare_runs(
    a: RunFolder,
    b: RunFolder,
    config: EvaluateConfig = _AS_USUAL,
    *,
    step_a: int | None = None,
    step_b: int | None = None,
    device: torch.device | None = None,
    tell: Tell = lambda _: None,
) -> Comparison:
    """Hold the second run's checkpoint against the first one's; what is not evaluated yet is."""
    first = evaluate(a, config, step=step_a, device=device, tell=tell)
    asked_of, config_b = (None, config) if a.run_id == b.run_id else (a, _with_net_of(a, config, first))
    second = evaluate(b, config_b, step=step_b, asked_of=asked_of, device=device, tell=tell)
    rows = differences(first, second, bootstrap=config.bootstrap, seed=config.seed)
    facts = {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "a": _identity(first),
        "b": _identity(second),
        "metrics": rows,
        "verdict": verdict_of(rows, first.name, second.name),
    }
    uri = join_uri(first.uri, f"against-{b.run_id}-step-{second.checkpoint:08d}")
    put_object(join_uri(uri, RECORD), json.dumps(facts, indent=1).encode())
    return Comparison(uri, facts)


def read_comparison(uri: str) -> Comparison | None:
    """The comparison in this folder; None where there is none."""
    try:
        return Comparison(uri, json.loads(read_object(join_uri(uri, RECORD), limit_bytes=_LIMIT_BYTES)))
    except PlaceMissing:
        return None


def differences(a: Evaluation, b: Evaluation, *, bootstrap: int = 1000, seed: int = 0) -> list[dict[str, Any]]:
    """One row per metric that either was judged by: the second less the first."""
    rows_a, real = a.rows()
    rows_b, _ = b.rows()
    of_b = {score.name: score for score in b.scores()}
    found = []
    for score_a in a.scores():
        score_b = of_b.get(score_a.name)
        if score_b is None:
            continue
        apart = _difference(score_a, score_b, rows_a, rows_b, real, bootstrap=bootstrap, seed=seed)
        found.append(_row(score_a, score_b, apart))
    return found


def _difference(
    a: Score, b: Score, rows_a: RowsOf, rows_b: RowsOf, real: RowsOf, *, bootstrap: int, seed: int
) -> Difference:
    why = _why_not(a, b)
    if why or a.name not in rows_a or a.name not in rows_b:
        told: dict[str, Any] = dict.fromkeys(("difference", "low", "high"))
        return Difference(name=a.name, a=a.value, b=b.value, **told, n=0, beyond_noise=False, note=why)
    metric = _for_rows(a.name)
    return metric.difference(rows_a[a.name], rows_b[a.name], real.get(a.name), bootstrap=bootstrap, seed=seed)


def _why_not(a: Score, b: Score) -> str:
    """Why two scores do not compare; empty where they do."""
    for which, score in (("first", a), ("second", b)):
        if score.skipped:
            return f"not measured of the {which}: {score.skipped}"
    differ = sorted(name for name in a.facts.keys() | b.facts.keys() if a.facts.get(name) != b.facts.get(name))
    return f"measured in two ways ({', '.join(differ)}): values do not compare" if differ else ""


def _for_rows(name: str) -> Metric:
    """A metric that scores rows. It has no network and no training clips: it could not look at a clip."""
    kind = METRICS[name]
    return kind.__new__(kind)


def _row(a: Score, b: Score, apart: Difference) -> dict[str, Any]:
    """As a comparison's record has it."""
    told = {name: value for name, value in apart.to_dict().items() if name not in ("a", "b")}
    described = {"group": a.group, "unit": a.unit, "better": a.better}
    return {**told, **described, "a": a.to_dict(), "b": b.to_dict(), "winner": _winner(a, b, apart)}


def _winner(a: Score, b: Score, apart: Difference) -> str:
    """`a` or `b`, where the difference is beyond noise and one way is good; else empty."""
    if not apart.beyond_noise or apart.difference is None or a.value is None or b.value is None:
        return ""
    if a.better == "like real":
        real = a.controls.get("real", {"value": None})["value"]
        if real is None or abs(a.value - real) == abs(b.value - real):
            return ""
        return "a" if abs(a.value - real) < abs(b.value - real) else "b"
    return "b" if (apart.difference > 0) == (a.better == "higher") else "a"


def verdict_of(rows: list[dict[str, Any]], name_a: str, name_b: str) -> str:
    """One sentence."""
    measured = [row for row in rows if row["difference"] is not None]
    if not measured:
        return f"Nothing was measured of both {name_a} and {name_b}."
    for_a, for_b = (sum(row["winner"] == side for row in measured) for side in ("a", "b"))
    many = f"{len(measured)} metric{'s' if len(measured) != 1 else ''}"
    if for_a == for_b == 0:
        told = f"No difference beyond noise between A ({name_a}) and B ({name_b}) in {many}"
    else:
        sides = [f"{side} is better in {won}" for side, won in (("A", for_a), ("B", for_b)) if won]
        told = f"Of {many}, {' and '.join(sides)} beyond noise (A: {name_a}; B: {name_b})"
    chance = f"about {max(1, round(len(measured) / 20))} would be so by chance"
    seeds = "these are two checkpoints, and a better recipe shows only over several seeds"
    return f"{told}{_most_direct(measured)}; {chance}, and {seeds}."


def _most_direct(rows: list[dict[str, Any]]) -> str:
    """What says most, where it was measured."""
    row = next((row for row in rows if row["name"] == TOLD), None)
    if row is None or row["low"] is None:
        return ""
    sure = "beyond noise" if row["beyond_noise"] else "within noise"
    change = f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
    return f"; direction accuracy {row['a']['value']:.2f} and {row['b']['value']:.2f}: {change}, {sure}"


def _identity(one: Evaluation) -> dict[str, Any]:
    return {"uri": one.uri, "name": one.name, **{name: one.facts[name] for name in _IDENTITY}}


def _with_net_of(run: RunFolder, config: EvaluateConfig, made: Evaluation) -> EvaluateConfig:
    """The same config with the feature network that the first run was judged by."""
    record = made.facts["record"]
    place = net_place(run, config, **{name: record[name] for name in ("frames", "height", "width")})
    return config.model_copy(update={"feature_net": place}) if place and object_exists(place) else config
