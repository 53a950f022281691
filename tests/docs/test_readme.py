"""README is run: every `console` block, in order, in one empty folder, on a terminal; what it quotes must come again.

Numbers, hashes and times may differ from machine to machine, so each stands for any other; `...` stands for any text
within a line, and on a line of its own for any lines. All else is compared, in order.
"""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

import pytest
import typer

from cineray.cli.main import app

REPO = Path(__file__).resolve().parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")
COLUMNS = 100

# What stands for commands that would set up this checkout again, take minutes, or run this test again. None: not run.
# The small demo goes through all the stages of the whole one and prints the same lines; tests/journey runs that one.
SMALL = "--set steps=8 --set validation.every_steps=8 --set validation.clips=16 --set validation.baseline_clips=16"
INSTEAD_OF = {
    "make demo": f"cineray demo --out demo-out --videos 96 --clips 16 {SMALL}",
    "make test": None,
    # Ten minutes. tests/journey runs a smaller sweep by the same command; tests/unit/cli compares what it prints.
    "cineray sweep jobs/sweep_temporal_sampling.py --quick --sweep sweeps/sampling": None,
}
SET_UP_LINE = "[setup]"  # printed by make before the command that we run instead


@dataclass(frozen=True)
class Quoted:
    """A command of README and the output that README shows for it."""

    command: str
    output: tuple[str, ...]


def quoted_commands(text: str) -> list[Quoted]:
    """All commands (`$ ...`) of all console blocks, each with the lines below it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", text, flags=re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *output = part.splitlines()
            found.append(Quoted(command, tuple(line for line in output if line.strip())))
    return found


def run_all(commands: list[str], folder: Path) -> list[list[str]]:
    """Run these lines in one shell on a terminal of its own; the lines that each printed, as they are seen."""
    mark = "-- next --"
    script = "\n".join(f"{command}\ns=$?; echo '{mark}'; (exit $s)" for command in commands)
    near, far = pty.openpty()
    ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "COLUMNS": str(COLUMNS), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    shell = subprocess.Popen(["bash", "-c", script], cwd=folder, stdin=far, stdout=far, stderr=far, env=environment)
    os.close(far)
    printed = read_to_end(near)
    shell.wait()
    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed).replace("\r", "\n")
    return [[line for line in part.splitlines() if line.strip()] for part in seen.split(mark)[: len(commands)]]


def read_to_end(terminal: int) -> str:
    """Everything that is printed until the last program has left the terminal."""
    parts = []
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # Linux tells the end of a pseudo-terminal as an error
            part = b""
        if not part:
            os.close(terminal)
            return b"".join(parts).decode("utf-8", "replace")
        parts.append(part)


def pattern(line: str) -> str:
    """A quoted line as an expression: spaces collapse, a number or hash stands for any other, `...` for everything."""
    masked = re.sub(r"[0-9a-f]*\d[\d.,:a-f]*", "\0", " ".join(line.split()))
    return re.escape(masked).replace("\0", r"[\d.,:a-f]+").replace(re.escape("..."), ".*")


def first_missing(wanted: tuple[str, ...], printed: list[str]) -> str | None:
    """The first quoted line that does not come, in its order, among the printed ones; none when all do."""
    rest = iter(" ".join(line.split()) for line in printed)
    for line in wanted:
        if line.strip() == "..." or line.startswith(SET_UP_LINE):
            continue
        if not any(re.fullmatch(pattern(line), got) for got in rest):
            return line
    return None


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What each command of README prints, README's order."""
    commands = {quoted.command: INSTEAD_OF.get(quoted.command, quoted.command) for quoted in quoted_commands(README)}
    runnable = {shown: run for shown, run in commands.items() if run is not None}
    folder = tmp_path_factory.mktemp("readme")
    (folder / "jobs").symlink_to(REPO / "jobs")  # README's reader stands in a checkout
    outputs = run_all(list(runnable.values()), folder)
    return dict(zip(runnable, outputs, strict=True))


@pytest.mark.slow
@pytest.mark.ray  # the demo and the trainings are under it
@pytest.mark.parametrize("quoted", quoted_commands(README), ids=lambda quoted: quoted.command)
def test_readme_shows_what_its_commands_print(quoted: Quoted, printed: dict[str, list[str]]) -> None:
    if INSTEAD_OF.get(quoted.command, "") is None:
        return  # said above
    missing = first_missing(quoted.output, printed[quoted.command])
    assert missing is None, "\n".join([f"README shows {missing!r}; printed were:", *printed[quoted.command]])


def test_readme_begins_with_one_sentence_then_the_two_commands_then_the_map() -> None:
    order = [README.index(part) for part in ("# cineray\n", "$ make demo\n", "$ make test\n", "## The map\n")]
    assert order == sorted(order)
    assert README.splitlines()[2].startswith("cineray ")


def command_names(command: object, before: tuple[str, ...] = ("cineray",)) -> list[str]:
    """Every command of the command line, subcommands written out: `cineray lake log`."""
    names = []
    for name, sub in getattr(command, "commands", {}).items():
        inner = command_names(sub, (*before, name))
        names += inner or [" ".join((*before, name))]
    return names


def find_command(name: str) -> object:
    command: object = typer.main.get_command(app)
    for part in name.split()[1:]:
        command = command.commands[part]  # type: ignore[attr-defined]
    return command


ALL_COMMANDS = command_names(typer.main.get_command(app))


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_command_has_help_and_stands_in_readme(name: str) -> None:
    command = find_command(name)
    assert len(command.help or "") > 20, f"{name} has no docstring that says what it does"  # type: ignore[attr-defined]
    assert re.search(rf"`{name}[ `]", README), f"README.md does not name `{name}`"
    for option in command.params:  # type: ignore[attr-defined]
        shown = getattr(option, "help", None)
        assert shown or option.name == "help", f"{name}: {option.name} has no help"


def test_every_command_that_the_documents_name_exists() -> None:
    for document in ("README.md", "CONTRIBUTING.md", "platform/README.md"):
        text = (REPO / document).read_text(encoding="utf-8")
        for name in re.findall(r"(?:`|\$ )(cineray(?: lake| jobs| cluster)? [a-z]+)", text):
            assert name in ALL_COMMANDS, f"{document} names `{name}`, which is no command"


def test_every_option_that_readme_names_exists() -> None:
    options = {flag for name in ALL_COMMANDS for param in find_command(name).params for flag in param.opts}  # type: ignore[attr-defined]
    text = re.sub(r"^(\$ |`)?(make|pip|python3|ray) .*$", "", README, flags=re.M)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= options | {"--help"}


# ---- the comparison can fail -----------------------------------------------------------------------------------------


def test_other_numbers_hashes_and_times_pass_and_other_words_do_not() -> None:
    printed = ["version    1  (aef9986a9da9)  ", "read  184 kB in 1.2 s, 22 videos/s", "by root"]
    other = ("version 7 (0123456789ab)", "...", "read 2.5 kB in 11 s, 3 videos/s", "by ...")
    assert first_missing(other, printed) is None
    assert first_missing(("read 1 kB in 1 s, 1 clips/s",), printed) == "read 1 kB in 1 s, 1 clips/s"
    assert first_missing(("by ...", "version 1 (aef9986a9da9)"), printed) == "version 1 (aef9986a9da9)"


def test_commands_share_a_folder_a_terminal_and_the_last_exit_code(tmp_path: Path) -> None:
    commands = ["echo one > file", "cat file; test -t 1 && echo terminal; false", "echo $?"]
    assert run_all(commands, tmp_path) == [[], ["one", "terminal"], ["1"]]
