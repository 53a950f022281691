"""One trial's place in a sweep's folder: values and a definite job go in; its runs, reports and end come to lie there.

    trials/0007/
      trial.json               number, values, the fields that they set, the job, what an hour costs; put if absent
      run/                     an ordinary run's folder: `cineray train trials/0007/run` goes on with it
      generation-0002.json     where the trial went on from another's checkpoint: values, job, begins_from
      run-0002/                and the run of that
      reports/                 an object per judgement, there before Tune is told: `report_log.py`
      evaluation.json  alone.json  spent.json         what was found out after the training
      end.json                 how it ended, and why; put if absent: a trial ends once
      lost-0001.json           an end that was none: another start of the sweep tried again what machines had failed

A trial without an end is handed out again, and its run goes on from its newest checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cineray.config import Config, job_from_yaml, job_to_yaml
from cineray.errors import CinerayError, PlaceMissing
from cineray.storage import delete_object, join_uri, put_if_absent, put_object, read_object
from cineray.sweep.report_log import ReportLog, read_reports
from cineray.train.config import TrainJob
from cineray.train.ending import planned_steps
from cineray.train.job_kinds import JOB_KINDS
from cineray.train.run_folder import RunFolder, is_run

State = Literal["done", "stopped", "data-bound", "failed", "lost"]

STATES: dict[State, str] = {
    "done": "reached its budget",
    "stopped": "ended by the scheduler, which found others better",
    "data-bound": "ended because it mostly waited for data",
    "failed": "its own config cannot be trained",
    "lost": "its machines failed more often than a start of the sweep tries it again; another one does",
}
"""How a trial may end."""

_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class TrialFolder:
    """An existing trial; `facts` is what its trial.json says."""

    uri: str
    facts: Mapping[str, Any]

    @classmethod
    def create(cls, uri: str, *, number: int, job: Config, **facts: Any) -> TrialFolder:
        """Write it down; where it is written down already, it is that one."""
        told = {"number": number, **facts, "job": job_to_yaml(job, JOB_KINDS), "asked_at": time.time()}
        if not put_if_absent(join_uri(uri, "trial.json"), json.dumps(told, indent=1).encode()):
            return cls.open(uri)
        return cls(uri, told)

    @classmethod
    def open(cls, uri: str) -> TrialFolder:
        """The trial that lies there."""
        found = cls.find(uri)
        if found is None:
            raise CinerayError(f"there is no trial at {uri}: it has no trial.json; wanted a trial's folder of a sweep")
        return found

    @classmethod
    def find(cls, uri: str) -> TrialFolder | None:
        """The same; None without one."""
        facts = _read(join_uri(uri, "trial.json"))
        return None if facts is None else cls(uri, facts)

    @property
    def number(self) -> int:
        """From 0, in the order in which they were asked for."""
        return int(self.facts["number"])

    @property
    def values(self) -> dict[str, Any]:
        """Parameter -> value, or the name of a variant, as it began."""
        return dict(self.facts["values"])

    def place(self, name: str) -> str:
        """The uri of something in it."""
        return join_uri(self.uri, name)

    # ---- runs --------------------------------------------------------------------------------------------------------

    def generations(self) -> list[dict[str, Any]]:
        """The runs that the trial is made of, oldest first: `generation`, `values`, `job`, `begins_from` (None, or the
        other's `run` and `step`)."""
        found = [{"generation": 1, "values": self.values, "job": self.facts["job"], "begins_from": None}]
        while (told := _read(self.place(f"generation-{len(found) + 1:04d}.json"))) is not None:
            found.append(told)
        return found

    def begin_generation(
        self, *, values: Mapping[str, Any], job: Config, begins_from: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The trial goes on from another's checkpoint, with other values, in a run of its own. Killed and told a second
        time, it is that one again and not one more."""
        last = self.generations()[-1]
        told: dict[str, Any] = {"values": dict(values), "begins_from": dict(begins_from)}
        if {name: last[name] for name in told} == told:
            return last
        number = int(last["generation"]) + 1
        told |= {"generation": number, "job": job_to_yaml(job, JOB_KINDS)}
        put_if_absent(self.place(f"generation-{number:04d}.json"), json.dumps(told, indent=1).encode())
        return self.generations()[-1]

    def run_uri(self, generation: int | None = None) -> str:
        """Where the run of a generation lies; None: of the newest."""
        number = int(self.generations()[-1]["generation"]) if generation is None else generation
        return self.place("run" if number == 1 else f"run-{number:04d}")

    def job(self, generation: int | None = None) -> TrainJob:
        """The definite job of a generation; None: of the newest."""
        told = self.generations()[-1 if generation is None else generation - 1]
        job = job_from_yaml(str(told["job"]), JOB_KINDS, where=self.uri)
        assert isinstance(job, TrainJob)
        return job

    # ---- reports -----------------------------------------------------------------------------------------------------

    def open_reports(self) -> ReportLog:
        """For one start of the trial."""
        return ReportLog.open(self.place("reports"))

    def reports(self) -> list[dict[str, Any]]:
        """Every judgement that counts, in order. What a restart did again replaces what it did before."""
        kept: list[dict[str, Any]] = []
        for report in read_reports(self.place("reports")):
            same = report.get("generation", 1)
            kept = [one for one in kept if one.get("generation", 1) != same or one["step"] < report["step"]]
            kept.append(report)
        return kept

    def has_all_steps(self) -> bool:
        """Was it judged at its last step?"""
        reports, run = self.reports(), self.run_uri()
        newest = int(self.generations()[-1]["generation"])
        if not reports or reports[-1].get("generation", 1) != newest or not is_run(run):
            return False
        return int(reports[-1]["step"]) >= planned_steps(RunFolder.open(run), self.job())

    # ---- its end, and what is found out after it ---------------------------------------------------------------------

    def end(self, state: State, why: str = "") -> bool:
        """It is over; False where it was over already, in whatever way."""
        told = {"state": state, "why": why, "at": time.time()}
        return put_if_absent(self.place("end.json"), json.dumps(told).encode())

    def ended(self) -> dict[str, Any] | None:
        """`state`, `why`, `at`; None while it is not over."""
        return _read(self.place("end.json"))

    def reopen(self) -> bool:
        """Take back that its machines failed it, for they may be there again; False where it did not end by that."""
        end = self.ended()
        if end is None or end["state"] != "lost":
            return False
        number = 1
        while not put_if_absent(self.place(f"lost-{number:04d}.json"), json.dumps(end).encode()):
            number += 1
        delete_object(self.place("spent.json"))  # counted when it seemed to be over
        delete_object(self.place("end.json"))
        return True

    def keep(self, name: str, facts: Mapping[str, Any]) -> None:
        """Put `evaluation`, `alone`, `spent` or `failure` there, in place of what was."""
        put_object(self.place(f"{name}.json"), json.dumps(dict(facts), indent=1, default=str).encode())

    def kept(self, name: str) -> dict[str, Any] | None:
        """What was put there; None without it."""
        return _read(self.place(f"{name}.json"))


def _read(uri: str) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json.loads(read_object(uri, limit_bytes=_LIMIT_BYTES))
    except PlaceMissing:
        return None
    except ValueError as error:
        raise CinerayError(f"{uri} is damaged: {error}; restore it from a copy of the sweep") from None
    return told
