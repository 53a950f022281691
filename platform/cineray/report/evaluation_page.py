"""The page of an evaluation: its `evaluation.json` and the clips beside it go in, a `Page` comes out.

It asks first whether the metrics can be believed: each stands beside what real clips reach, and what a model reaches
that does not heed its text, or has learnt nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cineray.report import palette
from cineray.report.content import (
    Cell,
    Column,
    Commands,
    Facts,
    Figure,
    Film,
    FilmRow,
    FilmTable,
    Fold,
    Grid,
    Page,
    Part,
    Section,
    Table,
    Tile,
    Verdict,
)
from cineray.report.embed import Embedder
from cineray.report.plots import Axes, bars
from cineray.report.scores import Score, compared_parts, score_parts, scores_of
from cineray.report.values import pairs_of
from cineray.report.wording import TIMES, UNKNOWN, known, moment, number, seconds_text, whole

LEVELS = "noise level (0 is nearest to noise)"
_TILES = 5


def evaluation_page(folder: str, told: Mapping[str, Any], embed: Embedder, *, clips: int) -> Page:
    """All of it. `folder` holds the clips that the record names."""
    scores = scores_of(told.get("metrics"))
    step = told.get("checkpoint")
    return Page(
        subject="Evaluation",
        title=f"{told.get('job') or told.get('run_id') or 'Evaluation'}, step {whole(step)}",
        where=str(told.get("run") or folder),
        made_at=f"made {moment(told.get('made_at'))}",
        verdicts=(Verdict(text=str(told["verdict"])),) if told.get("verdict") else (),
        tiles=(*score_tiles(scores), *_loss_tiles(told.get("loss"))),
        sections=tuple(section for section in _sections(folder, told, scores, embed, clips) if section.parts),
    )


def _sections(
    folder: str, told: Mapping[str, Any], scores: Sequence[Score], embed: Embedder, clips: int
) -> list[Section]:
    return [
        Section(
            title="Metrics",
            lead="Each beside its controls: real clips are the ceiling; permuted labels, shuffled frames and the "
            "untrained model are what a metric says of clips that are wrong. A metric that does not tell these apart "
            "says nothing of this model.",
            parts=score_parts(scores),
        ),
        Section(
            title="Held out",
            lead="Combinations that training never showed, apart from those that it did.",
            parts=held_out_parts(told.get("parts")),
        ),
        Section(title="Loss", lead="By noise level, from the noisiest to the cleanest.", parts=loss_parts(told)),
        Section(
            title="Clips",
            lead="Generated, beside the real clip of the same text.",
            parts=clip_parts(folder, told.get("samples"), embed, most=clips),
        ),
        Section(
            title="Can the metrics see?",
            lead="Real clips, spoiled more and more: a metric that does not rank its own kind of damage is not heard.",
            parts=sensitivity_parts(told.get("sensitivity")),
        ),
        Section(title="Record", lead="What the figures follow from.", parts=_record(told)),
    ]


def score_tiles(scores: Sequence[Score], most: int = _TILES) -> tuple[Tile, ...]:
    """The first metrics, as figures to read first."""
    found = []
    for score in [one for one in scores if not one.skipped and one.own.value is not None][:most]:
        real = score.controls.get("real")
        told = [score.own.between(score.unit)]
        told.append(f"real clips {real.text(score.unit)}" if real is not None and real.value is not None else "")
        value = f"{score.own.text(score.unit)} {score.unit if len(score.unit) <= 3 else ''}".strip()
        found.append(Tile(name=score.title, value=value, detail=" · ".join(filter(None, told))))
    return tuple(found)


def _loss_tiles(loss: Any) -> tuple[Tile, ...]:
    if not isinstance(loss, Mapping):
        return ()
    wrong = known(loss.get("wrong_over_right"))
    if wrong is None:
        return ()
    told = "loss with wrong text over that with the right one; 1 means that text is ignored"
    return (Tile(name="heeds its text", value=f"{number(wrong)} {TIMES}", detail=told),)


def held_out_parts(parts: Any) -> tuple[Part, ...]:
    """A table with a column for each part."""
    if not isinstance(parts, Mapping):
        return ()
    found = {str(k): scores_of(v.get("metrics")) for k, v in parts.items() if isinstance(v, Mapping)}
    if not any(found.values()):
        return ()
    counts = {str(k): v.get("n") for k, v in parts.items() if isinstance(v, Mapping)}
    return (compared_parts(found, counts, "the same metrics, of parts of the clips, with 95 % intervals"),)


def loss_parts(told: Mapping[str, Any]) -> tuple[Part, ...]:
    """Loss and skill by noise level."""
    loss = told.get("loss")
    if not isinstance(loss, Mapping):
        return ()
    figures: list[Figure] = []
    for key, title, says, colour, share in (
        ("bins", "Loss by noise level", "The two noisiest levels decide what moves where.", palette.BLUE, False),
        ("skill_linear", "Skill over the best linear denoiser", "1 is perfect, 0 is no better.", palette.GREEN, True),
    ):
        values = loss.get(key)
        if isinstance(values, list) and values:
            names = level_names(len(values))
            kept = [known(value) or 0.0 for value in values]
            axes = Axes(x=LEVELS, whole_y=True, share=share)
            figures.append(bars(title, says, {title: kept}, names, axes, colours=(colour,), height_px=260))
    facts = Facts(pairs=pairs_of({k: v for k, v in loss.items() if not isinstance(v, list)}))
    return (Grid(figures=tuple(figures)), facts) if figures else (facts,)


def level_names(count: int) -> list[str]:
    """Noise levels by number."""
    return [str(level) for level in range(count)]


def clip_parts(folder: str, samples: Any, embed: Embedder, *, most: int) -> tuple[Part, ...]:
    """Generated clips beside real ones."""
    told = [one for one in samples if isinstance(one, Mapping)] if isinstance(samples, list) else []
    if not told:
        return ()
    rows = tuple(_clip_row(folder, one, embed) for one in told[:most])
    caption = f"{len(rows)} of {len(told)} clips" if len(rows) < len(told) else f"{len(rows)} clips"
    return (FilmTable(caption=caption, columns=("generated", "real"), rows=rows),)


def _clip_row(folder: str, told: Mapping[str, Any], embed: Embedder) -> FilmRow:
    name = str(told.get("label") or told.get("name") or "")
    films = []
    for key, what in (("file", "generated"), ("real_file", "real")):
        file = told.get(key)
        films.append(Film(source=embed.file(folder, str(file)), name=f"{what}: {name}") if file else None)
    return FilmRow(name=name, detail=str(told.get("caption") or ""), films=tuple(films))


def sensitivity_parts(told: Any) -> tuple[Part, ...]:
    """What each metric says of real clips that were spoiled on purpose, at three strengths."""
    rows = []
    for one in told if isinstance(told, list) else ():
        if isinstance(one, Mapping):
            values = [number(value) for value in (one.get("values") or ())][:4]
            cells = [Cell(value) for value in values + [UNKNOWN] * (4 - len(values))]
            ranks = Cell("yes", tone="good") if one.get("ranks") else Cell("no", tone="bad")
            name = Cell(str(one.get("metric", "?")).replace("_", " "))
            rows.append((name, Cell(str(one.get("corruption", "?"))), *cells, ranks))
    if not rows:
        return ()
    heads = ("clean", "weak", "middle", "strong")
    columns = (Column("metric"), Column("damage"), *(Column(head, number=True) for head in heads), Column("ranks it"))
    return (Table(caption="A metric's value as real clips are spoiled", columns=columns, rows=tuple(rows)),)


def _record(told: Mapping[str, Any]) -> tuple[Part, ...]:
    keys = ("run_id", "job", "checkpoint", "weights", "fingerprint", "made_at")
    facts = {key: told[key] for key in keys if key in told}
    facts |= {"took": seconds_text(told.get("seconds"))} if told.get("seconds") is not None else {}
    run, step = str(told.get("run") or "RUN"), told.get("checkpoint")
    again = f"cineray evaluate {shlex.quote(run)}" + (f" --step {step}" if isinstance(step, int) else "")
    record = told.get("record")
    parts: list[Part] = [Facts(pairs=pairs_of(facts))]
    if isinstance(record, Mapping):
        parts.append(Fold(title="Sampler, clips, seeds and weights", parts=(Facts(pairs=pairs_of(record)),)))
    weights = tuple(row for one in told.get("metrics") or () if (row := _weights_row(one)) is not None)
    if weights:
        heads = (Column("metric"), Column("made with"))
        made_with = Table(caption="Weights and their preparation", columns=heads, rows=weights)
        parts.append(Fold(title="What metrics were made with", parts=(made_with,)))
    return (*parts, Commands(lines=(("Evaluate the same checkpoint again", again),)))


def _weights_row(told: Any) -> tuple[Cell, ...] | None:
    facts = told.get("facts") if isinstance(told, Mapping) else None
    if not isinstance(facts, Mapping) or not facts:
        return None
    text = "; ".join(f"{name}: {value}" for name, value in pairs_of(facts))
    return Cell(str(told.get("name", "?")).replace("_", " ")), Cell(text, mono=True)
