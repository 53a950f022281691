"""A run's checkpoints: saved beside training, verified before they are loaded, kept by a rule.

    checkpoints = Checkpoints(run, job.checkpoint)
    if (info := checkpoints.latest()) is not None:
        checkpoints.load(state, info)
    ...
    checkpoints.save(learner.state(), step, {"loss": 0.1})       # returns as soon as a copy is made
    checkpoints.poll()                                           # each step: did the last one fail?

`save` copies the state (into pinned memory, from a GPU) and returns; a thread of its own writes it while training goes
on, through a gloo group of its own. The next save waits for the one before. Every method here is called by all ranks,
at the same step; only `poll` looks at nothing but this process.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import blake3
import torch
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from cineray.errors import CinerayError, PlaceMissing, UsageError
from cineray.storage import join_uri, list_objects
from cineray.train.checkpoint_keep import KeepRule, best_of
from cineray.train.checkpoint_manifest import (
    CheckpointDamaged,
    CheckpointInfo,
    check_files,
    leftovers,
    read_manifest,
    step_uri,
    steps_in,
)
from cineray.train.checkpoint_read import load_into
from cineray.train.checkpoint_tidy import apply_rule, known, remove_leftovers
from cineray.train.checkpoint_write import CheckpointFailed, Writing, write_checkpoint
from cineray.train.ranks import Ranks, RanksDisagree
from cineray.train.run_facts import code_commit, software
from cineray.train.run_folder import RunFolder, RunSuperseded, other_plan


class Checkpoints:
    """The checkpoints of one run, in one process of it."""

    def __init__(
        self,
        run: RunFolder,
        rule: KeepRule,
        *,
        ranks: Ranks | None = None,
        asynchronous: bool = True,
        staging: str = "",
        facts: Mapping[str, Any] | None = None,
        note: Callable[..., None] | None = None,
        may_save: Callable[[], None] | None = None,
        begins_with: str = "",
    ) -> None:
        """`facts` belong to every checkpoint of this process (its attempt, its job); `note`: rank 0's `Attempt.note`,
        told of each save; `may_save`: its `check_newest`, asked before each; `ranks`: see `Ranks.beside`;
        `begins_with`: the folder of another run's checkpoint, which counts as this one's first."""
        self.run, self.uri, self.rule = run, run.folder("checkpoints"), rule
        self.ranks = Ranks.beside() if ranks is None else ranks
        self._asynchronous, self._staging, self._note, self._may_save = asynchronous, staging, note, may_save
        self._stager: DefaultStager | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._saving: Future[CheckpointInfo] | None = None
        self._saved_step = -1
        self._begins_with = begins_with
        self._facts = {"id": run.run_id, "fingerprint": run.facts["fingerprint"], **(facts or {})}

    # ---- saving ------------------------------------------------------------------------------------------------------

    def save(
        self,
        state: Mapping[str, Any],
        step: int,
        metrics: Mapping[str, float] | None = None,
        *,
        facts: Mapping[str, Any] | None = None,
        blocking: bool = False,
    ) -> float:
        """Save a state as that of `step`; returns the seconds that training was held up. Twice the same step is once.

        When it returns the weights may change. `facts` are plain values for the manifest, such as pixel statistics.
        """
        began = time.perf_counter()
        if step == self._saved_step:
            if blocking:
                self.wait()
            return time.perf_counter() - began
        self.wait()  # the copies in host memory are still those of the save before
        aside = self._asynchronous and not blocking
        staged = self._staged(state) if aside else state
        told = Writing(
            checkpoints=self.uri,
            step=step,
            plan=self.run.identity,
            metrics=dict(metrics or {}),
            facts=dict(facts or {}),
            staging=self._staging,
        )
        self._saved_step = step
        self._saving = self._thread.submit(self._write, staged, told)
        if not aside:
            self.wait()
        return time.perf_counter() - began

    def poll(self) -> None:
        """Raise what a save that ended has to say; costs nothing."""
        if self._saving is not None and self._saving.done():
            self.wait()

    def wait(self) -> CheckpointInfo | None:
        """Until the save that is under way has ended; raises CheckpointFailed if it failed."""
        if self._saving is None:
            return None
        saving, self._saving = self._saving, None
        try:
            return saving.result()
        except CinerayError:
            self._saved_step = -1
            raise

    def close(self) -> None:
        """End of the run: the last save is finished, and the thread is gone."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            if self._stager is not None:
                self._stager.close()

    def _staged(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """A copy in host memory that is kept for the next time; on a GPU pinned, after the step that is under way."""
        if self._stager is None:
            cuda = torch.cuda.is_available()
            self._stager = DefaultStager(
                StagingOptions(
                    use_pinned_memory=cuda,
                    use_shared_memory=False,
                    # Not in a thread: its copies would not wait for the optimiser's last kernels.
                    use_async_staging=False,
                    use_non_blocking_copy=cuda,
                )
            )
        staged = self._stager.stage(dict(state))
        return staged.result() if isinstance(staged, Future) else staged

    def _write(self, state: Mapping[str, Any], told: Writing) -> CheckpointInfo:
        began = time.perf_counter()
        if self.ranks.first:
            told = replace(told, facts=self._own_facts() | dict(told.facts))
        self._check_newest(told.step)
        info = write_checkpoint(state, told, self.ranks)
        if self.ranks.first:
            self._tidy(info.step)
            if self._note is not None:
                self._note("saved", step=info.step, bytes=info.size_bytes, seconds=time.perf_counter() - began)
        return info

    def _check_newest(self, step: int) -> None:
        """A run that was started again elsewhere is no longer this one's to save."""

        def superseded() -> str:
            try:
                if self._may_save is not None:
                    self._may_save()
            except RunSuperseded as newer:
                return str(newer)
            return ""

        try:
            sentence = self.ranks.only_first(superseded)
        except (RanksDisagree, CinerayError) as error:
            raise CheckpointFailed(
                f"the checkpoint of step {step} was not written: whether the run was started again elsewhere could "
                f"not be found out: {error}"
            ) from error
        if sentence:
            raise RunSuperseded(sentence)

    def _own_facts(self) -> dict[str, Any]:
        """By the code that saves it, which may be newer than the run."""
        if "git" not in self._facts:
            self._facts |= {"git": code_commit(), "software": software()}
        return self._facts | {"journal": journal_facts(self.run)}

    # ---- finding and loading -----------------------------------------------------------------------------------------

    def latest(self) -> CheckpointInfo | None:
        """The newest whole checkpoint: every file read and hashed. Damaged ones are skipped, with a warning."""
        steps = self.ranks.only_first(lambda: steps_in(self.uri))
        if self.ranks.first:
            self._tell_unfinished(steps)
        for step in reversed(steps):
            info = self.at(step)
            if info is not None:
                return info
        return self._others() if self._begins_with else None

    def best(self) -> CheckpointInfo | None:
        """The best whole checkpoint by the rule's metric."""
        for found in best_of(self.ranks.only_first(lambda: known(self.uri)), self.rule):
            info = self.at(found.step)
            if info is not None:
                return info
        return None

    def at(self, step: int) -> CheckpointInfo | None:
        """The checkpoint of this step if it is whole; the ranks share the work of reading it."""
        info, damage = self._whole(step_uri(self.uri, step))
        if damage and self.ranks.first:
            warnings.warn(f"the checkpoint of step {step} is not used: {damage}", stacklevel=2)
        return info

    def _others(self) -> CheckpointInfo | None:
        """What the run begins with: without it there is nothing else to begin with."""
        info, damage = self._whole(self._begins_with)
        if damage:
            raise UsageError(
                f"this run begins with another run's checkpoint (begin_from), which cannot be used: {damage}. Begin a "
                "new run with another step, and let that run keep it (checkpoint.keep_last, checkpoint.keep_every)"
            )
        return info

    def _whole(self, uri: str) -> tuple[CheckpointInfo | None, str]:
        """The checkpoint in a step's folder, or what is wrong with it; the ranks share the work of reading it."""
        told = self.ranks.each(lambda: self._looked_at(uri))
        damage = next((text for _, text in told if text), "")
        return (None, damage) if damage else (told[0][0], "")

    def load(self, state: dict[str, Any], info: CheckpointInfo, *, same_plan: bool = True) -> None:
        """Fill a state of the same shape from a checkpoint, whatever the world that wrote it.

        `same_plan=False` is for a run that begins with the weights of another; else another plan is refused. Of the one
        that this run `begins_with` the plan may differ anyhow.
        """
        same_plan = same_plan and info.uri != self._begins_with
        if same_plan and info.identity is not None and info.identity.fingerprint != self.run.identity.fingerprint:
            raise other_plan(f"the checkpoint {info.uri}", info.identity, self.run.identity)
        if same_plan:
            self.ranks.only_first(lambda: check_journal(self.run, info))
        load_into(state, info, self.ranks)
        self._saved_step = info.step if same_plan else -1

    def _looked_at(self, uri: str) -> tuple[CheckpointInfo | None, str]:
        try:
            info = read_manifest(uri)
            check_files(info, info.files[self.ranks.rank :: self.ranks.world])
        except (CheckpointDamaged, PlaceMissing) as damage:
            return None, str(damage)
        return info, ""

    def _tell_unfinished(self, steps: list[int]) -> None:
        newest = steps[-1] if steps else -1
        for step, folders in leftovers(self.uri).items():
            if step > newest and folders:
                place = join_uri(step_uri(self.uri, step), sorted(folders)[0])
                warnings.warn(f"a save of step {step} was never finished; {place} is not used", stacklevel=2)

    def _tidy(self, newest: int) -> None:
        """Make room after a save; that it fails is no reason to stop."""
        try:
            apply_rule(self.uri, self.rule, newest)
            remove_leftovers(self.uri, newest)
        except CinerayError as error:
            warnings.warn(f"old checkpoints could not be removed: {error}", stacklevel=2)


def journal_facts(run: RunFolder) -> dict[str, Any]:
    """Which verdicts the feed had to repeat by now: the batches so far are not the same without them."""
    names = sorted(one.uri.rsplit("/", 1)[-1] for one in list_objects(run.folder("journal/verdicts")))
    return {"verdicts": len(names), "digest": blake3.blake3("\n".join(names).encode()).hexdigest()}


def check_journal(run: RunFolder, info: CheckpointInfo) -> None:
    """A journal is only added to: one with fewer verdicts than at the checkpoint has lost some."""
    then = int(info.facts.get("journal", {}).get("verdicts", 0))
    now = int(journal_facts(run)["verdicts"])
    if info.facts.get("id") == run.run_id and now < then:
        raise CheckpointFailed(
            f"the journal {run.folder('journal')} has {now} verdicts, and had {then} when step {info.step} was saved: "
            "without them the batches are others. Restore the folder from a copy of the run"
        )
