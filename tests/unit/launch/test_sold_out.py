"""What a cloud has none of is asked for last: the order that Ray's autoscaler is told, and when.

That Ray heeds it, and what it does by itself, show tests/cluster/test_aws_start.py and test_choice_of_machines.py.
"""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cineray.launch.nodes.sold_out import (
    FORGET_SECONDS,
    AutoscalerSilent,
    keep_order,
    last_refused,
    main,
    priorities,
    without_refused,
    write_whole,
)

CLUSTER: dict[str, Any] = {
    "cluster_name": "mine",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}},
        "spot-a": {"priority": 1, "max_workers": 4},
        "spot-b": {"priority": 1, "max_workers": 4},
        "sure": {"max_workers": 2},
    },
}


def order(refused: Mapping[str, float], now: float) -> dict[str, int]:
    return priorities(without_refused(CLUSTER, refused, now))


def test_what_was_refused_comes_behind_all_others_and_the_last_refused_at_the_end() -> None:
    before = {"head": 0, "spot-a": 1, "spot-b": 1, "sure": 0}
    assert order({}, 100) == before
    assert order({"spot-a": 90}, 100) == before | {"spot-a": -1}
    assert order({"spot-a": 90, "spot-b": 80}, 100) == before | {"spot-b": -1, "spot-a": -2}
    assert order({"spot-a": 90, "spot-b": 80, "sure": 70}, 100) == before | {"sure": -1, "spot-b": -2, "spot-a": -3}


def test_a_refusal_is_forgotten_and_types_that_are_no_more_are_nobodys() -> None:
    assert order({"spot-a": 100, "gone": 100}, 99 + FORGET_SECONDS)["spot-a"] == -1
    assert order({"spot-a": 100, "gone": 100}, 100 + FORGET_SECONDS) == order({}, 0)


def test_nothing_but_priorities_changes_and_the_plan_stays_as_it_is() -> None:
    plan = json.dumps(CLUSTER)
    changed = without_refused(CLUSTER, {"spot-a": 90}, 100)
    assert json.dumps(CLUSTER) == plan
    changed["available_node_types"]["spot-a"]["priority"] = 1
    assert changed == CLUSTER


def test_of_many_refusals_of_a_type_the_last_counts() -> None:
    launches = [
        SimpleNamespace(ray_node_type_name=name, failed_ts_s=at)
        for name, at in (("a", 5), ("b", 7), ("a", 9), ("a", 8))
    ]
    assert last_refused(launches) == {"a": 9.0, "b": 7.0}


def test_the_file_is_replaced_as_a_whole_for_its_owner_alone_and_only_when_it_changes(tmp_path: Path) -> None:
    out = tmp_path / "scaling.yaml"
    assert write_whole(CLUSTER, out)
    with out.open() as held:
        assert not write_whole(CLUSTER, out)
        assert write_whole(without_refused(CLUSTER, {"spot-a": 90}, 100), out)
        assert json.load(held) == CLUSTER, "who has opened the old one reads the old one"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["scaling.yaml"]


class Over(Exception):
    """The script is at its end."""


def test_each_new_order_is_written_and_told_and_a_silence_is_told_once(tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.yaml", tmp_path / "scaling.yaml"
    plan.write_text(json.dumps(CLUSTER))
    now, silence = time.time(), AutoscalerSilent("Ray starts")
    script: list[dict[str, float] | Exception] = [silence, silence, {}, {"spot-a": now}, {"spot-a": now}, silence, {}]
    told: list[tuple[str, Any]] = []

    def look() -> dict[str, float]:
        if not script:
            raise Over
        said = script.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    def tell(event: str, **facts: Any) -> None:
        told.append((event, facts.get("priorities", {}).get("spot-a")))

    with pytest.raises(Over):
        keep_order(plan, out, look, tell=tell, every_seconds=0)
    silent = ("autoscaler_silent", None)
    assert told == [silent, ("order", 1), ("order", -1), silent, ("order", 1)]
    assert json.loads(out.read_text()) == CLUSTER


def test_a_file_that_ray_up_did_not_leave_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan").write_text("kind: train\n")

    def refused(name: str) -> str:
        with pytest.raises(Exception, match="wanted the file that `ray up` leaves on its head") as raised:
            keep_order(tmp_path / name, tmp_path / "out", dict, tell=print, every_seconds=0)
        return str(raised.value)

    assert "has no available_node_types" in refused("plan")
    assert "cannot be read" in refused("absent")
    with pytest.raises(SystemExit):
        main([])
