"""Staging, shards and the next version on an object store: the same as on a disk, also of a run that was stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cineray.curate.standardise import StandardiseConfig, StandardiseReport, standardise
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.storage import list_objects

Run = Callable[..., StandardiseReport]


@pytest.mark.network
def test_a_lake_on_s3_is_standardised_there_and_a_stopped_run_goes_on(s3_bucket: str, footage: Path) -> None:
    there = f"{s3_bucket}/lake"
    ingest(IngestConfig(source=str(footage), lake=there), EngineConfig(engine="local", workers=1))
    config = StandardiseConfig.model_validate({"lake": there, "encoding": {"short_side": 48}, "shard_bytes": 20_000})

    def stop(done: Any, _total: int) -> None:
        if done.videos == 2:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        standardise(config, workers=1, on_progress=stop)
    report = standardise(config, workers=1)
    assert report.resumed >= 2
    assert (report.version.number, report.videos, report.rejected) == (2, 4, {})
    opened = Lake.open(there)
    assert {row["uri"] for row in opened.read("latest", "media").to_pylist()} == set(report.shards)
    assert all(uri.startswith(f"{there}/shards/") for uri in report.shards)
    assert opened.verify("latest", media="hash").ok
    assert list(list_objects(f"{there}/staging")) == []


@pytest.mark.network
def test_shards_of_a_local_lake_go_to_s3_where_another_reads_them(
    lake: Lake, run: Run, s3_bucket: str, tmp_path: Path
) -> None:
    run(out=f"{s3_bucket}/shards")
    assert lake.verify("latest", media="hash").ok
    other = str(tmp_path / "other")
    found = ingest(IngestConfig(source=f"{s3_bucket}/shards", lake=other), EngineConfig(engine="local", workers=1))
    assert (found.added, found.summary.rejects) == (4, [])
    # What lies on a store is named by its header's bytes, not by all of them: videos are the same by what they hold.
    told = ("size_bytes", "num_frames", "duration_seconds", "captions", "label")
    there, here = (of.read("latest", "media", columns=list(told)).to_pylist() for of in (Lake.open(other), lake))
    assert sorted(map(str, there)) == sorted(map(str, here))
