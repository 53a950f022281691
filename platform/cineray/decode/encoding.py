"""What encoding for training means: which codec, how often a key frame, how large, with sound or without. Words in;
FFmpeg's options and the size of the picture out.

Every video comes out alike: upright, square pixels, 8 bits, 4:2:0, limited range, closed groups of pictures of one
length and no frame that is shown before its packet, so that a visit decodes little and a decoder has nothing to guess.
What an encoder decides by looking ahead is left out, because it is not repeatable: the same video gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from cineray.decode.geometry import upright_size
from cineray.errors import UsageError
from cineray.records import IndexedVideo

SOUND = ("keep", "drop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How a video is encoded for training."""

    codec: str = "h264"
    """One of `ENCODERS`."""
    gop: int = 16
    """Frames from one key frame to the next."""
    short_side: int = 0
    """Pixels of the shorter side; a smaller video is not enlarged. 0: as large as it is."""
    crf: int = 20
    """The encoder's quality: less is better and larger; 17 to 28 are usual."""
    preset: str = "medium"
    """How long the encoder tries: `veryfast` to `slow`."""
    audio: str = "keep"
    """`keep` the first sound, as it is where MP4 can hold it, else as AAC; or `drop` it."""

    def __post_init__(self) -> None:
        if self.codec not in ENCODERS:
            raise UsageError(f"encoding.codec is {self.codec!r}; wanted one of {', '.join(ENCODERS)}")
        if self.gop < 1 or self.short_side < 0 or not 0 <= self.crf <= 51:
            told = f"gop {self.gop}, short_side {self.short_side}, crf {self.crf}"
            raise UsageError(f"encoding has {told}; wanted gop >= 1, short_side >= 0 and crf from 0 to 51")
        if self.audio not in SOUND:
            raise UsageError(f"encoding.audio is {self.audio!r}; wanted one of {', '.join(SOUND)}")


@dataclass(frozen=True, slots=True)
class Encoder:
    """FFmpeg's name of an encoder, and its options for an `Encoding`."""

    library: str
    options: Callable[[Encoding], dict[str, str]]


def _x264(encoding: Encoding) -> dict[str, str]:
    # Lookahead decisions differ from run to run on small pictures (see testing/encode.py); these leave none.
    plain = "b-adapt=0:mbtree=0:scenecut=0:weightp=0"
    return {"preset": encoding.preset, "crf": str(encoding.crf), "bf": "0", "x264-params": plain}


def _x265(encoding: Encoding) -> dict[str, str]:
    keys = f"keyint={encoding.gop}:min-keyint={encoding.gop}:scenecut=0:open-gop=0:bframes=0"
    alone = "pools=none:frame-threads=1:wpp=0:cutree=0:weightp=0:info=0:log-level=none"
    return {"preset": encoding.preset, "crf": str(encoding.crf), "x265-params": f"{keys}:{alone}"}


ENCODERS: dict[str, Encoder] = {"h264": Encoder("libx264", _x264), "hevc": Encoder("libx265", _x265)}
"""By FFmpeg's name of the codec, which is what the index will say of the result."""


def codec_options(encoding: Encoding) -> dict[str, str]:
    """All options of the encoder, with a key frame every `gop` frames and nowhere else, on one thread."""
    keys = {"g": str(encoding.gop), "keyint_min": str(encoding.gop), "sc_threshold": "0"}
    return {**ENCODERS[encoding.codec].options(encoding), **keys, "threads": "1", "flags": "+bitexact+cgop"}


def encoded_size(video: IndexedVideo, short_side: int) -> tuple[int, int]:
    """(width, height) of the result: upright, of square pixels, both even, never larger than the video is."""
    width, height = upright_size(video)
    pixel = video.sample_aspect_ratio if video.sample_aspect_ratio > 0 else Fraction(1)
    if video.rotation_degrees % 180:
        pixel = 1 / pixel
    # Where pixels are not square one side shrinks: enlarging would store what nobody filmed.
    wide, high = (Fraction(width), height / pixel) if pixel > 1 else (width * pixel, Fraction(height))
    scale = min(Fraction(1), short_side / min(wide, high)) if short_side else Fraction(1)
    return _even(wide * scale), _even(high * scale)


def _even(length: Fraction) -> int:
    return max(2, 2 * round(length / 2))
