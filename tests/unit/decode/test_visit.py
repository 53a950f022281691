"""What a visit promises: each clip its frames in its own array, the least decoding, and a reason for what it cannot."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cineray.decode import DecodeOptions, decode_visit
from cineray.errors import UsageError
from cineray.records import Clip, ClipSpec, Crop, FrameTable, IndexedVideo, Place, Reject
from cineray.testing import read_stamp, stamp_video

Index = Callable[[Path], IndexedVideo]
SpecOf = Callable[..., ClipSpec]

# 40 frames; a key frame every 20; two B-frames between others, to which nothing refers.
GOP_20 = [
    *("-c:v", "libx264", "-preset", "veryfast", "-crf", "12", "-g", "20", "-bf", "2", "-movflags", "+faststart"),
    *("-b_strategy", "0", "-sc_threshold", "0", "-x264-params", "b-pyramid=none"),
]


@pytest.fixture
def stamped(tmp_path: Path, index_of: Index) -> tuple[IndexedVideo, Place]:
    """A video whose every frame carries its number."""
    path = tmp_path / "stamped.mp4"
    stamp_video(path, frames=40, codec=[*GOP_20, "-pix_fmt", "yuv420p"])
    return index_of(path), Place(uri=str(path))


def stamps(clip: Clip | Reject) -> list[int]:
    assert isinstance(clip, Clip), clip
    return [read_stamp(picture) for picture in clip.frames_THWC]


@pytest.mark.parametrize("decoder", ["pyav", "torchcodec"])
def test_clips_of_one_visit_each_get_their_own_frames(
    decoder: str, stamped: tuple[IndexedVideo, Place], spec_of: SpecOf
) -> None:
    video, place = stamped
    wanted = [[9, 10, 11, 12], [0, 39, 20, 19], [12, 12, 3], [30]]
    clips = decode_visit(video, place, [spec_of(video, w) for w in wanted], options=DecodeOptions(decoder=decoder))
    assert [stamps(clip) for clip in clips] == wanted


def test_a_visit_decodes_each_packet_once_and_says_so_at_its_first_clip(
    stamped: tuple[IndexedVideo, Place], spec_of: SpecOf
) -> None:
    """I0 P3 B1 B2 P6 B4 B5 P9 ...: for frames 4 and 9 the packets I0 P3 P6 B4 P9, and none of the other B-frames."""
    video, place = stamped
    first, second = decode_visit(video, place, [spec_of(video, [4, 9]), spec_of(video, [9, 9])])
    assert (first.frames_decoded, second.frames_decoded) == (5, 0)


def test_a_whole_video_takes_each_of_its_packets_once(stamped: tuple[IndexedVideo, Place], spec_of: SpecOf) -> None:
    """Also across the key frame in its middle, where one run ends and the next begins."""
    video, place = stamped
    (clip,) = decode_visit(video, place, [spec_of(video, range(40))])
    assert stamps(clip) == list(range(40))
    assert clip.frames_decoded == 40


def test_a_key_frame_in_the_gap_is_jumped_to(stamped: tuple[IndexedVideo, Place], spec_of: SpecOf) -> None:
    """Frames 0 and 20 are key frames: two packets, although nineteen lie between them."""
    video, place = stamped
    (clip,) = decode_visit(video, place, [spec_of(video, [0, 20])])
    assert stamps(clip) == [0, 20]
    assert clip.frames_decoded == 2


def test_pixels_are_written_into_the_given_arrays_and_nowhere_else(
    stamped: tuple[IndexedVideo, Place], spec_of: SpecOf
) -> None:
    video, place = stamped
    batch_BTHWC = np.full((4, 2, 48, 64, 3), 77, np.uint8)
    specs = [spec_of(video, [5, 6]), spec_of(video, [7, 8])]
    clips = decode_visit(video, place, specs, out=[batch_BTHWC[1], batch_BTHWC[2]])
    assert [clip.frames_THWC.base is batch_BTHWC for clip in clips] == [True, True]
    assert [read_stamp(picture) for picture in batch_BTHWC[1:3].reshape(4, 48, 64, 3)] == [5, 6, 7, 8]
    assert np.all(batch_BTHWC[[0, 3]] == 77)


@pytest.mark.parametrize("decoder", ["pyav", "torchcodec"])
def test_padded_frames_are_black_and_cost_nothing(
    decoder: str, stamped: tuple[IndexedVideo, Place], spec_of: SpecOf
) -> None:
    video, place = stamped
    out = np.full((3, 48, 64, 3), 77, np.uint8)
    spec = spec_of(video, [0, 39, 39], real=[True, False, False])
    (clip,) = decode_visit(video, place, [spec], out=[out], options=DecodeOptions(decoder=decoder))
    assert clip.frames_decoded == 1
    assert read_stamp(out[0]) == 0
    assert np.all(out[1:] == 0)


def test_a_second_visit_of_a_video_gives_the_same_and_does_not_open_it_again(
    stamped: tuple[IndexedVideo, Place], spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cineray.decode import opened

    opens = []
    monkeypatch.setattr(
        opened, "open_place", lambda *a, _real=opened.open_place, **k: opens.append(1) or _real(*a, **k)
    )
    video, place = stamped
    for frames in ([30, 31], [3, 39], [0, 1], [19, 20, 21]):
        assert stamps(decode_visit(video, place, [spec_of(video, frames)])[0]) == frames
    assert opens == [1]


# ---- what cannot be decoded ----------------------------------------------------------------------------------------


def reasons(results: list[Clip | Reject]) -> list[str]:
    return [result.reason if isinstance(result, Reject) else "" for result in results]


@pytest.mark.parametrize("decoder", ["pyav", "torchcodec"])
def test_a_file_that_was_replaced_is_refused_before_anything_is_decoded(
    decoder: str, stamped: tuple[IndexedVideo, Place], spec_of: SpecOf
) -> None:
    video, place = stamped
    stamp_video(place.uri, frames=40, codec=[*GOP_20, "-pix_fmt", "yuv444p"])
    results = decode_visit(video, place, [spec_of(video, [1])], options=DecodeOptions(decoder=decoder))
    assert reasons(results) == ["changed"]
    assert "Ingest it again" in results[0].detail
    untagged = replace(video, version_tag="")  # where a listing could not tell versions apart, the size still can
    assert reasons(decode_visit(untagged, place, [spec_of(video, [1])])) == ["changed"]


def test_a_file_that_is_gone_is_missing(stamped: tuple[IndexedVideo, Place], spec_of: SpecOf) -> None:
    video, place = stamped
    os.unlink(place.uri)
    results = decode_visit(video, place, [spec_of(video, [1]), spec_of(video, [2], clip_id="other")])
    assert [(r.name, r.stage, r.reason) for r in results] == [
        ("clip", "decode", "missing"),
        ("other", "decode", "missing"),
    ]


@pytest.mark.parametrize("decoder", ["pyav", "torchcodec"])
def test_an_index_made_of_other_bytes_gives_no_wrong_frame(
    decoder: str, stamped: tuple[IndexedVideo, Place], spec_of: SpecOf, index_of: Index, tmp_path: Path
) -> None:
    """The index of a video at 25 frames a second, held against one at 24 with the same size and tag."""
    video, place = stamped
    stamp_video(tmp_path / "other.mp4", frames=40, rate=25, codec=[*GOP_20, "-pix_fmt", "yuv420p"])
    other = index_of(tmp_path / "other.mp4").frames
    stale = replace(video, frames=other)
    results = decode_visit(stale, place, [spec_of(stale, [7])], options=DecodeOptions(decoder=decoder))
    assert reasons(results) == ["wrong_frame"]


def test_packets_of_other_sizes_are_noticed_also_when_the_times_are_the_same(
    stamped: tuple[IndexedVideo, Place], spec_of: SpecOf
) -> None:
    video, place = stamped
    frames = video.frames
    sizes = frames.size_bytes.copy()
    sizes[7] += 1
    columns = {
        name: getattr(frames, name) for name in ("pts", "duration", "decode_order", "key", "disposable", "position")
    }
    stale = replace(video, frames=FrameTable(size_bytes=sizes, **columns))
    assert reasons(decode_visit(stale, place, [spec_of(stale, [7])])) == ["wrong_frame"]
    assert reasons(decode_visit(stale, place, [spec_of(stale, [7])], options=DecodeOptions(verify="none"))) == [""]


def damaged(video: IndexedVideo, place: Place, frame: int) -> IndexedVideo:
    """Overwrite one frame's packet, and let the index believe that nothing happened."""
    with open(place.uri, "r+b") as file:
        file.seek(int(video.frames.position[frame]) + 4)  # the first unit's length stays: its content is nonsense
        file.write(b"\x00" * (int(video.frames.size_bytes[frame]) - 4))
    return replace(video, version_tag="")


def test_damage_takes_the_clips_that_need_it_and_no_other(stamped: tuple[IndexedVideo, Place], spec_of: SpecOf) -> None:
    video, place = stamped
    video = damaged(video, place, 9)
    wanted = [[1, 2], [10, 11], [20, 30], [5, 6], [39]]
    together = decode_visit(video, place, [spec_of(video, w) for w in wanted])
    assert [isinstance(result, Reject) for result in together] == [False, True, False, False, False]
    assert reasons(together)[1] in ("decode_failed", "corrupt")
    assert [stamps(together[i]) for i in (0, 2, 3, 4)] == [wanted[i] for i in (0, 2, 3, 4)]


def test_whether_a_clip_can_be_decoded_does_not_depend_on_its_company(
    stamped: tuple[IndexedVideo, Place], spec_of: SpecOf
) -> None:
    video, place = stamped
    video = damaged(video, place, 9)
    for frame in range(40):
        alone = decode_visit(video, place, [spec_of(video, [frame])])
        for company in ([39], [15], [0, 21]):
            together = decode_visit(video, place, [spec_of(video, [frame]), spec_of(video, company)])
            assert reasons(together[:1]) == reasons(alone), (frame, company)


def test_a_file_cut_short_behind_the_indexs_back_is_truncated(
    stamped: tuple[IndexedVideo, Place], spec_of: SpecOf
) -> None:
    video, place = stamped
    cut = int(video.frames.position[35])
    os.truncate(place.uri, cut)
    stale = replace(video, version_tag="", size_bytes=cut)
    assert reasons(decode_visit(stale, place, [spec_of(video, [2]), spec_of(video, [38])])) == ["", "truncated"]


def test_a_visit_ends_when_its_time_is_over(stamped: tuple[IndexedVideo, Place], spec_of: SpecOf) -> None:
    video, place = stamped
    over_at_once = DecodeOptions(budget_seconds=1e-9)  # no machine is so fast
    (result,) = decode_visit(video, place, [spec_of(video, [39])], options=over_at_once)
    assert result.reason == "timed_out"
    assert "budget_seconds" in result.detail


def test_containers_that_torchcodec_gets_wrong_are_refused_to_it(
    made: Callable[[str], Path], index_of: Index, spec_of: SpecOf
) -> None:
    path = made("b.ts")
    video = index_of(path)
    options = DecodeOptions(decoder="torchcodec")
    results = decode_visit(video, Place(uri=str(path)), [spec_of(video, [3])], options=options)
    assert reasons(results) == ["unsupported"]


# ---- what cannot be meant ------------------------------------------------------------------------------------------


def test_specs_that_cannot_be_of_this_video_are_an_error_of_the_caller(
    stamped: tuple[IndexedVideo, Place], spec_of: SpecOf
) -> None:
    video, place = stamped
    good = spec_of(video, [0])
    outside = Crop(top=40, left=0, height=9, width=64, out_height=8, out_width=8)
    wrong = {
        "is of video other": replace(good, video_id="other"),
        "wants frames 40 to 40": replace(good, frame_numbers=(40,)),
        "the upright picture of video": replace(good, crop=outside),
    }
    for words, spec in wrong.items():
        with pytest.raises(UsageError, match=words):
            decode_visit(video, place, [spec])
    with pytest.raises(UsageError, match="wanted uint8"):
        decode_visit(video, place, [good], out=[np.zeros((1, 48, 64), np.uint8)])
    with pytest.raises(UsageError, match="wanted one of auto, pyav, torchcodec"):
        decode_visit(video, place, [good], options=DecodeOptions(decoder="decord"))
