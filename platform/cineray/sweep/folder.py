"""A sweep's own folder, which is its only memory: a definite job goes in; trials and their reports come to lie in it.

    sweeps/<name>-<stamp>/
      sweep.json        what made it: the job with what trials are judged on, software, command, machine; put if absent
      sweep.yaml        the job again: accepted wherever a job is
      share.json        what each trial gets of the cluster, decided once, before the first; put if absent
      drivers/          one log per start of the sweep: when it began, what it did, when it was last alive
      trials/0007/      one folder per trial: `trial_folder.py`
      trials.parquet  best.yaml  sweep-result.json  report.html      when something is finished

No process holds anything that is not here. A driver that is started again reads the trials, tells the search how the
finished ones did, hands the others out again, and goes on; so it does not matter how the one before it ended.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from cineray.config import Config, job_from_yaml, job_to_yaml
from cineray.errors import CinerayError, PlaceMissing, UsageError
from cineray.storage import join_uri, normalise_uri, object_exists, put_if_absent, put_object, read_object
from cineray.sweep.capacity import Terms
from cineray.sweep.config import SWEEP_KINDS, SweepJob
from cineray.sweep.trial_folder import TrialFolder
from cineray.telemetry.typed import command_line
from cineray.train.append_log import AppendLog, open_log, read_logs
from cineray.train.run_facts import LIMIT_BYTES, machine, read_facts, software

SWEEP_FORMAT = 1


class SweepSuperseded(CinerayError):
    """Somebody has started the sweep again since: this start of it must not go on beside that one."""


class Driver:
    """One start of a sweep, and its log."""

    def __init__(self, sweep: SweepFolder, number: int) -> None:
        self.sweep, self.number = sweep, number
        self._log: AppendLog = open_log(sweep.place("drivers"), f"{number:05d}")
        self.note("begin")

    def note(self, event: str, **facts: Any) -> None:
        """Something happened, now. The last note of a driver says how long it lived at least."""
        self._log.add({"at": time.time(), "event": event, **facts})

    def check_newest(self) -> None:
        """Raise SweepSuperseded where the sweep was started again since."""
        if object_exists(self.sweep.driver_uri(self.number + 1)):
            raise SweepSuperseded(
                f"the sweep {self.sweep.uri} was started again while this start of it was at work, so this one ends "
                "here and leaves the sweep to the newer: two at once would train the same trials twice. What its "
                "trials saved is whole; end the other one first if this one is to go on"
            )

    def close(self, reason: str) -> None:
        """It ends in order: `done`, `interrupted`, `failed: ...`. A killed one has no end."""
        self.note("end", reason=reason)
        self._log.close()


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """An existing sweep; `facts` is what its sweep.json says."""

    uri: str
    facts: Mapping[str, Any]

    @classmethod
    def create(cls, job: SweepJob, uri: str) -> SweepFolder:
        """Make the sweep of a definite job (`judging.definite`); a sweep that lies there already is refused."""
        uri = normalise_uri(uri)
        if job.judge.recipe is None:
            raise UsageError(
                "a sweep needs one recipe that all trials are judged on: judge.recipe is not given; pass definite(job)"
            )
        facts = {
            "format": SWEEP_FORMAT,
            "id": f"{job.name}-{secrets.token_hex(4)}",
            "name": job.name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "job": job_to_yaml(job, SWEEP_KINDS),
            "software": software(),
            "command": command_line(),
            "machine": machine(),
        }
        if not put_if_absent(join_uri(uri, "sweep.json"), json.dumps(facts, indent=1).encode()):
            raise UsageError(f"there is a sweep at {uri} already; go on with it, or choose another place for a new one")
        sweep = cls(uri, facts)
        sweep.write_job()
        return sweep

    @classmethod
    def open(cls, uri: str) -> SweepFolder:
        """The sweep that lies there."""
        uri = normalise_uri(uri)
        return cls(uri, read_facts(uri, "sweep", SWEEP_FORMAT))

    @property
    def sweep_id(self) -> str:
        """Names the sweep among all sweeps; wherever it is copied, it stays."""
        return str(self.facts["id"])

    @property
    def name(self) -> str:
        """Of its job."""
        return str(self.facts["name"])

    def job_text(self) -> str:
        """The definite job's YAML."""
        return str(self.facts["job"])

    def job(self) -> SweepJob:
        """The definite job."""
        job = job_from_yaml(self.job_text(), SWEEP_KINDS, where=f"{self.uri}/sweep.json")
        assert isinstance(job, SweepJob)
        return job

    def place(self, name: str) -> str:
        """The uri of a file or folder in it: `trials.parquet`, `drivers`."""
        return join_uri(self.uri, name)

    def write_job(self) -> None:
        """Put sweep.yaml there, as sweep.json has it: after a kill it may be missing."""
        put_object(self.place("sweep.yaml"), self.job_text().encode())

    def check_same(self, job: Config) -> None:
        """Refuse to go on with a job that is not the sweep's: its trials would not be comparable."""
        told, own = job.model_dump(mode="json"), self.job().model_dump(mode="json")
        other = [name for name in own if told.get(name) != own[name]]
        if other:
            raise UsageError(
                f"the sweep at {self.uri} was begun with another job; what differs: {', '.join(other)}. Go on with it "
                "as it is (give its folder as the job), or begin a new sweep"
            )

    def terms(self) -> Terms | None:
        """On what all its trials train; None before that is decided."""
        try:
            told = json.loads(read_object(self.place("share.json"), limit_bytes=LIMIT_BYTES))
        except PlaceMissing:
            return None
        except ValueError as error:
            raise CinerayError(f"{self.uri}/share.json is damaged: {error}; restore it from a copy") from None
        return Terms.from_dict(told)

    def keep_terms(self, terms: Terms, cluster: Mapping[str, float]) -> Terms:
        """Write it down for ever, with the cluster that it was decided by; where that was done before, it is that."""
        counted = {name: cluster.get(name, 0.0) for name in ("CPU", "GPU", "object_store_memory")}
        told = {**terms.to_dict(), "cluster": counted, "at": time.time()}
        if put_if_absent(self.place("share.json"), json.dumps(told, indent=1).encode()):
            return terms
        kept = self.terms()
        assert kept is not None
        return kept

    # ---- trials ------------------------------------------------------------------------------------------------------

    def trial(self, number: int) -> TrialFolder:
        """The trial of that number."""
        return TrialFolder.open(self.place(f"trials/{number:04d}"))

    def trials(self) -> list[TrialFolder]:
        """All that were asked for, by number."""
        found: list[TrialFolder] = []  # asked one by one: below each of them lies a whole run, and nobody lists that
        while (trial := TrialFolder.find(self.place(f"trials/{len(found):04d}"))) is not None:
            found.append(trial)
        return found

    def add_trial(
        self,
        number: int,
        *,
        values: Mapping[str, Any],
        fields: Mapping[str, Any],
        job: Config,
        rate_per_hour: float | None = None,
        share: Mapping[str, Any] | None = None,
        search: Mapping[str, Any] | None = None,
    ) -> TrialFolder:
        """Write down what was asked for, before it starts. Told a second time, the first telling stays. Numbers begin
        at 0 and have no gaps."""
        return TrialFolder.create(
            self.place(f"trials/{number:04d}"),
            number=number,
            values=values,
            fields=fields,
            job=job,
            rate_per_hour=rate_per_hour,
            share=dict(share or {}),
            search=dict(search or {}),
        )

    # ---- drivers -----------------------------------------------------------------------------------------------------

    def begin_driver(self) -> Driver:
        """Number this start of the sweep; whoever started it before finds out by `check_newest`."""
        if not object_exists(self.place("sweep.yaml")):
            self.write_job()
        number, told = 1, json.dumps({"at": time.time(), "command": command_line(), "machine": machine()})
        while not put_if_absent(self.driver_uri(number), told.encode()):
            number += 1
        return Driver(self, number)

    def driver_uri(self, number: int) -> str:
        """Where a start of the sweep says that it began. Numbers have no gaps."""
        return self.place(f"drivers/{number:05d}.json")

    def events(self) -> list[dict[str, Any]]:
        """Everything that drivers noted, in turn: `driver`, `at`, `event` and its facts."""
        return [{"driver": number, **line} for number, line in self._drivers()]

    def wall_seconds(self) -> float:
        """How long drivers were at work, all together: a night between two of them does not count."""
        lived = 0.0
        for _, lines in groupby(self._drivers(), key=lambda pair: pair[0]):
            times = [float(line["at"]) for _, line in lines]
            lived += times[-1] - times[0]
        return lived

    def _drivers(self) -> Iterator[tuple[int, dict[str, Any]]]:
        return ((int(name), line) for name, line in read_logs(self.place("drivers")))


def is_sweep(uri: str) -> bool:
    """Does a sweep lie there?"""
    return object_exists(join_uri(normalise_uri(uri), "sweep.json"))


def new_sweep_uri(job: SweepJob) -> str:
    """A place that no sweep has: `<sweeps>/<name>-20261121-034500-1f2e`."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return join_uri(normalise_uri(job.sweeps), f"{job.name}-{stamp}-{secrets.token_hex(2)}")
