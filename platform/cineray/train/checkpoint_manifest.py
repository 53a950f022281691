"""What a checkpoint is: a manifest that was written last. Files of a folder go in, a `CheckpointInfo` comes out.

    checkpoints/00001000/manifest.json     names every file with its size and hash; put if absent, after all of them
    checkpoints/00001000/<attempt>/...     the files of one attempt to save that step

Without a manifest there is no checkpoint, whatever else lies there: a save that was killed, or that met a full disk,
can confuse nobody. With one, each file must have the hash that it names, or the checkpoint counts as damaged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import blake3

from cineray.errors import CinerayError, PlaceError, PlaceMissing
from cineray.plan import PlanIdentity
from cineray.records import Place
from cineray.storage import join_uri, list_objects, open_place, read_object

MANIFEST = "manifest.json"
FORMAT = 1
_LIMIT_BYTES = 256 << 20
_PIECE_BYTES = 8 << 20
_NAMED = re.compile(r"/(\d{8,})/manifest\.json$")


class CheckpointDamaged(CinerayError):
    """A checkpoint is not what its manifest says; the message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """One file of a checkpoint."""

    name: str
    size_bytes: int
    blake3: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """A checkpoint as its manifest tells it; `uri` is the folder of the step."""

    uri: str
    step: int
    created: str
    folder: str
    """The folder of its files, within `uri`."""
    files: tuple[FileFacts, ...]
    plan: Mapping[str, Any] | None
    """`PlanIdentity.to_dict()` of the plan that it was trained on; None where the trainer had none."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else belongs to it: journal, commit, versions, world size, what the trainer gave."""

    @property
    def data_uri(self) -> str:
        """Where its files lie."""
        return join_uri(self.uri, self.folder)

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(one.size_bytes for one in self.files)

    @property
    def identity(self) -> PlanIdentity | None:
        """The plan that it was trained on."""
        return None if self.plan is None else PlanIdentity.from_dict(self.plan)

    def to_bytes(self) -> bytes:
        """The manifest, closed by its own hash."""
        told = asdict(self)
        del told["uri"]
        told = json.loads(json.dumps({"format": FORMAT, **told}))
        return json.dumps({**told, "digest": _digest(told)}, indent=1).encode()


def step_uri(checkpoints: str, step: int) -> str:
    """The folder of a step; names sort as numbers do."""
    return join_uri(checkpoints, f"{step:08d}")


def read_manifest(uri: str) -> CheckpointInfo:
    """The manifest in a step's folder; a damaged one raises CheckpointDamaged, none PlaceMissing."""
    place = join_uri(uri, MANIFEST)
    data = read_object(place, limit_bytes=_LIMIT_BYTES)
    try:
        told = json.loads(data)
        digest = told.pop("digest")
        version = told.pop("format")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointDamaged(f"{place} is no manifest ({type(error).__name__}: {error})") from None
    if digest != _digest({"format": version, **told}):
        raise CheckpointDamaged(f"{place} was changed after it was written: its own hash is another")
    if version != FORMAT:
        raise CinerayError(f"{place} has format {version}; this code reads {FORMAT}. Use the cineray that wrote it")
    files = tuple(FileFacts(**one) for one in told.pop("files"))
    return CheckpointInfo(uri=uri, files=files, **told)


def steps_in(checkpoints: str) -> list[int]:
    """The steps that have a manifest, whole or not, ascending."""
    found = (_NAMED.search(one.uri) for one in list_objects(checkpoints))
    return sorted(int(match[1]) for match in found if match)


def leftovers(checkpoints: str) -> dict[int, set[str]]:
    """Step -> folders with files in them; a reader of manifests knows which belong to a checkpoint."""
    found: dict[int, set[str]] = {}
    prefix = checkpoints.rstrip("/") + "/"
    for one in list_objects(checkpoints):
        step, _, rest = one.uri.removeprefix(prefix).partition("/")
        if step.isdecimal() and "/" in rest:
            found.setdefault(int(step), set()).add(rest.split("/", 1)[0])
    return found


def hash_file(path: str) -> FileFacts:
    """Size and hash of a local file; only its own name is told."""
    hasher, size = blake3.blake3(), 0
    with open(path, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            hasher.update(piece)
            size += len(piece)
    return FileFacts(name=path.rsplit("/", 1)[-1], size_bytes=size, blake3=hasher.hexdigest())


def check_files(info: CheckpointInfo, files: Iterable[FileFacts] | None = None) -> None:
    """Read files of a checkpoint (all, if not told which) and raise CheckpointDamaged at the first that is wrong."""
    for wanted in info.files if files is None else files:
        uri = join_uri(info.data_uri, wanted.name)
        try:
            found = _hash_place(uri, wanted.name)
        except PlaceMissing:
            raise CheckpointDamaged(f"{uri} is missing") from None
        except PlaceError as error:
            raise CheckpointDamaged(f"{uri} cannot be read: {error}") from None
        if found.size_bytes != wanted.size_bytes:
            raise CheckpointDamaged(f"{uri} has {found.size_bytes} bytes; its manifest says {wanted.size_bytes}")
        if found.blake3 != wanted.blake3:
            raise CheckpointDamaged(f"{uri} has the hash {found.blake3[:16]}; its manifest says {wanted.blake3[:16]}")


def _hash_place(uri: str, name: str) -> FileFacts:
    hasher = blake3.blake3()
    with open_place(Place(uri=uri)) as reader:
        for start in range(0, reader.size_bytes, _PIECE_BYTES):
            hasher.update(reader.read_at(start, min(_PIECE_BYTES, reader.size_bytes - start)))
        return FileFacts(name=name, size_bytes=reader.size_bytes, blake3=hasher.hexdigest())


def _digest(told: Mapping[str, Any]) -> str:
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return blake3.blake3(text.encode()).hexdigest()
