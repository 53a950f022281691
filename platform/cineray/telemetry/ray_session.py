"""A Ray to work on, quietly: the caller's own, the cluster at an address, or an embedded one that ends with it."""

from __future__ import annotations

import logging
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from cineray.errors import CinerayError

CONNECT_SECONDS = 10.0


@contextmanager
def connected(address: str = "", **how: Any) -> Iterator[None]:
    """While inside, Ray is there. `how` goes to `ray.init`."""
    import ray
    import ray.data

    if ray.is_initialized():
        yield
        return
    _check_answers(address)
    # Ray's processes are started by fork and exec; nothing of Lance is used in between.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    where: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
    try:
        ray.init(**where, logging_level=logging.ERROR, log_to_driver=False, **how)
    except (OSError, RuntimeError, ValueError) as error:
        raise CinerayError(
            f"Ray could not be reached at {address or 'this machine'}: {error}; check the address and `cineray doctor`"
        ) from error
    try:
        # Ray prints notices of dead workers to standard output, which belongs to the result.
        with redirect_stdout(sys.stderr):
            yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Ray itself waits for minutes for a cluster that is not there."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdecimal():
        return  # `auto`, or nothing: an embedded Ray
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise CinerayError(f"Ray could not be reached at {address}: {error}; check the address") from error
