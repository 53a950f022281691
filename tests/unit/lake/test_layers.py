"""A layer's rows are checked by its kind, before they are written."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from cineray.errors import UsageError
from cineray.lake import LAYER_KINDS, batches_of, check_layer_rows, layer_row
from cineray.lake.layers import kind_of


def check(kind: str, value: Any, **where: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    row = layer_row(**{"video_id": "v", "value": text, "author": "a", **where})
    for batch in batches_of("layers/x", [row]):
        check_layer_rows(kind, batch)


def rle(pixels: Any) -> dict[str, Any]:
    """COCO's compressed form, as pycocotools makes it."""
    made = coco.encode(np.asfortranarray(pixels, dtype=np.uint8))
    return {"size": list(made["size"]), "counts": made["counts"].decode()}


DOT = np.zeros((5, 7))
DOT[2, 3] = 1


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("captions", "a cat\nsits"),
        ("boxes", {"box": [0, 1.5, 10, 20], "label": "cat"}),
        ("boxes", [{"box": [0, 0, 1, 1]}, {"box": [1, 1, 1, 1]}]),
        ("masks", rle(DOT)),
        ("masks", rle(np.ones((5, 7)))),
        ("masks", rle(np.random.default_rng(1).integers(0, 2, (480, 640)))),
        ("masks", {"size": [5, 7], "counts": [17, 1, 17], "label": "dot"}),
        ("audio", {"uri": "s3://b/a.wav"}),
        ("events", {"label": "door opens"}),
        ("scores", "0.25"),
        ("scores", {"aesthetic": 5.5, "motion": 0}),
    ],
)
def test_what_fits_its_kind_passes(kind: str, value: Any) -> None:
    check(kind, value)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("captions", " \n", "its value is empty"),
        ("boxes", {"box": [0, 0, 0, 5]}, "has no area"),
        ("boxes", {"box": [0, 0, 5]}, "must be a list of 4 numbers"),
        ("boxes", '{"box": [0, 0, NaN, 5]}', "must be finite"),
        ("boxes", "[]", "must be a JSON object"),
        ("boxes", "{", "is not JSON"),
        ("masks", {"size": [5, 7], "counts": [17, 1, 16]}, "cover 34 pixels; the size 5 x 7 has 35"),
        ("masks", {"size": [5, 7], "counts": [36, -1]}, "whole numbers >= 0"),
        ("masks", {"size": [5, 7], "counts": "a"}, "end in the middle of a run"),
        ("masks", {"size": [5, 7], "counts": "\x00"}, "COCO's encoding does not use"),
        ("masks", {"size": [5, 7], "counts": "o" * 50}, "too long"),
        ("masks", {"size": [0, 7], "counts": [0]}, "mask size 0 x 7"),
        ("masks", {"size": [1 << 20, 1 << 20], "counts": [1 << 40]}, "is not usable"),
        ("masks", {"counts": [1]}, "size must be a list of 2 numbers"),
        ("audio", {"start": 3}, "needs a label, a text or a uri"),
        ("events", {"name": "x"}, "needs a label; got the keys \\['name'\\]"),
        ("scores", "true", "a finite number; got True"),
        ("scores", {"a": "high"}, "got 'high'"),
        ("events", "[" * 100_000, "not JSON|nested too deeply"),
        ("captions", "x" * ((16 << 20) + 1), "the most is"),
    ],
)
def test_what_does_not_is_refused_and_says_why(kind: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check(kind, value)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"video_id": None}, "neither a video_id nor a clip_id"),
        ({"start_pts": 3}, "only one of start_pts"),
        ({"start_pts": 3, "end_pts": 3}, "is empty"),
        ({"frame": -1}, "frames count from 0"),
    ],
)
def test_a_row_of_nothing_is_refused(where: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check("captions", "a cat", **where)


def test_a_layer_s_kind_is_in_its_name() -> None:
    assert [kind_of(f"layers/{name}") for name in ("masks", "masks-sam2", "masked", "depth")] == [
        "masks",
        "masks",
        None,
        None,
    ]
    assert kind_of("media") is None
    assert set(LAYER_KINDS) == {"captions", "boxes", "masks", "audio", "events", "scores"}
    with pytest.raises(UsageError, match="no layer kind 'depth'; the kinds are captions, boxes"):
        check("depth", "x")
