"""What a policy of AWS allows: its statements and a request go in, yes or no comes out; and what AWS asks its policies
before it answers a question of EC2: for each thing that is made or used a request of its own.

    starting a machine    ec2:RunInstances on the machine, its image, subnet, groups, key, disks and network interface;
                          ec2:CreateTags on what is named as it starts; iam:PassRole on the role that it gets
    ending, naming one    the action on that machine, with the tags that it has
    looking               the action, on nothing in particular

No more of the language is understood than the files in cluster/vm/policies use. The rest, and a question that is not
known here, is an error and never a yes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Statement = Mapping[str, Any]
Told = Mapping[str, str]
"""A question of EC2 as it travels: `{"InstanceId.1": "i-0abc"}`."""
Tags = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """What AWS asks a policy about."""

    action: str
    resource: str
    facts: Mapping[str, str] = field(default_factory=dict)
    """Keys of conditions."""


def allows(statements: Iterable[Statement], request: Request) -> bool:
    """One statement that allows it, and none that denies."""
    effects = {one["Effect"] for one in statements if _is_about(one, request)}
    return effects == {"Allow"}


def _is_about(statement: Statement, request: Request) -> bool:
    unknown = statement.keys() - {"Sid", "Effect", "Action", "Resource", "Condition"}
    if unknown:
        raise ValueError(f"a statement has {sorted(unknown)}, which is not understood here")
    return (
        any(_matches(one, request.action, re.IGNORECASE) for one in listed(statement["Action"]))
        and any(_matches(one, request.resource) for one in listed(statement["Resource"]))
        and all(_holds(how, told, request.facts) for how, told in statement.get("Condition", {}).items())
    )


def listed(value: str | Sequence[str]) -> list[str]:
    """Policies write one thing without a list around it."""
    return [value] if isinstance(value, str) else list(value)


def _matches(pattern: str, text: str, flags: int = 0) -> bool:
    """`*` is anything, `/` too; `?` is one character."""
    told = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(told, text, flags) is not None


def _holds(operator: str, wanted: Mapping[str, Any], facts: Mapping[str, str]) -> bool:
    """A fact that the request does not have equals nothing."""
    if operator != "StringEquals":
        raise ValueError(f"a condition has {operator}, which is not understood here; wanted StringEquals")
    return all(facts.get(name) in listed(values) for name, values in wanted.items())


# ---- what EC2 asks about ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Account:
    """Whose machines they are, and where."""

    number: str
    region: str

    def arn(self, what: str) -> str:
        """Of something of EC2's: `instance/*`."""
        return f"arn:aws:ec2:{self.region}:{self.number}:{what}"

    def requests(self, action: str, told: Told, tags: Mapping[str, Tags] | None = None) -> list[Request]:
        """`tags`: those of machines that are there, by their ids."""
        if re.match(r"ec2:Describe\w+$", action):
            return [Request(action, "*")]
        if action == "ec2:RunInstances":
            return [*self._made(told), *self._named_at_start(told), *self._role(told)]
        ids = {"ec2:TerminateInstances": "InstanceId", "ec2:CreateTags": "ResourceId"}.get(action)
        if ids is None:
            raise ValueError(f"what {action} is allowed by is not known here; wanted ec2:Describe*, RunInstances, ...")
        return [
            Request(action, self.arn(f"instance/{one}"), _facts("aws:ResourceTag", (tags or {}).get(one, {})))
            for one in _numbered(told, ids)
        ]

    def _made(self, told: Told) -> list[Request]:
        named = {kind: told[key] for kind, key in (("subnet", "SubnetId"), ("key-pair", "KeyName")) if key in told}
        for key, value in told.items():
            if found := re.match(r"NetworkInterface\.1\.(SubnetId|SecurityGroupId)", key):
                named["subnet" if found[1] == "SubnetId" else "security-group"] = value
        groups = _numbered(told, "SecurityGroupId")
        used = [f"{kind}/{name}" for kind, name in named.items()] + [f"security-group/{one}" for one in groups]
        facts = _facts("aws:RequestTag", _tags_at_start(told, "instance"))
        if "MetadataOptions.HttpTokens" in told:
            facts["ec2:MetadataHttpTokens"] = told["MetadataOptions.HttpTokens"]
        image = f"arn:aws:ec2:{self.region}::image/{told['ImageId']}"  # images have no owner in their names
        arns = [image, *(self.arn(one) for one in (*used, "volume/*", "network-interface/*"))]
        return [
            Request("ec2:RunInstances", self.arn("instance/*"), facts),
            *(Request("ec2:RunInstances", one) for one in arns),
        ]

    def _named_at_start(self, told: Told) -> list[Request]:
        kinds = [value for key, value in told.items() if re.fullmatch(r"TagSpecification\.\d+\.ResourceType", key)]
        at_start = {"ec2:CreateAction": "RunInstances"}
        return [Request("ec2:CreateTags", self.arn(f"{kind}/*"), at_start) for kind in kinds]

    def _role(self, told: Told) -> list[Request]:
        """An instance profile and its role have one name here."""
        name = told.get("IamInstanceProfile.Name") or told.get("IamInstanceProfile.Arn", "").rpartition("/")[2]
        facts = {"iam:PassedToService": "ec2.amazonaws.com"}
        return [Request("iam:PassRole", f"arn:aws:iam::{self.number}:role/{name}", facts)] if name else []


def _numbered(told: Told, name: str) -> list[str]:
    return [value for key, value in told.items() if re.fullmatch(rf"{name}\.\d+", key)]


def _tags_at_start(told: Told, kind: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in told.items():
        at = re.fullmatch(r"(TagSpecification\.\d+\.)ResourceType", key)
        if at and value == kind:
            found |= {
                told[name]: told[f"{name.removesuffix('Key')}Value"]
                for name in told
                if name.startswith(f"{at[1]}Tag.") and name.endswith(".Key")
            }
    return found


def _facts(kind: str, tags: Tags) -> dict[str, str]:
    return {f"{kind}/{name}": value for name, value in tags.items()}
