"""An AWS of a test's own, whose machines are real: what EC2 says is running is a machine that one comes into by ssh.

    with Network() as network, Cloud(network, repository) as cloud:
        cloud.laptop.run([...])                    # where `ray up` is typed
        cloud.ask("ec2", "describe_instances")
        cloud.machines["i-0abc"].run([...])

moto answers as EC2, IAM and S3; a thread asks it which instances there are, boots a machine of `Network` at the private
address of each, as ubuntu_boot.py makes it, and switches it off when it is terminated. `machines_of_aws_missing()` says
why there can be no such cloud here.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from cineray.testing.clusters import aws_metadata, aws_server, ubuntu_boot, ubuntu_docker
from cineray.testing.clusters.aws_account import REGION, instances
from cineray.testing.clusters.machines import Machine, Network, machines_missing

NETWORK, SUBNET = "198.18.0.0/16", "198.18.64.0/20"
PORT = 5000
HOME = "/srv/me"
"""On the laptop."""
KEY_FILE = f"{HOME}/.ssh/ray-autoscaler_{REGION}.pem"
"""Where Ray keeps the key that it makes."""
_DISK = "/tmp/ray"  # noqa: S108 - of a machine, under the root that its users see
_EVERY_SECONDS = 0.3
_NEEDED = ("ssh", "sshd", "ssh-keygen", "rsync", "setpriv", "usermod", "chroot")


def machines_of_aws_missing() -> str | None:
    """Why there can be none here; None where there can."""
    if reason := machines_missing():
        return reason
    absent = [name for name in _NEEDED if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]
    if absent:
        return f"machines of AWS need the programs {', '.join(absent)} (packages openssh-server, rsync, passwd)"
    missing = [name for name in ("moto", "boto3", "werkzeug") if importlib.util.find_spec(name) is None]
    return f"a fake AWS needs {', '.join(missing)}" if missing else None


class Cloud:
    """The account, its machines, and the laptop of who uses it."""

    def __init__(self, network: Network, repository: Path) -> None:
        self._network, self._repository = network, repository
        self._lock, self._over = threading.Lock(), threading.Event()
        self.machines: dict[str, Machine] = {}
        """By the id of their instance; those that run."""
        self.instances: list[dict[str, Any]] = []
        """All that EC2 knew a moment ago, as `aws_account.instances` tells of them."""
        self.failed: BaseException | None = None

    def __enter__(self) -> Cloud:
        server = self._network.add("aws")
        self.url = f"http://{server.address}:{PORT}"
        self._server = server.popen(
            ["python", aws_server.__file__, server.address, str(PORT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._heard()
        self.ec2, self.iam = Client(self, "ec2"), Client(self, "iam")
        self.laptop = self._network.add("laptop")
        self._boot(self.laptop, key="")
        self._follower = threading.Thread(target=self._follow, daemon=True)
        self._follower.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._follower.join()
        self._server.kill()
        self._server.wait()

    def ask(self, service: str, call: str, **told: Any) -> Any:
        """What one of AWS's services answers."""
        with self._lock:
            assert self._server.stdin is not None
            self._server.stdin.write(json.dumps({"service": service, "call": call, "told": told}) + "\n")
            self._server.stdin.flush()
            return self._heard()

    def asked(self) -> dict[str, set[str]]:
        """Who has asked for what until now; machines ask as their profile."""
        found: dict[str, set[str]] = {}
        for who, what, _times in self.ask("", "asked"):
            found.setdefault(who, set()).add(what)
        return found

    def sell_out(self, kind: str, market: str = "spot") -> None:
        """From now on EC2 has no more machines of this type, as spot or on-demand."""
        self.ask("", "sell_out", type=kind, market=market)

    def on_laptop(self, *command: str, env: Mapping[str, str] | None = None) -> list[str]:
        """What `laptop.run` and `.popen` take to start a program there as its user would."""
        told = {"HOME": HOME, "USER": "me", "LOGNAME": "me", **(env or {})}
        return ["chroot", str(ubuntu_boot.ROOT), "env", *(f"{name}={text}" for name, text in told.items()), *command]

    def notice(self, instance: str, action: Mapping[str, str]) -> None:
        """What the machine's metadata say from now on."""
        path = self.machines[instance].outside(f"{_DISK}/notice")
        path.with_suffix(".new").write_text(json.dumps(action))
        path.with_suffix(".new").rename(path)

    def _heard(self) -> Any:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError(f"the fake AWS ended with {self._server.wait()}; see above")
        return json.loads(line)

    # ---- its machines ------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        try:
            while not self._over.wait(_EVERY_SECONDS):
                self.instances = instances(self.ec2)
                running = {one["InstanceId"]: one for one in self.instances if one["State"]["Name"] == "running"}
                for name in running.keys() - self.machines.keys():
                    if "IamInstanceProfile" in running[name]:  # it gets its profile a moment after it runs
                        self._launch(running[name])
                for name in self.machines.keys() - running.keys():
                    self.machines.pop(name).power_off()
        except BaseException as error:
            self.failed = error
            raise

    def _launch(self, instance: Mapping[str, Any]) -> None:
        machine = self._network.add(instance["InstanceId"], address=instance["PrivateIpAddress"])
        told = machine.outside(_DISK)
        (told / "role").write_text(instance["IamInstanceProfile"]["Arn"].rpartition("/")[2])
        machine.run(["ip", "addr", "add", f"{aws_metadata.ADDRESS}/32", "dev", "lo"])
        machine.popen(["python", "-I", "-S", aws_metadata.__file__, _DISK])
        private = self.laptop.outside(f"{ubuntu_boot.ROOT}{KEY_FILE}")
        key = subprocess.run(["ssh-keygen", "-y", "-f", private], capture_output=True, text=True, check=True).stdout
        self._boot(machine, key=key.strip())
        self.machines[instance["InstanceId"]] = machine

    def _boot(self, machine: Machine, *, key: str) -> None:
        told = {
            "key": key,
            "image": image_told(self._repository),
            "open": closed_folders(self._repository),
            "python": sys.executable,
            "docker": ubuntu_docker.__file__,
        }
        program = machine.popen(
            ["python", "-I", "-S", ubuntu_boot.__file__, json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert program.stdout is not None
        if program.stdout.readline() != "up\n":
            raise RuntimeError(f"{machine.name} did not boot; it ended with {program.wait(60)}")


class Client:
    """Looks like one of boto3's."""

    def __init__(self, cloud: Cloud, service: str) -> None:
        self._cloud, self._service = cloud, service

    def __getattr__(self, call: str) -> Any:
        return lambda **told: self._cloud.ask(self._service, call, **told)


def image_told(repository: Path) -> dict[str, Any]:
    """What the container image is, by its Dockerfile; its Python is the one of the tests."""
    text = (repository / "cluster" / "image" / "Dockerfile").read_text().replace("\\\n", " ")
    (env,) = re.findall(r"^ENV (PIP_NO_CACHE_DIR=.*)$", text, flags=re.M)
    (user,) = set(re.findall(r"^USER (.*)$", text, flags=re.M))
    (made,) = re.findall(r"useradd [^&]*", text)
    home = re.search(r"--home-dir (\S+)", made)
    assert home is not None
    told = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **dict(one.split("=", 1) for one in env.split())}
    return {"env": told, "user": user, "name": made.split()[-1], "home": home[1]}


def closed_folders(*paths: Path) -> Sequence[str]:
    """Folders on the way to the tests' Python and to these that only their owner may enter."""
    wanted = {Path(sys.prefix), Path(sys.base_prefix).resolve(), *paths}
    return sorted({str(one) for path in wanted for one in (path, *path.parents) if not one.stat().st_mode & 1})
