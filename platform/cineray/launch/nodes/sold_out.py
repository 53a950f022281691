"""What a cloud has none of is asked for last: launches that it refused come in, the autoscaler's file goes out.

    python -m cineray.launch.nodes.sold_out ~/ray_bootstrap_config.yaml ~/scaling.yaml      beside `ray start --head`

Of the node types that fit a demand equally well, Ray's autoscaler for machines starts the one with the highest
`priority`, of equal ones the first in its file. When the cloud refuses, it asks for the same type again five seconds
later, for ever: what it remembers are machines that came, and on which Ray did not start. But it reads its file anew
each time. This program writes that file. It says what `ray up` brought, but types that were refused within ten minutes
come behind all others, and the one refused last at the very end: so another spot type is asked for, then machines on
demand, and after a while the first one again.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cineray.errors import CinerayError, UsageError
from cineray.launch.cluster.kustomize import Document

EVERY_SECONDS = 5.0
"""As often as Ray's autoscaler looks."""
FORGET_SECONDS = 600.0
"""A cloud's stock changes within minutes; asking in vain costs one look of the autoscaler."""

Look = Callable[[], Mapping[str, float]]
Tell = Callable[..., None]


class AutoscalerSilent(CinerayError):
    """Ray's autoscaler could not be asked what became of its launches."""


def without_refused(cluster: Document, refused: Mapping[str, float], now: float) -> Document:
    """The same cluster, with the types that were refused lately behind all others. `refused`: when, by type."""
    changed = copy.deepcopy(cluster)
    types = changed["available_node_types"]
    lately = [name for name, at in refused.items() if name in types and now - at < FORGET_SECONDS]
    lowest = min(one.get("priority", 0) for one in types.values())
    for place, name in enumerate(sorted(lately, key=lambda name: (refused[name], name)), start=1):
        types[name]["priority"] = lowest - place
    return changed


def refusals(address: str) -> dict[str, float]:
    """When each node type was refused last, in Unix seconds, by what the autoscaler of this cluster says."""
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.exceptions import RayError

    try:
        return last_refused(get_cluster_status(address).failed_launches)
    except RayError as error:
        raise AutoscalerSilent(f"Ray at {address} does not tell its autoscaler's state: {error}") from error


def last_refused(launches: Iterable[Any]) -> dict[str, float]:
    """The last time of each type, of Ray's records of launches that failed."""
    found: dict[str, float] = {}
    for one in launches:
        found[one.ray_node_type_name] = max(found.get(one.ray_node_type_name, 0.0), float(one.failed_ts_s or 0))
    return found


def own_address() -> str:
    """host:port of the Ray on this machine."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        address: str = canonicalize_bootstrap_address_or_die("auto")
    except ConnectionError as error:
        raise AutoscalerSilent(f"{error} This program belongs beside `ray start --head`") from error
    return address


def read_plan(path: Path) -> Document:
    """What `ray up` brought."""
    import yaml

    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read: {error}; wanted the file that `ray up` leaves on its head") from error
    if not isinstance(told, dict) or not told.get("available_node_types"):
        raise UsageError(f"{path} has no available_node_types; wanted the file that `ray up` leaves on its head")
    return told


def write_whole(told: Document, path: Path) -> bool:
    """Replace the file, if it would change; who reads it sees the old one or the new one. Whether it changed."""
    text = json.dumps(told)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
    return True


def priorities(cluster: Document) -> dict[str, int]:
    """Of all its node types."""
    return {name: one.get("priority", 0) for name, one in cluster["available_node_types"].items()}


def keep_order(plan: Path, out: Path, look: Look, *, tell: Tell, every_seconds: float = EVERY_SECONDS) -> None:
    """Look and write, for ever. An autoscaler that is silent, because Ray starts or restarts, is told once."""
    silent = False
    while True:
        try:
            refused = look()
        except AutoscalerSilent as error:
            if not silent:
                tell("autoscaler_silent", error=str(error))
            silent = True
        else:
            silent = False
            wanted = without_refused(read_plan(plan), refused, time.time())
            if write_whole(wanted, out):
                tell("order", priorities=priorities(wanted))
        time.sleep(every_seconds)


def _tell(event: str, **facts: Any) -> None:
    """A line of JSON on standard error, which the head's log keeps."""
    print(json.dumps({"at": round(time.time(), 3), "event": event, **facts}), file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """What `python -m cineray.launch.nodes.sold_out` does."""
    parser = argparse.ArgumentParser(
        prog="python -m cineray.launch.nodes.sold_out", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("plan", type=Path, help="the file that `ray up` leaves on the head")
    parser.add_argument("out", type=Path, help="the file that `ray start --autoscaling-config` names")
    parser.add_argument("--address", default="", help="host:port of the Ray head; default: the one on this machine")
    parser.add_argument("--every-seconds", type=float, default=EVERY_SECONDS, help="how often to look")
    told = parser.parse_args(arguments)
    try:
        keep_order(
            told.plan.expanduser(),
            told.out.expanduser(),
            lambda: refusals(told.address or own_address()),
            tell=_tell,
            every_seconds=told.every_seconds,
        )
    except CinerayError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
