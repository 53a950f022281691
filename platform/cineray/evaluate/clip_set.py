"""Clips that are judged together: pixels, true times, and what is known of each go in; any choice of them comes out.

All clips of a set are of one length and one size, so that every measure sees arrays. A clip keeps its name whatever is
chosen, joined or saved: names pair the clips of two checkpoints and put results in order.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cineray.errors import CinerayError
from cineray.storage import put_object, read_object

LARGEST_FILE_BYTES = 4 << 30
"""A set is held in main memory; a file beyond this is not one of ours."""

Facts = Mapping[str, Any]
"""What is known of a clip, as JSON values: `{"direction": "up", "speed_widths_per_second": 0.25}`, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipSet:
    """N clips of T frames of H x W pixels, C = 3 (RGB, full range)."""

    frames_NTHWC: npt.NDArray[np.uint8]
    seconds_NT: npt.NDArray[np.float64]
    """Each frame's real time since its clip's first frame."""
    names: tuple[str, ...]
    """One per clip, each once, the same in every evaluation: `prompt-0007`, or the id of a clip of the lake."""
    labels: tuple[str, ...]
    """The class, "" where there is none."""
    captions: tuple[str, ...]
    """The text, "" where there is none."""
    facts: tuple[Facts, ...]
    """What is true of each clip, as far as somebody wrote it down; {} where nobody did."""

    def __post_init__(self) -> None:
        n, t = self.frames_NTHWC.shape[:2] if self.frames_NTHWC.ndim == 5 else (-1, -1)
        if self.frames_NTHWC.dtype != np.uint8 or n < 0 or self.frames_NTHWC.shape[-1] != 3:
            got = f"{self.frames_NTHWC.dtype} of shape {self.frames_NTHWC.shape}"
            raise ValueError(f"ClipSet.frames_NTHWC is {got}; it must be uint8 of shape (N, T, H, W, 3)")
        if self.seconds_NT.shape != (n, t):
            raise ValueError(f"ClipSet.seconds_NT has shape {self.seconds_NT.shape}; it must be (N, T) = {(n, t)}")
        for name in ("names", "labels", "captions", "facts"):
            if len(getattr(self, name)) != n:
                raise ValueError(
                    f"ClipSet.{name} has {len(getattr(self, name))} entries; it must have one per clip, {n}"
                )
        if len(set(self.names)) != n:
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ValueError(f"ClipSet.names has {', '.join(twice[:3])} more than once; names must tell clips apart")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def num_frames(self) -> int:
        """Frames of each clip."""
        return int(self.frames_NTHWC.shape[1])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.frames_NTHWC.shape[2])

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.frames_NTHWC.shape[3])

    def select(self, indices: Sequence[int] | npt.NDArray[Any]) -> ClipSet:
        """The clips of these numbers, in this order."""
        chosen = [int(index) for index in indices]
        return ClipSet(
            frames_NTHWC=self.frames_NTHWC[chosen],
            seconds_NT=self.seconds_NT[chosen],
            names=tuple(self.names[index] for index in chosen),
            labels=tuple(self.labels[index] for index in chosen),
            captions=tuple(self.captions[index] for index in chosen),
            facts=tuple(self.facts[index] for index in chosen),
        )

    @classmethod
    def concat(cls, sets: Sequence[ClipSet]) -> ClipSet:
        """All clips of several sets, one set after another; they must agree in length and size."""
        shapes = sorted({each.frames_NTHWC.shape[1:] for each in sets})
        if len(shapes) != 1:
            raise ValueError(f"sets of clips of shapes {shapes} were joined; all must be of one length and size")
        return cls(
            frames_NTHWC=np.concatenate([each.frames_NTHWC for each in sets]),
            seconds_NT=np.concatenate([each.seconds_NT for each in sets]),
            names=tuple(name for each in sets for name in each.names),
            labels=tuple(label for each in sets for label in each.labels),
            captions=tuple(caption for each in sets for caption in each.captions),
            facts=tuple(facts for each in sets for facts in each.facts),
        )

    # ---- as a file ---------------------------------------------------------------------------------------------------

    def save(self, uri: str | Path) -> None:
        """One npz file, the words as JSON inside it; the same set gives the same bytes."""
        words = {"names": self.names, "labels": self.labels, "captions": self.captions}
        text = json.dumps({"format": 1, **words, "facts": [dict(facts) for facts in self.facts]}, sort_keys=True)
        about = np.frombuffer(text.encode(), dtype=np.uint8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, frames_NTHWC=self.frames_NTHWC, seconds_NT=self.seconds_NT, about=about)
        put_object(str(uri), buffer.getvalue())

    @classmethod
    def load(cls, uri: str | Path) -> ClipSet:
        """What `save` wrote."""
        try:
            with np.load(io.BytesIO(read_object(str(uri), limit_bytes=LARGEST_FILE_BYTES)), allow_pickle=False) as file:
                frames_NTHWC, seconds_NT, about = file["frames_NTHWC"], file["seconds_NT"], file["about"]
            words = json.loads(about.tobytes())
        except (ValueError, KeyError, OSError) as error:
            raise CinerayError(f"{uri} is not a set of clips ({error}); wanted what ClipSet.save wrote") from None
        return cls(
            frames_NTHWC=frames_NTHWC,
            seconds_NT=seconds_NT,
            names=tuple(words["names"]),
            labels=tuple(words["labels"]),
            captions=tuple(words["captions"]),
            facts=tuple(words["facts"]),
        )
