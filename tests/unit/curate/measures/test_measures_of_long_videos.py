"""A long video: looking at it takes little more memory than its small pictures do."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from cineray.curate.stages import STAGES

FRAMES = 4_000  # three minutes; 9 MB of small pictures


@pytest.mark.parametrize("name", STAGES)
def test_looking_takes_no_more_than_the_pictures_again(film: Any, name: str) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 200, (36, 64), dtype=np.uint8) + rng.integers(0, 40, (FRAMES, 36, 64), dtype=np.uint8)
    footage, stage = film(pictures), STAGES[name]()
    stage(film(pictures[:100]))  # what is loaded once is no part of it
    tracemalloc.start()
    stage(footage)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 2 * footage.gray_THW.nbytes
