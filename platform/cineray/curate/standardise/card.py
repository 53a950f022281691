"""A dataset card: a version of a lake in; a README.md as Hugging Face reads it out, front matter and Markdown.

It says what the version holds, how it was made, what was left out and why, and what nobody has said yet: licence,
consent, use. Those are questions, marked as such, because a card that guesses at them is worse than none. Text that
comes from data is escaped, so that no label can write a heading.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cineray.curate.standardise.moved_layers import CURATION
from cineray.curate.standardise.split_check import check_splits
from cineray.curate.videos import annotated
from cineray.lake import Lake, Version, unpack_text

_MOST_ROWS = 12
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_COLUMNS = ["video_id", "state", "reason", "codec", "width", "height", "rotation_degrees", "duration_seconds"]
_SAID = ["num_frames", "size_bytes", "label", "captions", "uri", "audio", "bit_depth", "color_transfer"]
_HDR = frozenset({"smpte2084", "arib-std-b67"})
"""PQ and HLG, as FFmpeg calls them."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


@dataclass(slots=True)
class _Tally:
    """What is counted of the media rows."""

    videos: int = 0
    seconds: float = 0.0
    frames: int = 0
    size_bytes: int = 0
    captioned: int = 0
    with_sound: int = 0
    hdr: int = 0
    hdr_of_8_bits: int = 0
    codecs: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    shards: set[str] = field(default_factory=set)
    beside: int = 0
    """Videos of which nothing is drawn, and that are in no shard: they do not go along."""


def dataset_card(lake: Lake, version: Version, *, name: str = "", licence: str = "", data_files: str = "") -> str:
    """The card's text. `data_files`: the folder of the shards, relative to the card; empty if they do not go along.

    `licence` is one of Hugging Face's identifiers, such as `cc-by-4.0`.
    """
    splits = _splits_of_videos(lake, version)
    tars = _tars(lake, version, splits)
    tally = _tally(lake, version, splits if tars else None)
    title = name or f"Video dataset, version {version.number}"
    front = _front_matter(version, tally, tars, title=title, licence=licence, data_files=data_files)
    parts = [
        front,
        f"# {_plain(title)}",
        _summary(tally, clips=version.counts.get("clips", 0)),
        _table("Splits", ("split", "clips", "seconds"), _splits(lake, version)),
        _table("Pictures", ("size", "videos"), tally.sizes.most_common(_MOST_ROWS)),
        _table("Labels", ("label", "videos"), tally.labels.most_common(_MOST_ROWS)),
        _table("Layers", ("layer", "rows"), [(n, version.tables[f"layers/{n}"].rows) for n in version.layers()]),
        _table("Left out", ("what", "why", "count"), _left_out(lake, version, tally)),
        _leaks(lake, version),
        _whole_shards(tars),
        _provenance(lake, version),
        _questions(licence),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _tally(lake: Lake, version: Version, drawn: Collection[str] | None) -> _Tally:
    """`drawn`: the videos that clips are of, where the version has shards."""
    tally = _Tally()
    told_later = annotated(lake, version)
    for batch in lake.scan(version, "media", [*_COLUMNS, *_SAID]):
        for row in batch.to_pylist():
            is_in_a_shard = (row["uri"] or "").endswith(".tar")
            if row["state"] == "ready" and drawn is not None and not is_in_a_shard and row["video_id"] not in drawn:
                tally.beside += 1
            else:
                _count(tally, row)
                tally.captioned += not row["captions"] and row["video_id"] in told_later
    return tally


def _splits_of_videos(lake: Lake, version: Version) -> dict[str, str]:
    """Of each video that clips are of, their split."""
    splits = dict[str, str]()
    if "clips" in version.tables:
        for batch in lake.scan(version, "clips", ["video_id", "split"]):
            splits.update((row["video_id"], row["split"] or "none") for row in batch.to_pylist())
    return splits


def _count(tally: _Tally, row: Mapping[str, Any]) -> None:
    if row["state"] != "ready":
        tally.rejected[row["reason"]] += 1
        return
    tally.videos += 1
    tally.seconds += row["duration_seconds"] or 0.0
    tally.frames += row["num_frames"] or 0
    tally.size_bytes += row["size_bytes"] or 0
    tally.captioned += bool(row["captions"])
    tally.with_sound += bool(row["audio"])
    if row["color_transfer"] in _HDR:
        tally.hdr += 1
        tally.hdr_of_8_bits += row["bit_depth"] == 8
    tally.codecs[row["codec"]] += 1
    turned = (row["rotation_degrees"] or 0) % 180 != 0
    width, height = (row["height"], row["width"]) if turned else (row["width"], row["height"])
    tally.sizes[f"{width} x {height}"] += 1
    if row["label"] is not None:
        tally.labels[unpack_text(row["label"])] += 1
    if (row["uri"] or "").endswith(".tar"):
        tally.shards.add(row["uri"])


def _tars(lake: Lake, version: Version, splits: Mapping[str, str]) -> dict[str, set[str]]:
    """The shards of the version, as `train/000000-9f86d081884c7d65.tar`, and in which splits its clips of their videos
    are; an empty name is of a video of which none is drawn."""
    found = dict[str, set[str]]()
    for batch in lake.scan(version, "media", ["video_id", "uri"], "state = 'ready' AND uri LIKE '%.tar'"):
        for row in batch.to_pylist():
            name = "/".join(unpack_text(row["uri"]).rsplit("/", 2)[-2:])
            found.setdefault(name, set()).add(splits.get(row["video_id"], ""))
    return found


def _front_matter(
    version: Version, tally: _Tally, tars: Mapping[str, set[str]], *, title: str, licence: str, data_files: str
) -> str:
    """YAML between lines of dashes, written by a YAML library: titles are data.

    Shards are named one by one: other versions' may lie in the same folder.
    """
    import yaml

    size = next((name for most, name in _SIZES if tally.videos < most), "n>1M")
    told: dict[str, Any] = {"pretty_name": title, "size_categories": [size], "tags": ["video", "webdataset"]}
    if licence:
        told["license"] = licence
    if data_files:
        folder = data_files.rstrip("/")
        by_split = {
            split: [f"{folder}/{name}" for name, held in sorted(tars.items()) if held - {""} == {split}]
            for split in sorted(version.splits)
        }
        files = [{"split": split, "path": paths} for split, paths in by_split.items() if paths]
        told["configs"] = [{"config_name": "default", "data_files": files}]
    return f"---\n{yaml.safe_dump(told, sort_keys=False, allow_unicode=True)}---"


def _whole_shards(tars: Mapping[str, set[str]]) -> str:
    """What readers of whole shards get that the version would not give them, because it was changed since."""
    rows = []
    for name, held in sorted(tars.items()):
        if len(held - {""}) > 1:
            rows.append((name, f"has videos of {' and '.join(sorted(held - {''}))}, so it is in no list above"))
        elif "" in held:
            rows.append((name, "also has videos of which this version draws nothing"))
    table = _table("Shards that do not fit this version", ("shard", "what"), rows[:_MOST_ROWS])
    return f"{table}\n\nStandardise the version again before its shards are published." if table else ""


def _summary(tally: _Tally, *, clips: int) -> str:
    codecs = ", ".join(f"{_plain(codec)} {count:,}" for codec, count in tally.codecs.most_common())
    shards = f" in {_many(len(tally.shards), 'WebDataset shard')}" if tally.shards else ""
    return (
        f"{_many(tally.videos, 'video')}{shards}, {_many(clips, 'clip')}, {_length(tally.seconds)}, "
        f"{_many(tally.frames, 'frame')}, {_size(tally.size_bytes)}. Codecs: {codecs or 'none'}. "
        f"With captions: {_many(tally.captioned, 'video')}. With sound: {_many(tally.with_sound, 'video')}."
        + (f" In no shard: {_many(tally.beside, 'video')}, of which no clip is drawn." if tally.beside else "")
    ) + _hdr(tally)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _length(seconds: float) -> str:
    """In the unit in which it is a number that says something."""
    if seconds < 60:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:,.1f} hours"


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def _hdr(tally: _Tally) -> str:
    if not tally.hdr:
        return ""
    told = f" HDR (PQ or HLG, see `color_transfer`): {_many(tally.hdr, 'video')}, not tone-mapped: taken for ordinary "
    told += "video, such pictures look pale."
    if tally.hdr_of_8_bits:
        told += f" Of these, {tally.hdr_of_8_bits:,} with 8 bits a sample, which shows steps in even areas."
    return told


def _splits(lake: Lake, version: Version) -> Iterator[tuple[str, int, str]]:
    if "clips" not in version.tables:
        return
    ticks = dict[str, float]()
    for batch in lake.scan(version, "media", ["video_id", "time_base_num", "time_base_den"], "state = 'ready'"):
        for row in batch.to_pylist():
            ticks[row["video_id"]] = row["time_base_num"] / row["time_base_den"]
    seconds: Counter[str] = Counter()
    for batch in lake.scan(version, "clips", ["video_id", "start_pts", "end_pts", "split"]):
        for row in batch.to_pylist():
            length = (row["end_pts"] - row["start_pts"]) * ticks.get(row["video_id"], 0.0)
            seconds[row["split"] or "none"] += length
    for split, clips in sorted(version.splits.items()):
        yield split, clips, f"{seconds[split]:,.1f}"


def _left_out(lake: Lake, version: Version, tally: _Tally) -> list[tuple[str, str, int]]:
    clips: Counter[str] = Counter()
    if CURATION in version.tables:
        for batch in lake.scan(version, CURATION, ["value"]):
            for row in batch.to_pylist():
                told = json.loads(row["value"])
                clips[str(told.get("rule") or told.get("reason"))] += 1
    return [
        *(("video", reason, count) for reason, count in tally.rejected.most_common()),
        *(("clip", rule, count) for rule, count in clips.most_common()),
    ]


def _leaks(lake: Lake, version: Version) -> str:
    problems = check_splits(lake, version)
    if not problems:
        return "No video, group or set of known duplicates lies in two splits."
    told = "\n".join(f"- {_plain(str(problem))}" for problem in problems[:_MOST_ROWS])
    return f"## Splits that leak\n\n{_many(len(problems), 'thing')} in more than one split:\n\n{told}"


def _provenance(lake: Lake, version: Version) -> str:
    """From the version back to the first one: who did what, when."""
    by_number = {one.number: one for one in lake.versions()}
    lines, at = [], by_number.get(version.number)
    while at is not None:
        lines.append((at.number, at.created_at[:10], at.message or at.command, at.fingerprint[:16]))
        at = by_number.get(at.parent) if at.parent is not None else None
    return _table("How it was made", ("version", "date", "what", "fingerprint"), lines)


def _questions(licence: str) -> str:
    asked = [] if licence else ["Under which licence may the videos be used?"]
    asked += ["Did the people who are seen and heard agree?", "What is it for, and what must it not be used for?"]
    lines = "\n".join(f"- [ ] {question}" for question in asked)
    return f"## Still to be said by whoever publishes it\n\n{lines}"


def _table(title: str, header: tuple[str, ...], rows: Any) -> str:
    lines = [" | ".join(f"{_plain(cell)}" for cell in row) for row in rows]
    if not lines:
        return ""
    top = f"| {' | '.join(header)} |\n|{' --- |' * len(header)}"
    return f"## {title}\n\n{top}\n" + "\n".join(f"| {line} |" for line in lines)


def _plain(value: Any) -> str:
    """One line of text that Markdown takes as it is."""
    text = f"{value:,}" if isinstance(value, int) else " ".join(str(value).split())
    return _SPECIAL.sub(r"\\\1", text)
