"""Shards: even sizes, the same bytes each time, and what WebDataset, Ray Data and Hugging Face read in them."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from cineray.curate.standardise import StandardiseReport
from cineray.curate.standardise.shards import Sample, Shard, plan_shards, write_shard
from cineray.curate.standardise.sidecars import Shape, shape_of, sidecars_of
from cineray.curate.standardise.tar_file import Member, header, index_lines, laid_out, write_tar
from cineray.errors import CinerayError
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.lake import Lake
from cineray.records import Place
from cineray.storage import open_place

Run = Callable[..., StandardiseReport]


def member(name: str, data: bytes) -> tuple[Member, list[bytes]]:
    told = Member(name=name, size_bytes=len(data), content_hash=f"blake3:{blake3(data).hexdigest()}")
    return told, [data[:3], data[3:]]


def sample(number: int, size: int, folder: Path, *, split: str = "train") -> Sample:
    data = bytes([number % 251]) * size
    name = blake3(f"{number}".encode()).hexdigest()[:32]
    (folder / name).write_bytes(data)
    told = json.dumps({"number": number}).encode()
    return Sample(
        video_id=name,
        split=split,
        uri=str(folder / name),
        size_bytes=size,
        content_hash=f"blake3:{blake3(data).hexdigest()}",
        sidecars=(("json", told), ("txt", b"a caption")),
    )


def shards_of(samples: list[Sample], shard_bytes: int) -> list[Shard]:
    parts = plan_shards(samples, shard_bytes)
    return [Shard(split=part.split, number=part.number, samples=part.items) for part in parts]


def test_a_tar_is_what_pythons_own_reader_and_gnu_tar_read(tmp_path: Path) -> None:
    files = [("a.mp4", b"x" * 1000), ("a.json", b"{}"), ("b.mp4", b""), ("b.txt", b"y" * 512)]
    sink = io.BytesIO()
    write_tar(sink, [member(name, data) for name, data in files])
    with tarfile.open(fileobj=io.BytesIO(sink.getvalue())) as tar:
        assert [(one.name, tar.extractfile(one).read()) for one in tar] == files  # type: ignore[union-attr]
    (tmp_path / "a.tar").write_bytes(sink.getvalue())
    listed = subprocess.run(["tar", "-tf", tmp_path / "a.tar"], capture_output=True, text=True, check=True).stdout
    assert listed.split() == [name for name, _ in files]


def test_the_places_that_are_told_are_those_in_the_archive() -> None:
    files = [[("a.mp4", b"abc"), ("a.txt", b"t" * 600)], [("b.mp4", b"defg")]]
    sink = io.BytesIO()
    write_tar(sink, [member(name, data) for some in files for name, data in some])
    written, size = laid_out([[member(name, data)[0] for name, data in some] for some in files])
    assert size == len(sink.getvalue())
    got = [[sink.getvalue()[one.offset : one.offset + one.size_bytes] for one in some] for some in written]
    assert got == [[data for _, data in some] for some in files]
    assert list(index_lines(written)) == ["v1.2 2", "mp4 512 3 a.mp4 txt 1536 600 a.txt", "mp4 3072 4 b.mp4"]


def test_a_header_says_nothing_of_the_machine_or_the_hour() -> None:
    info = tarfile.TarInfo.frombuf(header(member("a.mp4", b"abc")[0]), "ascii", "strict")
    assert (info.mtime, info.uid, info.gid, info.uname, info.gname, info.mode) == (0, 0, 0, "", "", 0o644)


def test_a_member_that_is_not_what_it_was_said_to_be_is_refused() -> None:
    told, _ = member("a.mp4", b"abc")
    with pytest.raises(CinerayError, match=r"a\.mp4 has 3 bytes of hash .* damaged on its way"):
        write_tar(io.BytesIO(), [(told, [b"abd"])])
    with pytest.raises(CinerayError, match="does not fit a tar header"):
        header(Member(name="a" * 300, size_bytes=1, content_hash=""))


@pytest.mark.parametrize("total", [40, 333, 1000])
def test_shards_differ_in_size_by_no_more_than_a_video(tmp_path: Path, total: int) -> None:
    samples = [sample(number, 2000 + 37 * (number * 7919 % 100), tmp_path) for number in range(total)]
    shards = shards_of(samples, 100_000)
    sizes = [sum(one.size_bytes + 3000 for one in shard.samples) for shard in shards]
    assert max(sizes) - min(sizes) <= 2 * 9000
    assert all(60_000 < size < 150_000 for size in sizes)
    assert sorted(one.video_id for shard in shards for one in shard.samples) == sorted(one.video_id for one in samples)


def test_a_video_larger_than_a_shard_has_one_of_its_own_and_splits_do_not_mix(tmp_path: Path) -> None:
    samples = [sample(0, 90_000, tmp_path), *(sample(n, 1000, tmp_path, split="test") for n in range(1, 4))]
    shards = shards_of(samples, 10_000)
    assert [(shard.split, len(shard.samples)) for shard in shards] == [("test", 3), ("train", 1)]


def test_the_order_in_which_videos_come_changes_nothing(tmp_path: Path) -> None:
    samples = [sample(number, 3000, tmp_path) for number in range(20)]
    names = [shard.name() for shard in shards_of(samples, 20_000)]
    assert [shard.name() for shard in shards_of(samples[::-1], 20_000)] == names
    assert len(set(names)) == len(names) > 3


def test_a_finished_shard_is_not_written_again_and_half_a_one_is(tmp_path: Path) -> None:
    (shard,) = shards_of([sample(n, 3000, tmp_path) for n in range(3)], 1 << 20)
    out = tmp_path / "out"
    uri, lies = write_shard(shard, str(out))
    (path,) = out.rglob("*.tar")
    before, data = path.stat().st_mtime_ns, path.read_bytes()
    assert write_shard(shard, str(out)) == (uri, lies)
    assert uri == str(path)
    assert path.stat().st_mtime_ns == before
    path.write_bytes(data[:100])
    write_shard(shard, str(out))
    assert path.read_bytes() == data
    one = shard.samples[1]
    with open_place(lies[one.video_id].place) as reader:
        assert f"blake3:{blake3(reader.read_at(0, reader.size_bytes)).hexdigest()}" == one.content_hash


def test_ingesting_the_shards_gives_the_same_videos_captions_labels_and_splits(
    lake: Lake, run: Run, tmp_path: Path
) -> None:
    run(out=str(tmp_path / "shards"))
    other = str(tmp_path / "again")
    report = ingest(IngestConfig(source=str(tmp_path / "shards"), lake=other), EngineConfig(engine="local", workers=1))
    assert (report.added, report.summary.rejects) == (4, [])

    def told(of: Lake) -> list[tuple[object, ...]]:
        splits = {row["video_id"]: row["split"] for row in of.read("latest", "clips").to_pylist()}
        rows = of.read("latest", "media").to_pylist()
        names = ("video_id", "captions", "label", "frames", "num_frames")
        return sorted((*(str(row[name]) for name in names), splits[row["video_id"]]) for row in rows)

    assert told(Lake.open(other)) == told(lake)


def say(**told: object) -> dict[str, object]:
    return {"captions": [], "label": None} | told


def all_sidecars(said: list[dict[str, object]]) -> list[tuple[tuple[str, bytes], ...]]:
    """Of a run, each made elsewhere: the shape travels as text."""
    shape = Shape(**json.loads(shape_of(said).to_json()))
    return [sidecars_of(one, shape) for one in said]


def test_all_videos_have_the_same_sidecars() -> None:
    bare, told = say(n=1), say(n=2, captions=["a man\nwalks", "again"], label="3")
    assert all_sidecars([bare, bare]) == [(("json", b'{"n": 1}'),)] * 2
    assert [[kind for kind, _ in files] for files in all_sidecars([bare, told])] == [["json", "txt"]] * 2
    assert [dict(files)["txt"] for files in all_sidecars([bare, told])] == [b"", b"a man walks\nagain"]
    ((_, txt, cls),) = all_sidecars([told])
    assert (txt, cls) == (("txt", b"a man walks\nagain"), ("cls", b"3"))


def test_all_jsons_have_the_same_keys_with_values_of_the_same_kinds() -> None:
    first, second = say(fps=25, lens="wide", n=1, good=True), say(fps=29.97, captions=["c"], n=2, lens=35)
    assert [json.loads(dict(files)["json"]) for files in all_sidecars([first, second])] == [
        {"captions": [""], "fps": 25.0, "good": "true", "lens": "wide", "n": 1},
        {"captions": ["c"], "fps": 29.97, "good": "", "lens": "35", "n": 2},
    ]
    assert all_sidecars([]) == []


def test_what_only_the_last_of_many_says_is_read_by_hugging_face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the shape of the first five for that of all."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="needs the extra `datasets`: pip install datasets")
    said = [say(fps=25) for _ in range(6)] + [say(fps=29.97, captions=["a cat"], label="cat", camera=7)]
    samples = [
        replace(sample(number, 1000, tmp_path), video_id=f"{number:032d}", sidecars=files)
        for number, files in enumerate(all_sidecars(said))
    ]
    (shard,) = shards_of(samples, 1 << 20)
    write_shard(shard, str(tmp_path / "out"))
    loaded = datasets.load_dataset(
        "webdataset", data_files={"train": f"{tmp_path}/out/train/*.tar"}, cache_dir=str(tmp_path / "cache")
    )
    rows = loaded["train"].select_columns(["json"])
    assert rows[0]["json"] == {"camera": "", "captions": [""], "fps": 25.0, "label": ""}
    assert rows[6]["json"] == {"camera": "7", "captions": ["a cat"], "fps": 29.97, "label": "cat"}


def test_webdataset_reads_them(run: Run, tmp_path: Path) -> None:
    import webdataset

    report = run(out=str(tmp_path / "shards"))
    samples = list(webdataset.WebDataset(list(report.shards), shardshuffle=False))
    assert len(samples) == 4
    assert {tuple(sorted(kind for kind in one if kind[0] != "_")) for one in samples} == {("json", "mp4", "txt")}
    (told,) = [one for one in samples if one["txt"]]
    said = json.loads(told["json"])
    assert (told["txt"], said["label"], said["camera"]) == (b"bars that count", "bars", "7")
    assert all(one["mp4"][4:8] == b"ftyp" for one in samples)


@pytest.mark.ray
def test_ray_data_reads_them(run: Run, tmp_path: Path) -> None:
    import ray.data

    from cineray.telemetry.ray_session import connected

    report = run(out=str(tmp_path / "shards"))
    with connected(num_cpus=1):
        rows = ray.data.read_webdataset(list(report.shards), decoder=False).take_all()
    assert len(rows) == 4
    assert all(bytes(row["mp4"])[4:8] == b"ftyp" for row in rows)
    assert sorted(row["txt"] for row in rows) == ["", "", "", "bars that count"]


def test_hugging_face_datasets_reads_them_with_their_splits(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="needs the extra `datasets`: pip install datasets")
    run(out=str(tmp_path / "shards"))
    loaded = datasets.load_dataset(
        "webdataset",
        data_files={name: f"{tmp_path}/shards/{name}/*.tar" for name in ("train", "test")},
        cache_dir=str(tmp_path / "cache"),
    )
    assert {name: len(split) for name, split in loaded.items()} == {"train": 3, "test": 1}
    row = loaded["train"].with_format("arrow")[:]
    assert "mp4" in row.column_names
    assert "json" in row.column_names


def test_places_survive_a_lake_that_is_read_by_range(lake: Lake, run: Run) -> None:
    run(shard_bytes=4096)
    for row in lake.read("latest", "media").to_pylist():
        with open_place(Place(uri=row["uri"], offset=row["offset"], length=row["length"])) as reader:
            assert f"blake3:{blake3(reader.read_at(0, reader.size_bytes)).hexdigest()}" == row["content_hash"]
