"""The first station: what exists. A path, address or pattern in, a stream of `VideoFile` and `Reject` out.

`open_source` guesses the kind; `SOURCES` names the four. Listing opens no video, and what comes from strangers (names,
tar members, sidecars, rows) is taken as such: it can cost itself a Reject, never the run. Importing this package
imports neither Lance nor pyarrow.
"""

from cineray.source.annotations import Annotations
from cineray.source.base import Source
from cineray.source.folder import VideoFolder
from cineray.source.lance_table import LanceTable
from cineray.source.manifest import Manifest
from cineray.source.naming import printable_name, true_name
from cineray.source.registry import SOURCES, open_source
from cineray.source.sidecars import (
    CAPTION_SIDECARS,
    MAX_SIDECAR_BYTES,
    SUBTITLE_SIDECARS,
    SidecarError,
    parse_captions_json,
    parse_captions_txt,
    parse_label_cls,
    parse_subtitles,
    with_sidecar,
)
from cineray.source.webdataset_tar import WebDatasetTar

__all__ = [
    "CAPTION_SIDECARS",
    "MAX_SIDECAR_BYTES",
    "SOURCES",
    "SUBTITLE_SIDECARS",
    "Annotations",
    "LanceTable",
    "Manifest",
    "SidecarError",
    "Source",
    "VideoFolder",
    "WebDatasetTar",
    "open_source",
    "parse_captions_json",
    "parse_captions_txt",
    "parse_label_cls",
    "parse_subtitles",
    "printable_name",
    "true_name",
    "with_sidecar",
]
