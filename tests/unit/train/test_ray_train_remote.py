"""A run under Ray Train whose folder is a prefix of an object store: all lies there, and a second start finds it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from cineray.feed import FeedConfig, local_batches
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.plan import DatasetSpec
from cineray.storage import list_objects
from cineray.testing import make_shapes
from cineray.train import CheckpointConfig, LimitsConfig, RunFolder
from cineray.train.clips_digest import clips_digest, clips_halves
from cineray.train.ledger import read_ledger

pytest.importorskip("ray")
from cineray.telemetry.ray_session import connected
from cineray.train.ray_train import run_on_ray


@pytest.mark.ray
@pytest.mark.network
@pytest.mark.slow
def test_a_run_in_an_object_store_is_made_and_gone_on_with(made: ModuleType, tmp_path: Path, s3_bucket: str) -> None:
    make_shapes(tmp_path / "videos", videos=6, size_px=32)
    ingest(IngestConfig(source=str(tmp_path / "videos"), lake=str(tmp_path / "lake")), EngineConfig(engine="local"))
    plain = made.job_of()
    told = {
        "recipe": plain.recipe.model_copy(update={"datasets": (DatasetSpec(lake=str(tmp_path / "lake"), split=None),)}),
        "feed": FeedConfig(driver="ray"),
        "classes": "data",
        "checkpoint": CheckpointConfig(every_steps=3),
        "limits": LimitsConfig(failures_without_progress=0),
    }
    uri = f"{s3_bucket}/runs/one"
    with connected(num_cpus=3, object_store_memory=160_000_000):
        assert run_on_ray(made.job_of(**told, steps=4), uri=uri)["step"] == 4
        assert run_on_ray(made.job_of(**told, steps=8), uri=uri)["step"] == 8
        again = run_on_ray(made.job_of(**told, steps=8), uri=uri)

    assert (again["step"], again["attempts"]) == (8, 2), "all was done, so nothing was started"
    run = RunFolder.open(uri)
    assert [event["step"] for event in run.events() if event["event"] == "restored"] == [4]
    of_ray = [one.uri.rsplit("/", 1)[-1] for one in list_objects(run.folder("ray"))]
    assert of_ray.count("pointer.json") == 2, "the newest of each start, and no more"
    planned = [clips_digest(clips_halves(batch)) for batch in local_batches(run.spec(), range(8))]
    assert read_ledger(run.folder("ledger")).column("clips_digest").to_pylist() == planned
