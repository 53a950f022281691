"""Source, index and lake joined: `ingest(config)` brings what is new in a source into a lake as one version."""

from cineray.ingest.annotate import annotate
from cineray.ingest.config import EngineConfig, IngestConfig, SplitConfig
from cineray.ingest.run import IngestReport, Progress, check_limit, ingest, whoami

__all__ = [
    "EngineConfig",
    "IngestConfig",
    "IngestReport",
    "Progress",
    "SplitConfig",
    "annotate",
    "check_limit",
    "ingest",
    "whoami",
]
