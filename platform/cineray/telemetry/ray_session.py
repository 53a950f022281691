"""A Ray to work on, quietly: the caller's own, the cluster at an address, or an embedded one that ends with it.

Left to itself Ray looks further: it joins the cluster that anybody started last on this machine, and it starts again
when a left-over thread calls it after its end. This process would then die whenever that cluster does; here it cannot.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
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
        keep_token_private()
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


def keep_token_private() -> None:
    """Make the token of this user's Rays before Ray does, or close it to others.

    Ray writes it for all users of the machine to read, and whoever has it can run programs as this user.
    """
    if any(os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        return  # somebody else has said how
    path = Path.home() / ".ray" / "auth_token"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise CinerayError(f"Ray's token could not be kept at {path}: {error}; set RAY_AUTH_TOKEN_PATH") from error


def _check_answers(address: str) -> None:
    """Ray itself waits for minutes for a cluster that is not there."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdecimal():
        return  # `auto`, or nothing: an embedded Ray
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise CinerayError(f"Ray could not be reached at {address}: {error}; check the address") from error
