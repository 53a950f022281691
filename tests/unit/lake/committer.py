"""A writer in a process of its own: `committer.py LAKE NAME COMMITS [--die-at STEP] [--wait FILE]`.

Commit number i adds one clip of video NAME-i and one caption of it. It prints `NAME-i VERSION` after each, or
`NAME-i conflict`. With --die-at it kills itself, as the kernel would, when the first commit reaches that step.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path

from cineray.errors import CommitConflict
from cineray.lake import Changes, Lake, Version, batches_of, clip_row, layer_row


class Mortal(Lake):
    """A lake whose writer dies at a step."""

    die_at = ""

    def on_step(self, step: str) -> None:
        if step == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)


def changes(video: str) -> Changes:
    """One clip and one caption of it."""
    clip = clip_row(video_id=video, start_pts=0, end_pts=9, split="train", group_id=video)
    caption = layer_row(video_id=video, value=f"this is {video}", author="committer")
    add = {"clips": batches_of("clips", [clip]), "layers/captions": batches_of("layers/captions", [caption])}
    return Changes(add=add)


def only_if_new(lake: Lake, video: str, head: Version | None) -> Changes:
    """What an ingest does: nothing that the head has already."""
    return Changes() if head and lake.count(head, "clips", f"video_id = '{video}'") else changes(video)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lake")
    parser.add_argument("name")
    parser.add_argument("commits", type=int)
    parser.add_argument("--die-at", default="")
    parser.add_argument("--wait", default="")
    options = parser.parse_args()
    lake = Mortal.open(options.lake)
    lake.die_at = options.die_at
    lake.table("clips").latest()  # loads Lance, which takes longer than what tests measure from "ready" on
    print("ready", flush=True)
    while options.wait and not Path(options.wait).exists():
        time.sleep(0.01)
    for number in range(options.commits):
        video = f"{options.name}-{number}"
        try:
            made = lake.commit(
                lambda head, video=video: only_if_new(lake, video, head),
                author=options.name,
                command="committer",
                source="nowhere",
                processing={},
            )
            print(video, made.number, flush=True)
        except CommitConflict:
            print(video, "conflict", flush=True)


if __name__ == "__main__":
    main()
