"""The files under cluster/: they render, hold all rules and all schemas, and what they name exists.

KubeRay's CRDs are no part of this repository: they lie beside the checkout, or where CINERAY_KUBERAY_CRDS says.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cineray.launch.cluster.check import checked
from cineray.launch.cluster.files import ClusterFiles, read_cluster
from cineray.launch.cluster.kustomize import Document, build, containers

REPO = Path(__file__).resolve().parents[2]
CLUSTER = REPO / "cluster"
OVERLAYS = sorted(path.parent for path in CLUSTER.glob("kuberay/overlays/*/kustomization.yaml"))
MACHINES = sorted(CLUSTER.glob("vm/*.yaml"))
ALL = [*OVERLAYS, *MACHINES]


def name_of(path: Path) -> str:
    return path.stem


@pytest.fixture(scope="session")
def crds() -> str:
    """The folder of KubeRay's CRDs."""
    folder = Path(os.environ.get("CINERAY_KUBERAY_CRDS", REPO.parent / "shared" / "kuberay-crds"))
    if not folder.is_dir():
        pytest.skip(f"no CRDs of KubeRay: {folder} does not exist; set CINERAY_KUBERAY_CRDS to a folder that has them")
    return str(folder)


def said(files: ClusterFiles, crds: str = "") -> list[str]:
    return [f"{one.where}: {one.what}" for one in checked(files, crds).problems]


# ---- as they are -----------------------------------------------------------------------------------------------------


def test_there_is_an_overlay_or_a_file_for_each_place_that_the_readme_names() -> None:
    text = (CLUSTER / "README.md").read_text(encoding="utf-8")
    assert [path for path in ALL if f"{path.relative_to(CLUSTER)}" not in text] == []


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_each_cluster_breaks_no_rule(path: Path) -> None:
    assert said(read_cluster(str(path))) == []


@pytest.mark.parametrize("path", OVERLAYS, ids=name_of)
def test_each_overlay_holds_to_the_schemas_of_kuberay_and_kubernetes(path: Path, crds: str) -> None:
    looked = checked(read_cluster(str(path)), crds)
    assert looked.problems == []
    assert [one for one in looked.skipped if "kueue.x-k8s.io" not in one] == []


@pytest.mark.parametrize("path", [CLUSTER / "kuberay" / "base", *OVERLAYS], ids=name_of)
def test_cineray_and_kubectl_render_the_same(path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on this machine to compare with")
    done = subprocess.run([kubectl, "kustomize", str(path)], capture_output=True, text=True, check=True)
    assert by_name(build(path)) == by_name(list(yaml.safe_load_all(done.stdout)))


def by_name(documents: list[Document]) -> dict[tuple[str, str], Document]:
    return {(one["kind"], one["metadata"]["name"]): one for one in documents}


@pytest.mark.parametrize("path", OVERLAYS, ids=name_of)
def test_all_images_of_an_overlay_are_its_own(path: Path) -> None:
    images = {one["image"] for one in containers(build(path))}
    assert images
    assert not [one for one in images if one in ("cineray-cpu", "cineray-cuda") or ":" not in one]


@pytest.mark.parametrize("path", [one for one in ALL if one.stem not in ("kind",)], ids=name_of)
def test_decoding_is_spot_and_apart_and_training_is_neither(path: Path) -> None:
    pools = read_cluster(str(path)).pools()
    assert pools[0].role == "head"
    assert pools[0].cpus == 0
    decode = [pool for pool in pools if pool.role == "decode"]
    train = [pool for pool in pools if pool.role == "train"]
    assert any(pool.is_spot for pool in decode)
    assert all(pool.labels["ray-subcluster"] == "decode" and pool.gpus == 0 for pool in decode)
    assert all("ray-subcluster" not in pool.labels and pool.gpus == 8 and not pool.is_spot for pool in train)
    assert all(pool.cpus == 2 * pool.gpus for pool in train), "cores for the trainers, and none to decode on"


# ---- what they name exists -------------------------------------------------------------------------------------------


def commands_of(path: Path) -> list[list[str]]:
    """Every command that a cluster's files have, word by word."""
    if path.suffix == ".yaml":
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        lines = [one for name in told if name.endswith("start_ray_commands") for one in told[name]]
        return [shlex.split(one) for one in lines]
    found = []
    for container in containers(build(path)):
        for hook in (
            container.get("lifecycle", {}).get("preStop"),
            container.get("livenessProbe"),
        ):
            words = (hook or {}).get("exec", {}).get("command", [])
            found.append(shlex.split(words[-1]) if words[:1] == ["bash"] else words)
    return [words for words in found if words]


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_programs_and_options_that_the_files_name_exist(path: Path) -> None:
    for words in commands_of(path):
        for module in {words[at + 1] for at, word in enumerate(words) if word == "-m"}:
            text = help_of(sys.executable, "-m", module)
            own = words[words.index(module) :]
            own = own[: own.index("--")] if "--" in own else own
            assert missing_options(own, text) == [], f"{module}: {' '.join(own)}"
        if "start" in words and words[words.index("start") - 1] == "ray":
            text = help_of(sys.executable, "-m", "ray.scripts.scripts", "start")
            assert missing_options(words[words.index("start") :], text) == []
        if words[0] == "ray-alive":
            assert (CLUSTER / "image" / "ray-alive").is_file()


def missing_options(words: list[str], text: str) -> list[str]:
    given = {word.partition("=")[0] for word in words if word.startswith("--") and word != "--"}
    return sorted(given - set(re.findall(r"--[a-z][a-z-]+", text)))


_HELP: dict[tuple[str, ...], str] = {}


def help_of(*command: str) -> str:
    if command not in _HELP:
        done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        _HELP[command] = done.stdout
    return _HELP[command]


def test_start_parameters_of_pods_are_options_of_ray_start() -> None:
    text = help_of(sys.executable, "-m", "ray.scripts.scripts", "start")
    for path in OVERLAYS:
        spec = read_cluster(str(path)).cluster()
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            assert missing_options([f"--{name}" for name in group["rayStartParams"]], text) == []
            assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_settings_for_ray_are_settings_that_its_binaries_know() -> None:
    """A wrong name would be ignored in silence, and the partition would hang the run after all."""
    import ray

    names = {one for path in ALL for one in told_to_ray(path) if one.startswith("RAY_") and one[4].islower()}
    assert names
    binary = (Path(ray.__file__).parent / "core" / "src" / "ray" / "raylet" / "raylet").read_bytes()
    assert [one for one in sorted(names) if one.removeprefix("RAY_").encode() not in binary] == []


def told_to_ray(path: Path) -> list[str]:
    if path.suffix == ".yaml":
        docker = yaml.safe_load(path.read_text(encoding="utf-8"))["docker"]
        options = [*docker["run_options"], *docker["head_run_options"]]
        return [one.split()[1].partition("=")[0] for one in options if one.startswith("--env ")]
    maps = [one for one in build(path) if one["kind"] == "ConfigMap"]
    return [name for one in maps for name in one["data"]]


# ---- every rule can fail ---------------------------------------------------------------------------------------------

Change = Callable[[Document], object]


def group(number: int) -> Callable[[Document], Document]:
    return lambda spec: spec["workerGroupSpecs"][number]


def ray_of(group: Document) -> Document:
    container: Document = group["template"]["spec"]["containers"][0]
    return container


BROKEN_PODS: dict[str, tuple[Change, str]] = {
    "latest": (lambda s: ray_of(group(0)(s)).update(image="a/b:latest"), "wanted a tag other than latest"),
    "no tag behind a port": (lambda s: ray_of(group(0)(s)).update(image="host:5000/b"), "wanted a tag other than"),
    "no memory limit": (
        lambda s: ray_of(group(0)(s))["resources"]["limits"].pop("memory"),
        "limits.memory is not stated",
    ),
    "head computes": (lambda s: s["headGroupSpec"]["rayStartParams"].pop("num-cpus"), 'wanted "0"'),
    "labelled GPUs": (lambda s: group(1)(s)["labels"].update({"ray-subcluster": "train"}), "could never reserve them"),
    "GPUs untold": (lambda s: s["headGroupSpec"]["labels"].pop("cineray-train"), "would take the GPU nodes' cores"),
    "GPUs that never come": (
        lambda s: group(1)(s)["rayStartParams"].update({"num-gpus": "0"}),
        "trainings would wait for ever",
    ),
    "no decoding": (lambda s: group(0)(s)["labels"].pop("ray-subcluster"), "so nothing would decode"),
    "least over most": (lambda s: group(0)(s).update(minReplicas=99), "the least is more"),
    "spot trainers": (lambda s: group(1)(s)["labels"].update({"ray.io/market-type": "spot"}), "without a loss"),
    "no settings": (lambda s: ray_of(group(1)(s)).pop("envFrom"), "is not told RAY_grpc_client_keepalive_time_ms"),
    "no token": (lambda s: s.pop("authOptions"), "wanted token"),
    "load balancer": (lambda s: s["headGroupSpec"].update(serviceType="LoadBalancer"), "wanted ClusterIP"),
    "ingress": (lambda s: s["headGroupSpec"].update(enableIngress=True), "publishes the dashboard"),
    "other labels": (lambda s: group(0)(s)["template"]["metadata"].pop("labels"), "no NetworkPolicy selects its pods"),
    "root": (lambda s: group(0)(s)["template"]["spec"]["securityContext"].pop("runAsNonRoot"), "runAsNonRoot"),
    "host network": (
        lambda s: group(0)(s)["template"]["spec"].update(hostNetwork=True),
        "shares its node's hostNetwork",
    ),
    "escalation": (lambda s: ray_of(group(0)(s)).pop("securityContext"), "allowPrivilegeEscalation"),
    "no probe": (lambda s: ray_of(group(0)(s)).pop("livenessProbe"), "has no livenessProbe"),
    "no last words": (lambda s: ray_of(group(0)(s)).pop("lifecycle"), "has no lifecycle.preStop"),
    "no shared memory": (lambda s: ray_of(group(0)(s)).update(volumeMounts=[]), "no volume at /dev/shm"),
    "mortal head": (lambda s: s.pop("gcsFaultToleranceOptions"), "takes the cluster along"),
    "old autoscaler": (lambda s: s["autoscalerOptions"].update(version="v1"), "v1 does not know labels"),
    "a head that is moved": (
        lambda s: s["headGroupSpec"]["template"]["metadata"].pop("annotations"),
        'no annotation cluster-autoscaler.kubernetes.io/safe-to-evict: "false"',
    ),
    "trainers that are moved": (
        lambda s: group(1)(s)["template"]["metadata"].pop("annotations"),
        "gpu: its pods have no annotation",
    ),
    "a head that is drained": (
        lambda s: s["headGroupSpec"]["template"]["metadata"]["labels"].pop("app.kubernetes.io/component"),
        "no PodDisruptionBudget with minAvailable: 1 selects its pod",
    ),
    "drivers unsaved": (lambda s: ray_of(s["headGroupSpec"]).pop("lifecycle"), "would end unsaved"),
    "for ever": (lambda s: s.update(enableInTreeAutoscaling=False), "nothing takes the cluster down"),
}


@pytest.mark.parametrize("case", BROKEN_PODS)
def test_what_is_wrong_with_a_cluster_of_pods_is_said(case: str) -> None:
    change, wanted = BROKEN_PODS[case]
    files = read_cluster(str(CLUSTER / "kuberay" / "overlays" / "gke"))
    change(files.cluster())
    assert any(wanted in one for one in said(files)), said(files)


BROKEN_COMMANDS = {
    "a run on the pod's own disk": ("train jobs/a.py --run runs/a", "its entrypoint says `--run runs/a`"),
    "a lake in the image": ("train jobs/a.py --run s3://b/r --set recipe.datasets.0.lake=lakes/a", "lake=lakes/a`"),
    "half a quote": ("train 'jobs/a.py", "entrypoint is no command: No closing quotation"),
    "a run of its own each time": ("train jobs/a.py", "names no --run: another try would begin anew"),
}


@pytest.mark.parametrize("case", BROKEN_COMMANDS)
def test_what_is_wrong_with_the_command_of_a_ray_job_is_said(case: str) -> None:
    command, wanted = BROKEN_COMMANDS[case]
    files = read_cluster(str(CLUSTER / "kuberay" / "overlays" / "kueue"))
    (files.ray_job() or {})["entrypoint"] = f"python -m cineray {command}"
    assert any(wanted in one for one in said(files)), said(files)


def policy_of(files: ClusterFiles) -> Document:
    return next(one for one in files.documents if one["kind"] == "NetworkPolicy")


BROKEN_POLICIES: dict[str, tuple[Change, str]] = {
    "the world": (
        lambda p: p["spec"]["ingress"].append({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
        "open to the world",
    ),
    "nobody named": (lambda p: p["spec"]["ingress"].append({"ports": [{"port": 8265}]}), "lets everybody in"),
    "all pods": (lambda p: p["spec"]["ingress"].append({"from": [{"podSelector": {}}]}), "name those that may"),
    "no names": (lambda p: p["spec"]["egress"].pop(1), "no egress to kube-system at port 53 of UDP"),
    "no names over TCP": (lambda p: p["spec"]["egress"][1]["ports"].pop(), "to 169.254.20.10 at port 53 of TCP"),
    "no cache of names": (lambda p: p["spec"]["egress"][1]["to"].pop(), "no egress to 169.254.20.10 at port 53 of UDP"),
    "egress only": (lambda p: p["spec"].update(policyTypes=["Egress"]), "no NetworkPolicy selects its pods"),
}


@pytest.mark.parametrize("case", BROKEN_POLICIES)
def test_what_is_wrong_with_a_network_policy_is_said(case: str) -> None:
    change, wanted = BROKEN_POLICIES[case]
    files = read_cluster(str(CLUSTER / "kuberay" / "overlays" / "eks"))
    change(policy_of(files))
    assert any(wanted in one for one in said(files)), said(files)


def test_a_cluster_without_a_network_policy_is_told() -> None:
    files = read_cluster(str(CLUSTER / "kuberay" / "overlays" / "eks"))
    files.documents.remove(policy_of(files))
    assert "cluster: there is no NetworkPolicy; wanted one that lets only the cluster's own pods in" in said(files)


def node(told: Document, name: str = "gpu") -> Document:
    found: Document = told["available_node_types"][name]["node_config"]
    return found


BROKEN_MACHINES: dict[str, tuple[Change, str]] = {
    "latest": (lambda t: t["docker"].update(image="a/b"), "wanted a tag other than latest"),
    "newest image": (lambda t: node(t).update(ImageId="latest_dlami"), "name one"),
    "head computes": (lambda t: t["available_node_types"]["head"].update(resources={"CPU": 4}), "wanted CPU: 0"),
    "no settings": (lambda t: t["docker"].update(run_options=[]), "is not told RAY_grpc_client_keepalive_time_ms"),
    "no keeper": (lambda t: t.update(worker_start_ray_commands=["ray start --address=x:6379"]), "without its keeper"),
    "no token": (
        lambda t: t["docker"]["run_options"].remove("--env RAY_AUTH_MODE=token"),
        "RAY_AUTH_MODE is not token",
    ),
    "token left behind": (lambda t: t.pop("file_mounts"), "names no file that is brought along"),
    "a secret": (
        lambda t: t["docker"]["run_options"].append("--env WANDB_API_KEY=x"),
        "WANDB_API_KEY would stand in plain",
    ),
    "open dashboard": (
        lambda t: t.update(head_start_ray_commands=["ray start --dashboard-host=0.0.0.0"]),
        "must listen on",
    ),
    "public": (lambda t: t["provider"].pop("use_internal_ips"), "would get public addresses"),
    "no security group": (lambda t: node(t).pop("SecurityGroupIds"), "is open to 0.0.0.0/0 at port 22"),
    "all rights": (lambda t: node(t, "head").pop("IamInstanceProfile"), "all rights to EC2 and S3"),
    "old metadata": (lambda t: node(t).pop("MetadataOptions"), "HttpTokens is not required"),
    "plain disks": (lambda t: node(t)["BlockDeviceMappings"][0]["Ebs"].pop("Encrypted"), "not Encrypted"),
    "one spot": (
        lambda t: [t["available_node_types"].pop(f"decode-spot-{n}") for n in ("m6id", "r6id")],
        "the only spot",
    ),
    "no fallback": (lambda t: t["available_node_types"].pop("decode-fallback"), "when no spot is to be had"),
    "dear first": (
        lambda t: t["available_node_types"]["decode-fallback"].update(priority=1),
        "takes the highest first",
    ),
    "unlike": (
        lambda t: t["available_node_types"]["decode-fallback"].update(resources={"CPU": 7}),
        "only where types fit equally well",
    ),
    "no memory": (
        lambda t: [one["resources"].pop("memory") for name, one in t["available_node_types"].items() if "dec" in name],
        "say no memory",
    ),
    "stubborn": (lambda t: t["head_start_ray_commands"].pop(), "asks for it again for ever"),
    "stubborn too": (
        lambda t: t["head_start_ray_commands"].append(t["head_start_ray_commands"].pop().replace("scaling", "other")),
        "asks for it again for ever",
    ),
    "never idle": (lambda t: t.update(idle_timeout_minutes=120), "at most 10"),
    "kept": (lambda t: t["provider"].pop("cache_stopped_nodes"), "ended machines stay"),
    "set up by Ray": (lambda t: t.pop("setup_commands"), "Ray's own would run"),
    "a stranger to the registry": (
        lambda t: t["initialization_commands"].remove(
            next(one for one in t["initialization_commands"] if "credsStore" in one)
        ),
        "no helper lets docker into 111122223333.dkr.ecr.eu-central-1.amazonaws.com",
    ),
    "docker at once": (
        lambda t: t["initialization_commands"].append("sudo usermod -aG docker $USER"),
        "docker would refuse the user",
    ),
    "deaf": (lambda t: t["worker_start_ray_commands"].pop(), "nothing listens for spot notices"),
    "spot trainers": (lambda t: node(t).update(InstanceMarketOptions={"MarketType": "spot"}), "without a loss"),
}


@pytest.mark.parametrize("case", BROKEN_MACHINES)
def test_what_is_wrong_with_a_cluster_of_machines_is_said(case: str) -> None:
    change, wanted = BROKEN_MACHINES[case]
    files = read_cluster(str(CLUSTER / "vm" / "aws.yaml"))
    change(files.cluster())
    assert any(wanted in one for one in said(files)), said(files)


def test_public_addresses_and_default_accounts_of_other_clouds_are_said() -> None:
    gcp = read_cluster(str(CLUSTER / "vm" / "gcp.yaml"))
    node(gcp.cluster())["networkInterfaces"][0]["accessConfigs"] = [{"type": "ONE_TO_ONE_NAT"}]
    node(gcp.cluster()).pop("serviceAccounts")
    assert said(gcp) == [
        "gpu: accessConfigs gives it a public address",
        "gpu: serviceAccounts is missing: it would be the project's default account",
    ]
    azure = read_cluster(str(CLUSTER / "vm" / "azure.yaml"))
    azure.cluster()["provider"].pop("msi_name")
    assert said(azure) == [
        "provider: msi_name and msi_resource_group are missing: Ray would make an owner of the group"
    ]
