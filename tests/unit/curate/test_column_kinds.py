"""Columns are of the kind that their stages declare, whatever was found: so a rule means the same on any lake."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cineray.curate.clip_table import schema_of
from cineray.curate.stages import STAGES


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_gives_the_columns_that_it_declares_and_no_other_kind(film: Any, landscape: Any, name: str) -> None:
    """Of a video with everything, and of one grey frame without sound or text."""
    stage = STAGES[name]()
    captions, audio = ("a cat sleeps on the mat",), np.sin(np.arange(16_000) / 8).astype(np.float32)
    whole = film(np.repeat(landscape(1)[None], 24, axis=0), captions=captions, audio=audio)
    nothing = film(np.full((1, 144, 256), 90))
    for columns in (stage(whole), stage(nothing)):
        assert columns.keys() == stage.gives.keys()
        strange = {
            column: value
            for column, value in columns.items()
            if value is not None and type(value) is not stage.gives[column]
        }
        assert strange == {}


def test_kinds_become_arrows_in_the_order_of_names() -> None:
    made = schema_of({"b": str, "a": float, "c": bool, "d": int})
    assert [(field.name, str(field.type)) for field in made] == [
        ("a", "double"),
        ("b", "string"),
        ("c", "bool"),
        ("d", "int64"),
    ]
