"""A Ray to work on, quietly: the caller's own, the cluster at an address, or an embedded one that ends with it.

Left to itself Ray looks further: it joins the cluster that anybody started last on this machine, and it starts again
when a left-over thread calls it after its end. This process would then die whenever that cluster does; here it cannot.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from cineray.errors import CinerayError

CONNECT_SECONDS = 10.0
_SIZES = ("num_cpus", "num_gpus", "resources", "labels", "object_store_memory")
"""What a cluster that is already there does not want to be told."""


@contextmanager
def connected(address: str = "", **how: Any) -> Iterator[None]:
    """While inside, Ray is there: at `address`, at $RAY_ADDRESS (as in a Ray job), or embedded in this process.

    `how` goes to `ray.init`; sizes (`num_cpus`, ...) only shape an embedded one.
    """
    import ray
    import ray.data

    never_start_by_itself()
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS", "")
    _check_answers(address)
    # Ray's processes are started by fork and exec; nothing of Lance is used in between.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if address:
        how = {"address": address} | {name: value for name, value in how.items() if name not in _SIZES}
    else:
        how = {"address": "local", "include_dashboard": False} | how
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **how)
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


def never_start_by_itself() -> None:
    """From now on, a call to Ray where none is there is an error, and starts none.

    Ray offers this only as RAY_ENABLE_AUTO_CONNECT=0 in the environment, which it reads when it is first imported.
    """
    from ray._private import auto_init_hook

    auto_init_hook.enable_auto_connect = False


def _check_answers(address: str) -> None:
    """Ray itself waits for minutes for a cluster that is not there."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdecimal():
        return  # `auto`, or nothing: an embedded Ray
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise CinerayError(f"Ray could not be reached at {address}: {error}; check the address") from error
