"""Makes a test's machine like a new Ubuntu of a cloud: a disk that is its own, the user `ubuntu`, sudo, docker, ssh.

    python -I -S ubuntu_boot.py '{"key": "ssh-rsa ...", "image": {...}, "open": [...], "packages": "..."}'

All of the host's files are there, and whatever is changed lies in the machine's memory. `ubuntu` comes in by the key
and becomes root by sudo alone; docker is for its group. Programs that would reach for the host's real disks or for a
network outside (lsblk, mkfs.ext4, apt-get) are replaced by ones that say what a machine without a second disk would,
or refuse. It ends by becoming the ssh server, or without a key by waiting. Standard library only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path("/srv/root")
"""The machine's `/`, to whoever enters its namespaces otherwise than by ssh."""
PROGRAMS = {
    "sudo": 'export PATH="/usr/local/bin:$PATH:/usr/sbin:/sbin"; '
    'exec /usr/local/libexec/as-root --reuid=0 --regid=0 --clear-groups -- "$@"',
    "docker": 'exec /usr/local/libexec/docker --reuid=0 --regid=0 --clear-groups -- {python} -I -S {docker} "$@"',
    "docker-credential-ecr-login": "echo the-secret-of-this-machine",
    "lsblk": "printf '/dev/nvme0n1   disk\\n'; [ \"$1\" = -no ] && echo /dev/nvme0n1p1; true",
    "mkfs.ext4": "echo 'this machine has no empty disk' >&2; exit 1",
    "apt-get": "echo 'this machine reaches no archive' >&2; exit 1",
}


def mount(*words: str | Path) -> None:
    """Here alone: no other mount namespace sees it."""
    subprocess.run(["mount", *map(str, words)], check=True)


def own_root(disk: Path = Path("/srv")) -> None:
    """An overlay of everything, and what is mounted elsewhere beside it."""
    told = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    mount("-t", "tmpfs", "-o", "mode=755", "none", disk)
    changes, work = disk / "changes", disk / "work"
    for path in (changes, work, ROOT):
        path.mkdir()
    mount("-t", "overlay", "-o", f"lowerdir=/,upperdir={changes},workdir={work}", "overlay", ROOT)
    carried: list[str] = []
    for one in sorted(set(told)):
        carried_with = any(one.startswith(f"{other}/") for other in carried)
        if one != "/" and not carried_with and not one.startswith("/tmp/") and os.path.exists(one):  # noqa: S108
            mount("--rbind", one, f"{ROOT}{one}")
            carried.append(one)


def add_users(user: str, number: int) -> None:
    """The only one with that number, and a group `docker` without members."""
    passwd, group, shadow = Path("/etc/passwd"), Path("/etc/group"), Path("/etc/shadow")
    kept = [line for line in passwd.read_text().splitlines() if line.split(":")[2] != str(number)]
    passwd.write_text("\n".join([*kept, f"{user}:x:{number}:{number}::/home/{user}:/bin/bash", ""]))
    groups = [line for line in group.read_text().splitlines() if line.split(":")[0] not in ("docker", user)]
    group.write_text("\n".join([*groups, f"{user}:x:{number}:", "docker:x:990:", ""]))
    shadow.write_text(f"{shadow.read_text()}{user}:*:19000:0:99999:7:::\n")


def add_home(user: str, number: int, key: str) -> None:
    """Where the key lets in."""
    home = Path("/home") / user
    shutil.copytree("/etc/skel", home)
    (home / ".ssh").mkdir()
    (home / ".ssh" / "authorized_keys").write_text(f"{key}\n")
    for path in (home, *home.rglob("*")):
        os.chown(path, number, number)
    (home / ".ssh").chmod(0o700)


def add_programs(docker: str, python: str) -> None:
    """Becoming root needs a program with that right: a copy of setpriv, for anybody or for the group docker."""
    for name, text in PROGRAMS.items():
        path = Path("/usr/local/bin") / name
        path.unlink(missing_ok=True)
        path.write_text("#!/bin/sh\n" + text.format(python=python, docker=docker) + "\n")
        path.chmod(0o755)
    folder = Path("/usr/local/libexec")
    folder.mkdir(exist_ok=True)
    for name, group, mode in (("as-root", 0, 0o4755), ("docker", 990, 0o4750)):
        shutil.copy(str(shutil.which("setpriv")), folder / name)
        os.chown(folder / name, 0, group)
        (folder / name).chmod(mode)


def become_ssh_server() -> None:
    """With a key of its own, and for users' keys alone."""
    Path("/run/sshd").mkdir(exist_ok=True)
    host_key = "/etc/ssh/made_at_boot"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host_key], check=True)
    options = ["UsePAM=no", "PidFile=none", "PasswordAuthentication=no", "PermitRootLogin=no", "MaxStartups=100"]
    told = [word for option in options for word in ("-o", option)]
    os.execv("/usr/sbin/sshd", ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-h", host_key, *told])  # noqa: S606


def boot(told: dict[str, Any]) -> None:
    """All of it; `told` is what this file's first paragraph shows."""
    own_root()
    os.chroot(ROOT)
    os.chdir("/")
    for path in told["open"]:  # who is not root must reach the Python of the tests
        os.chmod(path, os.stat(path).st_mode | 0o011)  # noqa: S103
    if not told["key"]:
        print("up", flush=True)
        os.read(0, 1)
        return
    add_users("ubuntu", 1000)
    add_home("ubuntu", 1000, told["key"])
    add_programs(told["docker"], told["python"])
    Path("/etc/image-here.json").write_text(json.dumps(told["image"]))
    print("up", flush=True)
    become_ssh_server()


if __name__ == "__main__":
    boot(json.loads(sys.argv[1]))
