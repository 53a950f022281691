"""`ray up` again after the head's machine was started anew: what Ray does with it then, by each file for machines.

Ray's own updater runs, the part of `ray up` that goes over ssh; the machine is a list of the commands that came, and
knows only whether its container runs.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray")
from ray.autoscaler.node_provider import NodeProvider

VM = Path(__file__).resolve().parents[2] / "cluster" / "vm"


class Head:
    """Looks like the module `subprocess` to Ray, which would start ssh by it."""

    CalledProcessError = subprocess.CalledProcessError

    def __init__(self, told: dict[str, Any]) -> None:
        self.told, self.runs, self.did = told, False, []
        self.provider = Provider()

    def check_output(self, command: list[str], **_: Any) -> bytes:
        text = command[-1]
        if "State.Running" in text:
            return str(self.runs).lower().encode()
        if "Config.Image" in text:
            return self.told["docker"]["image"].encode()
        return b"[]" if "Config.Env" in text else b"/opt/cineray"

    def check_call(self, command: list[str], **_: Any) -> int:
        text = command[-1].replace("'\"'\"'", "'")
        early = [str(one).split("\n")[0] for one in self.told["initialization_commands"]]
        doings = {"docker pull": "pull", "docker run --rm": "run", "ray start": "Ray"} | dict.fromkeys(early, "prepare")
        found = next((doing for words, doing in doings.items() if words in text), "")
        if found and self.did[-1:] != [found]:
            self.did.append(found)
        self.runs = self.runs or found == "run"
        return 0

    def up(self) -> list[str]:
        """What is done to it, in order."""
        from ray.autoscaler._private.updater import NodeUpdater

        self.did = []
        told, docker = self.told, {"file_mounts": {}, "file_mounts_contents_hash": "", "setup_commands": []}
        NodeUpdater(
            node_id="head",
            provider_config={"type": "mine", "use_internal_ips": True},
            provider=self.provider,
            auth_config={"ssh_user": "ubuntu"},
            cluster_name="cineray",
            initialization_commands=told["initialization_commands"],
            ray_start_commands=told["head_start_ray_commands"],
            runtime_hash="the same file",
            is_head_node=True,
            process_runner=self,
            docker_config=told["docker"],
            **docker,
        ).run()
        return self.did


class Provider(NodeProvider):  # type: ignore[misc]
    """A cloud with this one machine, which has its address and its tags also after a reboot."""

    def __init__(self) -> None:
        super().__init__({}, "cineray")
        self.tags: dict[str, str] = {}

    def node_tags(self, node_id: str) -> dict[str, str]:
        return dict(self.tags)

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        self.tags |= tags

    def is_terminated(self, node_id: str) -> bool:
        return False

    def internal_ip(self, node_id: str) -> str:
        return "10.0.0.7"


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
def test_after_a_reboot_ray_up_prepares_the_machine_and_starts_container_and_ray_again(cloud: str) -> None:
    """By itself nothing does: a container that docker was told to remove (`--rm`) is not there after a reboot."""
    head = Head(yaml.safe_load((VM / f"{cloud}.yaml").read_text()))
    assert head.up() == ["prepare", "pull", "run", "Ray"]
    assert head.up() == ["pull", "Ray"], "a head that runs is left alone, and told again to start Ray"
    head.runs = False
    assert head.up() == ["pull", "prepare", "pull", "run", "Ray"], "so docker must get into the registry beforehand"
