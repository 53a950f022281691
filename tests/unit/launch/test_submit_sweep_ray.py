"""A sweep on a real Ray: sent with one more word, stopped in its middle, sent again, and gone on with to its end.

The Ray and the project are those of conftest.py.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("ray")

from cineray.sweep import SweepFolder, is_sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_sweep_that_was_stopped_goes_on_where_it_was_and_no_trial_is_done_twice(place: Any) -> None:
    words = ("sweep", "sweep.yaml", "--places", place.shared)
    sent, said = place.submit(*words)
    uri = sent["run"]
    assert uri.startswith(f"{place.shared}/sweeps/rates-")
    assert "for the cluster: --set base.feed.decode_subcluster=decode" in said

    def trials() -> list[Any]:
        return SweepFolder.open(uri).trials() if is_sweep(uri) else []

    place.until(lambda: trials() and trials()[0].ended())
    stopped, _ = place.jobs("stop", sent["submission_id"])
    assert stopped["status"] == "STOPPED"
    before = trials()[0].ended()
    assert before["state"] == "done"
    assert SweepFolder.open(uri).job().base.feed.decode_subcluster == "decode"

    again, said = place.submit(*words, "--follow")
    assert (again["attempt"], again["status"], again["run"]) == (2, "SUCCEEDED", uri)
    assert f", going on with {uri}" in said
    assert [trial["state"] for trial in again["result"]["trials"]] == ["done", "done"]
    assert again["result"]["best"] in (0, 1)
    assert trials()[0].ended() == before, "it was not done again"
    starts = [event["driver"] for event in SweepFolder.open(uri).events() if event["event"] == "begin"]
    assert starts == [1, 2]
    finished, _ = place.submit(*words)
    assert finished["how"] == "finished"
