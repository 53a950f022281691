"""What Ray's tasks are told and tell: here they are called one after the other, without a Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cineray.curate.standardise import StandardiseConfig, StandardiseReport, ray_standardise, standardise
from cineray.curate.standardise.sidecars import shape_of
from cineray.errors import CinerayError
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.storage import delete_object

Run = Callable[..., StandardiseReport]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Tasks are done in this process; which they were."""
    names: list[str] = []

    def here(rows: list[dict[str, Any]], task: Callable[..., dict[str, list[str]]], *, told: Any, **_: Any) -> Any:
        for row in rows:
            names.append(task.__name__)
            try:
                found = task({name: [value] for name, value in row.items()}, **told)
            except CinerayError as error:
                raise CinerayError(f"a Ray task failed: {error}") from error  # of its kind Ray's driver knows nothing
            yield from (dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True))

    monkeypatch.setattr(ray_standardise, "worked_off", here)
    monkeypatch.setattr(ray_standardise, "connected", lambda _address: nullcontext())
    yield names
    for encoder in ray_standardise._encoders.values():
        encoder.close()
    ray_standardise._encoders.clear()


def test_tasks_encode_and_write_the_shards_and_the_version_is_the_same(
    lake: Lake, run: Run, footage: Path, tmp_path: Path, asked: list[str]
) -> None:
    other, out = str(tmp_path / "other"), str(tmp_path / "shards")
    ingest(IngestConfig(source=str(footage), lake=other), EngineConfig(engine="local", workers=1))
    mine = run(out=out, shard_bytes=4096)
    told = {"lake": other, "out": out, "encoding": {"short_side": 48}, "shard_bytes": 4096}
    by_tasks = standardise(StandardiseConfig.model_validate(told), engine="ray")
    assert (by_tasks.version.fingerprint, by_tasks.shards) == (mine.version.fingerprint, mine.shards)
    assert asked == ["encode_chunk"] + ["pack_parts"] * len(mine.shards)
    assert len(mine.shards) == 4


def test_a_task_that_finds_the_staging_cleared_says_so_and_the_rest_is_looked_for_anew(
    lake: Lake, run: Run, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = ray_standardise.pack

    def after_another_cleared(*args: Any, **told: Any) -> Any:
        if asked.count("pack_parts") == 1:
            delete_object(args[2].folder, recursive=True)
        return pack(*args, **told)

    monkeypatch.setattr(ray_standardise, "pack", after_another_cleared)
    report = run(engine="ray")
    assert (report.version.number, report.videos) == (2, 4)
    assert asked == ["encode_chunk", "pack_parts", "encode_chunk", "pack_parts", "pack_parts"]


def test_a_part_whose_worker_dies_each_time_ends_the_run(lake: Lake, run: Run, asked: list[str]) -> None:
    """A worker that dies in a task leaves the note that it began, and nothing else."""
    told = {"number": [0], "part": ["[]"]}
    config = StandardiseConfig.model_validate({"lake": lake.uri}).model_dump_json()
    words = {
        "config_json": config,
        "version": 1,
        "tries_uri": f"{lake.uri}/staging/tries",
        "shape": shape_of([]).to_json(),
    }
    for _ in range(4):
        with pytest.raises(ValueError, match="not enough values"):
            ray_standardise.pack_parts(told, **words)
    with pytest.raises(CinerayError, match="shard-000000 died 4 times"):
        ray_standardise.pack_parts(told, **words)
