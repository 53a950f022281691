"""Work that keeps killing its worker: counted beside it, so that Ray's trying again has an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from cineray.errors import CinerayError
from cineray.telemetry.ray_chunks import count_try, worked_off


def test_a_chunk_may_be_begun_four_times_and_its_neighbour_as_well(tmp_path: Path) -> None:
    one, other = f"{tmp_path}/chunk-000000", f"{tmp_path}/chunk-000001"
    for _ in range(4):
        count_try(one)
    count_try(other)
    with pytest.raises(CinerayError, match=r"chunk-000000 died 4 times, .* want of memory; .*--workers"):
        count_try(one)


def test_no_rows_are_no_work_and_need_no_ray() -> None:
    assert list(worked_off([], lambda batch: batch, told={}, workers=1, what="nothing")) == []
