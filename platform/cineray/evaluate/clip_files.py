"""Clips of an evaluation as files for people: generated and real clips go in; MP4s lie in its folder, and are listed.

`clips/0003.mp4` answers the fourth prompt, `clips/real-0003.mp4` is the held-out clip that the prompt is of.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from cineray.decode import write_mp4
from cineray.evaluate.clip_set import ClipSet
from cineray.storage import is_remote, join_uri, upload_file

FOLDER = "clips"


def write_clips(uri: str, generated: ClipSet, real: ClipSet, shown: int) -> list[dict[str, Any]]:
    """The first so many prompts; `file` and `real_file` are relative to `uri`."""
    place = {name: number for number, name in enumerate(real.names)}
    listed = []
    with tempfile.TemporaryDirectory() as aside:
        for number, name in enumerate(generated.names[:shown]):
            file = _write(uri, f"{number:04d}.mp4", generated, number, aside)
            other = place.get(name)
            real_file = _write(uri, f"real-{number:04d}.mp4", real, other, aside) if other is not None else ""
            words = {"label": generated.labels[number], "caption": generated.captions[number]}
            facts = dict(generated.facts[number])
            listed.append({"file": file, "real_file": real_file, "name": name, **words, "facts": facts})
    return listed


def _write(uri: str, name: str, clips: ClipSet, number: int, aside: str) -> str:
    """One clip, in its own time; straight to its place where that is on this machine."""
    folder = Path(aside) if is_remote(uri) else Path(join_uri(uri, FOLDER))
    folder.mkdir(parents=True, exist_ok=True)
    write_mp4(folder / name, clips.frames_NTHWC[number], clips.seconds_NT[number].tolist())
    if is_remote(uri):
        upload_file(str(folder / name), join_uri(uri, FOLDER, name))
    return f"{FOLDER}/{name}"
