"""What Ray's schema cannot know of a cluster of machines, as rules: a file of `ray up` goes in, `Problem`s come out.

`ray up` left to itself opens port 22 to the world and gives nodes all rights to machines and storage; these rules are
why the files under cluster/vm do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from cineray.launch.cluster.files import ClusterFiles, is_spot
from cineray.launch.cluster.kustomize import Document
from cineray.launch.cluster.rules import NODE_ENV, heads_tell_of_gpus, pools_are_apart
from cineray.launch.cluster.schemas import Problem

PRIVATE_REGISTRIES = (".amazonaws.com", "-docker.pkg.dev", ".azurecr.io")
"""Of the clouds; who asks them says who it is."""


def image_is_pinned(files: ClusterFiles) -> Iterator[Problem]:
    """Every image has a tag that stays, or a digest; machines' images are named too."""
    for image in sorted(_images(files)) or [""]:
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and tag in ("", "latest"):
            yield Problem("docker", f"image is {image!r}; wanted a tag other than latest")
    for name, node in nodes(files):
        if node.get("ImageId", "ami-") in ("", "latest_dlami"):
            yield Problem(name, "ImageId is what happens to be newest; name one")


def head_only_manages(files: ClusterFiles) -> Iterator[Problem]:
    """The head offers no cores to jobs, by its resources and by what it is started with."""
    head = files.pools()[0]
    if head.cpus or head.gpus:
        yield Problem(head.name, f"resources offer {head.cpus} cores and {head.gpus} GPUs; wanted CPU: 0")
    if not any("--num-cpus=0" in one for one in files.cluster().get("head_start_ray_commands", [])):
        yield Problem("head_start_ray_commands", "ray start has no --num-cpus=0")


def nodes_notice_partitions(files: ClusterFiles) -> Iterator[Problem]:
    """Every node is told how soon a cut connection and a dead node are noticed, and Ray is started again."""
    told = environment(files)
    missing = [one for one in NODE_ENV if one not in told]
    if missing:
        yield Problem("docker.run_options", f"Ray is not told {', '.join(missing)} (--env NAME=VALUE)")
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [one for one in files.cluster().get(name, []) if "ray start" in one]
        if not starts or any("keep_node" not in one or "--block" not in one for one in starts):
            yield Problem(
                name, "ray start stands without its keeper (cineray.launch.nodes.keep_node ... ray start --block)"
            )


def environment(files: ClusterFiles) -> dict[str, str]:
    """What containers find in their environment, of the options of all of them."""
    options = files.cluster().get("docker", {}).get("run_options", [])
    pairs = [re.fullmatch(r"(?:--env|-e)[ =](\w+)=(.*)", str(one)) for one in options]
    return {found[1]: found[2] for found in pairs if found}


def nobody_gets_in_without_the_token(files: ClusterFiles) -> Iterator[Problem]:
    """Ray asks for its token, which travels as a file; the dashboard listens on the head alone."""
    told, env = files.cluster(), environment(files)
    if env.get("RAY_AUTH_MODE") != "token":
        yield Problem("docker.run_options", "RAY_AUTH_MODE is not token: anybody who reaches the dashboard runs code")
    if env.get("RAY_AUTH_TOKEN_PATH") not in told.get("file_mounts", {}):
        yield Problem("file_mounts", "RAY_AUTH_TOKEN_PATH names no file that is brought along")
    for name in env:
        if name == "RAY_AUTH_TOKEN" or re.search(r"SECRET|PASSWORD|API_KEY", name):
            yield Problem("docker.run_options", f"{name} would stand in plain text; name a file")
    for one in told.get("head_start_ray_commands", []):
        if "ray start" in one and "--dashboard-host=127.0.0.1" not in one:
            yield Problem("head_start_ray_commands", "the dashboard must listen on 127.0.0.1; a tunnel leads to it")


def nothing_is_open_to_the_world(files: ClusterFiles) -> Iterator[Problem]:
    """No machine has a public address, and no rule lets the world in."""
    provider = files.cluster().get("provider", {})
    if provider.get("use_internal_ips") is not True:
        yield Problem("provider", "use_internal_ips is not true: machines would get public addresses")
    for name, node in nodes(files):
        # A group that Ray makes is open at port 22 to all, also with provider.security_group.IpPermissions.
        if provider.get("type") == "aws" and not node.get("SecurityGroupIds"):
            yield Problem(name, "SecurityGroupIds is missing: a group that Ray makes is open to 0.0.0.0/0 at port 22")
        if any("accessConfigs" in one for one in node.get("networkInterfaces", [])):
            yield Problem(name, "accessConfigs gives it a public address")


def machines_have_least_rights(files: ClusterFiles) -> Iterator[Problem]:
    """Machines are somebody with few rights, ask the metadata address in the safe way, and encrypt their disks."""
    provider = files.cluster().get("provider", {})
    for name, node in nodes(files):
        if provider.get("type") == "aws":
            yield from _aws_node(name, node)
        if provider.get("type") == "gcp" and not node.get("serviceAccounts"):
            yield Problem(name, "serviceAccounts is missing: it would be the project's default account")
    if provider.get("type") == "azure" and not {"msi_name", "msi_resource_group"} <= set(provider):
        yield Problem("provider", "msi_name and msi_resource_group are missing: Ray would make an owner of the group")


def _aws_node(name: str, node: Document) -> Iterator[Problem]:
    profile = str(node.get("IamInstanceProfile", ""))
    if not profile:
        yield Problem(name, "IamInstanceProfile is missing: Ray gives the head all rights to EC2 and S3 by itself")
    if "FullAccess" in profile:
        yield Problem(name, f"IamInstanceProfile is {profile}; wanted one with the rights of policies/")
    if node.get("MetadataOptions", {}).get("HttpTokens") != "required":
        yield Problem(name, "MetadataOptions.HttpTokens is not required: any request forgery reads its credentials")
    disks = [one["Ebs"] for one in node.get("BlockDeviceMappings", []) if "Ebs" in one]
    if not disks or any(not one.get("Encrypted") for one in disks):
        yield Problem(name, "BlockDeviceMappings has no disk, or one that is not Encrypted")


def pools_fall_back(files: ClusterFiles) -> Iterator[Problem]:
    """Spot has more than one type to choose from, and a pool on demand behind it that is chosen last."""
    decode = [pool for pool in files.pools() if pool.role == "decode"]
    spot, sure = [one.name for one in decode if one.is_spot], [one.name for one in decode if not one.is_spot]
    if len(spot) == 1:
        yield Problem(spot[0], "is the only spot type; where it is sold out nothing decodes")
    if spot and not sure:
        yield Problem("available_node_types", "no decoding pool is on demand; wanted one for when no spot is to be had")
    if spot and sure:
        yield from _chosen_in_order(node_types(files), spot, sure)
    told = files.cluster().get("head_start_ray_commands", [])
    written = [one.split()[-1] for one in told if "cineray.launch.nodes.sold_out" in one]
    if spot and not any(f"--autoscaling-config={path}" in one.split() for path in written for one in told):
        problem = (
            "refused a type, Ray asks for it again for ever: wanted cineray.launch.nodes.sold_out beside ray start, and"
        )
        yield Problem("head_start_ray_commands", f"{problem} --autoscaling-config naming the file that it writes")


def _chosen_in_order(types: dict[str, Any], spot: list[str], sure: list[str]) -> Iterator[Problem]:
    """Ray looks first at how well a type's resources fit, then at its priority."""
    first = min(types[name].get("priority", 0) for name in spot)
    for name in sure:
        priority = types[name].get("priority", 0)
        if priority >= first:
            yield Problem(name, f"priority is {priority}, and of spot {first}; Ray takes the highest first")
    offered = types[spot[0]].get("resources", {})
    for name in (*spot[1:], *sure):
        other = types[name].get("resources", {})
        if other != offered:
            problem = f"offers {other}, and {spot[0]} {offered}; Ray heeds priority only where types fit equally well"
            yield Problem(name, problem)
    if "memory" not in offered:
        problem = "resources say no memory, which Ray Data's tasks ask for; wanted bytes, the same for each type"
        yield Problem(spot[0], f"{problem}: else Ray starts the type with the least first, or none at all")


def nodes_go_when_idle(files: ClusterFiles) -> Iterator[Problem]:
    """Idle machines end, within ten minutes, and are not kept stopped; notices of the cloud are heard."""
    told = files.cluster()
    if not 0 < told.get("idle_timeout_minutes", 0) <= 10:
        yield Problem("idle_timeout_minutes", f"is {told.get('idle_timeout_minutes')}; wanted more than 0, at most 10")
    if told.get("provider", {}).get("cache_stopped_nodes", True):
        yield Problem("provider", "cache_stopped_nodes is not false: ended machines stay, with their disks")
    spot = any(is_spot(node) for _, node in nodes(files))
    if spot and not any("spot_watch" in one for one in told.get("worker_start_ray_commands", [])):
        yield Problem("worker_start_ray_commands", "nothing listens for spot notices (cineray.launch.nodes.spot_watch)")


def machines_can_be_set_up(files: ClusterFiles) -> Iterator[Problem]:
    """What Ray and docker do before Ray starts works on the machines that clouds give."""
    told = files.cluster()
    if "setup_commands" not in told:
        problem = "is missing, and Ray's own would run: they ask for conda, or install another Ray; wanted []"
        yield Problem("setup_commands", problem)
    for one in told.get("initialization_commands", []):
        # Commands after this one use a connection that began before it, for as long as Ray keeps it: 10 s.
        if "usermod -aG docker" in one and not re.search(r"usermod[^;|]*&& sleep 1\d", one):
            yield Problem(
                "initialization_commands", "usermod is not waited for: docker would refuse the user; sleep 12"
            )


def registries_let_machines_in(files: ClusterFiles) -> Iterator[Problem]:
    """Docker asks a helper who the machine is, at each pull: `ray up` on a machine that is there pulls before anything
    else, and what `docker login` left there has grown old."""
    commands = " ".join(map(str, files.cluster().get("initialization_commands", [])))
    for image in sorted(_images(files)):
        registry = image.partition("/")[0]
        helped = "credsStore" in commands or ("credHelpers" in commands and registry in commands)
        if registry.endswith(PRIVATE_REGISTRIES) and not helped:
            problem = (
                f"no helper lets docker into {registry}; wanted credHelpers or credsStore in ~/.docker/config.json"
            )
            yield Problem("initialization_commands", problem)


def _images(files: ClusterFiles) -> set[str]:
    """Of containers, as they are named."""
    docker = [files.cluster().get("docker", {}), *(one.get("docker", {}) for one in node_types(files).values())]
    return {str(one[name]) for one in docker for name in ("image", "head_image", "worker_image") if name in one}


def node_types(files: ClusterFiles) -> dict[str, Any]:
    """By name."""
    found: dict[str, Any] = files.cluster().get("available_node_types", {})
    return found


def nodes(files: ClusterFiles) -> list[tuple[str, Document]]:
    """What each type asks of the cloud."""
    return [(name, one.get("node_config", {})) for name, one in node_types(files).items()]


MACHINE_RULES: dict[str, Callable[[ClusterFiles], Iterator[Problem]]] = {
    "images": image_is_pinned,
    "head": head_only_manages,
    "pools": pools_are_apart,
    "GPUs": heads_tell_of_gpus,
    "fallback": pools_fall_back,
    "partitions": nodes_notice_partitions,
    "locked": nobody_gets_in_without_the_token,
    "closed": nothing_is_open_to_the_world,
    "rights": machines_have_least_rights,
    "scaling": nodes_go_when_idle,
    "set up": machines_can_be_set_up,
    "registry": registries_let_machines_in,
}
"""All rules, by their subject."""
