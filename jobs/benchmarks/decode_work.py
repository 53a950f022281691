"""Frames that the feed decodes, over those that no decoder can do without.

    python jobs/benchmarks/decode_work.py [--steps 48] [--media FOLDER]

A decoder must begin at the key frame before a wanted frame, and go through all that others are made from; frames that
nobody wants and nothing is made from it may leave out. Which frames those are is asked of FFmpeg here, frame by frame
(MP4 files seldom say it), so the least is known of each visit; it stands beside what the batches say was decoded for
them (`frames_decoded`). Videos are those of feed_speed.py: 250
frames with a key frame at the first alone (SD, HD, H.265), and the same standardised to a key frame every 16 frames.
Clips are 16 frames, stride 2, random start, 8 a step, K clips of a video at once.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import cache
from pathlib import Path

import av
import numpy as np
from feed_ways import RAW, make_lakes, spec_of
from measure import media_option, table, told_media, write_page

from cineray.feed import FeedSpec, local_batches
from cineray.plan.cost import frames_to_decode

WANTED = 1.05


@cache
def referred_to(path: str) -> frozenset[int]:
    """The times of the frames that others are made from: all that FFmpeg decodes when told to leave out the rest."""
    with av.open(path) as file:
        stream = file.streams.video[0]
        stream.codec_context.skip_frame = "NONREF"
        return frozenset(frame.pts for frame in file.decode(stream) if frame.pts is not None)


def least_of(spec: FeedSpec, steps: range) -> tuple[int, int]:
    """Frames that a decoder needs for these steps, with one pass for each visit, and frames that are wanted."""
    supply = spec.open()
    plan, needed, used = supply.plan, 0, 0
    for first in range(steps.start, steps.stop, plan.recipe.clips_per_visit):
        window = plan.window(first)
        for column in plan.columns(window, range(window.size)):
            video, place = supply.catalogs[column[0].dataset].located(column[0].clip_number)
            wanted = np.unique([number for clip in column for number in clip.frame_numbers])
            passed = frames_to_decode(video.frames, wanted)
            kept = referred_to(place.uri)
            needed += len(wanted) + sum(
                int(video.frames.pts[frame]) in kept for frame in np.setdiff1d(passed, wanted).tolist()
            )
            used += len(wanted)
    return needed, used


def row(name: str, lake: str, each: int, steps: range) -> list[object]:
    """What one lake took."""
    spec = spec_of(lake, each)
    decoded = sum(batch.frames_decoded for batch in local_batches(spec, steps))
    least, used = least_of(spec, steps)
    verdict = "" if decoded <= WANTED * least else "missed"
    return [name, each, used, least, decoded, f"{decoded / least:.3f}", f"{decoded / used:.2f}", verdict]


def main() -> None:
    """Make the videos, decode, count, write the page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="SD only, 8 steps, no page")
    words.add_argument("--steps", type=int, default=48, help="a multiple of 4")
    media_option(words)
    told = words.parse_args()
    rows, steps = [], range(8 if told.quick else told.steps)
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(["SD"] if told.quick else RAW):
            lakes = make_lakes(told.media, Path(folder) / str(number), name)
            for each in (1, 4):
                rows.append(row(name, lakes.raw, each, steps))
                rows.append(row(f"{name}, standardised", lakes.standardised, each, steps))
    titles = ["source", "K", "frames wanted", "least", "decoded", "decoded over least", "decoded per wanted", ""]
    text = f"Over {len(steps)} steps; wanted at most {WANTED} times the least.\n\n{table(titles, rows)}"
    if told.quick:
        print(text)
        return
    title = "Frames decoded over the least possible"
    write_page("decode_work", title, f"python jobs/benchmarks/decode_work.py{told_media(told.media)}", text)


if __name__ == "__main__":
    main()
