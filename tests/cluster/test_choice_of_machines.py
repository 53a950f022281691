"""Which machines of cluster/vm Ray's own autoscaler (its second version) starts for decoding, by its own scheduler.

The files are as they stand; a task asks for a core, and for some memory, on a node with the label of decoding nodes, as
the feed's do: Ray Data asks for what the tasks before made.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

pytest.importorskip("ray")
from cineray.launch.cluster.files import read_cluster
from cineray.launch.cluster.kustomize import Document
from cineray.launch.nodes.sold_out import without_refused

VM = Path(__file__).resolve().parents[2] / "cluster" / "vm"


@pytest.mark.parametrize("path", sorted(VM.glob("*.yaml")), ids=lambda path: path.stem)
def test_rays_autoscaler_takes_spot_then_other_spot_then_on_demand_and_never_a_gpu_for_decoding(path: Path) -> None:
    told = read_cluster(str(path)).cluster()
    refused: dict[str, float] = {}
    taken = []
    for second in range(len(told["available_node_types"])):
        taken.append(launched(without_refused(told, refused, now=second)))
        refused[taken[-1]] = second
    pools = {pool.name: pool for pool in read_cluster(str(path)).pools()}
    spot = [name for name in pools if pools[name].is_spot]
    assert len(spot) >= 2
    round_once = [*spot, "decode-fallback"]
    assert taken == [*round_once, *spot][: len(taken)], "and then again what was refused the longest time ago"


def test_rays_autoscaler_alone_takes_the_highest_priority_and_of_equal_ones_the_first() -> None:
    told = read_cluster(str(VM / "aws.yaml")).cluster()
    types = told["available_node_types"]
    assert launched(told) == "decode-spot-c6id"
    types["decode-spot-r6id"]["priority"] = 2
    assert launched(told) == "decode-spot-r6id"
    types["decode-fallback"]["resources"] |= {"memory": 8_000_000_000}
    assert launched(told) == "decode-fallback", "what fits better comes before any priority"


def launched(told: Document) -> str:
    """Which type Ray's autoscaler would start for one more decoding task."""
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.common_pb2 import LabelSelectorOperator

    no_keys = {"auth": {"ssh_user": "ubuntu"}}  # it would read them
    config = AutoscalingConfig(copy.deepcopy({**told, **no_keys}), skip_content_hash=True)
    decoding = [[("ray-subcluster", LabelSelectorOperator.LABEL_OPERATOR_IN, ["decode"])]]
    task = ResourceRequestUtil.make({"CPU": 1, "memory": 2_500_000}, label_selectors=decoding)
    wanted = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count([task]),
    )
    (launch,) = ResourceDemandScheduler().schedule(wanted).to_launch
    name: str = launch.instance_type
    return name
