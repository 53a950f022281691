"""How a plan came about, for people: a plan in, a printed tree out, from the recipe down to each dataset's clips.

Plan(5f3a9c1e): 9,812 clips, 154 steps per epoch, seed 7, format 1
├─ sampling: fps, fps=8, frames=16, short_videos=skip
├─ bucket 16x128x128: 64 clips per step, 9,812 clips
│  └─ dataset 0: 9,812 clips, all
└─ dataset 0 (split train): 9,812 of 10,000 clips, 77d80312
   └─ left out: 188 too short for a clip
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cineray.plan.identity import PLAN_FORMAT
from cineray.plan.rowset import Part

if TYPE_CHECKING:
    from cineray.config import Config
    from cineray.plan.plan import Plan


class Branch(NamedTuple):
    """One line of the tree, and what hangs below it."""

    text: str
    below: tuple[Branch, ...] = ()


def tree_of(plan: Plan) -> str:
    """The tree, as lines of text."""
    recipe = plan.recipe
    draws = f", {recipe.clips_per_visit} clips per visit" if recipe.clips_per_visit > 1 else ""
    root = (
        f"Plan({plan.fingerprint[:8]}): {plan.clips_per_epoch:,} clips, {plan.steps_per_epoch:,} steps per epoch"
        f"{draws}, seed {plan.seed}, format {PLAN_FORMAT}"
    )
    branches = [
        Branch(f"sampling: {_said(recipe.sampling, 'mode')}"),
        Branch(f"frame: {_said(recipe.frame, 'crop')}"),
        *(_bucket(plan, number) for number in range(len(recipe.shapes))),
        *(_dataset(plan, number) for number in range(len(recipe.datasets))),
    ]
    return "\n".join([root, *_drawn(tuple(branches))])


def _bucket(plan: Plan, number: int) -> Branch:
    shape, bucket = plan.recipe.shapes[number], plan.order.buckets[number]
    tokens = plan.recipe.tokens_of(shape) * bucket.size
    name = "x".join(map(str, shape.shape))
    below = []
    for dataset, found in enumerate(plan.eligible):
        groups = found.buckets[number]
        counts = [Part(dataset, group.rows, group.window_ends).count for group in groups]
        if not groups:
            continue
        names = ", ".join(f"{group.name} {count:,}" for group, count in list(zip(groups, counts, strict=True))[:8])
        more = f" and {len(groups) - 8} more" if len(groups) > 8 else ""
        what = (
            f" in {len(groups)} balanced groups: {names}{more}"
            if plan.recipe.datasets[dataset].balance != "none"
            else ""
        )
        below.append(Branch(f"dataset {dataset}: {sum(counts):,} clips{_turns(plan, number, dataset)}{what}"))
    text = f"bucket {name}: {bucket.size} clips ({tokens:,} tokens) per step, {bucket.units:,} clips"
    return Branch(text if bucket.units else f"{text}, so it has no step", tuple(below))


def _turns(plan: Plan, number: int, dataset: int) -> str:
    """A dataset's realised share of the bucket's slots."""
    cycle = plan.order.buckets[number].cycle
    if cycle is None:
        return ""
    members = [d for d, found in enumerate(plan.eligible) if found.buckets[number]]
    quota = cycle.quotas[members.index(dataset)]
    return f", {quota} of every {len(cycle)} slots"


def _dataset(plan: Plan, number: int) -> Branch:
    spec, found = plan.recipe.datasets[number], plan.eligible[number]
    asked = [f"split {spec.split}" if spec.split is not None else "all splits"]
    asked += [f"filter {spec.filter}"] if spec.filter else []
    asked += [f"weight {spec.weight:g}"] if spec.weight is not None else []
    asked += [f"balanced by {spec.balance}"] if spec.balance != "none" else []
    drawn = found.total - sum(found.left_out.values())
    name = plan.catalogs[number].fingerprint[:16]
    left = tuple(Branch(f"left out: {count:,} {why}") for why, count in found.left_out.items())
    return Branch(f"dataset {number} ({', '.join(asked)}): {drawn:,} of {found.total:,} clip rows, {name}", left)


def _said(config: Config, first: str) -> str:
    """A config's values other than the defaults, the named one first."""
    values = config.model_dump()
    defaults = {name: field.default for name, field in type(config).model_fields.items()}
    told = [f"{name}={value}" for name, value in values.items() if name != first and value != defaults[name]]
    return ", ".join([str(values[first]), *told])


def _drawn(branches: tuple[Branch, ...], margin: str = "") -> list[str]:
    lines = []
    for branch in branches:
        last = branch is branches[-1]
        lines.append(f"{margin}{'└─' if last else '├─'} {branch.text}")
        lines += _drawn(branch.below, margin + ("   " if last else "│  "))
    return lines
