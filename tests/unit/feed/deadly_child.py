"""A decoder's process that dies of certain clips, by SIGSEGV or by never coming back: what a real one does on damage
that nobody has foreseen. The clips are named in the environment; all others are decoded."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from cineray.decode import decode_visit
from cineray.feed import decode_child


def deadly(video: Any, place: Any, specs: Any, **options: Any) -> Any:
    for spec in specs:
        if f"{spec.clip_id}.{spec.draw}" in os.environ.get("DEADLY", "").split(","):
            os.kill(os.getpid(), signal.SIGSEGV)
        if f"{spec.clip_id}.{spec.draw}" in os.environ.get("ENDLESS", "").split(","):
            time.sleep(600)
    return decode_visit(video, place, specs, **options)


decode_child.decode_visit = deadly
decode_child.serve()
