"""Captions: the texts that came with a video or were added to it go in; how many, how long and in what language leaves.

The language is guessed: by its script where that decides (Greek, Thai, Hangul), by its commonest small words where many
share a script. A guess on three words is a guess; `und` says that there was nothing to go by. Whoever has a better
detector adds it to `LANGUAGES` and names it in the stage's `detector`: text in, ISO 639-1 code out.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from cineray.curate.footage import Footage
from cineray.curate.stage import Columns
from cineray.errors import UsageError

SCRIPTS: dict[str, str] = {
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "CJK": "zh",
    "CYRILLIC": "ru",
    "ARABIC": "ar",
    "HEBREW": "he",
    "GREEK": "el",
    "THAI": "th",
    "DEVANAGARI": "hi",
    "BENGALI": "bn",
    "TAMIL": "ta",
}
"""First word of a letter's Unicode name -> the commonest language of that script."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SMALL_WORDS: dict[str, frozenset[str]] = {
    "en": _words("the a an of and in is are on with to his her at by from for while"),
    "de": _words("der die das ein eine einen und ist sind auf mit im den dem von zu wird einem"),
    "fr": _words("le la les un une des et est sont dans avec sur du au qui pour par en"),
    "es": _words("el la los las un una y es están en con de del al que por para se"),
    "it": _words("il la gli un una e è sono in con di del della al che per si nel"),
    "pt": _words("o a os as um uma e é são em com de do da no na que por para"),
    "nl": _words("de het een en is zijn op met in van te aan door voor die naar"),
}
_WORD = re.compile(r"[^\W\d_]+")


def guess_language(text: str) -> str:
    """An ISO 639-1 code, or `und`. Ties go to the language that stands first in the tables above."""
    scripts = Counter(unicodedata.name(letter, "").split(" ")[0] for letter in text if letter.isalpha())
    if not scripts:
        return "und"
    # Japanese is written with Chinese signs too: any syllable sign among them tells.
    if scripts["HIRAGANA"] + scripts["KATAKANA"] and scripts["CJK"]:
        return "ja"
    script = max(scripts, key=lambda name: scripts[name])
    if script != "LATIN":
        return SCRIPTS.get(script, "und")
    words = Counter(_WORD.findall(text.lower()))
    votes = {code: sum(words[word] for word in small) for code, small in SMALL_WORDS.items()}
    best = max(votes, key=lambda code: votes[code])
    return best if votes[best] else "und"


LANGUAGES: dict[str, Callable[[str], str]] = {"guess": guess_language}


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """`captions_count`, `captions_words` and `captions_letters` of the longest, `captions_language` of all together."""

    name: ClassVar[str] = "captions"
    version: ClassVar[int] = 1
    gives: ClassVar[Mapping[str, type]] = {
        "captions_count": int,
        "captions_words": int,
        "captions_letters": int,
        "captions_language": str,
    }
    detector: str = "guess"

    def __call__(self, footage: Footage) -> Columns:
        """Columns of one video."""
        if self.detector not in LANGUAGES:
            raise UsageError(
                f"captions.detector is {self.detector!r}; it must be one of {', '.join(sorted(LANGUAGES))}"
            )
        texts = [text for text in footage.captions if text.strip()]
        longest = max(texts, key=len, default="")
        return {
            "captions_count": len(texts),
            "captions_words": len(longest.split()),
            "captions_letters": len(longest.strip()),
            "captions_language": LANGUAGES[self.detector](" ".join(texts)) if texts else None,
        }
