#!/usr/bin/env python3
"""Makes this checkout ready to run: FFmpeg's libraries, a `.venv`, the right pair of torch and torchcodec, the package.

In: this checkout, and any `python3` (only the standard library; the file parses from Python 3.8 on, so that an old
interpreter can still say what is wanted). Out: a `.venv` in which the package and its tests run, or exit code 1 and one
sentence with the command that helps. Words go to stderr, the long output of pip and apt to `.setup.log`.

It promises: a second call takes about a second; after a call that was killed at any moment, or with a `.venv` that was
moved or broken, the next call repairs what it finds; two calls at once wait for each other. `make setup` calls it, and
so do `make demo` and `make test`.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import ctypes
import fcntl
import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, NamedTuple  # noqa: UP035 - an old python3 must get as far as our sentence

REPO = Path(__file__).resolve().parents[1]
VENV = REPO / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = VENV / "setup-stamp.json"
CONSTRAINTS = REPO / "platform" / "constraints.txt"
LOG = REPO / ".setup.log"
LOCK = REPO / ".setup.lock"

OLDEST_PYTHON, FIRST_UNSUPPORTED_PYTHON = (3, 11), (3, 14)
# torchcodec from 0.14 on links CUDA libraries and does not load beside a CPU build of torch (decisions/0002).
TORCH_PAIRS = {"cpu": ("torch==2.13.0", "torchcodec==0.13.*"), "gpu": ("torch", "torchcodec")}
LIBAVCODEC_MAJORS = range(58, 63)  # FFmpeg 4 to 8, which torchcodec knows
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HEARTBEAT_SECONDS = 10.0


class SetupError(Exception):
    """Set-up cannot go on; the message says why, and the command that helps."""


class Step(NamedTuple):
    """One thing that is left to do: what to tell the user, and the function that does it."""

    title: str
    do: Callable[[], None]


def main(arguments: list[str] | None = None) -> int:
    """Set this checkout up, or say in one sentence why not."""
    parser = argparse.ArgumentParser(prog="setup_env.py", description="Make this checkout ready to run.")
    parser.add_argument("--extras", default="dev", help="extras of the package, comma-separated (default: dev)")
    parser.add_argument("--browser", action="store_true", help="only Chromium, which tests of reports look through")
    parser.add_argument("--print", action="store_true", dest="only_print", help="say what would be done, do nothing")
    options = parser.parse_args(arguments)
    try:
        run_by_supported_python()
        if options.only_print:
            print("\n".join(step.title for step in steps_left(options.extras)) or "nothing to do")
            return 0
        with only_one_at_a_time():
            if options.browser:
                find_or_install_browser()
            else:
                set_up(options.extras)
    except SetupError as error:
        say(f"stopped: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; run it again and it goes on from here")
        return 130
    return 0


def set_up(extras: str) -> None:
    """Do what is left to do, and stamp `.venv` once all of it was seen to work."""
    steps = steps_left(extras)
    if not steps:
        say("ready: nothing to do")
        return
    LOG.unlink(missing_ok=True)
    began = time.monotonic()
    for number, step in enumerate(steps, start=1):
        say(f"{number}/{len(steps)} {step.title}")
        step.do()
    STAMP.write_text(json.dumps(stamp(extras), indent=1) + "\n")
    say(f"ready in {time.monotonic() - began:.0f} s")


def steps_left(extras: str) -> list[Step]:
    """What this machine and this checkout still need; empty when the stamp matches and `.venv` runs."""
    device, steps = find_device(), []
    if not ffmpeg_is_here():
        steps.append(Step("FFmpeg with its shared libraries, by apt-get", install_ffmpeg))
    fault = venv_fault(device)
    if fault:
        steps.append(Step(f"a new .venv by Python {sys.version.split()[0]}: {fault}", make_venv))
    if fault or read_stamp() != stamp(extras):
        steps += package_steps(device, f".[{extras}]" if extras else ".")
    return steps


def package_steps(device: str, target: str) -> list[Step]:
    """Torch, then all else, then a look whether they load together."""
    pair = TORCH_PAIRS[device]
    torch = f"{' and '.join(pair)}, for this machine's {device.upper()} (the first time takes minutes)"
    return [
        Step(torch, lambda: install_torch(pair)),
        Step(f"the package, editable, and what it needs: {target}", lambda: pip_install(*pair, "--editable", target)),
        Step("do torch, torchcodec, av, lance and ray load together?", lambda: check_it_loads(device)),
    ]


# ---- which Python ----------------------------------------------------------------------------------------------------


def run_by_supported_python() -> None:
    """Go on under a Python that the package supports: this one, else the newest on PATH that really starts."""
    if OLDEST_PYTHON <= sys.version_info[:2] < FIRST_UNSUPPORTED_PYTHON:
        return
    for name in ("python3.13", "python3.12", "python3.11"):
        path = shutil.which(name)
        if path and subprocess.run([path, "-c", ""], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            os.execv(path, [path, *sys.argv])  # tried out first: a version manager's shim may be there and not start
    raise SetupError(
        f"Python 3.11, 3.12 or 3.13 is needed, this is {sys.version.split()[0]} ({sys.executable}), and none of them "
        "is on PATH; install one: sudo apt-get install -y python3.11 python3.11-venv"
    )


# ---- FFmpeg ----------------------------------------------------------------------------------------------------------


def ffmpeg_is_here() -> bool:
    """The program (it makes the demo's videos), and the libraries that torchcodec opens, as the loader finds them."""
    return shutil.which("ffmpeg") is not None and any(loads(f"libavcodec.so.{n}") for n in LIBAVCODEC_MAJORS)


def loads(library: str) -> bool:
    """Whether the dynamic loader finds this shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def install_ffmpeg() -> None:
    """FFmpeg by apt-get; torchcodec needs shared libraries, which a static `ffmpeg` program does not bring."""
    apt_install("ffmpeg", "FFmpeg with its shared libraries is missing")
    if not ffmpeg_is_here():
        raise SetupError("apt-get installed ffmpeg, but `ffmpeg` or libavcodec.so is not found yet; run: sudo ldconfig")


def apt_install(package: str, problem: str) -> None:
    """Install a Debian package where we may (as root, or by a sudo that asks nothing), else say the command."""
    by_hand = f"sudo apt-get update && sudo apt-get install -y {package}"
    if shutil.which("apt-get") is None:
        raise SetupError(f"{problem} and there is no apt-get here; install what Debian calls {package}, then try again")
    prefix = []
    if os.geteuid() != 0:
        sudo = shutil.which("sudo")
        if sudo is None or subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode != 0:
            raise SetupError(f"{problem}, and installing it needs root; run: {by_hand}")
        prefix = ["sudo", "-n"]
    say(f"    {by_hand}")
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq"]
    # One unreachable third-party list must not stop us: whether the update sufficed is seen by the install.
    with contextlib.suppress(SetupError):
        run_logged([*apt, "update"])
    try:
        run_logged([*apt, "install", "-y", "--no-install-recommends", package])
    except SetupError as error:
        raise SetupError(f"{problem}, and apt-get could not install it; run by hand: {by_hand}\n{error}") from None


def find_or_install_browser() -> None:
    """Chromium by apt-get, where that may be; else it is only said: the tests that need it skip themselves."""
    if os.environ.get("CINERAY_BROWSER") or any(map(shutil.which, BROWSERS)):
        return
    say("Chromium, through which tests look at reports, by apt-get")
    try:
        apt_install("chromium", "no browser is here")
    except SetupError as error:
        say(f"{error}\n    going on without: the tests of reports in a browser will be skipped")


# ---- .venv -----------------------------------------------------------------------------------------------------------


def venv_fault(device: str) -> str:
    """Why the `.venv` here cannot be built upon; empty when it can."""
    if not VENV.is_dir():
        return "there is none yet"
    if not pip_script_is_of_this_place():
        return "the old one has no pip, or was made at another place"
    version = in_venv("import sys, pip; print(*sys.version_info[:2])").stdout.split()
    if not version:
        return "Python or pip does not run in the old one"
    if not OLDEST_PYTHON <= tuple(map(int, version)) < FIRST_UNSUPPORTED_PYTHON:
        return f"the old one has Python {'.'.join(version)}"
    finished = read_stamp()
    if finished is None:
        return half_installed()
    return missing_modules() if finished.get("device") == device else "the old one has the other build of torch"


def pip_script_is_of_this_place() -> bool:
    """A `.venv`'s scripts name their interpreter by its whole path: a moved one runs another's Python, or none."""
    try:
        head = (VENV / "bin" / "pip").read_bytes()[:2000]
    except OSError:
        return False
    return os.fsencode(VENV / "bin" / "python") in head


def half_installed() -> str:
    """Names a package that a killed pip left half-written (pip would call it satisfied); empty when all are whole.

    pip writes RECORD last, so a package without one, or without a file that it lists, is not whole.
    """
    for info in sorted(VENV.glob("lib/python3*/site-packages/*.dist-info")):
        record = info / "RECORD"
        if not record.is_file():
            return f"{info.name} is half-installed"
        with record.open(newline="", encoding="utf-8") as rows:
            for name, _, size in csv.reader(rows):
                path = info.parent / name
                if size and not (path.is_file() and path.stat().st_size == int(size)):
                    return f"{info.name} is half-installed ({name})"
    return ""


def make_venv() -> None:
    """A new, empty `.venv`, in place of whatever lies there."""
    if importlib.util.find_spec("ensurepip") is None:  # Debian and Ubuntu keep it in a package of its own
        apt_install("python{}.{}-venv".format(*sys.version_info), "Python's venv module is missing")
        importlib.invalidate_caches()
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    elif VENV.exists():
        shutil.rmtree(VENV)
    # Started from within a .venv (perhaps the one just removed), the interpreter below it is the one to use.
    python = getattr(sys, "_base_executable", None) or sys.executable
    run_logged([python, "-m", "venv", str(VENV)])


def missing_modules() -> str:
    """What a finished `.venv` must hold and does not: somebody may have removed it by hand, unseen by pip."""
    names = ["torch", "torchcodec", "av", "lance", "ray", "pyarrow", "cineray"]
    look = f"import importlib.util as u; print(*[n for n in {names} if u.find_spec(n) is None])"
    missing = in_venv(look).stdout.strip()
    return f"{missing} is missing from the old one" if missing else ""


def in_venv(code: str) -> subprocess.CompletedProcess[str]:
    """Run these lines by the Python of `.venv`; exit code 127 when there is none that starts."""
    command = [str(VENV_PYTHON), "-c", code]
    try:
        return subprocess.run(command, capture_output=True, text=True, env=clean_environment(), check=False)
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


# ---- packages --------------------------------------------------------------------------------------------------------


def find_device() -> str:
    """`gpu` where an NVIDIA device answers, else `cpu`; CINERAY_TORCH_BUILD says otherwise, for building images."""
    asked = os.environ.get("CINERAY_TORCH_BUILD", "")
    if asked:
        if asked not in TORCH_PAIRS:
            raise SetupError(f"CINERAY_TORCH_BUILD is {asked!r}; it must be cpu or gpu, or unset")
        return asked
    if Path("/dev/nvidia0").exists():
        return "gpu"
    if shutil.which("nvidia-smi") is None:
        return "cpu"
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    return "gpu" if listed.returncode == 0 and b"GPU" in listed.stdout else "cpu"


def install_torch(pair: tuple[str, ...]) -> None:
    """torch goes first: whatever asks for "some torch" later then finds this one, not a build for another machine."""
    index = os.environ.get("CINERAY_TORCH_INDEX", "")
    pip_install(*(["--index-url", index] if index else []), *pair)


def pip_install(*arguments: str) -> None:
    """Install by plain pip, so that the user's own pip configuration (mirrors, local wheels, proxies) is honoured.

    The constraints name the versions that were tried together; without them pip searches for many minutes (0003).
    """
    STAMP.unlink(missing_ok=True)
    quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    run_logged([str(VENV_PYTHON), "-m", "pip", "install", *quiet, "--constraint", str(CONSTRAINTS), *arguments])


def check_it_loads(device: str) -> None:
    """Import the packages that have native code, together, in a process of their own."""
    code = "import torch, torchcodec.decoders, av, lance, ray; print(torch.__version__, torch.cuda.is_available())"
    done = in_venv(code)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SetupError(
            f"the installed packages do not load together: {last}\n"
            "  torch and torchcodec must fit each other, and FFmpeg must be 4 to 8 (platform/decisions/0002).\n"
            f"  See the whole error:  .venv/bin/python -c '{code}'\n"
            "  Other builds of torch:  CINERAY_TORCH_INDEX=<index url> make setup, after  rm -rf .venv"
        )
    version, sees_cuda = done.stdout.split()[-2:]
    say(f"    yes: torch {version}")
    if device == "gpu" and sees_cuda != "True":
        say("    but torch sees no CUDA device: is the NVIDIA driver (see nvidia-smi) new enough for it?")


# ---- the stamp, the lock, and running things -------------------------------------------------------------------------


def stamp(extras: str) -> dict[str, str]:
    """All that set-up depends on: when any of it changes, the next call installs again."""
    inputs = (REPO / "pyproject.toml", CONSTRAINTS, Path(__file__))
    return {
        "inputs": hashlib.sha256(b"".join(map(Path.read_bytes, inputs))).hexdigest(),
        "python": str(VENV_PYTHON.resolve()),
        "device": find_device(),
        "extras": extras,
        "place": str(REPO),
    }


def read_stamp() -> dict[str, str] | None:
    """The stamp of the last finished set-up; none while one is under way, or after one was interrupted."""
    try:
        found = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


@contextlib.contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Hold the lock. pip inherits it, so that a set-up that follows a killed one waits for the pip left behind."""
    global _lock_fd  # noqa: PLW0603 - the lock is one per process, like the .venv that it guards
    _lock_fd = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(_lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up of this checkout is at work (or the pip of a killed one); waiting for it")
            fcntl.flock(_lock_fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(_lock_fd)


_lock_fd = -1


def run_logged(command: list[str]) -> None:
    """Run a long command, its output in the log, with a sign of life every few seconds."""
    began = time.monotonic()
    inherited = [_lock_fd] if _lock_fd >= 0 else []
    with LOG.open("ab") as log:
        log.write(f"$ {' '.join(command)}\n".encode())
        log.flush()
        nothing = subprocess.DEVNULL
        process = subprocess.Popen(
            command, cwd=REPO, env=clean_environment(), stdin=nothing, stdout=log, stderr=log, pass_fds=inherited
        )
    while True:
        try:
            code = process.wait(timeout=HEARTBEAT_SECONDS)
            break
        except subprocess.TimeoutExpired:  # not an error: time for a sign of life
            say(f"    {time.monotonic() - began:3.0f} s: {log_tail(1)[:100]}")
    if code != 0:
        raise SetupError(f"`{' '.join(command[:6])} ...` ended with {code}; the end of {LOG.name}:\n{log_tail(15)}")


def log_tail(lines: int) -> str:
    """The last lines of the log that tell something."""
    told = [line.strip() for line in LOG.read_text(errors="replace").splitlines() if not line.startswith("WARNING")]
    return "\n".join([line for line in told if line][-lines:])


def clean_environment() -> dict[str, str]:
    """Our environment without what would send packages elsewhere than into `.venv`, or take modules from elsewhere."""
    leads_astray = {"PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in leads_astray}


def say(text: str) -> None:
    """One line for people."""
    print(f"[setup] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
