"""What a process needs to make batches: a few words (`FeedSpec`) go in, an open plan and its catalogs come out.

The words are all that travels to workers; each process opens them once and keeps them. Whoever names the fingerprint of
the plan that it means is refused another one.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from cineray.decode import DecodeOptions
from cineray.errors import UsageError
from cineray.feed.journal import Journal
from cineray.feed.lake_catalog import open_catalogs, resolve
from cineray.feed.latent_store import LatentStore, StoreSpec
from cineray.plan import Catalog, Plan, Recipe
from cineray.records import IndexedVideo, Place

_AS_USUAL = DecodeOptions()


class LocatedCatalog(Catalog, Protocol):
    """A catalog that also knows where the bytes of its videos lie."""

    def located(self, number: int, *, again: bool = False) -> tuple[IndexedVideo, Place]:
        """The video of one clip row, with the version tag that its bytes have at the place. `again`: it could not be
        read there; maybe it lies elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """An open plan, and how its clips are decoded."""

    plan: Plan
    catalogs: Sequence[LocatedCatalog]
    decode: DecodeOptions
    journal: Journal | None = None
    latents: LatentStore | None = None
    """Clips whose latents are here are not decoded."""
    visits_at_once: int = 4
    """Remote media: how many videos of a batch are read at the same time. Local media is bound by the core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSpec:
    """A plan in words: small, picklable, and the same batches wherever it is opened."""

    recipe: Recipe
    """With version numbers, not names (`pinned`): a name may point elsewhere by the time that a worker looks."""
    seed: int = 0
    decode: DecodeOptions = _AS_USUAL
    journal: str = ""
    """A folder or prefix for verdicts that must be repeated (`journal.py`); a run's own. Empty: none are kept."""
    latents: StoreSpec | None = None
    """A store of latents, for a run that learns those: what it has is sent in place of pixels."""
    fingerprint: str = ""
    """Of the plan that is meant; another one is refused. Empty: whatever it is."""

    def pinned(self) -> FeedSpec:
        """With the versions that are meant now, and the fingerprint of the plan that follows."""
        spec = replace(self, recipe=resolve(self.recipe))
        return replace(spec, fingerprint=spec.open().plan.fingerprint)

    def key(self) -> str:
        """Names what `open` makes."""
        told = {"recipe": self.recipe.model_dump(mode="json"), "seed": self.seed, "journal": self.journal}
        told["latents"] = asdict(self.latents) if self.latents is not None else None
        decode = asdict(self.decode) | {"policy": repr(self.decode.policy)}
        return hashlib.blake2b(json.dumps(told | decode, sort_keys=True).encode(), digest_size=16).hexdigest()

    def open(self) -> Supply:
        """The open plan, this process's own and kept for the next call."""
        key = (os.getpid(), self.key())
        if key not in _open:
            _refuse_after_fork()
            _open[key] = self._opened()
        supply = _open[key]
        if self.fingerprint and supply.plan.fingerprint != self.fingerprint:
            raise UsageError(
                f"the plan is {supply.plan.fingerprint[:16]} and {self.fingerprint[:16]} was meant: the data, the "
                "recipe, the seed or the code's plan format is another; compare with plan.explain_difference"
            )
        return supply

    def _opened(self) -> Supply:
        catalogs = open_catalogs(self.recipe)
        plan = Plan(catalogs, self.recipe, self.seed, decoding=self.decode.identity)
        return Supply(
            plan=plan,
            catalogs=catalogs,
            decode=self.decode,
            journal=Journal(self.journal) if self.journal else None,
            latents=self.latents.open() if self.latents is not None else None,
        )


_open: dict[tuple[int, str], Supply] = {}
"""Open plans by process: what a forked child finds of its parent is left alone."""

_forked_from_lance: list[int] = []


def _refuse_after_fork() -> None:
    """Lance crashes in a process that was forked from one that had used it."""
    if os.getpid() in _forked_from_lance:
        raise UsageError(
            "this process was forked from one that had opened the lake, which its reader (Lance) does not survive; "
            "start workers with multiprocessing_context='forkserver', as feed.loader(num_workers=...) does"
        )


def _note_fork() -> None:
    if "lance" in sys.modules:
        _forked_from_lance.append(os.getpid())


os.register_at_fork(after_in_child=_note_fork)
