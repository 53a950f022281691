"""A lake is curated: what is measured, cut and left out becomes a version, once, whatever is killed on the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cineray.curate import CurateEngine, CurateJob, CurateReport, check_limit, curate
from cineray.curate.cache import Cache
from cineray.curate.explain import explain
from cineray.curate.local import run_local
from cineray.errors import Interrupted, TooManyRejects, UsageError
from cineray.ingest import EngineConfig, IngestConfig, annotate, ingest
from cineray.lake import Lake
from cineray.testing.encode import encode_h264

Pixels = npt.NDArray[np.uint8]
HERE = CurateEngine(engine="local", workers=1)
STAGES: dict[str, dict[str, Any]] = {"black": {}, "scenes": {}, "brightness": {}}


def sliding(seed: int, frames: int = 24) -> list[Pixels]:
    """A plain of soft noise that slides by a pixel a frame: every seed another scene."""
    coarse = np.random.default_rng(seed).integers(20, 236, (10, 16, 3))
    plain = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
    return [plain[:64, shift : shift + 64] for shift in range(frames)]


def black(frames: int) -> list[Pixels]:
    return [np.zeros((64, 64, 3), np.uint8)] * frames


def film(path: Path, pictures: Sequence[Pixels]) -> None:
    encode_h264(path, pictures, [25 * n for n in range(len(pictures))], size_px=64, gop=12, b_frames=2)


def four_videos(source: Path, place: str) -> None:
    source.mkdir()
    film(source / "one.mp4", sliding(1))
    film(source / "two.mp4", [*sliding(2), *sliding(3)])
    film(source / "short.mp4", [*sliding(4, 6), *sliding(5)])
    film(source / "dark.mp4", [*sliding(6, 6), *black(30)])
    ingest(IngestConfig(source=str(source), lake=place), EngineConfig(engine="local", workers=1))


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("four")
    four_videos(folder / "source", str(folder / "lake"))
    return folder / "lake"


@pytest.fixture
def lake(ingested: Path, tmp_path: Path) -> str:
    """Four videos of 24 frames a second: moving, two scenes, a fragment before a scene, and mostly black."""
    return str(shutil.copytree(ingested, tmp_path / "lake"))


def job_of(lake: str, **told: Any) -> CurateJob:
    rules = [{"name": "dark", "leave_out": "black_fraction > 0.5"}]
    base: dict[str, Any] = {"name": "test", "lake": lake, "stages": STAGES, "rules": rules, "duplicates": None}
    return CurateJob.model_validate(base | told)


def run(job: CurateJob, **told: Any) -> CurateReport:
    return curate(job, HERE, author="tester", command="cineray curate test", **told)


def names_of(lake: Lake) -> dict[str, str]:
    rows = lake.read("latest", "places", columns=["video_id", "name"]).to_pylist()
    return {row["video_id"]: Path(row["name"]).stem for row in rows}


def clips_of(lake: Lake, version: int | str = "latest") -> set[tuple[str, float, float]]:
    """Name, from and to in frames: a frame is 25 ticks of 1/600 s."""
    names = names_of(lake)
    rows = lake.read(version, "clips").to_pylist()
    return {(names[row["video_id"]], row["start_pts"] / 25, row["end_pts"] / 25) for row in rows}


def test_scenes_become_clips_and_what_is_left_out_says_why(lake: str) -> None:
    report = run(job_of(lake))
    opened = Lake.open(lake)
    assert clips_of(opened) == {("one", 0, 24), ("two", 0, 24), ("two", 24, 48), ("short", 6, 30)}
    assert (report.version.number, report.clips_before, report.clips, report.left_out) == (2, 4, 4, 3)
    names = names_of(opened)
    rows = opened.read("latest", "layers/curation").to_pylist()
    told = {
        (names[row["video_id"]], row["start_pts"] // 25, row["end_pts"] // 25): json.loads(row["value"]) for row in rows
    }
    assert {span: (why["rule"], why["also"]) for span, why in told.items()} == {
        ("short", 0, 6): ("too_short", []),
        ("dark", 0, 6): ("too_short", ["dark"]),
        ("dark", 6, 36): ("dark", []),
    }
    assert told[("dark", 6, 36)]["figures"] == {"black_fraction": pytest.approx(30 / 36)}
    assert told[("short", 0, 6)]["because"] == "clip_seconds < 0.5"
    assert all(row["author"] == "curate" for row in rows)


def test_the_scenes_layer_says_when_scenes_begin_where_the_plan_reads_it(lake: str) -> None:
    run(job_of(lake, cuts={"at": "nowhere"}))
    opened = Lake.open(lake)
    names = names_of(opened)
    rows = opened.read("latest", "layers/scenes").to_pylist()
    two = sorted((row["start_pts"], row["end_pts"], row["value"]) for row in rows if names[row["video_id"]] == "two")
    assert two == [(0, 600, "start"), (600, 1200, "cut")]
    assert ("two", 0, 48) in clips_of(opened), "cuts nowhere: the video stays one clip"


def test_a_dry_run_counts_each_rule_alone_and_together_and_makes_no_version(lake: str) -> None:
    rules = [
        {"name": "dark", "leave_out": "black_fraction > 0.5"},
        {"name": "dim", "leave_out": "brightness_mean < 60"},
        {"name": "second_scenes", "leave_out": "clip_begins = 'cut'"},
    ]
    report = run(job_of(lake, rules=rules), dry_run=True)
    assert Lake.open(lake).head().number == 1  # type: ignore[union-attr]
    counted = {rule.name: (rule.alone, rule.first, rule.only) for rule in report.rules}
    assert counted == {
        "unreadable": (0, 0, 0),
        "too_short": (2, 2, 1),
        "dark": (2, 1, 0),
        "dim": (2, 0, 0),
        "second_scenes": (2, 2, 2),
    }
    assert (report.clips, report.left_out) == (2, 5)


def test_only_the_first_run_decodes_and_the_same_job_again_makes_no_version(lake: str) -> None:
    assert run(job_of(lake), dry_run=True).looked_at == 4
    first = run(job_of(lake))
    assert (first.looked_at, first.version.number) == (0, 2)
    again = run(job_of(lake))
    assert (again.looked_at, again.version.number, again.version.fingerprint) == (0, 2, first.version.fingerprint)
    other_rule = run(job_of(lake, rules=[]))
    assert (other_rule.looked_at, other_rule.version.number) == (0, 3)
    assert ("dark", 6, 36) in clips_of(Lake.open(lake)), "what another rule left out comes back"
    other_stage = run(job_of(lake, rules=[], stages={**STAGES, "black": {"level": 30.0}}))
    assert other_stage.looked_at == 4, "another config of a stage is another measure"


def test_what_a_version_does_not_hold_stays_measured(lake: str) -> None:
    """A dry run over all, then a version of one video and of fewer stages: the rest is not looked at again."""
    assert run(job_of(lake), dry_run=True).looked_at == 4
    fewer = job_of(lake, filter="num_frames = 48", stages={"scenes": {}}, rules=[])
    assert (run(fewer).looked_at, run(job_of(lake), dry_run=True).looked_at) == (0, 0)
    assert run(job_of(lake)).looked_at == 0
    assert not list(Path(lake).glob("staging/curate/*/*")), "what is in a version is staged no longer"


def test_a_video_that_was_left_out_comes_back_to_its_own_split(lake: str, tmp_path: Path) -> None:
    (tmp_path / "more" / "test").mkdir(parents=True)
    film(tmp_path / "more" / "test" / "night.mp4", black(24))
    ingest(IngestConfig(source=str(tmp_path / "more"), lake=lake), EngineConfig(engine="local", workers=1))
    opened = Lake.open(lake)
    before = {row["video_id"]: (row["split"], row["group_id"]) for row in opened.read("latest", "clips").to_pylist()}
    run(job_of(lake))
    assert "night" not in {name for name, _, _ in clips_of(opened)}
    run(job_of(lake, rules=[], cuts={"at": "nowhere"}))
    after = {row["video_id"]: (row["split"], row["group_id"]) for row in opened.read("latest", "clips").to_pylist()}
    assert after == before


def test_a_run_that_is_stopped_goes_on_where_it_was(lake: str) -> None:
    def stop(progress: Any) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="2 videos are finished and kept"):
        run(job_of(lake), on_progress=stop)
    assert Lake.open(lake).head().number == 1  # type: ignore[union-attr]
    went_on = run(job_of(lake))
    assert went_on.looked_at == 2
    assert clips_of(Lake.open(lake)) == {("one", 0, 24), ("two", 0, 24), ("two", 24, 48), ("short", 6, 30)}


def test_what_another_curation_clears_before_it_is_taken_in_is_looked_at_again(
    lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray's tasks do, the work is done elsewhere and read from its parts; all of them are gone the first time."""
    rounds: list[int] = []

    def elsewhere(todo: Any, *, cache: Cache, **told: Any) -> None:
        some = list(todo)
        rounds.append(len(some))
        theirs = Cache(told["lake"], told["version"], cache.keys)
        theirs.own = cache.own
        run_local(iter(some), cache=theirs, **told)
        if len(rounds) == 1:
            for part in Path(cache.own).glob("part-*"):
                part.unlink()
        cache.refresh()

    monkeypatch.setattr("cineray.curate.run.run_local", elsewhere)
    report = run(job_of(lake))
    assert (rounds, report.looked_at) == ([1, 1, 3], 5), "the first of four videos twice"
    assert clips_of(Lake.open(lake)) == {("one", 0, 24), ("two", 0, 24), ("two", 24, 48), ("short", 6, 30)}


def test_a_video_that_cannot_be_decoded_is_left_out_and_costs_no_other(lake: str, tmp_path: Path) -> None:
    """Its header is whole, so it was ingested; its pictures are zeros."""
    more = tmp_path / "more"
    more.mkdir()
    film(more / "hollow.mp4", sliding(7))
    data = bytearray((more / "hollow.mp4").read_bytes())
    at = data.index(b"mdat") + 4
    data[at + 40 :] = bytes(len(data) - at - 40)
    (more / "hollow.mp4").write_bytes(data)
    ingest(IngestConfig(source=str(more), lake=lake, level="header"), EngineConfig(engine="local", workers=1))
    report = run(job_of(lake))
    assert (report.unreadable, report.unreadable_named[0]["reason"]) == (1, "decode_failed")
    assert ("one", 0, 24) in clips_of(Lake.open(lake))
    assert "hollow" not in {name for name, _, _ in clips_of(Lake.open(lake))}
    with pytest.raises(TooManyRejects, match=r"1 of 5 videos \(20%\) could not be looked at"):
        check_limit(report)
    again = run(job_of(lake))
    assert (again.looked_at, again.unreadable, again.version.number) == (0, 1, report.version.number)


def test_videos_that_come_later_are_looked_at_alone(lake: str, tmp_path: Path) -> None:
    run(job_of(lake))
    more = tmp_path / "more"
    more.mkdir()
    film(more / "late.mp4", [*sliding(8), *sliding(9)])
    ingest(IngestConfig(source=str(more), lake=lake), EngineConfig(engine="local", workers=1))
    assert run(job_of(lake)).looked_at == 1
    assert {("late", 0, 24), ("late", 24, 48), ("one", 0, 24)} <= clips_of(Lake.open(lake))


def test_a_video_of_which_something_else_is_said_is_measured_anew(tmp_path: Path) -> None:
    lake, stages = str(tmp_path / "lake"), {"captions": {}, "scenes": {}}
    four_videos(tmp_path / "source", lake)
    run(job_of(lake, rules=[], stages=stages))
    (tmp_path / "source" / "one.txt").write_text("a cat sleeps on a mat")
    ingest(IngestConfig(source=str(tmp_path / "source"), lake=lake), EngineConfig(engine="local", workers=1))
    assert run(job_of(lake, rules=[], stages=stages)).looked_at == 1
    opened = Lake.open(lake)
    assert explain(opened, opened.resolve("latest"), "one.mp4")["quality"]["captions_words"] == 6


def test_captions_that_are_added_later_are_measured_too(lake: str, tmp_path: Path) -> None:
    """One to a whole video, one to a clip of it by the clip's id; and again the first, which adds nothing."""
    rules = [{"name": "without", "leave_out": "captions_count = 0"}]
    told: dict[str, Any] = {"rules": rules, "stages": {"captions": {}, "scenes": {}}}
    assert run(job_of(lake, **told), dry_run=True).clips == 0
    opened = Lake.open(lake)
    (clip,) = explain(opened, opened.resolve("latest"), "two.mp4")["clips"]
    rows = [
        {"name": "two.mp4", "value": "a cat sleeps on the mat"},
        {"clip_id": clip["clip_id"], "value": "and the dog is in the garden"},
        {"name": "two.mp4", "value": "a cat sleeps on the mat", "start_pts": 0, "end_pts": 25},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    annotate(opened, "captions", tmp_path / "rows.jsonl", author="tester", command="annotate")
    report = run(job_of(lake, **told))
    assert (report.looked_at, clips_of(opened)) == (1, {("two", 0, 24), ("two", 24, 48)})
    told_of = explain(opened, opened.resolve("latest"), "two.mp4")
    assert {one["caption"] for one in told_of["annotated"]} == {row["value"] for row in rows}
    quality = told_of["quality"]
    assert (quality["captions_count"], quality["captions_words"], quality["captions_language"]) == (2, 7, "en")
    assert run(job_of(lake, **told)).looked_at == 0, "rows of clips that became scenes still say the same"


def test_a_filter_leaves_other_videos_as_they_are(lake: str) -> None:
    report = run(job_of(lake, filter="num_frames = 48"))
    assert report.videos == 1
    everything = {("one", 0, 24), ("two", 0, 24), ("two", 24, 48), ("short", 0, 30), ("dark", 0, 36)}
    assert clips_of(Lake.open(lake)) == everything


def test_long_scenes_are_divided_at_frames(lake: str) -> None:
    run(job_of(lake, rules=[], cuts={"shortest_seconds": 0.1, "longest_seconds": 0.5}))
    found = clips_of(Lake.open(lake))
    assert {("one", 0, 12), ("one", 12, 24), ("two", 24, 36), ("two", 36, 48)} <= found
    assert max(end - start for _, start, end in found) <= 12


def test_a_rule_may_name_clip_columns_how_much_of_the_clip_a_span_covers(lake: str) -> None:
    """Of `dark`, the first scene is not black at all, and the second is black to its end."""
    rules = [{"name": "dark", "leave_out": "clip_black_fraction > 0.9 AND clip_black_fraction <= 1.0"}]
    run(job_of(lake, rules=rules, cuts={"shortest_seconds": 0.1}))
    found = clips_of(Lake.open(lake))
    assert ("dark", 0, 6) in found
    assert ("dark", 6, 36) not in found


def test_a_rule_may_name_what_no_video_has(lake: str) -> None:
    """None of the four has a caption or a sound: text stays text, and what is not known leaves nothing out."""
    told = ["captions_language = 'en'", "sound_dbfs > -20 OR NOT captions_language LIKE 'd%'"]
    rules = [{"name": f"rule_{number}", "leave_out": one} for number, one in enumerate(told)]
    report = run(job_of(lake, rules=rules, stages={"captions": {}, "sound": {}, "scenes": {}}), dry_run=True)
    assert [(rule.name, rule.alone) for rule in report.rules if rule.name.startswith("rule_")] == [
        ("rule_0", 0),
        ("rule_1", 0),
    ]


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"rules": [{"name": "x", "leave_out": "motion_fractoin < 1"}]}, "motion_fractoin"),
        ({"rules": [{"name": "x", "leave_out": "black_fraction = 'much'"}]}, "black_fraction = 'much'"),
        ({"rules": [{"name": "x", "leave_out": "clip_seconds <"}]}, "the filter 'clip_seconds <' cannot be used"),
        ({"filter": "no_such = 1"}, "the job's filter 'no_such = 1'"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused_in_words(lake: str, told: dict[str, Any], complaint: str) -> None:
    looked_at = []
    with pytest.raises(UsageError, match=complaint):
        run(job_of(lake, **told), on_progress=lambda progress: looked_at.append(progress.done))
    assert max(looked_at, default=0) <= 1, "before the other three videos are decoded"
    assert Lake.open(lake).head().number == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"stages": {"blakc": {}}, "cuts": {"at": "nowhere"}}, "there is no stage `blakc`"),
        ({"stages": {"scenes": {}, "black": {"levle": 1}}}, "stage `black` has no field `levle`; it has: level"),
        ({"stages": {"scenes": {}, "black": {"level": "dark"}}}, "level got 'dark'; wanted a float like 24.0"),
        ({"stages": {"black": {}}}, "the stage `scenes` is needed but not among the stages"),
        ({"duplicates": {"keep": "best"}}, "the stage `signatures` is needed but not among the stages"),
        ({"rules": [{"name": "duplicate", "leave_out": "true"}]}, "a reason of its own"),
        ({"cuts": {"shortest_seconds": 2, "longest_seconds": 3}}, "wanted at least twice as long"),
    ],
)
def test_a_job_that_cannot_be_is_refused_before_anything_starts(told: dict[str, Any], complaint: str) -> None:
    from cineray.config import check

    base = {"name": "test", "lake": "nowhere", "stages": STAGES, "duplicates": None}
    with pytest.raises(UsageError, match=complaint):
        check(CurateJob, base | told)


def test_explain_tells_all_of_one_video_and_what_became_of_it(lake: str) -> None:
    run(job_of(lake))
    opened = Lake.open(lake)
    told = explain(opened, opened.resolve("latest"), "dark.mp4")
    assert told["became"] == "left out: dark, too_short"
    assert [(one["start_seconds"], one["end_seconds"], one["rule"]) for one in told["left_out"]] == [
        (0.0, 0.25, "too_short"),
        (0.25, 1.5, "dark"),
    ]
    assert told["quality"]["black_fraction"] == pytest.approx(30 / 36)
    assert told["spans"]["black_spans"][0]["start_seconds"] == 0.25
    assert told["layers"] == {"curation": 2, "quality": 3, "scenes": 2}
    two = explain(opened, opened.resolve("latest"), "two.mp4")
    assert two["became"] == f"2 clips in {two['clips'][0]['split']}"
    assert explain(opened, opened.resolve("latest"), two["video_id"][:8]) == two


@pytest.mark.parametrize(
    ("name", "complaint"), [("four.mp4", "has no video 'four.mp4'"), (".mp4", "may mean 4 videos")]
)
def test_explain_refuses_what_is_not_one_video(lake: str, name: str, complaint: str) -> None:
    opened = Lake.open(lake)
    with pytest.raises(UsageError, match=complaint):
        explain(opened, opened.resolve("latest"), name)


def test_where_several_are_meant_each_has_a_line_to_choose_by(lake: str) -> None:
    run(job_of(lake))
    opened = Lake.open(lake)
    names = {name: video_id for video_id, name in names_of(opened).items()}
    with pytest.raises(UsageError) as refused:
        explain(opened, opened.resolve("latest"), ".mp4")
    first, *lines = str(refused.value).splitlines()
    assert first == "'.mp4' may mean 4 videos; give an id, or more of the uri:"
    told = [[word for word in line.split("  ") if word] for line in lines]
    assert [line[0] for line in told] == [video_id[:8] for video_id in sorted(names.values())]
    assert {Path(uri).name: (lasts, became.split(" in ")[0]) for _, uri, lasts, became in told} == {
        "one.mp4": ("1.00 s", "1 clip"),
        "two.mp4": ("2.00 s", "2 clips"),
        "short.mp4": ("1.25 s", "1 clip"),
        "dark.mp4": ("1.50 s", "left out: dark, too_short"),
    }


@pytest.mark.ray
def test_ray_makes_the_same_version(lake: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    shutil.copytree(lake, other)
    here = run(job_of(lake))
    there = curate(job_of(other), CurateEngine(engine="ray", workers=1), author="tester", command="on ray")
    assert (there.looked_at, there.version.fingerprint) == (4, here.version.fingerprint)
