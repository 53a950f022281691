"""A lease is held by whoever lives: it is renewed while its process runs, and ends soon after it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cineray.errors import LakeError
from cineray.lake import Changes, Lake, Version, leases

LIFETIME = 1.0


def lease_files(lake: Lake) -> list[Path]:
    return sorted(Path(lake.uri).glob("readers/*.json"))


def test_a_lease_outlives_its_lifetime_while_its_holder_lives_and_is_given_back(lake: Lake) -> None:
    with lake.writing(seconds=LIFETIME):
        (file,) = lease_files(lake)
        first = json.loads(file.read_text())
        time.sleep(2 * LIFETIME)
        (held,) = leases.live(lake.uri)
        assert (held.started, held.version) == (first["started"], None)
        assert held.expires > first["expires"] + LIFETIME
    time.sleep(LIFETIME / 2)
    assert lease_files(lake) == []
    assert [thread.name for thread in threading.enumerate() if "lease" in thread.name] == []


def test_a_lease_lasts_ten_minutes_unless_asked_otherwise(lake: Lake, commit: Any) -> None:
    commit(lake)
    for lease in (lake.writing(), lake.lease(1)):
        with lease:
            (held,) = leases.live(lake.uri)
            assert held.expires - held.started == 600


def test_the_lease_of_a_killed_process_ends_by_itself(lake: Lake) -> None:
    code = (
        "import sys, time; from cineray.lake import Lake\n"
        f"with Lake.open(sys.argv[1]).writing(seconds={2 * LIFETIME}): print('in', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, lake.uri], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "in\n"
    assert len(lake.gc().held_by) == 1
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert len(lake.gc().held_by) == 1
    time.sleep(2 * LIFETIME)
    assert lake.gc().held_by == ()
    assert len(lease_files(lake)) == 1  # too young to be tidied away


def test_a_writer_whose_lease_lapsed_makes_no_version(lake: Lake, clips: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a machine slept through its lease: gc may have removed what the writer wrote before."""
    monkeypatch.setattr(leases, "LIFETIME_SECONDS", LIFETIME)
    monkeypatch.setattr(leases, "RENEWALS", 0.01)  # the renewing thread sleeps as well

    def prepare(_head: Version | None) -> Changes:
        time.sleep(1.1 * LIFETIME)
        return Changes(add={"clips": clips("a")})

    with pytest.raises(LakeError, match=r"ran out while it was at work.*run the command again"):
        lake.commit(prepare, author="a", command="c", source="s", processing={})
    assert lake.head() is None
    assert lease_files(lake) == []


def test_a_renewal_that_fails_is_tried_again(lake: Lake, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    real, failed = leases.put_object, []

    def put(uri: str, data: bytes) -> None:
        if not failed:
            failed.append(uri)
            raise LakeError("the network is away")
        real(uri, data)

    monkeypatch.setattr(leases, "put_object", put)
    with lake.writing(seconds=LIFETIME):
        time.sleep(2 * LIFETIME)
        assert len(leases.live(lake.uri)) == 1
    assert "could not be renewed: the network is away" in caplog.text
