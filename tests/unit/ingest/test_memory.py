"""Memory does not grow with the places: a hundred thousand of them are listed, looked up, journalled and committed.

The videos are not opened here, since that is the work of child processes with limits of their own; the whole way with
real work on each of 100,000 places is `jobs/benchmarks/ingest_memory.py`, whose figures lie in jobs/benchmarks/results.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = """
import copy, itertools, resource, sys, time
from cineray.ingest import IngestConfig
from cineray.ingest.changes import Proposal
from cineray.ingest.journal import Journal
from cineray.ingest.known import KnownPlaces
from cineray.ingest.tasks import Listing, Task, key_of
from cineray.ingest.work import Checker
from cineray.lake import Lake
from cineray.source import open_source

folder, places = sys.argv[1], int(sys.argv[2])
config = IngestConfig(source=f"{folder}/{places}.csv", lake=f"{folder}/lake-{places}")
lake = Lake.open_or_create(config.lake)
journal = Journal(lake.uri, config.work_key())
source = open_source(config.source)
tasks = Listing().tasks(source.list_videos(), KnownPlaces([]), source.uri)

first = next(tasks)
with Checker(config, workers=1) as checker:
    (row,) = checker.check([first])
journal.write([row])

def finished(task):
    key = key_of(task.listed, source.uri)
    place = row["place"] | {"place_id": key, "uri": task.listed.place.uri, "name": task.listed.name}
    return row | {"key": key, "name": task.listed.name, "place": place}

while batch := list(itertools.islice(tasks, 256)):
    journal.write([finished(task) for task in batch])
version = lake.commit(
    lambda head: Proposal(lake, head, journal, config.splits, source.uri).changes(),
    author="test", command="test", source=source.uri, processing={},
)
assert version.counts["places"] == places, version.counts
assert version.counts["videos"] == 1, version.counts

held = lake.read(version, "places", columns=["place_id", "signature"])
known = KnownPlaces([held.rename_columns(["key", "signature"])])
assert len(known) == places
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_ten_times_the_places_take_hardly_more_memory(video: Callable[..., Path], tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4")
    peaks = {}
    for places in (10_000, 100_000):
        with (tmp_path / f"{places}.csv").open("w") as manifest:
            manifest.write("uri\n" + f"{path}\n")
            manifest.writelines(f"{tmp_path}/links/{number:07d}.mp4\n" for number in range(1, places))
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, tmp_path, str(places)],
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
        )
        assert done.returncode == 0, done.stderr
        peaks[places] = int(done.stdout)

    grown_mb = peaks[100_000] - peaks[10_000]
    assert grown_mb < 200, f"peak memory grew by {grown_mb} MB: {peaks}"
