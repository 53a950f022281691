"""An evaluation's record: what was found of a checkpoint goes in; a folder to be read, compared and shown comes out.

    <run>/evaluations/step-00001100/
      evaluation.json      scores with intervals and controls, losses, what made them; the last file to be written
      rows.npz             what each metric kept of each clip, of generated and real ones: all scores follow from it
      clips/0000.mp4 ...   generated clips, and real-0000.mp4 ...: the held-out clip of the same prompt

An evaluation has a key, made of its config, the checkpoint's bytes, the prompts and the files of weights: what was
found for a key is not computed again. Another config of the same checkpoint lies in a folder of its own.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cineray.errors import CinerayError, PlaceMissing
from cineray.evaluate.metric import Rows
from cineray.evaluate.scores import Score
from cineray.storage import join_uri, list_objects, put_object, read_object
from cineray.train.run_folder import RunFolder

FORMAT = 1
RECORD, ROWS = "evaluation.json", "rows.npz"
_LIMIT_BYTES = 1 << 30

RowsOf = Mapping[str, Rows]
"""By metric."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation that was made; `facts` is what its evaluation.json says."""

    uri: str
    facts: Mapping[str, Any]

    @property
    def key(self) -> str:
        """What was asked: the same key, the same findings."""
        return str(self.facts["key"])

    @property
    def checkpoint(self) -> int:
        """The step."""
        return int(self.facts["checkpoint"])

    @property
    def name(self) -> str:
        """For people: `train-shapes, 1,100 steps`."""
        return f"{self.facts['job']}, {self.checkpoint:,} steps"

    def scores(self) -> list[Score]:
        """Of all generated clips."""
        return [Score.from_dict(told) for told in self.facts["metrics"]]

    def rows(self) -> tuple[RowsOf, RowsOf]:
        """What the metrics kept of the generated clips, and of the real ones."""
        place = join_uri(self.uri, ROWS)
        with np.load(io.BytesIO(read_object(place, limit_bytes=_LIMIT_BYTES)), allow_pickle=False) as file:
            names = json.loads(file["names"].tobytes())
            kept = {key: np.asarray(file[key]) for key in file.files if key != "names"}
        generated, real = (
            {
                key.removeprefix(f"{whose}/"): Rows(tuple(names[whose]), values)
                for key, values in kept.items()
                if key.startswith(f"{whose}/")
            }
            for whose in ("generated", "real")
        )
        return generated, real


def rows_file(generated: RowsOf, real: RowsOf) -> bytes:
    """`rows.npz`: each metric's rows, in the order of the clips' names."""
    arrays: dict[str, Any] = {}
    names: dict[str, Sequence[str]] = {}
    for whose, of_metrics in (("generated", generated), ("real", real)):
        for metric, rows in of_metrics.items():
            arrays[f"{whose}/{metric}"] = rows.values_ND
            names[whose] = rows.names
    arrays["names"] = np.frombuffer(json.dumps(names).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def write_evaluation(uri: str, facts: Mapping[str, Any], generated: RowsOf, real: RowsOf) -> Evaluation:
    """The record last: who finds it finds all that it names."""
    put_object(join_uri(uri, ROWS), rows_file(generated, real))
    put_object(join_uri(uri, RECORD), json.dumps(facts, indent=1).encode())
    return Evaluation(uri, facts)


def read_evaluation(uri: str) -> Evaluation | None:
    """The evaluation that lies there; None where there is none, or one of another format."""
    try:
        facts = json.loads(read_object(join_uri(uri, RECORD), limit_bytes=_LIMIT_BYTES))
    except PlaceMissing:
        return None
    except ValueError as error:
        raise CinerayError(f"{uri}/{RECORD} is damaged: {error}; remove the folder and evaluate again") from None
    return Evaluation(uri, facts) if facts.get("format") == FORMAT else None


def evaluations_of(run: RunFolder) -> list[Evaluation]:
    """All of a run, by checkpoint."""
    places = (one.uri for one in list_objects(run.folder("evaluations")) if one.uri.endswith(f"/{RECORD}"))
    found = [read_evaluation(place.removesuffix(f"/{RECORD}")) for place in places]
    return sorted((one for one in found if one is not None), key=lambda one: (one.checkpoint, one.uri))


def place_for(run: RunFolder, step: int, key: str) -> str:
    """The checkpoint's folder, if it is free or has what was found for this key; else one of the key's own."""
    usual = run.folder(f"evaluations/step-{step:08d}")
    there = read_evaluation(usual)
    return usual if there is None or there.key == key else f"{usual}-{key[:8]}"
