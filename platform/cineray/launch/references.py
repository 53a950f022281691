"""Secrets by reference: the names of what must not travel go in; on the cluster, their values are in the environment.

    WANDB_API_KEY                        the nodes have it in their environment already
    WANDB_API_KEY@/run/secrets/wandb     the nodes have it in this file

Ray gives a job's environment, metadata, command line and logs back to whoever may ask for them, in plain text. So a
value never enters them: names travel, and each process of the job reads its own node. What is about to be sent is
searched for the values of this machine's secrets, and is refused, without repeating them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cineray.errors import CinerayError, UsageError

VARIABLE = "CINERAY_SECRETS"
"""Where a job's processes find the references."""
HOOK = "cineray.launch.references.read_secrets"
"""What Ray calls at the start of each worker of a job."""
SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|CONNECTION_STRING)$", re.I)
_REFERENCE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:@(/[^,@]+))?")
_IN_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@")
_LEAST_LENGTH = 12
"""A shorter value could stand anywhere by chance."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A variable that processes on the cluster are to have, and the file on their nodes that holds it, if one does."""

    name: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.file}" if self.file else self.name


def parse_secret(text: str) -> Secret:
    """A reference as people write it. One that holds a value is refused, and the value is not repeated."""
    found = _REFERENCE.fullmatch(text)
    if found is None:
        name = re.match(r"[A-Za-z0-9_]{0,40}", text)
        raise UsageError(
            f"--secret {name[0] if name else ''}... is neither a variable's name nor NAME@/absolute/file on the nodes; "
            "values do not travel: put this one into a file or the environment of the nodes, and name it"
        )
    return Secret(found[1], found[2] or "")


def parse_variable(text: str) -> tuple[str, str]:
    """`NAME=VALUE` of --env; what is named like a secret is refused."""
    name, sign, value = text.partition("=")
    if not sign or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        raise UsageError("--env wants NAME=VALUE, such as --env AWS_REGION=eu-central-1")
    if SECRET_NAME.search(name):
        raise UsageError(
            f"--env {name} is named like a secret, and whoever may look at a job sees its environment; name where the "
            f"nodes have it: --secret {name}, or --secret {name}@/file/on/the/nodes"
        )
    return name, value


def refuse_values(
    texts: Iterable[tuple[str, str | bytes]], environ: Mapping[str, str], named: Sequence[Secret]
) -> None:
    """Raise where a text that would be sent holds the value of one of this machine's secrets. `texts`: (what, text)."""
    wanted = {secret.name for secret in named}
    values = {
        value.encode(errors="surrogateescape"): name
        for name, value in environ.items()
        if (name in wanted or SECRET_NAME.search(name)) and len(value) >= _LEAST_LENGTH
    }
    for what, text in texts:
        data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
        held = next((name for value, name in values.items() if value in data), "")
        if held:
            raise UsageError(
                f"{what} holds the value of ${held}, and what is sent can be read by whoever may look at the job; "
                f"take it out, and name where the nodes have it: --secret {held}"
            )
        if isinstance(text, str) and _IN_ADDRESS.search(text):
            raise UsageError(
                f"{what} holds an address with a password in it; take it out, and pass it by reference: --secret NAME"
            )


def references_text(secrets: Sequence[Secret]) -> str:
    """How references travel."""
    return ",".join(map(str, secrets))


def read_secrets(environ: MutableMapping[str, str] = os.environ) -> list[str]:
    """Put what the references name into the environment; returns what this node does not have, in words.

    In Ray's workers nothing is wanted of what is missing: nodes that only decode need not have a tracker's key.
    """
    missing = []
    for text in filter(None, environ.get(VARIABLE, "").split(",")):
        secret = parse_secret(text)
        if secret.file:
            try:
                environ[secret.name] = Path(secret.file).read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                missing.append(f"{secret.name} from {secret.file}: {getattr(error, 'strerror', None) or 'not text'}")
        elif not environ.get(secret.name):
            missing.append(f"{secret.name}: no such variable in the environment of Ray's processes")
    return missing


def check_secrets(where: str, environ: MutableMapping[str, str] = os.environ) -> None:
    """Read them, and raise if one is missing on this node."""
    missing = read_secrets(environ)
    if missing:
        raise CinerayError(
            f"{where} lacks secrets that the job names:\n  " + "\n  ".join(missing) + "\nGive them to the nodes (their "
            "environment, or a file that only Ray's user can read), or leave out --secret"
        )
