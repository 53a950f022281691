"""What somebody has in their AWS account before `ray up cluster/vm/aws.yaml`: a network, ways in, profiles, an image.

A fake AWS's clients go in; the lines of the file that are marked `yours` come out, replaced by what the account has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REGION = "eu-central-1"
PROFILES = ("cineray-head", "cineray-worker")


def prepared_account(ec2: Any, iam: Any, policies: Path, *, network: str, subnet: str) -> dict[str, Any]:
    """Fill an account; what machines are made with there. `policies`: the folder cluster/vm/policies."""
    vpc = ec2.create_vpc(CidrBlock=network)["Vpc"]["VpcId"]
    inside = ec2.create_subnet(VpcId=vpc, CidrBlock=subnet, AvailabilityZone=f"{REGION}a")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="mine", Description="ways in", VpcId=vpc)["GroupId"]
    ways = json.loads((policies / "aws-ingress.json").read_text().replace("sg-00000000000000000", group))
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=ways)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    for name in PROFILES:
        iam.create_instance_profile(InstanceProfileName=name)
    return {"ImageId": image, "SubnetIds": [inside], "SecurityGroupIds": [group]}


def filled_in(config: dict[str, Any], account: Mapping[str, Any]) -> dict[str, Any]:
    """The placeholders of a file of `ray up` replaced."""
    for one in config["available_node_types"].values():
        one["node_config"] |= account
    return config


def open_to_the_world(ec2: Any) -> list[tuple[str, int]]:
    """Groups with a way in for everybody; those that AWS makes for each network have none."""
    return [
        (group["GroupName"], rule.get("FromPort", -1))
        for group in ec2.describe_security_groups()["SecurityGroups"]
        for rule in group["IpPermissions"]
        if any(one["CidrIp"] == "0.0.0.0/0" for one in rule.get("IpRanges", []))
        or any(one["CidrIpv6"] == "::/0" for one in rule.get("Ipv6Ranges", []))
    ]


def instances(ec2: Any, *states: str) -> list[dict[str, Any]]:
    """Machines in one of these states (all, if none is named), oldest first; each with its tags as a dictionary."""
    found = [one for group in ec2.describe_instances()["Reservations"] for one in group["Instances"]]
    chosen = [one for one in found if not states or one["State"]["Name"] in states]
    for one in chosen:
        one["tags"] = {tag["Key"]: tag["Value"] for tag in one.get("Tags", [])}
    return sorted(chosen, key=lambda one: str(one["LaunchTime"]))
