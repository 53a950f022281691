"""Copies of one video: the best stays, the others say of which they are copies, and all share a group and a split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from PIL import Image

from cineray.curate import CurateEngine, CurateJob, CurateReport, curate
from cineray.curate.clip_table import ClipTable
from cineray.curate.clips import Draft
from cineray.curate.copies import copies_of
from cineray.curate.explain import explain
from cineray.curate.rules import Reason
from cineray.curate.signatures import signature_of
from cineray.curate.videos import Listed
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.testing.encode import encode_h264

Pixels = npt.NDArray[np.uint8]
HERE = CurateEngine(engine="local", workers=1)


def sliding(seed: int, frames: int = 60) -> list[Pixels]:
    coarse = np.random.default_rng(seed).integers(20, 236, (12, 24, 3))
    plain = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
    return [plain[:96, shift : shift + 96] for shift in range(frames)]


def smaller(pictures: list[Pixels], side: int) -> list[Pixels]:
    return [
        np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)) for picture in pictures
    ]


def film(path: Path, pictures: list[Pixels]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pts = [25 * n for n in range(len(pictures))]
    encode_h264(path, pictures, pts, size_px=len(pictures[0]), gop=12, b_frames=2)


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """A video to train on, a small copy of it that the source put into its test set, and strangers in both."""
    source = tmp_path / "source"
    film(source / "train" / "original.mp4", sliding(1))
    film(source / "train" / "other.mp4", sliding(2))
    film(source / "train" / "third.mp4", sliding(4))
    film(source / "test" / "copy.mp4", smaller(sliding(1), 64))
    film(source / "test" / "stranger.mp4", sliding(3))
    place = str(tmp_path / "lake")
    ingest(IngestConfig(source=str(source), lake=place), EngineConfig(engine="local", workers=1))
    return place


def run(lake: str, **told: Any) -> CurateReport:
    values = {"name": "test", "lake": lake, "stages": {"signatures": {}}, "cuts": {"at": "nowhere"}} | told
    return curate(CurateJob.model_validate(values), HERE, author="tester", command="cineray curate test")


def homes_of(lake: str) -> dict[str, tuple[str, str]]:
    """Split and group of each video that has a clip, by its name."""
    opened = Lake.open(lake)
    names = names_of(opened)
    return {
        names[row["video_id"]]: (row["split"], row["group_id"]) for row in opened.read("latest", "clips").to_pylist()
    }


def names_of(opened: Lake) -> dict[str, str]:
    rows = opened.read("latest", "places", columns=["video_id", "name"]).to_pylist()
    return {row["video_id"]: Path(row["name"]).stem for row in rows}


def test_the_best_copy_stays_and_the_other_says_of_which_it_is_a_copy(lake: str) -> None:
    report = run(lake)
    assert (report.duplicate_sets, report.left_out) == (1, 1)
    assert homes_of(lake).keys() == {"original", "other", "third", "stranger"}
    opened = Lake.open(lake)
    names = names_of(opened)
    (row,) = opened.read("latest", "layers/curation").to_pylist()
    why = json.loads(row["value"])
    assert (names[row["video_id"]], why["rule"], names[why["kept"]]) == ("copy", "duplicate", "original")
    marked = opened.read("latest", "layers/duplicates").to_pylist()
    assert {(names[one["video_id"]], names[json.loads(one["value"])["kept"]]) for one in marked} == {
        ("copy", "original"),
        ("original", "original"),
    }


def test_explain_names_the_set_of_a_copy_and_which_stays(lake: str) -> None:
    run(lake)
    opened = Lake.open(lake)
    told = explain(opened, opened.resolve("latest"), "copy")
    assert {Path(one["place"]).name: one["kept"] for one in told["copies"]["videos"]} == {
        "original.mp4": True,
        "copy.mp4": False,
    }
    assert explain(opened, opened.resolve("latest"), "stranger")["copies"] == {}


def test_copies_that_are_kept_share_a_group_and_a_split(lake: str) -> None:
    assert homes_of(lake)["copy"][0] == "test"
    report = run(lake, duplicates={"keep": "all"})
    homes = homes_of(lake)
    assert homes["copy"] == homes["original"]
    assert {name: home[0] for name, home in homes.items() if name not in ("copy", "original")} == {
        "other": "train",
        "third": "train",
        "stranger": "test",
    }
    names = names_of(Lake.open(lake))
    moved = {names[video]: splits for video, splits in report.moved.items()}
    assert moved in ({"copy": ("test", "train")}, {"original": ("train", "test")})


def test_a_copy_whose_original_a_rule_leaves_out_stays(lake: str) -> None:
    run(lake, rules=[{"name": "large", "leave_out": "width > 80"}])
    assert homes_of(lake).keys() == {"copy"}


def test_a_group_of_videos_that_were_not_looked_at_moves_with_its_copy(lake: str) -> None:
    """`stranger` is of one tape with `copy`: when that is united with `original`, `stranger` goes along."""
    opened = Lake.open(lake)
    names = {name: video for video, name in names_of(opened).items()}
    rows = opened.read("latest", "clips").to_pylist()
    regroup(
        opened, [row | {"group_id": "tape-7"} for row in rows if row["video_id"] in (names["copy"], names["stranger"])]
    )
    run(
        lake, duplicates={"keep": "all"}, filter="width < 80 OR size_bytes = " + str(size_of(opened, names["original"]))
    )
    homes = homes_of(lake)
    assert homes["copy"] == homes["original"] == homes["stranger"]
    assert homes["copy"][0] == "test", "two of the three clips were in the test set"


def size_of(opened: Lake, video_id: str) -> int:
    (row,) = opened.read("latest", "media", columns=["size_bytes"], filter=f"video_id = '{video_id}'").to_pylist()
    return int(row["size_bytes"])


def regroup(opened: Lake, rows: list[dict[str, Any]]) -> None:
    from cineray.lake import Changes, batches_of, sql_in

    changes = {"clips": sql_in("clip_id", [row["clip_id"] for row in rows])}
    opened.commit(
        lambda head: Changes(add={"clips": batches_of("clips", rows)}, remove=changes),
        author="tester",
        command="regroup",
        source="",
        processing={},
    )


def test_the_same_again_unites_nothing_anew(lake: str) -> None:
    first = run(lake)
    assert run(lake).version.fingerprint == first.version.fingerprint
    assert run(lake).version.number == first.version.number


def copies_of_made(
    films: dict[str, Any], facts: dict[str, dict[str, Any]], gone: tuple[str, ...] = ()
) -> dict[str, str]:
    """Of each video in a set: the one that stays and shows it."""
    names = tuple(films)
    drafts = tuple(Draft(number, 0, 1, 1, "start") for number in range(len(names)))
    rows = pa.table({"clip_seconds": [1.0] * len(names)})
    signatures = {name: signature_of(film).to_text() for name, film in films.items()}
    listed = tuple(Listed(number, name, "") for number, name in enumerate(names))
    table = ClipTable(listed, drafts, rows, signatures, facts)  # type: ignore[arg-type]
    left_out = Reason("rule", "told", np.array([name in gone for name in names]))
    job = CurateJob(name="test", lake="nowhere")
    return {name: told["kept"] for name, told in copies_of(table, [left_out], job)[0].by_video.items()}


@pytest.fixture(scope="module")
def scenes(landscape: Any) -> list[Any]:
    """Three scenes of five seconds that pan, each its own way."""
    return [
        [np.roll(landscape(seed), (frame * (seed + 1) // 3, frame * 2), (0, 1)) for frame in range(120)]
        for seed in range(3)
    ]


def test_a_compilation_costs_no_video_that_nothing_else_shows(scenes: list[Any], film: Any) -> None:
    films = {name: film(scene) for name, scene in zip("abc", scenes, strict=True)}
    films["all"] = film([picture for scene in scenes for picture in scene])
    part, whole = {"width": 640, "height": 360, "duration_seconds": 5.0}, {"duration_seconds": 15.0}
    small = {name: dict(part) for name in "abc"} | {"all": whole | {"width": 320, "height": 180}}
    assert copies_of_made(films, small) == {name: name for name in films}, "the parts are better, the whole is longer"
    large = small | {"all": whole | {"width": 1280, "height": 720}}
    assert copies_of_made(films, large) == dict.fromkeys(films, "all"), "the whole is better, and has all of them"
    assert copies_of_made(films, large, gone=("all",)) == {name: name for name in films}


def test_an_excerpt_in_better_quality_does_not_cost_the_rest(scenes: list[Any], film: Any) -> None:
    films = {"excerpt": film(scenes[0][:60]), "whole": film(scenes[0])}
    facts: dict[str, dict[str, Any]] = {
        "excerpt": {"width": 1280, "height": 720, "duration_seconds": 2.5},
        "whole": {"width": 320, "height": 180, "duration_seconds": 5.0},
    }
    assert copies_of_made(films, facts) == {"excerpt": "excerpt", "whole": "whole"}
    facts["whole"] |= {"width": 1920, "height": 1080}
    assert copies_of_made(films, facts) == {"excerpt": "whole", "whole": "whole"}
