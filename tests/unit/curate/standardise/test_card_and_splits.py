"""The dataset card of a version, and what a split check finds that a commit does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cineray.curate.standardise import (
    StandardiseConfig,
    StandardiseReport,
    check_splits,
    dataset_card,
    standardise,
)
from cineray.curate.standardise.card import _summary, _Tally
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Changes, Lake, batches_of, layer_row

Run = Callable[..., StandardiseReport]


def test_a_card_says_what_is_there_how_it_was_made_and_what_nobody_has_said(
    lake: Lake, run: Run, footage: Path
) -> None:
    (footage / "matroska.mkv").unlink()
    test, train = (f"shards/{uri.split('/shards/')[1]}" for uri in sorted(run().shards))
    card = dataset_card(lake, lake.resolve("latest"), name="Bars that count", data_files="shards")
    _, front, text = card.split("---\n", 2)
    told = yaml.safe_load(front)
    assert told == {
        "pretty_name": "Bars that count",
        "size_categories": ["n<1K"],
        "tags": ["video", "webdataset"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "test", "path": [test]},
                    {"split": "train", "path": [train]},
                ],
            }
        ],
    }
    assert "3 videos in 2 WebDataset shards, 3 clips, 3.5 seconds, 82 frames, " in text
    assert "Codecs: h264 3. With captions: 1 video. With sound: 0 videos." in text
    assert "| video | missing | 1 |" in text
    assert "| clip | standardise | 1 |" in text
    assert "| 64 x 48 | 3 |" in text
    assert "No video, group or set of known duplicates lies in two splits." in text
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith(("| 1 |", "| 2 |"))] == ["| 2", "| 1"]
    assert "- [ ] Under which licence may the videos be used?" in text


def test_a_card_counts_what_lies_in_its_shards_and_names_what_does_not(lake: Lake, run: Run) -> None:
    """One of four videos has no clip any more, so it is not encoded; one has a caption, to another one is added."""
    media = lake.read("latest", "media", columns=["video_id", "captions"], filter="state = 'ready'").to_pylist()
    first, second, *_ = (row["video_id"] for row in media if not row["captions"])
    said = layer_row(value="bars that count", author="tester", video_id=second)
    tables = {"layers/captions": batches_of("layers/captions", [said])}
    change = Changes(add=tables, remove={"clips": f"video_id = '{first}'"})
    lake.commit(lambda _: change, author="tester", command="", source="", processing={})
    run()
    text = dataset_card(lake, lake.resolve("latest"))
    assert "3 videos in 2 WebDataset shards, 3 clips, " in text
    assert "With captions: 2 videos." in text
    assert "In no shard: 1 video, of which no clip is drawn." in text


@pytest.mark.parametrize(
    ("seconds", "size", "told"),
    [
        (59.96, 999, "1 video in 1 WebDataset shard, 1 clip, 60.0 seconds, 1 frame, 999 bytes."),
        (90.0, 1_500, "1 video in 1 WebDataset shard, 1 clip, 1.5 minutes, 1 frame, 1.5 kB."),
        (7200.0, 2_340_000_000_000, "1 video in 1 WebDataset shard, 1 clip, 2.0 hours, 1 frame, 2,340.0 GB."),
    ],
)
def test_counts_have_their_words_and_lengths_their_units(seconds: float, size: int, told: str) -> None:
    tally = _Tally(videos=1, seconds=seconds, frames=1, size_bytes=size, shards={"train/0.tar"})
    assert _summary(tally, clips=1).startswith(told)


def test_hdr_is_told_with_what_eight_bits_of_it_mean(tmp_path: Path, ffmpeg: Callable[..., None]) -> None:
    (tmp_path / "videos").mkdir()
    words = ["-f", "lavfi", "-i", "testsrc2=size=128x96:rate=10:duration=1", "-c:v", "libx265", "-pix_fmt"]
    tags = "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    ffmpeg(*words, "yuv420p10le", "-x265-params", tags, tmp_path / "videos" / "hdr.mp4")
    where = str(tmp_path / "lake")
    ingest(IngestConfig(source=str(tmp_path / "videos"), lake=where), EngineConfig(engine="local", workers=1))
    lake = Lake.open(where)
    told = "HDR (PQ or HLG, see `color_transfer`): 1 video, not tone-mapped"
    assert told in (raw := dataset_card(lake, lake.resolve("latest")))
    assert "8 bits" not in raw
    standardise(StandardiseConfig.model_validate({"lake": where}), workers=1)
    assert told in (card := dataset_card(lake, lake.resolve("latest")))
    assert "Of these, 1 with 8 bits a sample" in card


def test_a_licence_that_is_given_is_in_the_front_matter(lake: Lake) -> None:
    card = dataset_card(lake, lake.resolve("latest"), licence="cc-by-4.0")
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-4.0"
    assert "Under which licence" not in card


@pytest.mark.parametrize("name", ["a: b", "- [x]\n# A heading", "<script>"])
def test_data_writes_neither_markup_nor_front_matter(lake: Lake, name: str) -> None:
    card = dataset_card(lake, lake.resolve("latest"), name=name)
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["pretty_name"] == name
    assert text.count("\n# ") == 1
    assert "<script>" not in text


def test_hugging_face_reads_a_folder_by_its_card(
    lake: Lake, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="needs the extra `datasets`: pip install datasets")
    run(out=str(tmp_path / "published" / "shards"))
    card = dataset_card(lake, lake.resolve("latest"), data_files="shards")
    (tmp_path / "published" / "README.md").write_text(card)
    loaded = datasets.load_dataset(str(tmp_path / "published"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in loaded.items()} == {"train": 3, "test": 1}


def test_a_card_names_the_shards_of_its_own_version_and_says_which_do_not_fit_it(lake: Lake, run: Run) -> None:
    """Standardised twice into one folder; then a clip of the training set is left out, and all others moved to test."""
    first, second = run(shard_bytes=4096), run(encoding={"gop": 4}, shard_bytes=1 << 20)

    def front() -> tuple[dict[str, list[str]], str]:
        text = dataset_card(lake, lake.resolve("latest"), data_files="shards")
        (config,) = yaml.safe_load(text.split("---\n")[1])["configs"]
        return {one["split"]: one["path"] for one in config["data_files"]}, text

    files, text = front()
    assert len(first.shards) > len(second.shards)
    assert sorted(path for paths in files.values() for path in paths) == [
        f"shards/{uri.split('/shards/')[1]}" for uri in second.shards
    ]
    assert "Shards that do not fit" not in text
    rows = [row for row in lake.read("latest", "clips").to_pylist() if row["split"] == "train"]
    kept = [row | {"split": "test"} for row in rows[:1]] + rows[1:2]
    lake.commit(
        lambda _: Changes(add={"clips": batches_of("clips", kept)}, remove={"clips": "split = 'train'"}),
        author="test", command="", source="", processing={},
    )  # fmt: skip
    files, text = front()
    assert "train" not in files
    assert "has videos of test and train, so it is in no list above" in text


def split_of(lake: Lake) -> dict[str, str]:
    return {row["video_id"]: row["split"] for row in lake.read("latest", "clips").to_pylist()}


def test_duplicates_in_two_splits_are_named_with_their_videos(lake: Lake) -> None:
    version = lake.resolve("latest")
    assert check_splits(lake, version) == []
    splits = split_of(lake)
    train = next(video for video, split in splits.items() if split == "train")
    (test,) = (video for video, split in splits.items() if split == "test")
    (found,) = check_splits(lake, version, duplicates={train: "set-1", test: "set-1"})
    assert (found.kind, found.name, found.splits) == ("duplicates", "set-1", ("test", "train"))
    assert found.video_ids == tuple(sorted((train, test)))
    assert str(found).startswith("duplicates set-1 lies in test and train: ")


def test_sets_of_duplicates_that_the_lake_holds_are_looked_at(lake: Lake) -> None:
    rows = [layer_row(value=json.dumps({"group": "g"}), author="curate", video_id=video) for video in split_of(lake)]
    lake.commit(
        lambda _: Changes(add={"layers/duplicates": batches_of("layers/duplicates", rows)}),
        author="test", command="", source="", processing={},
    )  # fmt: skip
    (found,) = check_splits(lake, lake.resolve("latest"))
    assert (found.kind, len(found.video_ids)) == ("duplicates", 4)


def test_two_encodings_of_one_source_in_two_splits_are_found(lake: Lake, run: Run, footage: Path) -> None:
    """Standardised, then the raw videos come in once more, divided by another salt."""
    run()
    told = {
        "source": str(footage),
        "lake": lake.uri,
        "splits": {"salt": "other", "change": True, "group_by": "path:(.*)"},
    }
    ingest(IngestConfig.model_validate(told), EngineConfig(engine="local", workers=1))
    found = check_splits(lake, lake.resolve("latest"))
    assert {problem.kind for problem in found} == {"source"}
    assert all(len(problem.video_ids) == 2 for problem in found)
