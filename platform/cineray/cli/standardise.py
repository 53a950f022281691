"""`cineray standardise LAKE`, `cineray lake card LAKE`, `cineray lake splits LAKE`: training-ready shards, what to say
of them, and whether anything lies in two splits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.table import Table

from cineray.cli.lake import LAKE, REF
from cineray.cli.output import JSON, bytes_text, facts_table, plain, show, wants_json, words
from cineray.cli.progress import counted_progress
from cineray.config import check
from cineray.errors import SplitLeakage, UsageError

if TYPE_CHECKING:
    from cineray.curate.standardise import Advice, StandardiseConfig, StandardiseReport

Engine = Literal["local", "ray"]
Audio = Literal["keep", "drop"]
SHOWN_PROBLEMS = 20


def standardise_command(
    lake: str = LAKE,
    version: str = REF,
    out: str = typer.Option("", "--out", "-o", help="Where the shards go; default: shards/ in the lake."),
    advise: str = typer.Option("", metavar="JOB", help="Encode nothing: measure what suits the clips of this job."),
    visits: int = typer.Option(6, min=1, help="With --advise: how many of the job's visits to measure on."),
    sets: list[str] = typer.Option([], "--set", help="With --advise: replace a field of the job."),
    codec: str = typer.Option("h264", help="h264 or hevc."),
    gop: int = typer.Option(16, help="Frames from one key frame to the next. --advise tries several."),
    short_side: int = typer.Option(
        0, help="Pixels of the shorter side; nothing is enlarged; 0 keeps each size. --advise takes the job's."
    ),
    crf: int = typer.Option(20, help="The encoder's quality: less is better and larger."),
    preset: str = typer.Option("medium", help="How long the encoder tries: veryfast to slower."),
    rate: str = typer.Option("", help="A constant number of frames per second, such as 24 or 30000/1001."),
    audio: Audio = typer.Option("keep", help="The first sound of each video."),
    shard_bytes: int = typer.Option(
        512 << 20,
        help="About how many bytes a shard has. To a store, $TMPDIR holds four at once; on Ray, one per task.",
    ),
    least_psnr_db: float = typer.Option(20.0, help="A video with a frame further from what was encoded is left out."),
    seconds_per_video: float = typer.Option(3600.0, help="A video that takes longer is left out."),
    memory_per_video: int = typer.Option(4 << 30, help="Bytes of memory that encoding one video may take."),
    max_reject_fraction: float = typer.Option(0.1, help="More left out than this share ends with exit code 3."),
    engine: Engine = typer.Option("local", help="In this process's children, or on Ray."),
    workers: int = typer.Option(0, help="Videos encoded at once; 0 is one per core (or what the cluster has)."),
    address: str = typer.Option("", help="A Ray cluster's address, to encode there."),
    name: str = typer.Option("", help="Also give the version this name."),
    message: str = typer.Option("", "--message", "-m", help="A sentence for the log."),
    as_json: bool | None = JSON,
) -> None:
    """Encode a version's videos for training, into WebDataset shards, and make the next version of them."""
    from cineray.curate.standardise import StandardiseConfig

    encoding = {"codec": codec, "gop": gop, "short_side": short_side, "crf": crf, "preset": preset}
    encoding |= {"rate": rate or None, "audio": audio}
    told = {"lake": lake, "version": version, "out": out, "encoding": encoding, "shard_bytes": shard_bytes}
    told |= {"least_psnr_db": least_psnr_db, "max_reject_fraction": max_reject_fraction}
    told |= {"seconds_per_video": seconds_per_video, "memory_per_video": memory_per_video}
    config = check(StandardiseConfig, told)
    if sets and not advise:
        raise UsageError("--set replaces a field of the job of --advise; it says nothing about encoding")
    if advise:
        advice = _advice(advise, sets, config, visits)
        show(advice.to_dict(), as_json=as_json, table=advice_tables(advice))
        return
    on: Engine = "ray" if address else engine
    report = _standardised(config, engine=on, workers=workers, address=address, message=message)
    if name:
        from cineray.cli.ingest import name_version

        name_version(lake, name, report.version.number)
    show(report.to_dict() | {"name": name or None}, as_json=as_json, table=report_tables(report))
    from cineray.curate.standardise.run import check_limit

    check_limit(report)


def _standardised(config: StandardiseConfig, **told: Any) -> StandardiseReport:
    from cineray.curate.standardise import standardise
    from cineray.ingest import whoami

    with counted_progress("videos") as tell:
        return standardise(
            config,
            author=whoami(),
            on_progress=lambda done, total: tell("encoding", done.videos, total),
            **told,
        )


def _advice(job: str, sets: list[str], config: StandardiseConfig, visits: int) -> Advice:
    from cineray.cli.job import data_spec
    from cineray.curate.standardise import advise

    with data_spec(job, sets) as (_, spec):
        supply = spec.open()
        return advise(
            supply.plan,
            lambda dataset, number: supply.catalogs[dataset].located(number),
            base=config.encoding,
            codecs=("h264", "hevc") if config.encoding.codec == "hevc" else ("h264",),
            visits=visits,
        )


def advice_tables(advice: Advice) -> list[Table]:
    """What a person wants to know: each way, and the one to take as a command."""
    from cineray.curate.standardise.advisor import LEAST_PSNR_DB

    every = (advice.raw, *advice.candidates)
    sound = any(one.sound_bytes_per_second for one in advice.candidates)
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ["kept as", "bytes per second", *["of sound"] * sound, "decode ms per clip", "PSNR dB", "worst", "VMAF"]
    for column in (*columns, "encode s per s"):
        table.add_column(column, justify="left" if column == "kept as" else "right")
    for one in every:
        encoding = one.encoding
        kept = "they are" if encoding is None else f"{encoding.codec}, gop {encoding.gop}, {encoding.short_side} px"
        sizes = [bytes_text(round(one.bytes_per_second)), *[bytes_text(round(one.sound_bytes_per_second))] * sound]
        figures = (1000 * one.decode_seconds_per_clip, one.psnr_db, one.worst_psnr_db, one.vmaf)
        cells = [f"{figure:.1f}" if figure is not None else "-" for figure in figures]
        encode = f"{one.encode_seconds_per_second:.2f}" if encoding is not None else "-"
        table.add_row(kept + " *" * (one is advice.best), *sizes, *cells, encode)
    best = advice.best.encoding
    assert best is not None
    options = f"--codec {best.codec} --gop {best.gop} --short-side {best.short_side} --crf {best.crf}"
    poor = (advice.best.psnr_db or 0) < LEAST_PSNR_DB
    shown = {
        "measured on": f"{advice.sampled_visits} visits of {advice.clips_per_visit} clips, each of "
        f"{advice.frames_per_clip} frames that span {advice.frames_spanned:.0f}",
        "decoding": f"{advice.decode_speed_up:.1f} times as fast",
        "take": f"{options} --preset {best.preset} --audio {best.audio}",
    }
    shown |= {"sound": "no clip of a batch has any: --audio drop leaves it out"} if sound else {}
    shown |= {"but": f"none reaches {LEAST_PSNR_DB:g} dB: a lower --crf is nearer to the raw video"} if poor else {}
    return [table, facts_table(shown)]


def report_tables(report: StandardiseReport) -> list[Table]:
    """What a person wants to know of a standardising."""
    before, after = bytes_text(report.bytes_before), bytes_text(report.bytes_after)
    shown: dict[str, Any] = {
        "version": f"{report.version.number}  ({report.version.fingerprint[:12]})",
        "standardised": report.videos,
        "as it was already": report.unchanged,
        "without a clip, so left alone": report.without_clips,
        "left out": report.rejected,
        "taken up from a killed run": report.resumed,
        "shards": len(report.shards),
        "bytes": f"{after}, were {before}",
        "PSNR": f"{report.psnr_db:.1f} dB of brightness, by the encoder" if report.psnr_db is not None else None,
        "took": f"{report.seconds:,.1f} s",
    }
    optional = ("as it was already", "without a clip, so left alone", "left out", "taken up from a killed run")
    return [facts_table({key: value for key, value in shown.items() if value or key not in optional})]


def card_command(
    lake: str = LAKE,
    version: str = REF,
    out: str = typer.Option("", "--out", "-o", help="A file, such as shards/README.md; default: standard output."),
    name: str = typer.Option("", help="The dataset's name."),
    licence: str = typer.Option("", help="Hugging Face's identifier of a licence, such as cc-by-4.0."),
    data_files: str = typer.Option("", metavar="FOLDER", help="The shards' folder, seen from the card."),
    as_json: bool | None = JSON,
) -> None:
    """A dataset card of a version: Markdown as Hugging Face reads it. What nobody has said it asks for."""
    from cineray.curate.standardise import dataset_card
    from cineray.lake import Lake

    opened = Lake.open(lake)
    found = opened.resolve(version)
    card = dataset_card(opened, found, name=name, licence=licence, data_files=data_files)
    if not out and not as_json:
        typer.echo(card, nl=False)  # also into a pipe: a card is text
        return
    if out:
        from cineray.storage import normalise_uri, put_object

        put_object(normalise_uri(out), card.encode())
    show({"version": found.number, "out": out or None, "card": None if out else card}, as_json=as_json)


def splits_command(lake: str = LAKE, version: str = REF, as_json: bool | None = JSON) -> None:
    """Whether any video, group, source or set of known duplicates lies in two splits; exit code 1 if so."""
    from cineray.curate.standardise import check_splits
    from cineray.lake import Lake

    opened = Lake.open(lake)
    found = opened.resolve(version)
    problems = check_splits(opened, found)
    facts = {"version": found.number, "splits": dict(found.splits), "problems": [_told(one) for one in problems]}
    show(facts, as_json=as_json, table=[facts_table({**facts, "problems": len(problems)})])
    for problem in problems[:SHOWN_PROBLEMS] if not wants_json(as_json) else ():
        words.print(plain(str(problem)))
    if problems:
        raise SplitLeakage(
            f"things in more than one split of version {found.number}: {len(problems)}; give each one split: "
            "`cineray curate` unites the splits of duplicates, or ingest again with --group-by"
        )


def _told(problem: Any) -> Mapping[str, Any]:
    return {name: getattr(problem, name) for name in ("kind", "name", "splits", "video_ids")}
