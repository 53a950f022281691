"""Media behind a web server: several videos of a batch are read at the same time, and the batch is the same."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from cineray.decode import decode_visit
from cineray.feed import FeedSpec, local_batches
from cineray.feed import visits as visits_module
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.records import Batch

pytestmark = pytest.mark.network


def test_remote_videos_of_a_batch_are_read_side_by_side_and_give_the_same_batch(
    made_once: Path,
    tmp_path: Path,
    web_server: Any,
    spec_of: Callable[..., FeedSpec],
    digests: Callable[[Iterable[Batch]], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CINERAY_ALLOW_HOSTS", "127.0.0.1")
    lines = ["uri"]
    for path in sorted((made_once / "videos").rglob("*.mp4")):
        web_server.files[f"/{path.name}"] = path.read_bytes()
        lines.append(f"{web_server.url}/{path.name}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    source = IngestConfig(source=str(tmp_path / "list.csv"), lake=str(tmp_path / "lake"), allow_hosts=("127.0.0.1",))
    ingest(source, EngineConfig(engine="local"))
    supply = spec_of(tmp_path / "lake", clips_per_visit=2)._opened()

    # All four threads must be inside a visit at once, or the barrier breaks.
    meeting, first = threading.Barrier(4, timeout=20), iter(range(4))

    def met(*args: Any, **options: Any) -> Any:
        if next(first, None) is not None:
            meeting.wait()
        return decode_visit(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(visits_module, "decode_visit", met)
        together = list(local_batches(supply, range(6)))
    alone = local_batches(dataclasses.replace(supply, visits_at_once=1), range(6))

    assert not any(batch.substitutions for batch in together)
    assert digests(together) == digests(alone)
