"""One sentence about a checkpoint: scores, parts and losses go in; what they say together comes out.

First whether the model does what it is told, by the strictest thing that was measured: motion beside what chance gives,
else losses with right and wrong words. Then what is furthest from what real clips have. Only intervals decide; where
they overlap, the sentence says that it is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cineray.evaluate.controls import PERMUTED, SHUFFLED, UNTRAINED
from cineray.evaluate.scores import ControlScore, Score

TOLD = "direction_accuracy"
"""The metric that says most directly whether clips are what was asked for."""
WHOLE = "motion_ok"
"""And in everything else."""
COPIED = "copied_clips"
DISTANCE = "feature_kernel"
"""Clips as a whole beside real ones, without the bias of few."""
USED = 1.02
"""Losses with wrong words over those with right ones: less is the model paying no heed."""
_GOOD = 0.9


def verdict(
    scores: Sequence[Score],
    loss: Mapping[str, Any],
    parts: Mapping[str, Any],
    *,
    clips: int,
    real_from: str = "held_out",
) -> str:
    """One sentence, whole even if little could be measured."""
    by_name = {score.name: score for score in scores if score.value is not None}
    said = [_follows(by_name, loss), _part(parts), *_flaws(by_name)]
    if real_from != "held_out":
        said.append("the run holds no clips out, so real clips are its training clips")
    few = f" ({clips} clips are few: read it as a trend)" if clips < 32 else ""
    return "; ".join(one for one in said if one) + few + "."


def _follows(by_name: Mapping[str, Score], loss: Mapping[str, Any]) -> str:
    """Does the model do what it is told?"""
    score = by_name.get(TOLD)
    if score is None:
        return _heeds(loss)
    chance = score.controls.get(PERMUTED) or score.controls.get(UNTRAINED)
    told = f"{_interval(score)} of the clips move in the direction that they were told"
    if chance is None or score.low is None:
        return told
    beside = f"by chance {_percent(chance['value'])}"
    if not _above(score, chance):
        return f"The model does not follow its conditioning: {told}, no more than what chance gives ({beside})"
    whole = by_name.get(WHOLE)
    all_right = f", and {_percent(whole.value)} are right in all of direction, speed, path and object" if whole else ""
    manner = "follows" if score.low >= _GOOD else "follows, but not always,"
    return f"The model {manner} its conditioning: {told} ({beside}){all_right}"


def _heeds(loss: Mapping[str, Any]) -> str:
    ratio = loss.get("wrong_over_right")
    if ratio is None:
        return "Nothing says what the clips should show, so only their quality is judged"
    told = f"with wrong words the loss on the noisiest clips is {ratio:.2f} times that with the right ones"
    if ratio < USED:
        return f"The model pays its conditioning no heed: {told}"
    return f"The model uses its conditioning: {told}; whether its clips follow it was not measured"


def _part(parts: Mapping[str, Any]) -> str:
    """Combinations that it has never seen, where they go worse than those that it has."""
    values = {}
    for part in ("held_out", "seen"):
        found = [told for told in parts.get(part, {}).get("metrics", ()) if told["name"] == TOLD]
        values[part] = found[0] if found and found[0]["value"] is not None else None
    new, old = values["held_out"], values["seen"]
    if new is None or old is None:
        return ""
    if new["high"] < old["low"]:
        return f"on combinations that it has never seen it is worse ({new['value']:.0%} against {old['value']:.0%})"
    return f"combinations that it has never seen go as well ({new['value']:.0%}, n {new['n']})"


def _flaws(by_name: Mapping[str, Score]) -> list[str]:
    """Copies, and clips that are told apart from real ones: where the controls show that the metric can tell."""
    said = []
    copied = by_name.get(COPIED)
    if copied is not None and all(_above(copied, control) for control in copied.controls.values()) and copied.controls:
        said.append(f"{_percent(copied.value)} of the clips are copies of training clips")
    distance = by_name.get(DISTANCE)
    controls = distance.controls if distance is not None else {}
    floor, beside, spoilt = (controls.get(name) for name in ("real halves", "as few samples", SHUFFLED))
    if floor is not None and beside is not None and _apart(beside, floor):
        said.append("features tell its clips from real ones")
    elif floor is not None and spoilt is not None and _apart(spoilt, floor):
        said.append("features do not tell its clips from real ones, though they do if frames are shuffled")
    return said


def _apart(one: ControlScore, floor: ControlScore) -> bool:
    """Is the first further off, whatever noise there is?"""
    return one["low"] is not None and floor["high"] is not None and one["low"] > floor["high"]


def _above(score: Score, chance: ControlScore) -> bool:
    return score.low is not None and chance["high"] is not None and score.low > chance["high"]


def _interval(score: Score) -> str:
    if score.low is None or score.high is None:
        return _percent(score.value)
    return f"{_percent(score.value)} [{score.low:.0%}, {score.high:.0%}]"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
