"""Networks of one's own judge pictures: a score becomes columns that rules may name, a vector a row of a layer.

The network here is made and saved by the test: it gives how red a picture is, or its mean colour.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cineray.curate import CurateEngine, CurateJob, CurateReport, curate, networks
from cineray.curate.cache import Cache
from cineray.curate.explain import explain
from cineray.curate.ray_curate import Judge, look_at_chunk
from cineray.curate.vectors import vectors_of
from cineray.curate.videos import survey
from cineray.errors import UsageError
from cineray.index import index_video
from cineray.index.footage import Squares, see
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.records import IndexedVideo, Place, VideoFile

torch = pytest.importorskip("torch")
COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 0.5, 0.0), "gray": (0.5, 0.5, 0.5)}
PLAIN = {"mean": (0.0, 0.0, 0.0), "spread": (1.0, 1.0, 1.0), "side": 16, "pictures": 4}


class Redness(torch.nn.Module):
    """[N, 3, S, S] -> [N]: red less the mean of green and blue."""

    def forward(self, pictures: Any) -> Any:
        colour = pictures.mean(dim=(2, 3))
        return colour[:, 0] - (colour[:, 1] + colour[:, 2]) / 2


class MeanColour(torch.nn.Module):
    """[N, 3, S, S] -> [N, 3]."""

    def forward(self, pictures: Any) -> Any:
        return pictures.mean(dim=(2, 3)) + 1e-3


def saved(network: Any, path: Path) -> str:
    torch.jit.trace(network, torch.zeros(4, 3, 16, 16)).save(str(path))
    return str(path)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Callable[..., None]) -> Path:
    """Three videos of one colour each."""
    folder = tmp_path_factory.mktemp("networks")
    (folder / "source").mkdir()
    for name in COLOURS:
        color = f"color={name}:s=64x48:r=10:d=1"
        ffmpeg("-f", "lavfi", "-i", color, "-pix_fmt", "yuv420p", folder / "source" / f"{name}.mp4")
    ingest(
        IngestConfig(source=str(folder / "source"), lake=str(folder / "lake")), EngineConfig(engine="local", workers=1)
    )
    return folder / "lake"


@pytest.fixture
def lake(ingested: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(ingested, tmp_path / "lake"))


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Any]:
    redness, colour = (saved(net, tmp_path / f"{at}.pt") for at, net in enumerate((Redness(), MeanColour())))
    return {
        "redness": {"path": redness, "gives": "score", **PLAIN},
        "colour": {"path": colour, "gives": "vector", **PLAIN},
    }


def job_of(lake: str, models: Any, **told: Any) -> CurateJob:
    base = {"name": "test", "lake": lake, "stages": {"brightness": {}}, "cuts": {"at": "nowhere"}, "duplicates": None}
    return CurateJob.model_validate(base | {"models": models} | told)


def run(lake: str, models: Any, engine: str = "local", **told: Any) -> CurateReport:
    job = job_of(lake, models, **told)
    return curate(job, CurateEngine(engine=engine, workers=1), author="tester", command="test")  # type: ignore[arg-type]


def by_name(lake: str, values: dict[str, Any]) -> dict[str, Any]:
    rows = Lake.open(lake).read("latest", "places", columns=["video_id", "name"]).to_pylist()
    return {Path(row["name"]).stem: values[row["video_id"]] for row in rows if row["video_id"] in values}


def test_a_score_is_a_column_that_rules_and_filters_name(lake: str, models: Any) -> None:
    rules = [{"name": "too_red", "leave_out": "redness_score > 0.5"}]
    report = run(lake, models, rules=rules)
    assert {rule.name: rule.alone for rule in report.rules if rule.alone} == {"too_red": 1}
    opened = Lake.open(lake)
    red = explain(opened, opened.resolve("latest"), "red.mp4")
    assert red["quality"]["redness_score"] == pytest.approx(1.0, abs=0.02)
    assert red["quality"]["redness_lowest"] == pytest.approx(1.0, abs=0.02)
    assert red["became"] == "left out: too_red"
    found = opened.query("latest", "redness_score < 0", ["uri"])["uri"].to_pylist()
    assert [Path(uri).stem for uri in found] == ["green"]


def test_a_vector_is_a_row_of_length_one_and_no_column(lake: str, models: Any) -> None:
    run(lake, models)
    opened = Lake.open(lake)
    head = opened.resolve("latest")
    ids, matrix = vectors_of(opened, head, "colour")
    found = by_name(lake, dict(zip(ids, matrix, strict=True)))
    for name, colour in COLOURS.items():
        expected = np.array(colour) / np.linalg.norm(colour)
        assert np.dot(found[name], expected) == pytest.approx(1.0, abs=0.01), name
    assert np.linalg.norm(matrix, axis=1) == pytest.approx(np.ones(3), abs=1e-3)
    assert {json.loads(row["value"])["dims"] for row in opened.read(head, "layers/embeddings").to_pylist()} == {3}
    assert "vector" not in explain(opened, head, "red.mp4")["quality"]
    with pytest.raises(UsageError, match="has no vectors of a network `redness`"):
        vectors_of(opened, head, "redness")


def test_what_a_network_said_is_kept_by_the_bytes_of_its_file(lake: str, models: Any, tmp_path: Path) -> None:
    first = run(lake, models)
    assert (first.looked_at, first.version.number) == (3, 2)
    again = run(lake, models)
    assert (again.looked_at, again.version.fingerprint) == (0, first.version.fingerprint)

    moved = tmp_path / "elsewhere.pt"
    Path(models["redness"]["path"]).rename(moved)
    models["redness"]["path"] = str(moved)
    assert run(lake, models).looked_at == 0, "where the file lies is no part of what it says"

    saved(MeanColour().eval(), moved)
    models["redness"]["gives"] = "vector"
    assert run(lake, models).looked_at == 3, "another file is another network"
    rows = Lake.open(lake).read("latest", "layers/quality", columns=["author"])["author"].to_pylist()
    assert not [author for author in rows if author.startswith("redness@")], "its scores went with it"


def test_a_network_that_comes_later_is_loaded_alone(lake: str, models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    load = networks._loaded
    run(lake, {"redness": models["redness"]})
    loaded: list[str] = []
    monkeypatch.setattr(networks, "_loaded", lambda name, *told: loaded.append(name) or load(name, *told))
    assert run(lake, models).looked_at == 3
    assert loaded == ["colour"]
    opened = Lake.open(lake)
    for layer, found in (("quality", {"brightness", "redness"}), ("embeddings", {"colour"})):
        rows = opened.read("latest", f"layers/{layer}", columns=["author"])["author"].to_pylist()
        assert {author.split("@")[0] for author in rows} == found


class Scalar(torch.nn.Module):
    def forward(self, pictures: Any) -> Any:
        return pictures.mean()


def test_a_file_that_is_no_network_or_gives_something_else_is_refused_before_a_video_is_opened(
    lake: str, models: Any, tmp_path: Path
) -> None:
    score = models["redness"]
    with pytest.raises(UsageError, match=r"no file .*nothing\.pt, which the job names for the network `redness`"):
        run(lake, {"redness": score | {"path": str(tmp_path / "nothing.pt")}})
    (tmp_path / "words.pt").write_text("not a network")
    with pytest.raises(UsageError, match=r"words\.pt, named for the network `redness`, is not a TorchScript file"):
        run(lake, {"redness": score | {"path": str(tmp_path / "words.pt")}})
    torch.save({"weights": torch.zeros(3)}, tmp_path / "pickle.pt")
    with pytest.raises(UsageError, match="is not a TorchScript file"):
        run(lake, {"redness": score | {"path": str(tmp_path / "pickle.pt")}})
    with pytest.raises(UsageError, match=r"gave \(4, 3\) for 4 pictures; for a score wanted one tensor \[4\] or"):
        run(lake, {"redness": score | {"path": models["colour"]["path"]}})
    with pytest.raises(UsageError, match=r"gave \(\) for 4 pictures; for a vector wanted one tensor \[4, D\]"):
        run(lake, {"x": models["colour"] | {"path": saved(Scalar(), tmp_path / "scalar.pt")}})
    assert Lake.open(lake).resolve("latest").number == 1


class NoNumber(torch.nn.Module):
    def forward(self, pictures: Any) -> Any:
        return pictures.mean(dim=(1, 2, 3)).log()


def test_what_is_no_number_is_null_and_no_rule_holds_for_it(lake: str, models: Any, tmp_path: Path) -> None:
    """The logarithm of black is minus infinity."""
    black = models["redness"] | {"path": saved(NoNumber(), tmp_path / "log.pt"), "spread": (1e30, 1e30, 1e30)}
    report = run(lake, {"dark": black}, rules=[{"name": "dark", "leave_out": "dark_score < 0 OR dark_score >= 0"}])
    assert (report.clips, report.left_out) == (0, 3), "far from zero it is a number"
    black |= {"spread": (-1.0, -1.0, -1.0)}
    report = run(lake, {"dark": black}, rules=[{"name": "dark", "leave_out": "dark_score < 0 OR dark_score >= 0"}])
    assert (report.clips, report.left_out) == (3, 0)


@pytest.mark.parametrize("name", ["Redness", "blur", "1st", ""])
def test_a_network_needs_a_name_of_its_own(name: str) -> None:
    told = {"name": "t", "lake": "l", "models": {name: {"path": "x.pt", "gives": "score"}}}
    with pytest.raises(ValueError, match="a network is named"):
        CurateJob.model_validate(told)


@pytest.mark.parametrize(
    ("stretched", "left", "right"), [(False, 128, 128), (True, 255, 0)], ids=["the middle", "all of it"]
)
def test_pictures_are_square_upright_and_of_the_asked_size_also_of_small_videos(
    tmp_path: Path, ffmpeg: Callable[..., None], stretched: bool, left: int, right: int
) -> None:
    """White, gray, black from left to right, in thirds of 24 pixels."""
    path = tmp_path / "thirds.mp4"
    thirds = [f"color={tone}:s=24x24:r=5:d=1[{tone[:1]}]" for tone in ("white", "gray", "black")]
    ffmpeg("-f", "lavfi", "-i", ";".join([*thirds, "[w][g][b]hstack=3"]), "-pix_fmt", "yuv444p", "-qp", 0, path)
    file = VideoFile(name="x", place=Place(uri=str(path)))
    video = index_video(file)
    assert isinstance(video, IndexedVideo)
    (pictures,) = see(file, video, squares=[Squares(count=7, side=32, stretched=stretched)]).squares
    assert pictures.shape == (7, 32, 32, 3), "of five frames some twice"
    assert np.abs(pictures[:, :, 1].astype(int) - left).max() <= 3
    assert np.abs(pictures[:, :, -2].astype(int) - right).max() <= 3


def test_what_a_task_hands_to_an_actor_survives_the_way_between_them(
    ingested: Path, lake: str, models: Any, tmp_path: Path
) -> None:
    """The task and the actor of the Ray engine, called here; between them the rows are Arrow's, as in Ray's store."""
    job = job_of(lake, models)
    opened, keys, parts = Lake.open(lake), job.keys(), str(tmp_path / "lake" / "staging" / "curate" / "own")
    head = opened.resolve("latest")
    cache = Cache(opened, head, keys, job.vectors())
    todo = list(cache.todo(survey(opened, head, None)))
    chunk = json.dumps([[[one.listed.row, one.listed.video_id, one.listed.said], one.stages] for one in todo])
    given = {"number": np.array([0]), "chunk": np.array([chunk], object)}
    text = job.model_dump_json()
    rows = pa.table(look_at_chunk(given, lake=lake, version=head.number, job=text, parts=parts))
    batch = {name: rows[name].to_numpy() for name in rows.column_names}
    asked = {name: keys[name] for name in models}
    assert Judge(job=text, parts=parts, keys=asked, gpus=0.0)(batch) == {"videos": [3]}
    taken = run(lake, models)
    assert taken.looked_at == 0, "all of it was in the parts"
    other = str(shutil.copytree(ingested, tmp_path / "other"))
    assert run(other, models).version.fingerprint == taken.version.fingerprint


@pytest.mark.ray
def test_actors_of_ray_say_the_same(lake: str, models: Any, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    shutil.copytree(lake, other)
    here = run(lake, models)
    there = run(other, models, engine="ray")
    assert (there.looked_at, there.version.fingerprint) == (3, here.version.fingerprint)
    broken = models["redness"] | {"path": models["colour"]["path"]}
    with pytest.raises(Exception, match="wanted one tensor"):
        run(other, {"broken": broken}, engine="ray")
