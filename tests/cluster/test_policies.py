"""What the files of cluster/vm/policies allow, on what, and under which conditions: each thing that a cloud asks its
policies about goes in, and what is refused comes out.

Clouds cannot be asked here. Policies are read as their documents say; what Ray asks of EC2 when it starts and ends
machines is held to the same policy in test_aws_start.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cineray.testing.clusters.aws_policy import Account, Request, allows, listed

VM = Path(__file__).resolve().parents[2] / "cluster" / "vm"
POLICIES = VM / "policies"


def statements(name: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads((POLICIES / name).read_text())["Statement"]
    return told


def test_no_policy_allows_everything_of_something() -> None:
    for one in (*statements("aws-data.json"), *statements("aws-head.json")):
        assert not [action for action in listed(one["Action"]) if action.endswith("*")], one["Sid"]
        if one["Resource"] == "*":
            assert all(re.match(r"(ec2:Describe|ecr:GetAuthorizationToken)", act) for act in listed(one["Action"]))
    for path in POLICIES.glob("azure-*.json"):
        told = json.loads(path.read_text())
        assert not [one for one in (*told["Actions"], *told["DataActions"]) if "*" in one], path.name


# ---- AWS: the head's rights to machines ------------------------------------------------------------------------------

MINE = Account("111122223333", "eu-central-1")
WORKER = {
    "ImageId": "ami-00000000000000000",
    "KeyName": "ray-autoscaler_eu-central-1",
    "SubnetId": "subnet-00000000000000000",
    "SecurityGroupId.1": "sg-00000000000000000",
    "IamInstanceProfile.Name": "cineray-worker",
    "MetadataOptions.HttpTokens": "required",
    "TagSpecification.1.ResourceType": "instance",
    "TagSpecification.1.Tag.1.Key": "ray-cluster-name",
    "TagSpecification.1.Tag.1.Value": "cineray",
}
"""What EC2 is asked for by the autoscaler, in its own words."""


def refused(requests: list[Request]) -> list[tuple[str, str]]:
    """Of what AWS would ask the head's policies: action, and on what."""
    head = [*statements("aws-head.json"), *statements("aws-data.json")]
    return [(one.action, one.resource.rpartition(":")[2]) for one in requests if not allows(head, one)]


def test_the_head_starts_workers_of_its_cluster() -> None:
    asked = MINE.requests("ec2:RunInstances", WORKER)
    assert [one.action for one in asked] == ["ec2:RunInstances"] * 7 + ["ec2:CreateTags", "iam:PassRole"]
    assert refused(asked) == []


MACHINE = ("ec2:RunInstances", "instance/*")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"SubnetId": "subnet-11111111111111111"}, ("ec2:RunInstances", "subnet/subnet-11111111111111111")),
        ({"SecurityGroupId.1": "sg-11111111111111111"}, ("ec2:RunInstances", "security-group/sg-11111111111111111")),
        ({"ImageId": "ami-11111111111111111"}, ("ec2:RunInstances", "image/ami-11111111111111111")),
        ({"IamInstanceProfile.Name": "cineray-head"}, ("iam:PassRole", "role/cineray-head")),
        ({"IamInstanceProfile.Name": "administrator"}, ("iam:PassRole", "role/administrator")),
        ({"MetadataOptions.HttpTokens": "optional"}, MACHINE),
        ({"TagSpecification.1.Tag.1.Value": "somebody-elses"}, MACHINE),
        ({"TagSpecification.1.Tag.1.Key": "Name"}, MACHINE),
    ],
    ids=lambda one: ",".join(one.values()) if isinstance(one, dict) else "",
)
def test_it_starts_none_elsewhere_nor_of_another_kind(change: dict[str, str], where: tuple[str, str]) -> None:
    assert refused(MINE.requests("ec2:RunInstances", WORKER | change)) == [where]


def test_it_starts_none_in_another_region_or_account() -> None:
    for other in (Account("111122223333", "us-east-1"), Account("444455556666", "eu-central-1")):
        found = {action for action, _ in refused(other.requests("ec2:RunInstances", WORKER))}
        assert {"ec2:RunInstances", "ec2:CreateTags"} <= found


TAGS = {"i-mine": {"ray-cluster-name": "cineray"}, "i-other": {"ray-cluster-name": "other"}, "i-plain": {}}


@pytest.mark.parametrize(
    ("action", "name"), [("ec2:TerminateInstances", "InstanceId"), ("ec2:CreateTags", "ResourceId")]
)
def test_it_ends_and_names_machines_of_its_cluster_alone(action: str, name: str) -> None:
    told = {f"{name}.{number}": one for number, one in enumerate(TAGS, start=1)}
    asked = MINE.requests(action, told, TAGS)
    assert refused(asked) == [(action, "instance/i-other"), (action, "instance/i-plain")]


def test_it_does_nothing_else_with_machines_networks_and_roles() -> None:
    here = {"aws:ResourceTag/ray-cluster-name": "cineray"}
    others = {
        "ec2:StopInstances": "instance/i-mine",
        "ec2:ModifyInstanceAttribute": "instance/i-mine",
        "ec2:AuthorizeSecurityGroupIngress": "security-group/sg-00000000000000000",
        "ec2:CreateSecurityGroup": "security-group/*",
        "ec2:CreateKeyPair": "key-pair/mine",
        "ec2:DeleteVolume": "volume/vol-1",
        "ec2:CreateTags": "volume/vol-1",
    }
    asked = [Request(action, MINE.arn(what), here) for action, what in others.items()]
    roles = "arn:aws:iam::111122223333:role/cineray-worker"
    asked += [Request(f"iam:{action}", roles) for action in ("CreateRole", "AttachRolePolicy", "PutRolePolicy")]
    asked += [Request("iam:PassRole", roles, {"iam:PassedToService": "lambda.amazonaws.com"})]
    assert len(refused(asked)) == len(asked)


def test_workers_have_no_rights_to_machines() -> None:
    asked = [*MINE.requests("ec2:RunInstances", WORKER), *MINE.requests("ec2:DescribeInstances", {})]
    asked += MINE.requests("ec2:TerminateInstances", {"InstanceId.1": "i-mine"}, TAGS)
    assert [one for one in asked if allows(statements("aws-data.json"), one)] == []


def test_what_is_not_understood_of_a_policy_or_a_question_is_no_yes() -> None:
    only = {"Effect": "Allow", "Action": "ec2:Do", "Resource": "*"}
    with pytest.raises(ValueError, match="StringLike, which is not understood"):
        allows([only | {"Condition": {"StringLike": {"a": "*"}}}], Request("ec2:Do", "any"))
    with pytest.raises(ValueError, match=r"\['NotResource'\], which is not understood"):
        allows([only | {"NotResource": "any"}], Request("ec2:Do", "any"))
    with pytest.raises(ValueError, match="what ec2:AttachVolume is allowed by is not known"):
        MINE.requests("ec2:AttachVolume", {})
    assert not allows([only, only | {"Effect": "Deny"}], Request("ec2:Do", "any"))


def test_the_security_group_of_aws_lets_in_own_machines_and_own_ssh() -> None:
    own, ssh = json.loads((POLICIES / "aws-ingress.json").read_text())
    assert "IpRanges" not in own
    assert (ssh["FromPort"], ssh["ToPort"]) == (22, 22)
    assert [one["CidrIp"] for one in ssh["IpRanges"]] == ["10.0.0.0/16"]


# ---- Google Cloud ----------------------------------------------------------------------------------------------------

WORKERS = "serviceAccount:cineray-worker@my-project.iam.gserviceaccount.com"
HEAD = "serviceAccount:ray-autoscaler-sa-v1@my-project.iam.gserviceaccount.com"


def test_on_google_cloud_each_account_has_these_roles_on_these_things_alone() -> None:
    """The head's own bucket is not among them: there it may do everything already, as SECURITY.md says."""
    told = yaml.safe_load((POLICIES / "gcp-worker.yaml").read_text())
    assert told.keys() == {"bindings"}
    registry = "//artifactregistry.googleapis.com/projects/my-project/locations/europe-west4/repositories/cineray"
    buckets = "//storage.googleapis.com/projects/_/buckets"
    assert told["bindings"] == [
        {"resource": f"{buckets}/my-raw-videos", "role": "roles/storage.objectViewer", "members": [WORKERS, HEAD]},
        {"resource": f"{buckets}/my-cineray", "role": "roles/storage.objectUser", "members": [WORKERS]},
        {"resource": registry, "role": "roles/artifactregistry.reader", "members": [WORKERS, HEAD]},
    ]


def test_the_accounts_of_google_cloud_are_those_that_its_machines_are() -> None:
    nodes = yaml.safe_load((VM / "gcp.yaml").read_text())["available_node_types"]
    accounts = {name: one["node_config"]["serviceAccounts"][0]["email"] for name, one in nodes.items()}
    head, worker = (one.removeprefix("serviceAccount:") for one in (HEAD, WORKERS))
    assert accounts == dict.fromkeys(nodes, worker) | {"head": head}


def test_the_firewall_of_gcp_lets_in_own_machines_and_own_ssh() -> None:
    machines = [one.removeprefix("serviceAccount:") for one in (WORKERS, HEAD)]
    inside, ssh = yaml.safe_load((POLICIES / "gcp-firewall.yaml").read_text())
    assert inside == {
        "name": "cineray-inside",
        "direction": "INGRESS",
        "sourceServiceAccounts": machines,
        "targetServiceAccounts": machines,
        "allowed": [{"IPProtocol": "tcp"}],
    }
    assert ssh == {
        "name": "cineray-ssh",
        "direction": "INGRESS",
        "sourceRanges": ["10.0.0.0/16"],
        "targetServiceAccounts": machines,
        "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
    }


# ---- Azure -----------------------------------------------------------------------------------------------------------

GROUPS = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups"
STORE = f"{GROUPS}/cineray-data/providers/Microsoft.Storage/storageAccounts/mycineray/blobServices/default/containers"
BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
IDENTITIES = f"{GROUPS}/cineray-identities/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"


def roles() -> dict[str, dict[str, Any]]:
    told = (json.loads(path.read_text()) for path in POLICIES.glob("azure-*.json"))
    return {one["Name"]: one for one in told}


def azure_allows(action: str, on: str) -> bool:
    """Of the identity that all machines are: a role on a thing holds for what lies in it."""
    assigned = yaml.safe_load((POLICIES / "azure-assignments.yaml").read_text())
    return any(
        action in (*roles()[one["role"]]["Actions"], *roles()[one["role"]]["DataActions"])
        and f"{on}/".startswith(f"{one['scope']}/")
        for one in assigned
    )


@pytest.mark.parametrize(
    ("action", "on", "is_allowed"),
    [
        (f"{BLOBS}/read", f"{STORE}/raw-videos/blobs/a.mp4", True),
        (f"{BLOBS}/write", f"{STORE}/raw-videos/blobs/a.mp4", False),
        (f"{BLOBS}/delete", f"{STORE}/raw-videos/blobs/a.mp4", False),
        (f"{BLOBS}/write", f"{STORE}/cineray/blobs/lakes/a", True),
        (f"{BLOBS}/delete", f"{STORE}/cineray/blobs/lakes/a", True),
        (f"{BLOBS}/read", f"{STORE}/cineray-2/blobs/a", False),
        (f"{BLOBS}/read", f"{STORE}/other/blobs/a", False),
        ("Microsoft.Storage/storageAccounts/listKeys/action", f"{GROUPS}/cineray-data", False),
        ("Microsoft.Compute/virtualMachines/write", f"{GROUPS}/cineray/providers/Microsoft.Compute/a", True),
        ("Microsoft.Compute/virtualMachines/write", f"{GROUPS}/other/providers/Microsoft.Compute/a", False),
        ("Microsoft.Compute/virtualMachines/delete", f"{GROUPS}/images", False),
        (ASSIGN, f"{IDENTITIES}/cineray", True),
        (ASSIGN, f"{IDENTITIES}/somebody-elses", False),
        ("Microsoft.Authorization/roleAssignments/write", f"{GROUPS}/cineray", False),
        (
            "Microsoft.ContainerRegistry/registries/push/write",
            f"{GROUPS}/cineray-images/providers/Microsoft.ContainerRegistry/registries/myregistry",
            False,
        ),
    ],
)
def test_on_azure_a_machine_may_do_this_with_that(action: str, on: str, is_allowed: bool) -> None:
    assert azure_allows(action, on) is is_allowed


def test_what_rays_template_makes_for_a_machine_of_azure_is_within_the_heads_rights() -> None:
    """Ray starts a machine by a template of Azure's: what it writes, uses, and hands to the machine."""
    ray = pytest.importorskip("ray")
    template = Path(ray.__file__).parent / "autoscaler" / "_private" / "_azure" / "azure-vm-template.json"
    told = yaml.safe_load((VM / "azure.yaml").read_text())
    assert told["provider"]["use_internal_ips"], "no public address is made"
    group = f"{GROUPS}/{told['provider']['resource_group']}"
    made = {one["type"] for one in json.loads(template.read_text())["resources"]} - {
        "Microsoft.Network/publicIpAddresses"
    }
    assert made == {"Microsoft.Network/networkInterfaces", "Microsoft.Compute/virtualMachines"}
    wanted = [(f"{one}/{what}", group) for one in made for what in ("read", "write", "delete")]
    joined = ("networkInterfaces", "networkSecurityGroups", "virtualNetworks/subnets")
    wanted += [(f"Microsoft.Network/{one}/join/action", group) for one in joined]
    wanted += [("Microsoft.Resources/deployments/write", group), ("Microsoft.Compute/disks/delete", group)]
    machines = [one["node_config"]["azure_arm_parameters"] for one in told["available_node_types"].values()]
    images = {one["imageId"].replace("/subscriptions/MINE/resourceGroups", GROUPS) for one in machines}
    assert len(images) == 2
    wanted += [("Microsoft.Compute/images/read", one) for one in images]
    wanted += [
        (
            ASSIGN,
            f"{GROUPS}/{told['provider']['msi_resource_group']}/providers/Microsoft.ManagedIdentity/"
            f"userAssignedIdentities/{told['provider']['msi_name']}",
        )
    ]
    assert [one for one in wanted if not azure_allows(*one)] == []


def test_roles_of_azure_are_offered_to_the_groups_where_they_are_given_and_to_no_other() -> None:
    """Azure offers a role of one's own to whole groups; it is given on less."""
    assigned = yaml.safe_load((POLICIES / "azure-assignments.yaml").read_text())
    given = {(one["role"], re.match(rf"{GROUPS}/[^/]+", one["scope"])[0]) for one in assigned}  # type: ignore[index]
    assert given == {(name, scope) for name, told in roles().items() for scope in told["AssignableScopes"]}
