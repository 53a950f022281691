"""Complaints of schemas, in one line each: what it got, what is wanted, where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cineray.errors import UsageError
from cineray.launch.cluster.files import ClusterFiles
from cineray.launch.cluster.schemas import check_schemas, crd_schema, strict, with_defaults

MACHINES = Path(__file__).resolve().parents[3] / "cluster" / "vm" / "aws.yaml"

CRD = """
spec:
  versions:
    - name: v1
      schema:
        openAPIV3Schema:
          type: object
          required: [spec]
          properties:
            apiVersion: {type: string}
            kind: {type: string}
            metadata: {type: object}
            spec:
              type: object
              required: [size, mode]
              properties:
                size: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}
                mode: {type: string, enum: [disabled, token], default: token}
                labels: {type: object, additionalProperties: {type: string}}
                anything: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {a: {type: string}}}
                note: {type: string, nullable: true}
"""


@pytest.fixture
def crds(tmp_path: Path) -> str:
    (tmp_path / "rayclusters.yaml").write_text(CRD)
    return str(tmp_path)


def said(crds: str, **spec: Any) -> list[tuple[str, str]]:
    document = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "c"}, "spec": spec}
    looked = check_schemas(ClusterFiles(path=Path("x"), kind="kuberay", documents=[document]), crds)
    return [(one.where, one.what) for one in looked.problems]


def test_what_the_api_server_takes_is_taken(crds: str) -> None:
    assert said(crds, size="1Gi", labels={"a": "b"}, anything={"b": 1}, note=None) == []
    assert said(crds, size=1) == [], "mode has a default, which the API server fills in"


def test_a_wrong_name_value_or_type_is_one_line(crds: str) -> None:
    at = "RayCluster c: spec"
    assert said(crds, size=1, lables={"a": "b"}) == [(at, "has no field `lables`; did you mean `labels`?")]
    assert said(crds, size=1, mode="Token") == [(f"{at}.mode", "got 'Token'; wanted one of disabled, token")]
    assert said(crds, size=1, labels={"a": 1}) == [(f"{at}.labels.a", "got '1'; wanted string")]
    assert said(crds, size=1.5) == [(f"{at}.size", "got '1.5'; wanted integer or string")]
    assert said(crds) == [(at, "'size' is missing")]


def test_without_crds_it_is_said_that_nothing_was_checked() -> None:
    document = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "c"}}
    looked = check_schemas(ClusterFiles(path=Path("x"), kind="kuberay", documents=[document]))
    assert (looked.problems, looked.checked) == ([], [])
    assert looked.skipped == ["RayCluster c: no CRDs of KubeRay are given (--crds FOLDER, or CINERAY_KUBERAY_CRDS)"]


def test_a_folder_without_the_crd_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no CRD of RayService: wanted rayservices.yaml or ray.io_rayservices.yaml"):
        crd_schema(str(tmp_path), "RayService")


def test_objects_of_kubernetes_are_held_to_its_own_schemas() -> None:
    policy = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "p"}, "valu": 5}
    unknown = {"apiVersion": "v7", "kind": "Pood", "metadata": {"name": "p"}}
    looked = check_schemas(ClusterFiles(path=Path("x"), kind="kuberay", documents=[policy, unknown]))
    first, second = looked.problems
    assert "valu" in first.what
    assert (second.where, second.what) == ("Pood p", "Kubernetes 1.33 has no Pood in v7; check apiVersion and kind")


def test_rays_schema_of_machines_complains_shortly() -> None:
    """Ray's own message for this is its whole schema, hundreds of lines."""
    told = yaml.safe_load(MACHINES.read_text())
    told["idle_timeout_minute"] = told.pop("idle_timeout_minutes")
    told["available_node_types"]["gpu"]["max_workers"] = "two"
    looked = check_schemas(ClusterFiles(path=Path("mine.yaml"), kind="vm", documents=[told]))
    assert sorted((one.where, one.what) for one in looked.problems) == [
        ("mine.yaml", "has no field `idle_timeout_minute`; did you mean `idle_timeout_minutes`?"),
        ("mine.yaml: available_node_types.gpu.max_workers", "got 'two'; wanted integer"),
    ]


def test_strict_schemas_close_objects_and_defaults_reach_into_lists() -> None:
    schema = {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string", "default": "x"}}}}
    assert strict(schema)["items"]["additionalProperties"] is False
    assert with_defaults([{}, {"a": "y"}], schema) == [{"a": "x"}, {"a": "y"}]
