"""One small process per node that watches for the cloud taking the machine away: its metadata address is asked every
few seconds; on a notice the node is drained, so that Ray starts nothing new there and trainers save a checkpoint.

    python -m cineray.launch.nodes.spot_watch --cloud aws          beside `ray start`, on each node
    python -m cineray.launch.nodes.spot_watch --now --seconds 25   as the preStop hook of a pod

Ray has no such watcher. This one waits for a Ray that is not up yet, puts up with a metadata address that is silent for
a while, also at its start, and tries again until the deadline when Ray does not answer. It ends with code 0 once the
node is drained; with an error where it shall find out whose machine it is on and no cloud speaks for ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from cineray.errors import CinerayError, UsageError
from cineray.launch.nodes.cloud_notice import CLOUDS, LINK_LOCAL, Metadata, MetadataSilent, Notice, Notices, notices_of

EVERY_SECONDS = 2.0
"""GCP gives half a minute in all."""
FIND_SECONDS = 600.0
"""A machine's network comes up after its programs may, and Azure takes two minutes to switch its events on."""
_RETRY_SECONDS = 1.0
_AFTER_DEADLINE_SECONDS = 30.0
"""A machine often lives somewhat longer than was said; draining it late is better than not."""

Drain = Callable[[Notice], None]
Tell = Callable[..., None]


def find(
    cloud: str,
    metadata: Metadata,
    *,
    tell: Tell,
    for_seconds: float = FIND_SECONDS,
    every_seconds: float = EVERY_SECONDS,
) -> Notices:
    """Whose notices to watch; while none of the clouds speaks, it is told once and asked again. Raises `MetadataSilent`
    when that has lasted so long that there is none."""
    began, told = time.monotonic(), False
    while True:
        try:
            return notices_of(cloud, metadata)
        except MetadataSilent as error:
            if not told:
                tell("metadata_silent", error=str(error), asked_for_seconds=for_seconds)
            told = True
            if time.monotonic() - began >= for_seconds:
                raise MetadataSilent(f"asked for {for_seconds:g} s: {error}") from error
        time.sleep(every_seconds)


def watch(source: Notices, *, tell: Tell, every_seconds: float = EVERY_SECONDS) -> Notice:
    """Ask until there is a notice. A silent metadata address is told once, and once more when it answers again."""
    silent = ""
    while True:
        try:
            found = source.notice()
        except MetadataSilent as error:
            if not silent:
                tell("metadata_silent", error=str(error))
            silent = str(error)
        else:
            if silent:
                tell("metadata_answers_again")
            silent = ""
            if found is not None:
                return found
        time.sleep(every_seconds)


def drain_in_time(notice: Notice, drain: Drain, *, tell: Tell) -> bool:
    """Drain, again and again until it is accepted or the machine must be gone. Whether it was."""
    while True:
        try:
            drain(notice)
        except CinerayError as error:
            tell("drain_failed", error=str(error), seconds_left=round(notice.seconds_left(), 1))
        else:
            tell("drained", seconds_left=round(notice.seconds_left(), 1))
            return True
        if time.time() > notice.deadline + _AFTER_DEADLINE_SECONDS:
            return False
        time.sleep(_RETRY_SECONDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch this node."""
    options = _parser().parse_args(arguments)
    try:
        address = _gcs_address(options.address)
        notice = _noticed(options)
    except CinerayError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    _tell("notice", cloud=notice.cloud, what=notice.what, seconds_left=round(notice.seconds_left(), 1))
    return 0 if drain_in_time(notice, _drain(address, options.node_id), tell=_tell) else 1


def _noticed(options: argparse.Namespace) -> Notice:
    if options.now:
        return Notice(cloud="here", what="asked to leave", deadline=time.time() + options.seconds)
    metadata = Metadata(options.metadata_url)
    often, patience = options.every_seconds, options.find_seconds
    source = find(options.cloud, metadata, tell=_tell, for_seconds=patience, every_seconds=often)
    _tell("watching", cloud=type(source).__name__.removesuffix("Notices").lower(), metadata_url=options.metadata_url)
    return watch(source, tell=_tell, every_seconds=often)


def _drain(address: str, node_id: str) -> Drain:
    def drain(notice: Notice) -> None:
        from cineray.launch.nodes import ray_drain

        node = node_id or ray_drain.own_node(address)
        ray_drain.drain(address, node, reason=f"{notice.cloud}: {notice.what}", deadline=notice.deadline)

    return drain


def _gcs_address(text: str) -> str:
    """`host:port`, and nothing that is for Ray's clients."""
    address = text or os.environ.get("RAY_ADDRESS", "")
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal()) or "://" in address:
        raise UsageError(
            f"the cluster's address is {address!r}; wanted host:port of its head as for `ray start --address`: "
            "give --address, or set RAY_ADDRESS"
        )
    return address


def _tell(event: str, **facts: Any) -> None:
    """A line of JSON on standard error, which the node's log keeps."""
    print(json.dumps({"at": round(time.time(), 3), "event": event, **facts}), file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cineray.launch.nodes.spot_watch", description=main.__doc__)
    parser.add_argument("--cloud", choices=["auto", *CLOUDS], default="auto", help="whose metadata address it is")
    parser.add_argument("--address", default="", help="host:port of the Ray head; default: $RAY_ADDRESS")
    parser.add_argument("--node-id", default="", help="the Ray node to drain; default: the one on this machine")
    parser.add_argument("--every-seconds", type=float, default=EVERY_SECONDS, help="how often to ask")
    parser.add_argument(
        "--find-seconds", type=float, default=FIND_SECONDS, help="with --cloud auto: when no answer means no cloud"
    )
    parser.add_argument("--metadata-url", default=LINK_LOCAL, help="where the metadata answers")
    parser.add_argument("--now", action="store_true", help="drain at once, without asking anybody")
    parser.add_argument("--seconds", type=float, default=25.0, help="with --now: when the machine goes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
