"""What is sent to a cluster: a command, its words and a package go in; an id, an entry point, an environment come out.

The id follows from what is sent, and from nothing else: the same job is the same submission, whoever sends it and how
often. `cineray-<name>-<key>-<attempt>`; an attempt that failed has a next one, with the same key and the same run.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cineray import __version__
from cineray.launch.references import HOOK, VARIABLE, Secret, references_text

PREFIX = "cineray"
STOP_SECONDS = 300
"""Between being told to stop and being killed: long enough to save a large model. Ray's own default is 3."""
MADE_AT = {"train": "--run", "sweep": "--sweep"}
"""Commands that make something to go on with, and their option that says where. A file of that name marks the place."""
LOOKING = frozenset({"ingest", "curate", "standardise", "evaluate", "sample", "report"})
"""Commands that are given a place whose content may have changed since."""
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One job as it is sent."""

    words: tuple[str, ...]
    """The command line that runs there, without `cineray`."""
    name: str
    """What people call the job."""
    package: str
    """Digest of what travels."""
    run: str = ""
    """Where the run is or will be; empty for commands that make none."""
    continues: bool = False
    """Does even the first attempt go on with what lies at `run`? Its place then follows from the job's content."""
    secrets: tuple[Secret, ...] = ()
    """By reference."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of the job's processes; anybody may read it."""
    label: str = ""
    """Tells a job from one that is otherwise the same."""
    python: str = "python"
    """What starts Python there."""
    of_cluster: tuple[str, ...] = ()
    """Fields that follow from the cluster, as `--set` takes them: no part of what names the submission."""
    cpus: float = 0.0
    """Cores that the command itself takes of a node; without any it starts beside the head."""
    gpus: float = 0.0
    """The same for GPUs."""

    @property
    def key(self) -> str:
        """Names what is sent."""
        told = [self.words, self.package, references_text(self.secrets), sorted(self.environment.items()), self.label]
        text = json.dumps([*told, self.python], separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def id_of(self, attempt: int) -> str:
        """Names an attempt on the cluster."""
        return f"{PREFIX}-{_NOT_IN_IDS.sub('-', self.name)[:60]}-{self.key}-{attempt}"

    def attempt_of(self, submission_id: str) -> int:
        """Which attempt of this submission an id names; 0: of another one."""
        found = re.fullmatch(re.escape(self.id_of(0)[:-1]) + r"(\d+)", submission_id)
        return int(found[1]) if found else 0

    def entrypoint(self, attempt: int) -> str:
        """The command that the cluster runs. `exec`: a signal then reaches it, and not a shell in between."""
        goes_on = ["--continue", self.run] if self.run and (self.continues or attempt > 1) else []
        sets = [word for one in self.of_cluster for word in ("--set", one)]
        start = [self.python, "-m", "cineray.launch.start", *goes_on, "--", *self.words, *sets]
        return "exec " + shlex.join(start)

    @property
    def looks(self) -> bool:
        """Does it look at what lies at a place now? Then what it found once says nothing of the next time."""
        return self.words[0] in LOOKING and not self.run

    def runtime_env(self, package: Path | None) -> dict[str, Any]:
        """What Ray prepares for the job's processes."""
        told = dict(self.environment)
        told.setdefault("RAY_JOB_STOP_WAIT_TIME_S", str(STOP_SECONDS))  # read by the job's own supervisor
        files = [secret for secret in self.secrets if secret.file]
        if self.secrets:
            told[VARIABLE] = references_text(self.secrets)
        return {
            "env_vars": told,
            **({"working_dir": str(package)} if package is not None else {}),
            **({"worker_process_setup_hook": HOOK} if files else {}),
        }

    def metadata(self, attempt: int) -> dict[str, str]:
        """What `cineray jobs` tells of it."""
        told = {
            "command": self.words[0],
            "name": self.name,
            "key": self.key,
            "attempt": str(attempt),
            "run": self.run,
            "package": self.package,
            "version": __version__,
            "secrets": references_text(self.secrets),
        }
        return {f"{PREFIX}_{name}": value for name, value in told.items() if value}

    def texts(self) -> list[tuple[str, str]]:
        """All that is sent beside files, each with what it is called in a complaint."""
        return [
            *(("an argument of the job", word) for word in self.words),
            *((f"--env {name}", value) for name, value in self.environment.items()),
            ("--label", self.label),
        ]
