"""What pods of a cluster may speak to, what keeps them where they are, and what their last words do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cineray.launch.cluster.check import checked
from cineray.launch.cluster.files import ClusterFiles, pod_containers, read_cluster
from cineray.launch.cluster.kustomize import Document, build
from cineray.launch.cluster.rules import METADATA, NODE_CACHE, groups, lets_out
from cineray.launch.submission import STOP_SECONDS

REPO = Path(__file__).resolve().parents[2]
KUBERAY = REPO / "cluster" / "kuberay"
OVERLAYS = sorted(path.parent for path in KUBERAY.glob("overlays/*/kustomization.yaml"))
KINDS = ("cpu", "cuda")
CLOUD_DNS = METADATA
LOCAL_DNS = ("169.254.10.10", "169.254.10.11")
"""Where Google's Cloud DNS and Azure's LocalDNS answer for names."""


def policy(overlay: str) -> Document:
    (found,) = (one for one in build(KUBERAY / "overlays" / overlay) if one["kind"] == "NetworkPolicy")
    return found


@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
@pytest.mark.parametrize(
    ("overlay", "server"),
    [
        *((path.name, NODE_CACHE) for path in OVERLAYS),
        ("gke", CLOUD_DNS),
        *(("aks", server) for server in LOCAL_DNS),
    ],
)
def test_names_are_found_where_the_cloud_keeps_them(overlay: str, server: str, protocol: str) -> None:
    assert lets_out(policy(overlay), server, 53, protocol)
    assert not lets_out(policy(overlay), "8.8.8.8", 53, protocol), "names of nobody else"


@pytest.mark.parametrize("overlay", [path.name for path in OVERLAYS])
def test_the_nodes_own_identity_is_out_of_reach_but_where_the_pods_own_comes_from_there(overlay: str) -> None:
    assert lets_out(policy(overlay), METADATA, 80) is (overlay == "gke")
    assert not any(lets_out(policy(overlay), METADATA, port) for port in (443, 6443))
    assert lets_out(policy(overlay), "52.95.1.1", 443), "object stores"
    assert not lets_out(policy(overlay), "52.95.1.1", 80)


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.name)
def test_all_that_keeps_a_pod_in_its_place_is_there_in_every_overlay(path: Path) -> None:
    found = [group["template"]["metadata"] for _, group in groups(read_cluster(str(path)))]
    kept = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    kept |= {"karpenter.sh/do-not-disrupt": "true"} if path.name == "eks" else {}
    assert {one["labels"]["app.kubernetes.io/component"]: one.get("annotations") for one in found} == {
        "head": kept,
        "decode": None,
        "train": kept,
    }


# ---- what the Prometheus operator is told ----------------------------------------------------------------------------


@pytest.fixture
def watched(tmp_path: Path) -> ClusterFiles:
    """An overlay of somebody's own: base, and the component."""
    told = {
        "resources": [str(KUBERAY / "base")],
        "components": [str(KUBERAY / "components" / "monitoring")],
        "images": [{"name": f"cineray-{kind}", "newName": "registry/cineray", "newTag": "1"} for kind in KINDS],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(told))
    return read_cluster(str(tmp_path))


def test_its_rules_are_those_of_any_prometheus(watched: ClusterFiles) -> None:
    (told,) = (one for one in watched.documents if one["kind"] == "PrometheusRule")
    assert told["spec"] == yaml.safe_load((REPO / "cluster" / "observability" / "rules.yml").read_text())


def test_its_targets_are_ports_that_pods_have_and_the_policy_opens(watched: ClusterFiles) -> None:
    (monitor,) = (one["spec"] for one in watched.documents if one["kind"] == "PodMonitor")
    (lets_in,) = (one["spec"] for one in watched.documents if one["kind"] == "NetworkPolicy")
    ports: dict[str, int] = {}
    for _, group in groups(watched):
        assert monitor["selector"]["matchLabels"].items() <= group["template"]["metadata"]["labels"].items()
        ports |= {one["name"]: one["containerPort"] for one in pod_containers(group)[0]["ports"]}
    asked = {ports[one["port"]] for one in monitor["podMetricsEndpoints"]}
    assert asked == {8080, 44217, 44227}
    (opened,) = (rule["ports"] for rule in lets_in["ingress"] if "'monitoring'" in str(rule["from"]))
    assert asked < {one["port"] for one in opened}
    plain = yaml.safe_load((REPO / "cluster" / "observability" / "prometheus.yml").read_text())["scrape_configs"][0]
    for one in monitor["podMetricsEndpoints"]:
        assert one["relabelings"] == [{"targetLabel": "job", "replacement": plain["job_name"]}]
        assert one["metricRelabelings"] == plain["metric_relabel_configs"]


def test_it_breaks_no_rule_and_what_no_schema_is_at_hand_for_is_said(watched: ClusterFiles) -> None:
    looked = checked(watched)
    assert looked.problems == []
    assert [one for one in looked.skipped if "monitoring" in one] == [
        "PodMonitor cineray: no schema of monitoring.coreos.com/v1 is at hand",
        "PrometheusRule cineray: no schema of monitoring.coreos.com/v1 is at hand",
    ]


# ---- last words ------------------------------------------------------------------------------------------------------

DRIVER = """
import pathlib, signal, sys, time
def end(*_):
    time.sleep(2)
    pathlib.Path(sys.argv[-1], "saved").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[-1], "up").touch()
time.sleep(600)
"""
"""What of a driver matters here: told to end, it takes two seconds to save."""
STORY = """
import json, pathlib, subprocess, sys, time
driver, raylet, hook = json.loads(sys.argv[1])
started = [subprocess.Popen(driver), subprocess.Popen(raylet)]
while not all(pathlib.Path(words[-1], "up").exists() for words in (driver, raylet)):
    time.sleep(0.05)
subprocess.run(hook, check=False)
print(pathlib.Path(driver[-1], "saved").exists(), started[0].wait(), started[1].poll())
"""
"""A head's pod: a driver, something of Ray's own beside it, and the hook."""


def hook() -> list[str]:
    """The words of the head's preStop."""
    (head, *_) = (group for _, group in groups(read_cluster(str(KUBERAY / "overlays" / "gke"))))
    words: list[str] = pod_containers(head)[0]["lifecycle"]["preStop"]["exec"]["command"]
    return words


@pytest.fixture
def alone() -> list[str]:
    """Words before a command that give it processes of its own: the hook ends whatever looks like a driver."""
    words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() or not all(map(shutil.which, ("unshare", "pkill", "pgrep"))):
        pytest.skip("needs root, unshare and procps, to have processes of its own")
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives nobody processes of their own (unshare --pid)")
    return words


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.name)
def test_a_head_is_given_as_long_as_its_drivers_may_take_to_save(path: Path) -> None:
    files = read_cluster(str(path))
    (told,) = (one["data"] for one in files.documents if one["kind"] == "ConfigMap")
    assert int(told["RAY_JOB_STOP_WAIT_TIME_S"]) == STOP_SECONDS, "what `cineray submit` gives them"
    (head, *_) = (group["template"]["spec"] for _, group in groups(files))
    assert head["terminationGracePeriodSeconds"] > STOP_SECONDS


def test_a_head_that_is_taken_down_waits_until_drivers_have_saved(alone: list[str], tmp_path: Path) -> None:
    folders = [tmp_path / "driver", tmp_path / "ray"]
    for folder in folders:
        folder.mkdir()
    driver = [sys.executable, "-c", DRIVER, "-m", "cineray", "train", str(folders[0])]
    raylet = [sys.executable, "-c", DRIVER, "-m", "cineray.launch.nodes.keep_node", str(folders[1])]
    command = [*alone, sys.executable, "-c", STORY, json.dumps([driver, raylet, hook()])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout.split() == ["True", "130", "None"], done.stderr


def test_a_head_without_drivers_is_down_at_once(alone: list[str]) -> None:
    assert subprocess.run([*alone, *hook()], capture_output=True, timeout=240, check=False).returncode == 0
