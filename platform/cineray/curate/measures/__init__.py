"""What can be measured of a video, one subject a file: a `Footage` goes in, columns that rules can name leave.

`MEASURES` lists them. To add one: a frozen dataclass as `stage.py` says, a line below, and a test on footage made to
have what it measures and on footage made not to have it.
"""

from __future__ import annotations

from cineray.curate.measures.aspect import Aspect
from cineray.curate.measures.black import Black
from cineray.curate.measures.blur import Blur
from cineray.curate.measures.borders import Borders
from cineray.curate.measures.brightness import Brightness
from cineray.curate.measures.captions import Captions
from cineray.curate.measures.flashes import Flashes
from cineray.curate.measures.motion import Motion
from cineray.curate.measures.overlay import Overlay
from cineray.curate.measures.sound import Sound
from cineray.curate.measures.still import Still
from cineray.curate.measures.timing import Timing
from cineray.curate.stage import Stage

__all__ = ["MEASURES"]

MEASURES: dict[str, type[Stage]] = {
    "aspect": Aspect,
    "black": Black,
    "blur": Blur,
    "borders": Borders,
    "brightness": Brightness,
    "captions": Captions,
    "flashes": Flashes,
    "motion": Motion,
    "overlay": Overlay,
    "sound": Sound,
    "still": Still,
    "timing": Timing,
}
