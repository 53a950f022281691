"""`docker` for a test's machine that has none: containers are namespaces over what the host of the tests has installed.

    docker pull|info|inspect|run|exec|stop ...      as far as `ray up` uses them

The image's name is taken as it is, and what would be in it is read from cluster/image/Dockerfile: environment, user,
home. A container has its own mounts (--volume), processes, user and home folder, and the machine's network, as Ray
asks; a registry is asked for nothing, but only by who would be let in. What is not shown by it: the image's build and
download, and --ulimit and --shm-size. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

CONTAINERS = Path("/var/lib/containers-here")
IMAGE = Path("/etc/image-here.json")
"""{"env": {...}, "user": "10001:10001", "name": "cineray", "home": "/opt/cineray"}"""
_VALUED = ("--name", "--volume", "-v", "--env", "-e", "--ulimit", "--shm-size", "--net", "--user")


def image() -> dict[str, Any]:
    """What is in it."""
    told: dict[str, Any] = json.loads(IMAGE.read_text())
    return told


def container(name: str) -> dict[str, Any]:
    """One that runs; else as docker says it, and code 1."""
    try:
        told: dict[str, Any] = json.loads((CONTAINERS / name / "told.json").read_text())
        os.kill(told["pid"], 0)
    except OSError:
        sys.exit(f"Error: No such object: {name}")
    return told


def pull(words: list[str]) -> None:
    """A registry wants to know who asks: as docker, by the helper that the user's settings name."""
    registry, settings = words[-1].partition("/")[0], Path.home() / ".docker" / "config.json"
    told = json.loads(settings.read_text()) if settings.is_file() else {}
    helper = told.get("credHelpers", {}).get(registry, told.get("credsStore", ""))
    helper_says = ["sh", "-c", f"docker-credential-{helper} get"]
    if (
        not helper
        or subprocess.run(helper_says, input=registry, capture_output=True, text=True, check=False).returncode
    ):
        sys.exit(f"Error response from daemon: Head https://{registry}/v2/: no basic auth credentials")


def inspect(words: list[str]) -> None:
    """`-f TEMPLATE NAME`: the four templates that Ray asks with."""
    template, name = words[1].strip("{}"), words[2]
    if template == "json .Config.Env":
        print(json.dumps([f"{key}={value}" for key, value in image()["env"].items()]))
        return
    told = container(name)
    mounts = [{"Destination": inside} for _, inside in told["volumes"]]
    answers = {".State.Running": "true", ".Config.Image": told["image"], "json .Mounts": json.dumps(mounts)}
    print(answers[template])


def run(words: list[str]) -> None:
    """Start one, and leave it."""
    parser = argparse.ArgumentParser()
    for option in _VALUED:
        parser.add_argument(option, action="append", default=[], dest=option.strip("-")[0])
    parser.add_argument("--rm", action="store_true")
    parser.add_argument("-d", action="store_true", dest="detach")
    parser.add_argument("-it", action="store_true", dest="terminal")
    parser.add_argument("image")
    options, _command = parser.parse_known_args(words)
    name, image_ = options.n[0], image()
    folder = CONTAINERS / name
    shutil.rmtree(folder, ignore_errors=True)
    home = folder / "home"
    shutil.copytree("/etc/skel", home)
    (home / ".ray").mkdir()
    add_programs(folder / "programs")
    user, group = map(int, image_["user"].split(":"))
    for path in (home, *home.rglob("*")):
        os.chown(path, user, group)
    volumes = [one.split(":")[:2] for one in options.v]
    env = {**image_["env"], **dict(one.split("=", 1) for one in options.e), "HOME": image_["home"]}
    told = {"image": options.image, "volumes": volumes, "env": env, "home": str(home), "user": [user, group]}
    apart = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private"]
    program = [sys.executable, "-I", "-S", __file__, "first-program", json.dumps(told)]
    held = subprocess.Popen(
        [*apart, *program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    assert held.stdout is not None
    if held.stdout.readline() != "up\n":
        sys.exit(f"docker: {name} did not start")
    told["pid"] = int(Path(f"/proc/{held.pid}/task/{held.pid}/children").read_text().split()[0])
    (folder / "told.json").write_text(json.dumps(told))
    print(name)


def add_programs(folder: Path) -> None:
    """The image's Python is in /usr/local/bin, and the host's docker and sudo are not in it."""
    folder.mkdir()
    for name in ("python", "python3", "pip", "ray", "cineray"):
        (folder / name).write_text(f'#!/bin/sh\nexec {Path(sys.executable).parent / name} "$@"\n')
        (folder / name).chmod(0o755)


def first_program(told: dict[str, Any]) -> None:
    """Of a container, inside of it: its mounts and its user are made, and then it waits."""
    told["volumes"].insert(0, [told["home"], image()["home"]])
    for outside, inside in told["volumes"]:
        _mount(Path(outside), Path(inside))
    _mount(Path(told["home"]).with_name("programs"), Path("/usr/local/bin"))
    user, group = told["user"]
    own = Path(told["home"]).parent / "passwd"
    others = [line for line in Path("/etc/passwd").read_text().splitlines() if line.split(":")[2] != str(user)]
    own.write_text("\n".join([*others, f"{image()['name']}:x:{user}:{group}::{image()['home']}:/bin/bash", ""]))
    _mount(own, Path("/etc/passwd"))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans that end here are nobody's
    print("up", flush=True)
    os.close(1)
    while True:
        signal.pause()


def _mount(outside: Path, inside: Path) -> None:
    """As docker: what is not there is a folder of root's."""
    if not outside.exists():
        outside.mkdir(parents=True)
    if not inside.exists():
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.mkdir() if outside.is_dir() else inside.touch()
    subprocess.run(["mount", "--bind", str(outside), str(inside)], check=True)


def exec_(words: list[str]) -> None:
    """Become a program in a container."""
    while re.fullmatch("-[it]+", words[0]):
        words = words[1:]
    told = container(words[0])
    user, group = told["user"]
    env = {**told["env"], **({"TERM": os.environ["TERM"]} if "TERM" in os.environ else {})}
    enter = ["nsenter", f"--target={told['pid']}", "--mount", "--pid", "--root", f"--wd=/proc/{told['pid']}/root"]
    as_user = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--"]
    where = ["env", "--chdir", image()["home"], "--"]
    os.execvpe(enter[0], [*enter, "--", *as_user, *where, *words[1:]], env)  # noqa: S606


def stop(words: list[str]) -> None:
    """At once: docker's own first program here would not heed SIGTERM either."""
    os.kill(container(words[-1])["pid"], signal.SIGKILL)
    shutil.rmtree(CONTAINERS / words[-1])


if __name__ == "__main__":
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "info":
        print("map[runc:{runc}]")
    elif what == "first-program":
        first_program(json.loads(rest[0]))
    else:
        {"pull": pull, "inspect": inspect, "run": run, "exec": exec_, "stop": stop}[what](rest)
