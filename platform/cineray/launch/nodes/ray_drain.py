"""Telling Ray that a node will be gone: an address, a node and a deadline go in; Ray starts nothing new on it any more.

Running work stays until the deadline, and a node without any leaves at once. Ray Train's controllers hear of it and
have their workers save a checkpoint; Ray itself ends no work, whoever takes the machine away does. The interface below
is the one behind Ray's own hidden command `ray drain-node`, and is not promised to stay: all that we use of it is in
this file, and a test drains a real node.
"""

from __future__ import annotations

import time
from collections.abc import Collection

import psutil
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated import autoscaler_pb2, gcs_pb2

from cineray.errors import CinerayError

ANSWER_SECONDS = 5.0


class DrainRefused(CinerayError):
    """Ray could not be asked to drain this node, or said no."""


def drain(address: str, node_id: str, *, reason: str, deadline: float) -> None:
    """Ask the cluster at `address` (host:port of its GCS). `deadline` is in Unix seconds."""
    try:
        accepted, why = _client(address).drain_node(
            node_id,
            autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
            reason,
            int(1000 * max(deadline, time.time())),
        )
    except Exception as error:  # RPC errors come under names of Ray's own, which change
        raise DrainRefused(f"Ray at {address} could not be asked to drain node {node_id}: {error}") from error
    if not accepted:
        raise DrainRefused(f"Ray at {address} refused to drain node {node_id}: {why}")


def own_node(address: str) -> str:
    """The id of the node that runs on this machine."""
    return chosen_node(alive_nodes(address), own_ips(), address)


def alive_nodes(address: str) -> dict[str, str]:
    """The id and the IP address of each."""
    try:
        found = _client(address).get_all_node_info(timeout=ANSWER_SECONDS)
    except Exception as error:  # as above
        raise DrainRefused(f"Ray at {address} does not answer: {error}; check the address and the token") from error
    alive = gcs_pb2.GcsNodeInfo.GcsNodeState.Value("ALIVE")
    return {node.hex(): info.node_manager_address for node, info in found.items() if info.state == alive}


def chosen_node(nodes: dict[str, str], own: Collection[str], address: str) -> str:
    """Of all nodes the one with an address of ours."""
    here = sorted(node for node, ip in nodes.items() if ip in own)
    if len(here) == 1:
        return here[0]
    found = f"{len(here)} of its {len(nodes)} nodes are on this machine"
    next_step = "say which by --node-id" if here else "start the node first, or say which is meant by --node-id"
    raise DrainRefused(f"{found} (Ray at {address}); wanted one: {next_step}")


def own_ips() -> set[str]:
    """All IP addresses of this machine."""
    return {one.address for many in psutil.net_if_addrs().values() for one in many}


def _client(address: str) -> GcsClient:
    return GcsClient(address=address)
