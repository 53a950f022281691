"""`cineray report`, without its words: a path goes in; one HTML file comes to lie where it is wanted, and facts come
out.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from cineray.errors import UsageError
from cineray.report.content import Page
from cineray.report.embed import PAGE_BYTES, Embedder
from cineray.report.render import render
from cineray.report.subjects import Subject, subject_of
from cineray.report.wording import bytes_text, plural
from cineray.storage import normalise_uri, put_object

CLIPS = 24
"""Clips on a page, unless said otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A page that was made."""

    path: str
    kind: str
    title: str
    size_bytes: int
    inlined: int
    """Pictures and clips in it."""
    left_out: tuple[str, ...]
    """Those that are not, each with its reason."""
    seconds: float


def write_report(
    path: str, out: str = "", *, version: str = "latest", clips: int = CLIPS, limit_bytes: int = PAGE_BYTES
) -> Report:
    """Make the page of what lies at `path`; without `out`, in this folder, under the name of the thing.

    `clips`: how many are shown; `limit_bytes`: how much of pictures and clips the page may hold. `version`: of a lake.
    """
    began = time.perf_counter()
    subject = subject_of(path)
    if version != "latest" and subject.kind != "lake":
        raise UsageError(f"{path} is a {subject.kind}, which has no versions; leave --version out, or name a lake")
    embed = Embedder(limit_bytes)
    page = page_of(subject, embed, version=version, clips=clips)
    told = f"It holds {plural(embed.taken, 'picture or clip', 'pictures and clips')}: {bytes_text(embed.used_bytes)} "
    told += f"of at most {bytes_text(limit_bytes)}."
    made_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    content = render(page, made_at=made_at, inlined=told if embed.taken else "", left_out=tuple(embed.left_out))
    place = normalise_uri(out or file_name(subject.kind, page.title))
    put_object(place, content)
    return Report(
        path=place,
        kind=subject.kind,
        title=page.title,
        size_bytes=len(content),
        inlined=embed.taken,
        left_out=tuple(embed.left_out),
        seconds=time.perf_counter() - began,
    )


def page_of(  # noqa: PLR0911 - one per kind of page
    subject: Subject, embed: Embedder, *, version: str, clips: int
) -> Page:
    """The page of each kind of thing. What a page needs is imported when it is made."""
    uri, told = subject.uri, subject.told
    match subject.kind:
        case "lake":
            from cineray.report.lake_page import lake_page

            return lake_page(uri, version, embed, clips=clips)
        case "run":
            from cineray.report.run_page import run_page

            return run_page(uri, embed, clips=clips)
        case "batch":
            from cineray.report.batch_page import batch_page

            return batch_page(uri, embed, clips=clips)
        case "evaluation":
            from cineray.report.evaluation_page import evaluation_page

            return evaluation_page(uri, told, embed, clips=clips)
        case "comparison":
            from cineray.report.comparison_page import comparison_page

            return comparison_page(uri, told)
        case "pipeline":
            from cineray.report.pipeline_page import pipeline_page

            return pipeline_page(uri, told, embed, clips=clips)
        case "sweep":
            from cineray.report.sweep_page import sweep_page

            return sweep_page(uri, told, embed, clips=clips)


def file_name(kind: str, title: str) -> str:
    """`run-train-shapes-1a2b3c4d.html`, `lake-shapes-version-7.html`: letters that every system takes."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", title).strip("-.").lower()
    return f"{kind}-{name.removeprefix(f'{kind}-')[:100] or 'report'}.html"
