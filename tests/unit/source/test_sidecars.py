"""Sidecars: what they say, and that a hostile one costs only itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from cineray.records import Place, VideoFile
from cineray.source import (
    Annotations,
    SidecarError,
    parse_captions_json,
    parse_captions_txt,
    parse_label_cls,
    parse_subtitles,
    with_sidecar,
)

SRT = """1
00:00:01,250 --> 00:00:02,500
<i>Hello</i> & <v Bob>you
second line

2
00:00:03,001 --> 00:00:04,999
Bye
"""
VTT = """WEBVTT

NOTE a comment

cue-1
00:01.250 --> 00:02.500 align:start
<v Bob>Hello</v>

01:00:03.001 --> 01:00:04.999
Bye
"""


def test_a_txt_holds_one_caption_per_line() -> None:
    assert parse_captions_txt("\ufeffa dog\r\n\n ein Hund läuft \n".encode()).captions == ("a dog", "ein Hund läuft")


def test_a_json_gives_captions_label_split_group_and_columns() -> None:
    data = b'{"caption": "a dog", "description": "long", "split": "dev", "label": 3, "group": "g", "fps": 25, "t": [1]}'
    assert parse_captions_json(data) == Annotations(
        captions=("a dog", "long"), split="validation", label="3", group="g", columns={"fps": 25, "t": "[1]"}
    )


def test_a_json_may_be_a_list_of_captions() -> None:
    assert parse_captions_json(b'["a", "b"]').captions == ("a", "b")


def test_a_cls_is_the_label() -> None:
    assert parse_label_cls(b"7\n").label == "7"
    with pytest.raises(SidecarError, match="2 lines; wanted one"):
        parse_label_cls(b"7\n8\n")


def test_subtitles_keep_milliseconds_and_markup() -> None:
    assert parse_subtitles(SRT.encode(), "srt") == [
        (1250, 2500, "<i>Hello</i> & <v Bob>you\nsecond line"),
        (3001, 4999, "Bye"),
    ]
    lines = parse_subtitles(VTT.encode(), "vtt")
    assert [line[:2] for line in lines] == [(1250, 2500), (3603001, 3604999)]
    assert lines[0][2].startswith("<v Bob>Hello</v>")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_an_srt_is_read_in_the_encodings_that_srts_have(encoding: str) -> None:
    text = SRT.replace("Bye", "Tschüß").replace("\n", "\r\n")
    assert parse_subtitles(text.encode(encoding), "srt")[1] == (3001, 4999, "Tschüß")


AUTOMATIC = """WEBVTT
Kind: captions

00:00:00.000 --> 00:00:02.000 align:start position:0%
Hello<00:00:00.480><c> big</c><00:00:00.900><c> world</c>

NOTE internal remark
in two lines

cue-two
00:02.000 --> 00:03.000

STYLE
::cue {}

last
00:03.000 --> 00:04.500
bye
"""


def test_inline_times_stay_in_the_text_and_notes_styles_and_cue_names_stay_out() -> None:
    assert parse_subtitles(AUTOMATIC.encode(), "vtt") == [
        (0, 2000, "Hello<00:00:00.480><c> big</c><00:00:00.900><c> world</c>"),
        (2000, 3000, ""),
        (3000, 4500, "bye"),
    ]


def test_an_srt_keeps_blank_lines_and_numbers_that_are_text() -> None:
    srt = (
        "1\n00:00:01,5 --> 00:00:02,000\none\n\nat 00:01:00,000 --> 00:02:00,000\n1984\n\n"
        "2\n00:00:03,000 --> 00:00:04,000\n\n"
        "3\n100:00:05,000 --> 100:00:06,000\n\n7"
    )
    assert parse_subtitles(srt.encode(), "srt") == [
        (1500, 2000, "one\n\nat 00:01:00,000 --> 00:02:00,000\n1984"),
        (3000, 4000, ""),
        (360_005_000, 360_006_000, "7"),
    ]


def test_a_line_that_ends_before_it_begins_is_named() -> None:
    with pytest.raises(SidecarError, match="line 2 ends before it begins: 00:00:05,000 --> 00:00:04,000"):
        parse_subtitles(b"1\n00:00:05,000 --> 00:00:04,000\nx\n", "srt")


def test_an_empty_subtitle_file_has_no_lines_and_a_file_of_prose_is_an_error() -> None:
    assert parse_subtitles(b"WEBVTT\n", "vtt") == []
    with pytest.raises(SidecarError, match="holds no timed line; wanted"):
        parse_subtitles(b"dear diary", "srt")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" * 100_000, "nested more than 32 levels"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested more than 32 levels"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "100,000 digits; at most 40"),
        (b'{"a": 1e999}', "out of a float's range"),
        (b'{"a": NaN}', "has no number NaN"),
        (b'{"a": "' + b"x" * (1 << 20) + b'"}', "at most 1,048,576 are read"),
        (b'{"caption": "\xff"}', "not UTF-8: byte 0xff at 13"),
        ('{"caption": "a"}'.encode("utf-16"), "not UTF-8"),
        (b'{"caption": ', "not valid JSON"),
        (b"", "not valid JSON"),
        (b"17", "holds a int; wanted an object"),
        (b"a: &a [*a,*a]", "not valid JSON"),
        (b"\x80\x04\x95pickle", "not UTF-8"),
    ],
)
def test_a_hostile_json_is_an_error_that_says_why(data: bytes, words: str) -> None:
    with pytest.raises(SidecarError, match=words):
        parse_captions_json(data)


def test_brackets_inside_strings_do_not_count_as_depth() -> None:
    assert parse_captions_json(b'{"caption": "' + b"[{" * 500 + b'\\""}').captions == ("[{" * 500 + '"',)


@pytest.mark.parametrize(
    "data", [b'"' + b'\\"' * 520_000, b'"' * 1_040_000, b"[" + b'"\\' * 500_000, b"{" * 33 + b'"' * 900_000]
)
def test_no_json_takes_time_beyond_its_length(data: bytes) -> None:
    def parse(part: bytes) -> None:
        with suppress(SidecarError):
            parse_captions_json(b"[" * 33 + part)

    assert_about_linear(parse, data)


@pytest.mark.parametrize(
    "data",
    [
        b"00:00:01,000 --> 00:00:02,000\n" + b"< " * 200_000,
        b"00:00:01,000 --> 00:00:02,000\n" + b"\n1" * 200_000,
        b"00:00:01,000 --> 00:00:02,000\n" * 30_000,
        b"1:" * 500_000,
        b"00:00:01,000 --> 00:00:02,000\n" + b"\n" * 1_000_000,
        b"00:00:01,000 --> 00:00:02,000\n" + b" \n" * 500_000,
        b"00:00:01,000 --> 00:00:02,000\nx" + b"\n" * 1_000_000 + b"y",
        b"00:00:01,000 --> 00:00:02,000\nx" + b"\n 1 " * 200_000 + b"y",
    ],
)
def test_no_subtitle_file_takes_time_beyond_its_length(data: bytes) -> None:
    def parse(part: bytes) -> None:
        for kind in ("srt", "vtt"):
            with suppress(SidecarError):
                parse_subtitles(part, kind)

    assert_about_linear(parse, data)


def assert_about_linear(parse: Callable[[bytes], None], data: bytes) -> None:
    """Eight times the bytes take about eight times the processor, where a quadratic parser takes sixty-four."""

    def cpu_seconds(part: bytes) -> float:
        rounds = []
        for _ in range(3):
            began = time.process_time()
            parse(part)
            rounds.append(time.process_time() - began)
        return min(rounds)

    assert cpu_seconds(data) < 24 * cpu_seconds(data[: len(data) // 8]) + 0.1


@pytest.mark.parametrize(("kind", "parse"), [("txt", parse_captions_txt), ("cls", parse_label_cls)])
def test_text_in_another_encoding_is_an_error_with_the_next_step(kind: str, parse: object) -> None:
    with pytest.raises(SidecarError, match=rf"a \.{kind} sidecar is not UTF-8: byte 0xfc at 1; save it as UTF-8"):
        parse("für".encode("latin-1"))  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_binary_data_is_no_subtitle(kind: str) -> None:
    with pytest.raises(SidecarError):
        parse_subtitles(b"\x00\x01\xff" * 100, kind)


def test_a_sidecar_whose_split_is_no_name_is_left_out() -> None:
    file = VideoFile(name="a", place=Place(uri="/a"))
    with pytest.raises(SidecarError, match=r"left out: its split is 'te st'; wanted a name of at most 64 letters"):
        with_sidecar(file, "json", b'{"split": "te st", "caption": "x"}')
    assert with_sidecar(file, "json", b'{"split": "val"}').split == "validation"


def test_what_the_source_said_goes_before_what_a_sidecar_says() -> None:
    file = VideoFile(name="a", place=Place(uri="/a"), label="walk", captions=("first",), columns={"fps": 25})
    read = with_sidecar(file, "json", b'{"label": "run", "group": "g", "caption": "second", "fps": 30, "x": 1}')
    assert (read.label, read.group, read.captions) == ("walk", "g", ("first", "second"))
    assert read.columns == {"fps": 25, "x": 1}
