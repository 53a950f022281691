"""One meaning for a column, wherever it stands."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from cineray.source.annotations import Annotations, annotations_from


def test_a_row_gives_captions_split_label_group_and_keeps_the_rest() -> None:
    row = {
        "caption": "a dog",
        "captions": ["a dog", "ein Hund", "", None],
        "text": "runs",
        "split": "val",
        "label": 7,
        "group": " tape 3 ",
        "fps": 29.97,
        "nothing": None,
    }
    assert annotations_from(row) == Annotations(
        captions=("a dog", "ein Hund", "runs"), split="validation", label="7", group="tape 3", columns={"fps": 29.97}
    )


def test_values_become_scalars_that_any_table_and_any_json_can_hold() -> None:
    row = {
        "when": datetime(2026, 1, 2, 3, 4, 5),
        "price": Decimal("1.50"),
        "huge": 2**70,
        "nan": float("nan"),
        "raw": b"\x80\x04pickle",
        "list": [1, {"a": b"x"}],
        "flag": True,
        "half": "\ud800",
        "bad\nkey": 1,
    }
    assert annotations_from(row).columns == {
        "when": "2026-01-02T03:04:05",
        "price": "1.50",
        "huge": "1180591620717411303424",
        "list": '[1, {"a": null}]',
        "flag": True,
        "half": "\\ud800",
        "bad\\x0akey": 1,
    }


def test_a_list_of_captions_may_be_written_as_json_text_and_a_bracket_may_begin_a_caption() -> None:
    assert annotations_from({"captions": '["one", "two"]'}).captions == ("one", "two")
    assert annotations_from({"caption": "[music] a band plays"}).captions == ("[music] a band plays",)
    assert annotations_from({"caption": "[1, 2]"}).captions == ("[1, 2]",)


def test_a_split_with_a_name_of_its_own_is_kept() -> None:
    assert annotations_from({"split": "holdout"}).split == "holdout"


def test_what_lies_on_top_goes_first_and_captions_add_up() -> None:
    top = Annotations(captions=("a", "b"), label="run", columns={"x": 1})
    below = Annotations(captions=("b", "c"), label="walk", split="train", columns={"x": 2, "y": 3})
    assert top.over(below) == Annotations(
        captions=("a", "b", "c"), label="run", split="train", columns={"x": 1, "y": 3}
    )
