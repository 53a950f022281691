"""cluster/vm/aws.yaml as `ray up` starts it, against a fake EC2: what it opens, who machines are, what comes to be.

Ray's own code runs, from the file to the calls of EC2, up to where it would reach machines by ssh: a fake cloud
has none. The placeholders of the file are replaced by what the fake cloud has. Then its autoscaler, which wants one
machine for decoding, meets an EC2 that has none of some types.
"""

from __future__ import annotations

import copy
import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray")
from cineray.launch.nodes.sold_out import last_refused, without_refused, write_whole
from cineray.testing.clusters.aws_account import REGION, filled_in, instances, open_to_the_world, prepared_account
from cineray.testing.clusters.aws_policy import Account, allows
from cineray.testing.clusters.aws_server import Desk, serving
from cineray.testing.events import until

AWS = Path(__file__).resolve().parents[2] / "cluster" / "vm" / "aws.yaml"

pytestmark = [pytest.mark.network, pytest.mark.slow]


@dataclass(frozen=True)
class Cloud:
    """A fake AWS with the network, the image and the profiles that the file wants."""

    ec2: Any
    config: dict[str, Any]
    desk: Desk


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cloud]:
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("moto")
    with serving("127.0.0.1", 0) as (desk, url):
        told = {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}
        told |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
        told |= {"HOME": str(tmp_path)}  # Ray keeps the key that it makes there
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        (tmp_path / ".ssh").mkdir()
        forget_clients()
        urllib.request.urlopen(f"{url}/moto-api/reset", data=b"").close()  # its state is the process's
        ec2, iam = boto3.client("ec2", region_name=REGION), boto3.client("iam", region_name=REGION)
        mine = prepared_account(ec2, iam, AWS.parent / "policies", network="10.0.0.0/16", subnet="10.0.0.0/20")
        yield Cloud(ec2, filled_in(yaml.safe_load(AWS.read_text()), mine), desk)
        forget_clients()


def forget_clients() -> None:
    """Ray keeps its clients for as long as a process lives."""
    from ray.autoscaler._private.aws import utils

    utils.resource_cache.cache_clear()
    utils.client_cache.cache_clear()


def started(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` makes of a file before it starts machines: networks, groups, keys and rights are there then."""
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.util import fillout_defaults, prepare_config, validate_config

    told = prepare_config(fillout_defaults(copy.deepcopy(config)))
    validate_config(told)
    made: dict[str, Any] = bootstrap_aws(told)
    return made


def test_nothing_is_opened_to_the_world_and_nobody_gets_all_rights(cloud: Cloud) -> None:
    made = started(cloud.config)
    assert open_to_the_world(cloud.ec2) == []
    types = made["available_node_types"]
    profiles = {name: one["node_config"]["IamInstanceProfile"]["Name"] for name, one in types.items()}
    assert profiles == {"head": "cineray-head"} | dict.fromkeys(set(types) - {"head"}, "cineray-worker")
    assert "IamInstanceProfile" not in made["head_node"], "Ray adds its own, with all rights, where none is named"


def test_with_a_group_that_ray_makes_the_same_file_would_be_open(cloud: Cloud) -> None:
    """That this can fail, and why the file names a group: what Ray does by itself, also where it is told ways in."""
    own = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}]
    cloud.config["provider"]["security_group"] = {"GroupName": "cineray", "IpPermissions": own}
    for one in cloud.config["available_node_types"].values():
        one["node_config"].pop("SecurityGroupIds")
    started(cloud.config)
    assert [port for _, port in open_to_the_world(cloud.ec2)] == [22]


def test_machines_come_as_the_file_says_and_all_go_again(cloud: Cloud) -> None:
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

    made = started(cloud.config)
    cloud.desk.changes.clear()
    provider = AWSNodeProvider(made["provider"], made["cluster_name"])
    for name, kind in (("head", "head"), ("decode-spot-c6id", "worker"), ("gpu", "worker")):
        tags = {TAG_RAY_NODE_KIND: kind, TAG_RAY_USER_NODE_TYPE: name}
        provider.create_node(made["available_node_types"][name]["node_config"], tags, 1)
    there = machines(cloud.ec2)
    assert set(there) == {"head", "decode-spot-c6id", "gpu"}
    assert {name: one.get("InstanceLifecycle", "") for name, one in there.items()} == {
        "head": "",
        "decode-spot-c6id": "spot",
        "gpu": "",
    }
    for one in there.values():
        assert one["MetadataOptions"]["HttpTokens"] == "required"
        assert not one.get("PublicIpAddress") or made["provider"]["use_internal_ips"]
        assert one["tags"]["ray-cluster-name"] == "cineray", "what the head's rights to end machines hang on"
        disks = [disk["Ebs"]["VolumeId"] for disk in one["BlockDeviceMappings"]]
        assert all(disk["Encrypted"] for disk in cloud.ec2.describe_volumes(VolumeIds=disks)["Volumes"])
    tags = {one["InstanceId"]: one["tags"] for one in there.values()}
    provider.terminate_nodes(provider.non_terminated_nodes({}))
    assert machines(cloud.ec2) == {}
    assert not_allowed(cloud, made, tags) == {("iam:PassRole", "role/cineray-head")}, "the head is started by you"


def not_allowed(cloud: Cloud, made: dict[str, Any], tags: dict[str, dict[str, str]]) -> set[tuple[str, str]]:
    """Of what EC2 was asked to change, what the head's policy would refuse, filled in as the file is."""
    node = made["available_node_types"]["gpu"]["node_config"]
    policy = (AWS.parent / "policies" / "aws-head.json").read_text()
    mine = {"subnet": node["SubnetIds"][0], "sg": node["SecurityGroupIds"][0], "ami": node["ImageId"]}
    for kind, name in mine.items():
        policy = policy.replace(f"{kind}-00000000000000000", name)
    statements = json.loads(policy)["Statement"]
    account, asked = Account("111122223333", REGION), cloud.desk.changes
    assert {action for action, _ in asked} == {"ec2:RunInstances", "ec2:TerminateInstances"}
    requests = [request for action, told in asked for request in account.requests(action, told, tags)]
    return {(one.action, one.resource.rpartition(":")[2]) for one in requests if not allows(statements, one)}


def machines(ec2: Any) -> dict[str, dict[str, Any]]:
    """Machines that run, by their type's name."""
    return {one["tags"]["ray-user-node-type"]: one for one in instances(ec2, "running")}


# ---- its autoscaler, when some types are sold out --------------------------------------------------------------------


class Autoscaler:
    """Ray's own, second version, without its process: what it asks of EC2 is real; of Ray it is told that one task
    waits, which wants a node that decodes."""

    def __init__(self, made: dict[str, Any], path: Path) -> None:
        from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
        from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE
        from ray.autoscaler.v2.instance_manager.config import FileConfigReader
        from ray.autoscaler.v2.instance_manager.instance_manager import InstanceManager
        from ray.autoscaler.v2.instance_manager.instance_storage import InstanceStorage
        from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter
        from ray.autoscaler.v2.instance_manager.storage import InMemoryStorage
        from ray.autoscaler.v2.instance_manager.subscribers.cloud_instance_updater import CloudInstanceUpdater
        from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
        from ray.autoscaler.v2.scheduler import ResourceDemandScheduler

        provider = AWSNodeProvider(made["provider"], made["cluster_name"])
        tags = {TAG_RAY_NODE_KIND: "head", TAG_RAY_USER_NODE_TYPE: "head"}
        (head,) = provider.create_node(made["available_node_types"]["head"]["node_config"], tags, 1)
        self._reader = FileConfigReader(str(path))
        self._cloud = NodeProviderAdapter(provider, self._reader)
        self._remembers, self._scheduler = CloudResourceMonitor(), ResourceDemandScheduler()
        storage = InstanceStorage(cluster_id="mine", storage=InMemoryStorage())
        self._manager = InstanceManager(storage, [CloudInstanceUpdater(self._cloud), self._remembers])
        self._ray = one_task_waits(head)

    def look(self) -> list[Any]:
        """Once, as it does every five seconds; the launches that failed until then, as `ray status` tells them."""
        from ray.autoscaler.v2.instance_manager.reconciler import Reconciler
        from ray.autoscaler.v2.schema import Stats
        from ray.autoscaler.v2.utils import ClusterStatusParser
        from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

        self._reader.refresh_cached_autoscaling_config()
        state = Reconciler.reconcile(
            instance_manager=self._manager,
            scheduler=self._scheduler,
            cloud_provider=self._cloud,
            cloud_resource_monitor=self._remembers,
            ray_cluster_resource_state=self._ray,
            non_terminated_cloud_instances=self._cloud.get_non_terminated(),
            cloud_provider_errors=self._cloud.poll_errors(),
            autoscaling_config=self._reader.get_cached_autoscaling_config(),
        )
        said = GetClusterStatusReply(autoscaling_state=state, cluster_resource_state=self._ray)
        failed: list[Any] = ClusterStatusParser.from_get_cluster_status_reply(said, stats=Stats()).failed_launches
        return failed


def one_task_waits(head: str) -> Any:
    """What Ray tells its autoscaler."""
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.autoscaler_pb2 import ClusterResourceState, NodeState, NodeStatus
    from ray.core.generated.common_pb2 import LabelSelectorOperator

    decoding = [[("ray-subcluster", LabelSelectorOperator.LABEL_OPERATOR_IN, ["decode"])]]
    task = ResourceRequestUtil.make({"CPU": 1}, label_selectors=decoding)
    told = {"instance_id": head, "ray_node_type_name": "head", "total_resources": {"node:__internal_head__": 1.0}}
    node = NodeState(node_id=b"head", status=NodeStatus.RUNNING, **told)
    return ClusterResourceState(
        node_states=[node], pending_resource_requests=ResourceRequestUtil.group_by_count([task])
    )


@pytest.fixture
def plan(cloud: Cloud) -> dict[str, Any]:
    """What `ray up` leaves on its head."""
    made = started(cloud.config)
    made.pop("head_node")
    return made


def test_ray_alone_asks_for_what_is_sold_out_again_and_again(
    cloud: Cloud, plan: dict[str, Any], tmp_path: Path
) -> None:
    """Why there is cineray.launch.nodes.sold_out; this fails when Ray learns it."""
    cloud.desk.sold_out = {("c6id.4xlarge", "spot")}
    write_whole(plan, tmp_path / "scaling.yaml")
    autoscaler = Autoscaler(plan, tmp_path / "scaling.yaml")
    refused: list[str] = []

    def refused_three_times() -> bool:
        refused[:] = [one.ray_node_type_name for one in autoscaler.look()]
        return len(refused) >= 3

    until(refused_three_times, "three refusals")
    assert set(refused) == {"decode-spot-c6id"}
    assert set(machines(cloud.ec2)) == {"head"}


def test_what_is_sold_out_is_followed_by_other_spot_and_then_by_machines_on_demand(
    cloud: Cloud, plan: dict[str, Any], tmp_path: Path
) -> None:
    spot = ["decode-spot-c6id", "decode-spot-m6id", "decode-spot-r6id"]
    cloud.desk.sold_out = {(plan["available_node_types"][one]["node_config"]["InstanceType"], "spot") for one in spot}
    write_whole(plan, tmp_path / "scaling.yaml")
    autoscaler = Autoscaler(plan, tmp_path / "scaling.yaml")

    def look_and_write() -> bool:
        refused = last_refused(autoscaler.look())
        write_whole(without_refused(plan, refused, time.time()), tmp_path / "scaling.yaml")
        return len(machines(cloud.ec2)) > 1

    until(look_and_write, "a machine that decodes")
    assert set(machines(cloud.ec2)) == {"head", "decode-fallback"}
    assert list(dict.fromkeys(one.ray_node_type_name for one in autoscaler.look())) == spot
