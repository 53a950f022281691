"""A run's own folder: a job and a pinned plan go in; a record comes out that can be opened, resumed and run again.

    runs/<name>/
      run.json        what made it: plan, job, commit, versions, command, machine; put if absent, and the last to be put
      run.yaml        the resolved job with pinned versions: accepted wherever a job is
      attempts/       one small file per start of the run's processes
      events/         what happened, as JSON lines, one file per attempt
      journal/        verdicts that the feed must repeat (`feed/journal.py`)
      checkpoints/  ledger/  validation/  stacks/  compile-cache/

The same on a local disk and under an object-store prefix. Killed at any moment it is either no run yet, or one that
opens; nothing in it is ever rewritten but `run.yaml`, which follows from `run.json`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cineray.config import Config, job_to_yaml
from cineray.errors import CinerayError, UsageError
from cineray.feed import DataJob, FeedSpec
from cineray.plan import PlanIdentity, Recipe, explain_difference
from cineray.storage import join_uri, list_objects, normalise_uri, object_exists, put_if_absent, put_object, read_object
from cineray.telemetry.typed import command_line
from cineray.train.append_log import AppendLog, open_log, read_logs
from cineray.train.job_kinds import JOB_KINDS
from cineray.train.run_facts import LIMIT_BYTES, code_commit, machine, read_facts, software

RUN_FORMAT = 1


class RunSuperseded(CinerayError):
    """Somebody has started the run again since: this start of it must not go on beside that one."""


class Attempt:
    """One start of a run's processes, and its log of events. Only one process of an attempt (rank 0) holds it."""

    def __init__(self, run: RunFolder, number: int) -> None:
        self.run, self.number = run, number
        self._log: AppendLog = open_log(run.folder("events"), f"{number:05d}")

    def note(self, event: str, **facts: Any) -> None:
        """Something happened, now."""
        self._log.add({"at": time.time(), "event": event, **facts})

    def check_newest(self) -> None:
        """Raise RunSuperseded where the run was started again since this attempt began."""
        if object_exists(self.run.attempt_uri(self.number + 1)):
            raise RunSuperseded(
                f"the run {self.run.uri} was started again while attempt {self.number} was at work, so that one ends "
                "here and leaves the run to the newer: two at once would only do the same steps twice. The last "
                "checkpoint is whole; end the other one first if this one is to go on"
            )

    def end(self, reason: str) -> None:
        """The attempt ends in order: `done`, `interrupted`, `failed: ...`. A killed one has no end."""
        self.note("end", reason=reason)
        self._log.close()


@dataclass(frozen=True, slots=True)
class RunFolder:
    """An existing run; `facts` is what its run.json says."""

    uri: str
    facts: Mapping[str, Any]

    @classmethod
    def create(cls, job: DataJob, spec: FeedSpec, uri: str, **besides: Any) -> RunFolder:
        """Make the run of a job whose plan is `spec` (pinned); a run that lies there already is refused. `besides`:
        facts that only some runs have."""
        uri = normalise_uri(uri)
        if not spec.fingerprint:
            raise UsageError("a run needs a plan that cannot change: FeedSpec.fingerprint is empty; pass spec.pinned()")
        pinned = job.model_copy(update={"recipe": spec.recipe, "seed": spec.seed})
        facts = {
            "format": RUN_FORMAT,
            "id": f"{job.name}-{secrets.token_hex(4)}",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "fingerprint": spec.fingerprint,
            "plan": spec.open().plan.identity.to_dict(),
            "job": job_to_yaml(pinned, JOB_KINDS),
            "git": code_commit(),
            "software": software(),
            "command": command_line(),
            "machine": machine(),
            **besides,
        }
        if not put_if_absent(join_uri(uri, "run.json"), json.dumps(facts, indent=1).encode()):
            raise UsageError(f"there is a run at {uri} already; resume it, or choose another place for a new one")
        run = cls(uri, facts)
        run.write_job()
        return run

    @classmethod
    def open(cls, uri: str) -> RunFolder:
        """The run that lies there."""
        uri = normalise_uri(uri)
        return cls(uri, read_facts(uri, "run", RUN_FORMAT))

    @property
    def run_id(self) -> str:
        """Names the run among all runs; wherever it is copied, it stays."""
        return str(self.facts["id"])

    @property
    def identity(self) -> PlanIdentity:
        """What the run's plan follows from."""
        return PlanIdentity.from_dict(self.facts["plan"])

    def folder(self, name: str) -> str:
        """The uri of one of its folders, or of a file in one: `checkpoints`, `stacks/rank-0.txt`."""
        return join_uri(self.uri, name)

    def job_text(self) -> str:
        """The job's YAML, with pinned versions."""
        return str(self.facts["job"])

    def job_facts(self) -> dict[str, Any]:
        """The same as plain values, for who needs a field of it and not the config."""
        import yaml

        told: dict[str, Any] = yaml.safe_load(self.job_text())
        return told

    def newest_job_text(self) -> str:
        """The job's YAML as its last start had it: what does not shape batches may have been set anew since."""
        for at in reversed(list(list_objects(self.folder("attempts")))):
            told = json.loads(read_object(at.uri, limit_bytes=LIMIT_BYTES))
            if "job" in told:
                return str(told["job"])
        return self.job_text()

    def write_job(self) -> None:
        """Put run.yaml there, as run.json has it: after a kill it may be missing."""
        put_object(join_uri(self.uri, "run.yaml"), self.job_text().encode())

    def spec(self, *, journal: str | None = None) -> FeedSpec:
        """The run's plan in words: its versions, its seed, its journal (or another), and no other plan."""
        plan = self.facts["plan"]
        return FeedSpec(
            recipe=self._recipe(),
            seed=int(plan["seed"]),
            journal=self.folder("journal") if journal is None else journal,
            fingerprint=str(self.facts["fingerprint"]),
        )

    def check_same_plan(self, spec: FeedSpec) -> None:
        """Refuse to go on with a plan that is not the run's, and say what differs."""
        other = spec.open().plan.identity
        if other.fingerprint != self.facts["fingerprint"]:
            raise other_plan(f"the run {self.uri}", self.identity, other)

    def attempts(self) -> list[dict[str, Any]]:
        """What each start of the run's processes said of itself, oldest first."""
        found = [read_object(at.uri, limit_bytes=LIMIT_BYTES) for at in list_objects(self.folder("attempts"))]
        return [json.loads(one) for one in found]

    def attempt_uri(self, number: int) -> str:
        """Where an attempt says that it began. Numbers have no gaps."""
        return self.folder(f"attempts/{number:05d}.json")

    def begin_attempt(self, *, world_size: int = 1, **facts: Any) -> Attempt:
        """Number this start of the run; called by one process of them all."""
        if not object_exists(join_uri(self.uri, "run.yaml")):
            self.write_job()
        number = 1 + max((int(one["attempt"]) for one in self.attempts()), default=0)
        told = {"at": time.time(), "world_size": world_size, "command": command_line(), "machine": machine()}
        told |= {"git": code_commit(), "software": software(), **facts}
        while not put_if_absent(self.attempt_uri(number), json.dumps({"attempt": number, **told}).encode()):
            number += 1
        attempt = Attempt(self, number)
        attempt.note("begin", world_size=world_size)
        return attempt

    def events(self) -> list[dict[str, Any]]:
        """Everything that was noted, attempt by attempt: `attempt`, `at`, `event` and its facts. Of an attempt, what
        others noted (`note_beside`) comes last."""
        told = [{"attempt": int(name), **line} for name, line in read_logs(self.folder("events"))]
        return sorted(told, key=lambda event: (event["attempt"], "beside" in event))

    def note_beside(self, event: str, *, name: str, **facts: Any) -> None:
        """Something happened beside the newest attempt, in a process that does not hold it. `name` is a log of its own,
        and is told as `beside`."""
        number = max((int(one["attempt"]) for one in self.attempts()), default=0)
        log = open_log(self.folder("events"), f"{number:05d}-{name}")
        log.add({"at": time.time(), "event": event, "beside": name, **facts})
        log.close()

    def copy_journal(self, folder: str) -> str:
        """A journal of its own with the verdicts of now, for who looks at batches without a say in the run."""
        for found in list_objects(self.folder("journal/verdicts")):
            name = found.uri.rsplit("/", 1)[-1]
            put_object(join_uri(folder, "verdicts", name), read_object(found.uri, limit_bytes=LIMIT_BYTES))
        return folder

    def _recipe(self) -> Recipe:
        return Recipe.model_validate(self.job_facts()["recipe"])


def is_run(uri: str) -> bool:
    """Does a run lie there?"""
    return object_exists(join_uri(normalise_uri(uri), "run.json"))


def new_run_uri(runs: str, job: Config) -> str:
    """A place that no run has: `<runs>/<job>-20261121-034500-1f2e`."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return join_uri(normalise_uri(runs), f"{getattr(job, 'name', 'run')}-{stamp}-{secrets.token_hex(2)}")


def other_plan(what: str, of_it: PlanIdentity, given: PlanIdentity) -> UsageError:
    """The refusal of something that was made for another plan."""
    return UsageError(
        f"{what} was made with the plan {of_it.fingerprint[:16]}, and {given.fingerprint[:16]} was given; "
        f"what differs (its -> given):\n{explain_difference(of_it, given)}\n"
        "Use the same data, recipe and seed, or begin a new run"
    )
