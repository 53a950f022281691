"""Connections that know where they may lead. A host goes in; a socket to a permitted address comes out.

urllib3 resolves a name and connects within one call, so the test has to sit inside the connection: every address that
the name resolves to is tested before anything is sent to it, we connect to that very address without a second look-up,
and the peer that the socket names afterwards is tested again. TLS and HTTP begin only then. Proxies that the
environment names are not used: behind one, the address that answers would be the proxy's.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import OrderedDict
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from cineray.storage.policy import AccessPolicy

_MAX_POOLS = 64
_pools: OrderedDict[tuple[int, AccessPolicy, str, str, int], HTTPConnectionPool] = OrderedDict()
_lock = threading.Lock()
# A fork may happen while another thread holds the lock, and that thread is not in the child to let it go.
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


def guarded_pool(policy: AccessPolicy, scheme: str, host: str, port: int | None) -> HTTPConnectionPool:
    """The pool of kept connections to this host under this policy, in this process."""
    number = port or {"http": 80, "https": 443}[scheme]
    key = (os.getpid(), policy, scheme, host, number)
    with _lock:
        if key not in _pools:
            kind = {"http": _GuardedHttpPool, "https": _GuardedHttpsPool}[scheme]
            _pools[key] = kind(host, number, maxsize=16, policy=policy)
            if len(_pools) > _MAX_POOLS:
                _pools.popitem(last=False)
        _pools.move_to_end(key)
        return _pools[key]


class _GuardedHttp(HTTPConnection):
    def __init__(self, *arguments: Any, policy: AccessPolicy, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._policy = policy

    def _new_conn(self) -> socket.socket:
        return _connect(self, self._policy)


class _GuardedHttps(HTTPSConnection):
    def __init__(self, *arguments: Any, policy: AccessPolicy, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._policy = policy

    def _new_conn(self) -> socket.socket:
        return _connect(self, self._policy)


class _GuardedHttpPool(HTTPConnectionPool):
    ConnectionCls = _GuardedHttp


class _GuardedHttpsPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedHttps


def _connect(connection: HTTPConnection, policy: AccessPolicy) -> socket.socket:
    """A connected socket whose peer the policy permits; raises PlaceRefused, or what urllib3 raises."""
    host, port = connection.host, connection.port or connection.default_port
    policy.check_host(host)
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise NameResolutionError(host, connection, socket.gaierror(str(error))) from error
    for *_, address in found:
        # One forbidden address among several is enough: names that mix them are made to get past this test.
        policy.check_address(host, str(address[0]))
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(connection.timeout)
            for option in connection.socket_options or ():
                sock.setsockopt(*option)
            sock.connect(address)
            policy.check_address(host, str(sock.getpeername()[0]))
            return sock
        except OSError as error:
            failure = error
            sock.close()
        except BaseException:
            sock.close()
            raise
    if isinstance(failure, TimeoutError):
        raise ConnectTimeoutError(connection, f"connecting to {host} took over {connection.timeout} s") from failure
    raise NewConnectionError(connection, f"connecting to {host}:{port} failed: {failure}") from failure
