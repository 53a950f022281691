"""Which trial is next: a sweep's folder goes in; numbers of trials come out, each of them written down by then.

First those that an earlier start of the sweep left unfinished or whose machines failed too often for it, which go on
from their runs' checkpoints; then new ones, with the values that the search proposes. None when there is nothing more
to begin: all are asked for, the time is over, somebody wants the sweep to stop, or has started it again since.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cineray.errors import UsageError
from cineray.sweep.capacity import Share
from cineray.sweep.costs import rate_per_hour
from cineray.sweep.folder import Driver, SweepFolder, SweepSuperseded
from cineray.sweep.search import Proposal, Search
from cineray.sweep.space import fields_set
from cineray.sweep.trial_folder import TrialFolder
from cineray.sweep.trial_job import trial_job
from cineray.sweep.trial_record import TrialRecords


class Proposals:
    """Of one start of a sweep."""

    def __init__(self, sweep: SweepFolder, driver: Driver, share: Share, asked: Callable[[TrialFolder], None]) -> None:
        """`asked` is told of every trial that is handed out."""
        self._sweep, self._driver, self._share, self._tell = sweep, driver, share, asked
        self._job = sweep.job()
        self._search, self._records = Search(self._job), TrialRecords(sweep)
        for trial in sweep.trials():
            if trial.reopen():
                driver.note("reopened", trial=trial.number)
        self._again = [record.number for record in self._records.read() if not record.is_over]
        self._before, self._began = sweep.wall_seconds(), time.monotonic()
        self.closed = ""
        """Why no more trials begin; empty while they do."""
        self.superseded: SweepSuperseded | None = None
        """Raised once everything has ended in order."""

    def close(self, reason: str) -> None:
        """No more trials begin."""
        self.closed = self.closed or reason

    def next(self) -> int | None:
        """The number of a trial to begin, or to go on with."""
        while not self.closed and self._is_newest():
            number = self._again.pop(0) if self._again else self._new()
            if number is None:
                return None
            trial = self._sweep.trial(number)
            self._tell(trial)
            if trial.ended() is None:
                return number
        return None

    def _is_newest(self) -> bool:
        try:
            self._driver.check_newest()
        except SweepSuperseded as error:
            self.superseded = error
            self.close("somebody started the sweep again")
        return self.superseded is None

    def _new(self) -> int | None:
        """Ask for a trial, and write it down; one that cannot be is written down as failed."""
        limit = self._job.total_seconds
        if limit is not None and self._before + time.monotonic() - self._began > limit:
            return None
        records = self._records.read()
        number = len(records)
        proposal = self._search.propose(number, records)
        if proposal is None:
            return None
        try:
            self._write(number, proposal)
        except UsageError as error:
            self._sweep.add_trial(number, values=proposal.values, fields={}, job=self._job.base, search=proposal.facts)
            self._sweep.trial(number).end("failed", str(error))
        return number

    def _write(self, number: int, proposal: Proposal) -> None:
        job = trial_job(self._job, proposal.values, number=number, share=self._share, group=self._sweep.sweep_id)
        prices = self._job.prices
        self._sweep.add_trial(
            number,
            values=proposal.values,
            fields=fields_set(self._job.space, proposal.values),
            job=job,
            rate_per_hour=None if prices is None else rate_per_hour(job, prices),
            share=self._share.to_dict(),
            search=proposal.facts,
        )
