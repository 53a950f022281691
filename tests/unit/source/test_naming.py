"""Names: what they mean, and how strange ones are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cineray.source.naming import (
    UniqueNames,
    extension,
    is_hidden,
    is_video,
    printable_name,
    printable_text,
    split_of,
    true_name,
    utf8_text,
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/b.MP4", "mp4"),
        ("a.b.webm", "webm"),
        ("folder.mp4/file", ""),
        (".mp4", ""),
        ("video", ""),
        ("a.txt", "txt"),
        ("a.", ""),
    ],
)
def test_the_extension_is_what_stands_behind_the_last_dot_of_the_file_name(path: str, kind: str) -> None:
    assert extension(path) == kind
    assert is_video(path) == (kind in ("mp4", "webm"))


def test_hugging_faces_split_words_mean_three_splits() -> None:
    meanings = {
        "train": ["train", "training", "Train"],
        "validation": ["validation", "valid", "val", "dev"],
        "test": ["test", "testing", "eval", "evaluation"],
        None: ["walk", "trainer", ""],
    }
    assert {meaning: {split_of(word) for word in words} for meaning, words in meanings.items()} == {
        meaning: {meaning} for meaning in meanings
    }


def test_hidden_is_any_part_that_begins_with_a_dot() -> None:
    assert [is_hidden(path) for path in (".a", "a/.b/c", "a/b", "./a", "a.b/c")] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("walk/ü 'a' \"b\".mp4", "walk/ü 'a' \"b\".mp4"),
        ("a\nb\x1b[31m", "a\\x0ab\\x1b[31m"),
        (b"a\xff\x80".decode("utf-8", "surrogateescape"), "a\\xff\\x80"),
        ("a\x85b", "a\\u0085b"),
        ("a\\nb", "a\\\\nb"),
        ("gnp\u202e4pm.exe", "gnp\\u202e4pm.exe"),
        ("\ud800", "\\ud800"),
        ("👩‍👩‍👧", "👩‍👩‍👧"),
    ],
)
def test_a_name_is_shown_without_what_harms_a_terminal_or_a_store(name: str, shown: str) -> None:
    assert printable_name(name) == shown
    assert true_name(shown) == name


@given(st.text(st.characters(codec=None), max_size=60))
def test_every_name_comes_back_from_its_printable_form(name: str) -> None:
    shown = printable_name(name)
    assert true_name(shown) == name
    assert shown.encode().decode() == shown
    assert not any(ord(char) < 32 for char in shown)


@given(st.binary(max_size=60))
def test_every_file_name_of_a_disk_comes_back_as_its_bytes(raw: bytes) -> None:
    name = raw.decode("utf-8", "surrogateescape")
    assert true_name(printable_name(name)).encode("utf-8", "surrogateescape") == raw


def test_a_sentence_keeps_its_backslashes_and_a_text_its_line_breaks() -> None:
    assert printable_text("C:\\x\n") == "C:\\x\\x0a"
    assert utf8_text("one\ntwo\udcff") == "one\ntwo\\xff"


def test_a_repeated_name_gets_the_suffix_until_it_is_new() -> None:
    names = UniqueNames()
    given_out = [names.claim(name, "#2") for name in ("a", "b", "a", "a#2", "a")]
    assert given_out == ["a", "b", "a#2", "a#2#2", "a#2#2#2"]


def test_a_hundred_thousand_names_are_told_apart_in_little_memory() -> None:
    names = UniqueNames()
    assert all(names.claim(f"clip {number}", "!") == f"clip {number}" for number in range(100_000))
    assert names.claim("clip 77", "!") == "clip 77!"
    assert len(names._slots) * names._slots.itemsize < 24 * 100_000
