"""The command that was typed, for records that others read: arguments go in, without what may be a secret they leave.

Versions of a lake, runs and sweeps say by what they were made; a dataset's card and reports repeat it.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

_SECRET = re.compile(r"(?i)^((?:--?)?(?:[\w.-]*[._-])?(?:apikey|key|token|secret|password))(=.*)?$")
_USER_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY_OF_ADDRESS = re.compile(r"(https?://[^\s?]+)\?\S+")


def without_secrets(text: str) -> str:
    """A text with addresses in it, without what they may keep secret: users, passwords, signed queries."""
    return _QUERY_OF_ADDRESS.sub(r"\1?***", _USER_IN_ADDRESS.sub("***@", text))


def command_line(arguments: Sequence[str] | None = None) -> list[str]:
    """The command as it was given, with secrets blotted out: values of --token and the like, users in addresses."""
    shown, blot = [], False
    for argument in list(sys.argv if arguments is None else arguments):
        secret = _SECRET.match(argument)
        if blot:
            shown.append("***")
        elif secret and secret[2]:
            shown.append(f"{secret[1]}=***")
        else:
            shown.append(without_secrets(argument))
        blot = secret is not None and argument.startswith("--") and not secret[2] and not blot
    return shown


def typed(arguments: Sequence[str] | None = None) -> str:
    """The same as a line to type again: where this machine has the program is nobody's concern."""
    program, *rest = command_line(arguments)
    name = Path(program).name
    return shlex.join(["cineray" if name == "__main__.py" else name, *rest])
