"""Ways into a Ray that a test tries: each procedure of Ray's own protocol, on each port, without a token and with a
wrong one; and drivers that come with the right one, with none, and with another. What answers or comes in goes out.

Procedures are found in the definitions that this Ray ships, so that a new one is tried too. `within` starts what asks
elsewhere, in another network namespace.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
from pathlib import Path

from ray.core import generated

from cineray.testing.clusters.ray_head import RayHead

Answers = list[tuple[str, str]]
"""Procedure and status."""

_ONLY_IN_CPP = {
    "ray.rpc.ObjectManagerService": ("Push", "Pull", "FreeObjects"),
    "ray.rpc.syncer.RaySyncer": ("StartSync",),
    "grpc.reflection.v1alpha.ServerReflection": ("ServerReflectionInfo",),
}
"""Of these Ray ships no definitions for Python."""
OPEN_TO_ALL = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
"""gRPC's own list of what can be asked."""
SYNC = "/ray.rpc.syncer.RaySyncer/StartSync"
_ASKS = """
import grpc, json, sys
from concurrent.futures import ThreadPoolExecutor
told = json.load(sys.stdin)
def answers(address):
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=told["seconds"])
        except grpc.FutureTimeoutError:
            return None
        ask = lambda name, key: channel.unary_unary(name).future(b"", timeout=60, metadata=key)
        # Some read who asks before they look at the token, and end where nobody says it.
        me = ("node_id", "0" * 56)
        keys = [[me], [me, ("authorization", "Bearer " + "0" * 64)]]
        calls = [(name, ask(name, key)) for name in told["names"] for key in keys]
        return [(name, call.code().name) for name, call in calls]
with ThreadPoolExecutor(8) as threads:
    print(json.dumps(list(threads.map(answers, told["addresses"]))))
"""
_ENTER = "import ray; ray.init(address='{address}', logging_level='ERROR'); print('in', len(ray.nodes()))"
_WRONG = {"no token": {"RAY_AUTH_MODE": "disabled"}, "a wrong one": {"RAY_AUTH_TOKEN": "0" * 64}}


def procedures() -> list[str]:
    """All of Ray's own protocol, of heads, nodes, workers, agents and clients' doors, as its definitions list it."""
    files = sorted(Path(generated.__path__[0]).glob("*_pb2.py"))
    modules = [importlib.import_module(f"{generated.__name__}.{file.stem}") for file in files]
    services = [one for module in modules for one in module.DESCRIPTOR.services_by_name.values()]
    named = [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]
    return named + [f"/{service}/{method}" for service, methods in _ONLY_IN_CPP.items() for method in methods]


def spoken(within: tuple[str, ...], ip: str, ports: list[int]) -> dict[int, Answers]:
    """Of the ports that speak gRPC: what each procedure answers, asked without a token and with a wrong one."""
    told = {"addresses": [f"{ip}:{port}" for port in ports], "names": procedures(), "seconds": 10}
    command = [*within, sys.executable, "-c", _ASKS]
    done = subprocess.run(command, input=json.dumps(told), capture_output=True, text=True, check=True, timeout=300)
    return {port: found for port, found in zip(ports, json.loads(done.stdout), strict=True) if found is not None}


def entered(found: dict[int, Answers]) -> list[str]:
    """What did anything else than to refuse, or not to be there; but for what is open to all."""
    refused = ("UNAUTHENTICATED", "UNIMPLEMENTED")
    answers = [(port, name, code) for port, told in found.items() for name, code in told if name != OPEN_TO_ALL]
    return [f"{port}{name}: {code}" for port, name, code in answers if code not in refused]


def who_enters(head: RayHead, within: tuple[str, ...] = ()) -> list[str]:
    """Which of several drivers gets in. One without the right token waits for longer than anybody would: those begin
    first, and are ended when two with the right one have come in, one after the other."""
    outside = {name: text for name, text in head.environment.items() if name != "RAY_AUTH_TOKEN_PATH"}
    command = [*within, sys.executable, "-c", _ENTER.format(address=head.address)]

    def driver(**environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            env=outside | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    with contextlib.ExitStack() as ended:
        drivers = {name: ended.enter_context(driver(**told)) for name, told in _WRONG.items()}
        for one in drivers.values():
            ended.callback(one.kill)
        entered = []
        for _ in range(2):
            said, _ = driver(RAY_AUTH_TOKEN=head.token).communicate(timeout=120)
            entered += ["the token"] if "in 1" in said else []
        for name, one in drivers.items():
            one.kill()
            entered += [name] if "in 1" in (one.stdout.read() if one.stdout else "") else []
    return entered
