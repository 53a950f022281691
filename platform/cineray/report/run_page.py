"""The page of a run: its folder goes in, a `Page` comes out: what it learnt, what it makes, where its time went, and
how to do it again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cineray.report import palette
from cineray.report.content import Fold, Grid, Heading, Page, Part, Section, Tile, Tone, Verdict
from cineray.report.embed import Embedder
from cineray.report.evaluation_page import clip_parts, held_out_parts, score_tiles
from cineray.report.plots import Axes, Series, lines
from cineray.report.run_curves import loss_parts
from cineray.report.run_history import history_parts, record_parts, repeat_parts
from cineray.report.run_record import RunRecord, read_run
from cineray.report.run_samples import sample_parts
from cineray.report.run_time import time_parts
from cineray.report.scores import SHARES, score_parts, scores_of
from cineray.report.wording import moment, number, percent, seconds_text, whole

_NO_EVALUATION: tuple[int, tuple[str, Mapping[str, Any]]] = (0, ("", {}))


def run_page(uri: str, embed: Embedder, *, clips: int) -> Page:
    """All of it."""
    record = read_run(uri)
    return Page(
        subject="Run",
        title=record.run.run_id,
        where=record.run.uri,
        made_at=f"begun {moment(record.run.facts.get('created'))}",
        verdicts=_verdicts(record),
        tiles=_tiles(record),
        sections=tuple(section for section in _sections(record, embed, clips) if section.parts),
    )


def _sections(record: RunRecord, embed: Embedder, clips: int) -> list[Section]:
    step, (folder, newest) = next(reversed(record.evaluations.items()), _NO_EVALUATION)
    return [
        Section(
            title="Metrics",
            lead=f"The evaluation of step {step:,}, each metric beside its controls." if newest else "",
            parts=_metric_parts(record, newest),
        ),
        Section(
            title="Clips",
            lead="The same prompts with the same noise, from checkpoint to checkpoint.",
            parts=_film_parts(record, folder, newest, embed, clips),
        ),
        Section(
            title="Learning",
            lead="Loss by noise level, and how much of it is skill: the mean over all levels says little of motion.",
            parts=loss_parts(record),
        ),
        Section(
            title="Time",
            lead="Every second of the run's life by cause: what was not computing is what can be won.",
            parts=time_parts(record),
        ),
        Section(title="History", parts=history_parts(record)),
        Section(
            title="How to repeat it",
            lead="With the same data, recipe and seed, every batch is the same, bit for bit.",
            parts=repeat_parts(record),
        ),
        Section(title="Record", lead="What the run was made of.", parts=record_parts(record)),
    ]


def _verdicts(record: RunRecord) -> tuple[Verdict, ...]:
    """Of the model, where it was judged, and of the time that it took."""
    step, (_, newest) = next(reversed(record.evaluations.items()), _NO_EVALUATION)
    speed = Verdict(about="Speed", text=record.verdict.text, tone=_tone(record))
    model = newest.get("verdict")
    return (Verdict(about=f"Model, step {step:,}", text=str(model)), speed) if model else (speed,)


def _tone(record: RunRecord) -> Tone:
    if record.ended.startswith("failed"):
        return "bad"
    return {"compute": "good", "unknown": ""}.get(record.verdict.bound, "warn")  # type: ignore[return-value]


# ---- the head --------------------------------------------------------------------------------------------------------


def _tiles(record: RunRecord) -> tuple[Tile, ...]:
    _, newest = next(reversed(record.evaluations.values()), _NO_EVALUATION[1])
    goodput = record.goodput
    done = int(record.rows[-1]["step"]) + 1 if record.rows else 0
    wanted = record.steps_wanted
    share = f"{percent(done / wanted)} of {wanted:,}, " if wanted else "of as many as its seconds allow, "
    validated = next(reversed(record.validations.values()), {})
    skill = validated.get("validation/skill_linear")
    tiles = [*score_tiles(scores_of(newest.get("metrics")), most=2)]
    tiles.append(Tile(name="steps", value=f"{done:,}", detail=f"{share}{_ended(record)}"))
    if skill is not None:
        tiles.append(Tile(name="skill", value=percent(skill), detail="noisiest levels, over the best linear denoiser"))
    tiles.append(Tile(name="clips per second", value=number(record.verdict.clips_per_s)))
    tiles.append(Tile(name="waiting for data", value=percent(record.verdict.data_wait_fraction), detail="of each step"))
    told = f"of {seconds_text(goodput['lifetime_s'])}"
    tiles.append(Tile(name="goodput", value=percent(goodput["goodput"]), detail=told))
    if math.isfinite(record.verdict.mfu):
        tiles.append(Tile(name="MFU", value=percent(record.verdict.mfu)))
    return tuple(tiles)


def _ended(record: RunRecord) -> str:
    return record.ended.split(":")[0] if record.ended else "not ended"


# ---- metrics and clips -----------------------------------------------------------------------------------------------


def _metric_parts(record: RunRecord, newest: Mapping[str, Any]) -> tuple[Part, ...]:
    if not newest:
        return ()
    parts: list[Part] = [*score_parts(scores_of(newest.get("metrics")))]
    held_out = held_out_parts(newest.get("parts"))
    if held_out:
        parts += [Heading(text="Held-out combinations, apart"), *held_out]
    return (*parts, *_over_checkpoints(record))


def _over_checkpoints(record: RunRecord) -> tuple[Part, ...]:
    """Each metric over the checkpoints that were evaluated, where there are two."""
    if len(record.evaluations) < 2:
        return ()
    found: dict[tuple[str, bool], list[tuple[int, float, float, float]]] = {}
    for step, (_, told) in record.evaluations.items():
        for score in scores_of(told.get("metrics")):
            own = score.own
            if own.value is not None:
                low = own.value if own.low is None else own.low
                high = own.value if own.high is None else own.high
                found.setdefault((score.title, score.unit in SHARES), []).append((step, own.value, low, high))
    figures = []
    for (name, share), points in found.items():
        if len(points) > 1:
            steps, values, lows, highs = (list(column) for column in zip(*points, strict=True))
            one = Series(name=name, x=steps, y=values, low=lows, high=highs, markers=True, colour=palette.BLUE)
            says = f"From {number(values[0])} to {number(values[-1])}, with 95 % intervals."
            figures.append(lines(name, says, [one], Axes(x="step", share=share), height_px=220))
    return (
        (Fold(title="Metrics over checkpoints", parts=(Grid(figures=tuple(figures), small=True),)),) if figures else ()
    )


def _film_parts(
    record: RunRecord, folder: str, newest: Mapping[str, Any], embed: Embedder, clips: int
) -> tuple[Part, ...]:
    over = sample_parts(record.samples, embed, clips=clips)
    beside = clip_parts(folder, newest.get("samples"), embed, most=clips)
    if beside and over:
        return (*over, Heading(text="Beside real clips", detail=f"step {whole(newest.get('checkpoint'))}"), *beside)
    return over or beside
