"""The small API server of Kubernetes: who it lets in, and what it does to a RayCluster and what not."""

from __future__ import annotations

import copy
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from cineray.testing.clusters.kube_api import KubeApi, built_in_check, patched

pytestmark = pytest.mark.network

CLUSTER: dict[str, Any] = {
    "metadata": {"name": "mine", "namespace": "here"},
    "spec": {"workerGroupSpecs": [{"groupName": "decode", "replicas": 0, "minReplicas": 0, "maxReplicas": 3}]},
}
GROUP = "/spec/workerGroupSpecs/0"


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi(CLUSTER, check=built_in_check) as running:
        yield running


def asked(api: KubeApi, path: str, operations: list[dict[str, Any]] | None = None, *, known: bool = True) -> Any:
    """What the server answers to KubeRay's autoscaler, or to somebody without its certificate."""
    told = api.environment
    context = ssl.create_default_context(cafile=told["RAY_KUBERAY_CA_CERT_PATH"])
    if known:
        context.load_cert_chain(told["RAY_KUBERAY_CLIENT_CERT_PATH"], told["RAY_KUBERAY_CLIENT_KEY_PATH"])
    url = f"https://{told['KUBERNETES_SERVICE_HOST']}:{told['KUBERNETES_SERVICE_PORT_HTTPS']}{path}"
    body = json.dumps(operations).encode() if operations is not None else None
    kind = {"Content-Type": "application/json-patch+json"} if body else {}
    request = urllib.request.Request(url, data=body, headers=kind, method="PATCH" if body else "GET")
    try:
        with urllib.request.urlopen(request, context=context, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


RAYCLUSTER = "/apis/ray.io/v1/namespaces/here/rayclusters/mine"
PODS = "/api/v1/namespaces/here/pods"


def replace(path: str, value: Any) -> list[dict[str, Any]]:
    return [{"op": "replace", "path": GROUP + path, "value": value}]


def test_nobody_without_a_certificate_of_the_cluster_gets_in(api: KubeApi) -> None:
    with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
        asked(api, RAYCLUSTER, known=False)
    assert asked(api, RAYCLUSTER)[0] == 200


def test_a_patch_that_holds_the_schema_is_done_and_tells_a_new_version(api: KubeApi) -> None:
    before = api.cluster()["metadata"]["resourceVersion"]
    status, told = asked(api, RAYCLUSTER, replace("/replicas", 2))
    assert (status, told["spec"]["workerGroupSpecs"][0]["replicas"]) == (200, 2)
    assert told["metadata"]["resourceVersion"] != before
    assert asked(api, RAYCLUSTER)[1] == told == api.cluster()


@pytest.mark.parametrize(
    ("operations", "why"),
    [
        (replace("/replicas", "two"), "decode.replicas: got 'two'; wanted integer"),
        (replace("/scaleStrategy", {"workersToKill": []}), "wanted workersToDelete and no more"),
        (replace("/scaleStrategy", {"workersToDelete": [7]}), "wanted a list of names"),
        (replace("/nothing/here", 1), "cannot be done"),
        ([{"op": "test", "path": GROUP + "/replicas", "value": 9}, *replace("/replicas", 1)], "cannot be done"),
    ],
)
def test_a_patch_that_does_not_is_refused_with_the_reason_and_changes_nothing(
    api: KubeApi, operations: list[dict[str, Any]], why: str
) -> None:
    before = api.cluster()
    status, told = asked(api, RAYCLUSTER, operations)
    assert (status, why in told["message"]) == (422, True), told
    assert api.cluster() == before
    assert [bool(one.refused) for one in api.patches] == [True]


def test_replacing_what_is_not_there_yet_adds_it_as_kubernetes_does() -> None:
    made, wrong = patched(copy.deepcopy(CLUSTER), replace("/scaleStrategy", {"workersToDelete": ["a"]}))
    assert wrong == []
    assert made["spec"]["workerGroupSpecs"][0]["scaleStrategy"] == {"workersToDelete": ["a"]}


def test_pods_are_listed_by_their_labels_until_they_are_removed(api: KubeApi) -> None:
    for name, cluster in (("a", "mine"), ("b", "mine"), ("c", "other")):
        api.add_pod({"metadata": {"name": name, "labels": {"ray.io/cluster": cluster}}})
    api.remove_pod("b")
    _, told = asked(api, f"{PODS}?labelSelector=ray.io%2Fcluster%3Dmine&resourceVersion=1")
    assert [pod["metadata"]["name"] for pod in told["items"]] == ["a"]
    assert asked(api, f"{PODS}/a")[0] == 200
    assert asked(api, f"{PODS}/b")[0] == 404
