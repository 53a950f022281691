"""What the autoscaler says of itself is read from what Ray itself writes: a Ray that writes otherwise shows here."""

from __future__ import annotations

from ray.autoscaler.v2.schema import (
    ClusterConstraintDemand,
    ClusterStatus,
    LaunchRequest,
    NodeInfo,
    ResourceDemandSummary,
    ResourceRequestByCount,
)
from ray.autoscaler.v2.utils import ClusterStatusFormatter

from cineray.launch.observe.autoscaler_said import AutoscalerSaid, read_report, read_status


def test_of_version_2_what_was_asked_and_what_is_on_its_way_is_read_from_its_text() -> None:
    status = ClusterStatus(
        pending_launches=[LaunchRequest("c6", "decode", 1, LaunchRequest.Status.PENDING, 0)],
        pending_nodes=[NodeInfo("g6", "gpu", "pod-7", "10.0.0.7", details="STARTING_RAY")],
        resource_demands=ResourceDemandSummary(
            cluster_constraint_demand=[
                ClusterConstraintDemand(
                    [ResourceRequestByCount({"CPU": 0.5}, 8), ResourceRequestByCount({"GPU": 1}, 1)]
                )
            ]
        ),
    )
    assert read_status(ClusterStatusFormatter.format(status)) == AutoscalerSaid(
        asked=(({"CPU": 0.5}, 8), ({"GPU": 1.0}, 1)),
        coming=("decode, 1 launching", "pod-7: gpu, starting_ray"),
    )


def test_where_nothing_was_asked_and_nothing_comes_there_is_nothing() -> None:
    assert read_status(ClusterStatusFormatter.format(ClusterStatus())) == AutoscalerSaid()
    assert read_status("") == AutoscalerSaid()


def test_of_version_1_the_same_is_read_from_its_report() -> None:
    report = {
        "loadMetricsReport": {"requestDemand": [[{"CPU": 1.0}, 8]]},
        "autoscalerReport": {
            "pendingLaunches": {"decode-spot-c6id": 2},
            "pendingNodes": [["10.0.0.7", "gpu", "waiting-for-ssh"]],
        },
    }
    assert read_report(report) == AutoscalerSaid(
        asked=(({"CPU": 1.0}, 8),),
        coming=("decode-spot-c6id, 2 launching", "10.0.0.7: gpu, waiting-for-ssh"),
    )
