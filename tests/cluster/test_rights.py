"""What a job may read and write: the table in SECURITY.md, held to all clouds' policies and Kubernetes' accounts."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cineray.launch.cluster.kustomize import build
from cineray.testing.clusters.aws_policy import Request, allows

REPO = Path(__file__).resolve().parents[2]
POLICIES = REPO / "cluster" / "vm" / "policies"
OVERLAYS = sorted(path.parent for path in REPO.glob("cluster/kuberay/overlays/*/kustomization.yaml"))


def promised() -> dict[str, set[str]]:
    """SECURITY.md's table: of what, and which of list, read, write, delete."""
    text = (REPO / "SECURITY.md").read_text(encoding="utf-8").split("## What a job may do")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", text, flags=re.M)[1:]
    told = {one: set(may.split(", ")) for names, may in rows for one in names.split(", ")}
    assert {"raw media", "lakes", "runs", "sweeps", "latents", "all other buckets and containers"} <= told.keys()
    return {name: may - {"nothing"} for name, may in told.items()}


def test_a_job_on_aws_may_do_what_is_said_and_no_more() -> None:
    places = {
        "raw media": "arn:aws:s3:::my-raw-videos",
        **{name: f"arn:aws:s3:::my-cineray/{name}" for name in ("lakes", "runs", "sweeps", "latents")},
        "all other buckets and containers": "arn:aws:s3:::my-other",
    }
    statements = json.loads((POLICIES / "aws-data.json").read_text())["Statement"]
    found = {name: of_aws(statements, arn) for name, arn in places.items()}
    assert found == {name: promised()[name] for name in places}
    assert of_aws(statements, "arn:aws:s3:::my-cineray/elsewhere") == {"list"}, "names can be seen, and nothing read"
    assert {action for one in statements for action in one["Action"] if action.startswith(("ec2:", "iam:"))} == set()


def of_aws(statements: list[dict[str, Any]], arn: str) -> set[str]:
    verbs = {"list": "s3:ListBucket", "read": "s3:GetObject", "write": "s3:PutObject", "delete": "s3:DeleteObject"}
    bucket = arn.partition("/")[0]
    asked = {verb: bucket if verb == "list" else f"{arn}/some/object" for verb in verbs}
    return {verb for verb, of in asked.items() if allows(statements, Request(verbs[verb], of))}


ROLES = {
    "roles/storage.objectViewer": {"list", "read"},
    "roles/storage.objectUser": {"list", "read", "write", "delete"},
    "roles/artifactregistry.reader": {"read"},
}
"""What Google Cloud documents of them."""


def test_a_job_on_google_cloud_may_do_what_is_said_and_no_more() -> None:
    bindings = yaml.safe_load((POLICIES / "gcp-worker.yaml").read_text())["bindings"]
    found = {one["resource"].rpartition("/")[2]: ROLES[one["role"]] for one in bindings}
    assert found == {
        "my-raw-videos": promised()["raw media"],
        "my-cineray": promised()["runs"],
        "cineray": promised()["the registry of images"],
    }


def test_a_job_on_azure_may_do_what_is_said_and_no_more() -> None:
    verbs = {"read": "read", "write": "write", "add": "write", "delete": "delete"}
    assigned = yaml.safe_load((POLICIES / "azure-assignments.yaml").read_text())
    for name, container, of in (("azure-media", "raw-videos", "raw media"), ("azure-data", "cineray", "runs")):
        told = json.loads((POLICIES / f"{name}.json").read_text())
        (scope,) = (one["scope"] for one in assigned if one["role"] == told["Name"])
        assert scope.endswith(f"/containers/{container}")
        may = {verbs[one.partition("/blobs/")[2].partition("/")[0]] for one in told["DataActions"]}
        assert [one.rpartition("/")[2] for one in told["Actions"]] == ["read"], "a container's blobs can be listed"
        assert may | {"list"} == promised()[of]


def test_machines_are_the_heads_business_alone() -> None:
    assert promised()["machines"] == {"on the head alone: start and end those of this cluster; elsewhere nothing"}
    for name in ("aws-data", "azure-data", "azure-media", "azure-image"):
        text = (POLICIES / f"{name}.json").read_text()
        assert [word for word in ("ec2:", "iam:", "Microsoft.Compute", "roleAssignments") if word in text] == []
    ends = next(
        one
        for one in json.loads((POLICIES / "aws-head.json").read_text())["Statement"]
        if "ec2:TerminateInstances" in one["Action"]
    )
    assert ends["Condition"] == {"StringEquals": {"aws:ResourceTag/ray-cluster-name": "cineray"}}


def test_where_a_cloud_gives_a_job_more_it_is_said() -> None:
    """On Azure each node is who starts machines; on Google Cloud the head is whom Ray makes, with these roles."""
    said = (REPO / "SECURITY.md").read_text(encoding="utf-8").split("## What a job may do")[1].split("\n## ")[0]
    azure = yaml.safe_load((REPO / "cluster" / "vm" / "azure.yaml").read_text())
    nodes = [one["node_config"]["azure_arm_parameters"] for one in azure["available_node_types"].values()]
    assert azure["provider"]["msi_name"]
    assert not any("identity" in str(node).lower() for node in nodes)
    assert "**Azure**: all machines are one identity" in said
    google = yaml.safe_load((REPO / "cluster" / "vm" / "gcp.yaml").read_text())["available_node_types"]
    (head,) = google["head"]["node_config"]["serviceAccounts"]
    assert head["email"].startswith("ray-autoscaler-sa-v1@")
    assert "the head is Ray's own account, `ray-autoscaler-sa-v1`" in said
    powers = {
        "roles/compute.admin": "end all machines of the project",
        "roles/iam.serviceAccountUser": "act as its other accounts",
        "roles/storage.objectAdmin": "list, read, write and delete in all its buckets",
        "roles/iam.roleViewer": "",
    }
    ray = pytest.importorskip("ray")
    source = (
        Path(ray.__file__).parent / "autoscaler" / "_private" / "gcp" / "config.py"
    )  # needs Google's library to run
    (roles,) = re.findall(r"^DEFAULT_SERVICE_ACCOUNT_ROLES = (\[.*?\])", source.read_text(), flags=re.M | re.S)
    assert set(ast.literal_eval(roles)) == set(powers)
    assert [word for word in powers.values() if word not in " ".join(said.split())] == []


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_pods_that_work_have_no_key_to_kubernetes(overlay: Path) -> None:
    documents = build(overlay)
    accounts = {one["metadata"]["name"]: one for one in documents if one["kind"] == "ServiceAccount"}
    workers = [account for name, account in accounts.items() if name.endswith("worker")]
    assert [one["automountServiceAccountToken"] for one in workers] == [False]
    rights = [one["kind"] for one in documents if "Role" in one["kind"]]
    assert rights == [], (
        "the operator gives the head's account the right to scale this one cluster; nobody else has any"
    )
