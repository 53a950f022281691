"""What a page holds, before anybody thinks of HTML: plain frozen values, and the templates show each kind of part.

A page is tiles, a verdict and sections; a section is parts. Nothing here is markup: every text is data, and is escaped
where it is shown. A part that is not here does not exist, so all pages look alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

Tone = Literal["", "good", "warn", "bad", "quiet"]
"""How a text is coloured; the words say it too, for who sees no colours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One figure that is read first."""

    name: str
    value: str
    detail: str = ""
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of a table."""

    text: str
    detail: str = ""
    """In small letters below: an interval, a reason."""
    tone: Tone = ""
    mono: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column."""

    title: str
    number: bool = False
    """Set to the right, in digits of one width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under columns; the first cell of a row names it."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    search: str = ""
    """What a field above it says, in which words are typed that a row must have; without, there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    pairs: tuple[tuple[str, str], ...]
    mono: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One plot, as the plotting library's own JSON."""

    kind: ClassVar[str] = "figure"
    title: str
    says: str
    """What is to be seen, in words: for screen readers, and below the plot."""
    json: str
    height_px: int = 320
    legend: tuple[tuple[str, str], ...] = ()
    """Name and colour of each trace, in order; a click hides one. Empty where one would say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Figures side by side where there is room."""

    kind: ClassVar[str] = "grid"
    figures: tuple[Figure, ...]
    small: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """One clip or picture, inline."""

    source: str
    """A data: URI; empty where it could not be had, and then `detail` says why."""
    name: str
    detail: str = ""

    @property
    def moves(self) -> bool:
        """Is it a video, which can be played and stopped?"""
        return self.source.startswith("data:video/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Films one after the other."""

    kind: ClassVar[str] = "gallery"
    films: tuple[Film, ...]
    wide: bool = False
    """Long strips, each on a line of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmRow:
    """One thing, seen several times."""

    name: str
    detail: str
    films: tuple[Film | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmTable:
    """The same things side by side: a row each, a column for each checkpoint (or generated and real)."""

    kind: ClassVar[str] = "films"
    caption: str
    columns: tuple[str, ...]
    rows: tuple[FilmRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """Lines for a shell, each with what it is for."""

    kind: ClassVar[str] = "commands"
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Many lines as they are: a configuration."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One paragraph."""

    kind: ClassVar[str] = "note"
    text: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Parts that are shown when asked for."""

    kind: ClassVar[str] = "fold"
    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A title within a section."""

    kind: ClassVar[str] = "heading"
    text: str
    detail: str = ""


Part = Table | Facts | Figure | Grid | Gallery | FilmTable | Commands | Text | Note | Fold | Heading


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page with a title of its own."""

    title: str
    parts: tuple[Part, ...]
    lead: str = ""
    """One or two sentences: what is seen here, and how to read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A sentence that says what all that follows comes to."""

    text: str
    about: str = "Verdict"
    tone: Tone = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All of a report."""

    subject: str
    """What it is about: `Run`, `Lake version`."""
    title: str
    where: str
    """The place that it was made from."""
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    verdicts: tuple[Verdict, ...] = ()
    made_at: str = ""
    """When the thing itself was made."""


def figures_of(page: Page) -> list[Figure]:
    """Every plot of a page, in order."""
    found: list[Figure] = []

    def look(parts: tuple[Part, ...]) -> None:
        for part in parts:
            if isinstance(part, Figure):
                found.append(part)
            elif isinstance(part, Grid):
                found.extend(part.figures)
            elif isinstance(part, Fold):
                look(part.parts)

    for section in page.sections:
        look(section.parts)
    return found
