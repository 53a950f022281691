"""The plan: which clips, in what order. A version of the data, a recipe and a seed go in; step -> ClipSpecs comes out.

    recipe = Recipe(sampling=SamplingSpec(mode="fps", fps="8", frames=16), batch_size=64)
    plan = Plan([catalog], recipe, seed=7)
    plan.batch(12_345)

Pure arithmetic over what a `Catalog` knows: no decoder, no lake, no torch, no Ray. Names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cineray.plan.catalog import Catalog, MemoryCatalog
    from cineray.plan.cost import DecodeCosts, PlanCost, cost_of
    from cineray.plan.draws import Draws, draws_for
    from cineray.plan.eligible import Eligible, Group, Rule
    from cineray.plan.facts import CatalogClip, ClipFacts, facts_of
    from cineray.plan.identity import PLAN_FORMAT, PlanIdentity, explain_difference
    from cineray.plan.permutation import Permutation, key_bytes
    from cineray.plan.plan import Plan, Window
    from cineray.plan.recipe import BucketSpec, DatasetSpec, FrameSpec, Recipe, SamplingSpec
    from cineray.plan.rowset import RowSet
    from cineray.plan.samplers import SAMPLERS, Sampler, sampler_of
    from cineray.plan.spatial import display_size
    from cineray.plan.stretch import Stretch, stretch_of
    from cineray.plan.synthetic import SyntheticCatalog, made_video

_HOME = {
    "catalog": ("Catalog", "MemoryCatalog"),
    "cost": ("DecodeCosts", "PlanCost", "cost_of"),
    "draws": ("Draws", "draws_for"),
    "eligible": ("Eligible", "Group", "Rule"),
    "facts": ("CatalogClip", "ClipFacts", "facts_of"),
    "identity": ("PLAN_FORMAT", "PlanIdentity", "explain_difference"),
    "permutation": ("Permutation", "key_bytes"),
    "plan": ("Plan", "Window"),
    "recipe": ("BucketSpec", "DatasetSpec", "FrameSpec", "Recipe", "SamplingSpec"),
    "rowset": ("RowSet",),
    "samplers": ("SAMPLERS", "Sampler", "sampler_of"),
    "spatial": ("display_size",),
    "stretch": ("Stretch", "stretch_of"),
    "synthetic": ("SyntheticCatalog", "made_video"),
}

__all__ = [
    "PLAN_FORMAT",
    "SAMPLERS",
    "BucketSpec",
    "Catalog",
    "CatalogClip",
    "ClipFacts",
    "DatasetSpec",
    "DecodeCosts",
    "Draws",
    "Eligible",
    "FrameSpec",
    "Group",
    "MemoryCatalog",
    "Permutation",
    "Plan",
    "PlanCost",
    "PlanIdentity",
    "Recipe",
    "RowSet",
    "Rule",
    "Sampler",
    "SamplingSpec",
    "Stretch",
    "SyntheticCatalog",
    "Window",
    "cost_of",
    "display_size",
    "draws_for",
    "explain_difference",
    "facts_of",
    "key_bytes",
    "made_video",
    "sampler_of",
    "stretch_of",
]


def __getattr__(name: str) -> Any:
    # Submodules (`cineray.plan.plan`) are found by the import system before this is asked.
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
