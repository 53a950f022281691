"""Shape, timing, captions and sound: facts and samples made to have a fault, and made not to."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from cineray.curate.measures.aspect import Aspect
from cineray.curate.measures.captions import Captions, guess_language
from cineray.curate.measures.sound import Sound
from cineray.curate.measures.timing import Timing
from cineray.errors import UsageError

GREY = np.full((24, 144, 256), 90)


def grey(frames: int) -> Any:
    return np.full((frames, 144, 256), 90)


# ---- aspect ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "ratio", "shape"),
    [
        ({"width": 1920, "height": 1080}, 16 / 9, "landscape"),
        ({"width": 1920, "height": 1080, "rotation_degrees": 90}, 9 / 16, "portrait"),
        ({"width": 720, "height": 576, "sample_aspect_ratio": Fraction(16, 15)}, 4 / 3, "landscape"),
        ({"width": 500, "height": 512}, 500 / 512, "square"),
    ],
)
def test_shape_is_what_a_viewer_sees(film: Any, facts: Any, ratio: float, shape: str) -> None:
    found = Aspect()(film(GREY, **facts))
    assert (found["aspect_ratio"], found["aspect_shape"]) == (pytest.approx(ratio), shape)


# ---- timing ----------------------------------------------------------------------------------------------------------


def test_an_even_video_has_no_fault_in_exact_and_in_rounded_times(film: Any) -> None:
    for base, pts in [(Fraction(1, 24), range(24)), (Fraction(1, 1000), [round(at * 1000 / 30) for at in range(24)])]:
        found = Timing()(film(GREY, pts=list(pts), time_base=base))
        assert (found["timing_gaps"], found["timing_rushes"], found["timing_gap_spans"]) == (0, 0, [])
        assert found["timing_drift_seconds"] < 0.001


def test_a_gap_is_found_where_it_is_and_the_beat_around_it_is_even(film: Any) -> None:
    pts = [at + 12 * (at >= 10) for at in range(24)]
    assert Timing()(film(GREY, pts=pts)) == {
        "timing_gaps": 1,
        "timing_rushes": 0,
        "timing_longest_gap_seconds": 0.5,
        "timing_drift_seconds": 0.0,
        "timing_sound_seconds": None,
        "timing_gap_spans": [(9, 22, "gap")],
    }


def test_frames_that_come_too_soon_are_rushes(film: Any) -> None:
    pts = [1000 * at - (800 if at == 7 else 0) for at in range(24)]
    found = Timing()(film(GREY, pts=pts, time_base=Fraction(1, 24_000)))
    assert (found["timing_gaps"], found["timing_rushes"]) == (1, 1)  # what comes 0.8 early is followed by a wait of 1.8


def test_a_clock_that_slows_down_drifts(film: Any) -> None:
    pts = [round(1000 * (at + at * at / 240)) for at in range(24)]
    found = Timing()(film(GREY, pts=pts, time_base=Fraction(1, 24_000)))
    assert found["timing_gaps"] == 0
    assert found["timing_drift_seconds"] == pytest.approx(23 * 23 / 4 / 240 / 24, rel=0.05)


def test_sound_that_outlasts_the_pictures_is_told(film: Any, sound_stream: Any) -> None:
    longer, even = (film(GREY, streams=(sound_stream(seconds),)) for seconds in (1.25, 1.0))
    assert [Timing()(footage)["timing_sound_seconds"] for footage in (longer, even)] == [0.25, 0.0]


def test_one_frame_has_no_timing_to_be_wrong(film: Any) -> None:
    assert Timing()(film(grey(1)))["timing_gaps"] == 0


# ---- captions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("A dog runs along the beach and jumps into the water", "en"),
        ("Ein Hund rennt am Strand und springt in das Wasser", "de"),
        ("Un chien court sur la plage et saute dans les vagues", "fr"),
        ("Un perro corre por la playa y salta en el agua", "es"),
        ("Собака бежит по пляжу", "ru"),
        ("一只狗在海滩上奔跑", "zh"),
        ("犬が海岸を走っている", "ja"),
        ("東京都港区の高層建築物", "ja"),
        ("개가 해변을 달린다", "ko"),
        ("Ένας σκύλος τρέχει", "el"),
        ("12345 !!", "und"),
        ("xkcd", "und"),
    ],
)
def test_languages_are_told_apart(text: str, code: str) -> None:
    assert guess_language(text) == code


def test_the_longest_caption_counts_and_empty_ones_do_not(film: Any) -> None:
    assert Captions()(film(GREY, captions=("a dog", "  ", "a dog on the beach"))) == {
        "captions_count": 2,
        "captions_words": 5,
        "captions_letters": 18,
        "captions_language": "en",
    }
    assert Captions()(film(GREY)) == {
        "captions_count": 0,
        "captions_words": 0,
        "captions_letters": 0,
        "captions_language": None,
    }


def test_an_unknown_detector_is_refused_by_name(film: Any) -> None:
    with pytest.raises(UsageError, match=r"captions.detector is 'oracle'; it must be one of guess"):
        Captions(detector="oracle")(film(GREY, captions=("a",)))


# ---- sound -----------------------------------------------------------------------------------------------------------


def tone(seconds: float, height: float) -> Any:
    return (height * np.sin(2 * np.pi * 440 * np.arange(int(16_000 * seconds)) / 16_000)).astype(np.float32)


def test_a_full_sine_is_three_decibels_below_full_scale(film: Any) -> None:
    found = Sound()(film(grey(48), audio=tone(2, 1.0)))
    assert found["sound_present"] is True
    assert found["sound_dbfs"] == pytest.approx(-3.01, abs=0.02)
    assert found["sound_peak_dbfs"] == pytest.approx(0, abs=0.01)
    assert (found["sound_silent_fraction"], found["sound_covers"]) == (0.0, 1.0)


def test_silence_between_sounds_is_a_share_and_does_not_make_them_less_loud(film: Any) -> None:
    loud, quiet = tone(1, 0.1), np.zeros(16_000, np.float32)
    found = Sound()(film(grey(48), audio=np.concatenate([loud, quiet])))
    assert found["sound_dbfs"] == pytest.approx(-23.01, abs=0.02)
    assert found["sound_silent_fraction"] == 0.5


def test_a_silent_stream_is_present_and_has_no_loudness(film: Any) -> None:
    found = Sound()(film(grey(24), audio=np.zeros(16_000, np.float32)))
    assert (found["sound_present"], found["sound_dbfs"], found["sound_silent_fraction"]) == (True, None, 1.0)
    assert found["sound_peak_dbfs"] is None


def test_no_sound_is_said_so(film: Any) -> None:
    found = Sound()(film(grey(24)))
    assert (found["sound_present"], found["sound_dbfs"], found["sound_covers"]) == (False, None, 0.0)


def test_sound_that_begins_late_covers_less(film: Any) -> None:
    found = Sound()(film(grey(48), audio=tone(1, 0.5), audio_start_seconds=Fraction(3, 2)))
    assert found["sound_covers"] == pytest.approx(0.25)


def test_clipped_samples_are_counted(film: Any) -> None:
    assert Sound()(film(grey(24), audio=np.clip(3 * tone(1, 1.0), -1, 1)))["sound_clipped"] > 0.7
    assert Sound()(film(grey(24), audio=tone(1, 0.5)))["sound_clipped"] == 0.0


def test_a_real_file_with_and_without_sound(shot: Any) -> None:
    words = ("-f", "lavfi", "-i", "testsrc=s=64x36:d=1:r=24")
    sine = ("-f", "lavfi", "-i", "sine=frequency=440:duration=1", "-af", "volume=0dB")
    assert Sound()(shot(*words))["sound_present"] is False
    found = Sound()(shot(*words, *sine, "-c:a", "aac"))
    assert found["sound_present"] is True
    assert -25 < found["sound_dbfs"] < -15  # FFmpeg's sine is an eighth of full scale: -21
