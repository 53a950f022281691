"""cluster/vm/aws.yaml as `ray up` starts it, against a fake EC2: what it opens, who machines are, what comes to be.

Ray's own code runs, from the file to the calls of EC2, up to where it would reach machines by ssh: a fake cloud
has none. The placeholders of the file are replaced by what the fake cloud has.
"""

from __future__ import annotations

import copy
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cineray.testing.aws_account import REGION, filled_in, instances, open_to_the_world, prepared_account

AWS = Path(__file__).resolve().parents[2] / "cluster" / "vm" / "aws.yaml"

pytestmark = [pytest.mark.network, pytest.mark.slow]


@dataclass(frozen=True)
class Cloud:
    """A fake AWS with the network, the image and the profiles that the file wants."""

    ec2: Any
    config: dict[str, Any]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cloud]:
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("responses")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    told = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    told |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": REGION}
    told |= {"HOME": str(tmp_path)}  # Ray keeps the key that it makes there
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".ssh").mkdir()
    forget_clients()
    urllib.request.urlopen(f"http://{host}:{port}/moto-api/reset", data=b"").close()  # its state is the process's
    ec2, iam = boto3.client("ec2", region_name=REGION), boto3.client("iam", region_name=REGION)
    mine = prepared_account(ec2, iam, AWS.parent / "policies", network="10.0.0.0/16", subnet="10.0.0.0/20")
    yield Cloud(ec2, filled_in(yaml.safe_load(AWS.read_text()), mine))
    forget_clients()
    server.stop()


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
    provider.terminate_nodes(provider.non_terminated_nodes({}))
    assert machines(cloud.ec2) == {}


def machines(ec2: Any) -> dict[str, dict[str, Any]]:
    """Machines that run, by their type's name."""
    return {one["tags"]["ray-user-node-type"]: one for one in instances(ec2, "running")}
