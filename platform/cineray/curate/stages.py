"""All stages that a job may name, by their names: what can be measured, where scenes begin, what a video resembles."""

from __future__ import annotations

from cineray.curate.measures import MEASURES
from cineray.curate.scenes import Scenes
from cineray.curate.signatures import Signatures
from cineray.curate.stage import Stage

STAGES: dict[str, type[Stage]] = {**MEASURES, "scenes": Scenes, "signatures": Signatures}
