"""WebDataset shards: written by the webdataset library and by GNU tar, read by byte ranges."""

from __future__ import annotations

import io
import pickle
import subprocess
import tarfile
from pathlib import Path

import av
import numpy as np
import pytest
import webdataset

from cineray.records import Place, Reject, Sidecar, VideoFile
from cineray.source import WebDatasetTar
from cineray.storage import PlaceFile, open_place
from cineray.testing import read_stamp, stamp_video


def listed(uri: object) -> list[VideoFile | Reject]:
    return list(WebDatasetTar(str(uri)).list_videos())


def videos(uri: object) -> list[VideoFile]:
    return [item for item in listed(uri) if isinstance(item, VideoFile)]


def rejects(uri: object) -> list[tuple[str, str]]:
    return [(item.name, item.reason) for item in listed(uri) if isinstance(item, Reject)]


def read(place: Place) -> bytes:
    with open_place(place) as reader:
        return reader.read_at(0, reader.size_bytes)


def write_tar(path: Path, members: dict[str, bytes], **options: object) -> Path:
    with tarfile.open(path, "w", **options) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_video_of_a_shard_of_the_webdataset_library_is_decoded_from_its_byte_range_alone(tmp_path: Path) -> None:
    shard = tmp_path / "shard-000.tar"
    with webdataset.TarWriter(str(shard), encoder=False) as writer:
        for number in range(3):
            stamp_video(tmp_path / "clip.mp4", frames=10 + number)
            clip = (tmp_path / "clip.mp4").read_bytes()
            writer.write({"__key__": f"walk/{number:04d}", "mp4": clip, "json": b'{"caption": "x"}', "cls": b"3"})
    third = videos(shard)[2]
    assert third.name == "shard-000.tar::walk/0002.mp4"
    with open_place(third.place, expect_tag=third.version_tag) as reader:
        with av.open(PlaceFile(reader)) as container:
            pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert reader.size_bytes == third.size_bytes
    assert [read_stamp(np.asarray(picture)) for picture in pictures] == list(range(12))


def test_members_of_one_key_are_one_sample_whatever_their_order(tmp_path: Path) -> None:
    members = ["a/1.json", "a/1.mp4", "a/1.txt", "a/2.mp4", "b/2.srt", "a/1.wav", "3.left.mp4", "3.right.mp4", "3.vtt"]
    shard = write_tar(tmp_path / "s.tar", {name: name.encode() for name in members})
    assert {file.name: [read(sidecar.place).decode() for sidecar in file.sidecars] for file in videos(shard)} == {
        "s.tar::a/1.mp4": ["a/1.json", "a/1.txt"],
        "s.tar::a/2.mp4": [],
        "s.tar::3.left.mp4": ["3.vtt"],
        "s.tar::3.right.mp4": ["3.vtt"],
    }


def test_a_listing_says_exactly_where_the_bytes_lie(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", {"0.mp4": b"video", "0.txt": b"words"}, format=tarfile.USTAR_FORMAT)
    with open_place(Place(uri=str(shard))) as reader:
        tag = reader.version_tag
    assert listed(shard) == [
        VideoFile(
            name="s.tar::0.mp4",
            place=Place(uri=str(shard), offset=512, length=5),
            size_bytes=5,
            version_tag=tag,
            sidecars=(Sidecar(kind="txt", place=Place(uri=str(shard), offset=1536, length=5), version_tag=tag),),
        )
    ]


@pytest.mark.parametrize("style", ["gnu", "pax", "oldgnu", "ustar", "v7"])
def test_gnu_tars_formats_give_the_same_videos(tmp_path: Path, style: str) -> None:
    folder = tmp_path / "files"
    names = ["train/walk/0001.mp4", "train/walk/0001.txt", "test/ü.mkv", "new\nline.avi"]
    names += [f"{'deep/' * 15}{'n' * 60}.mp4"] if style != "v7" else []
    names += [f"{'x' * 200}.webm"] if style in ("gnu", "pax", "oldgnu") else []
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 100)
    shard = tmp_path / "gnu.tar"
    command = ["tar", f"--format={style}", "--sort=name", "-cf", str(shard), "-C", str(folder), "."]
    assert subprocess.run(command, check=False).returncode == 0
    found = {file.name: read(file.place) for file in videos(shard)}
    assert found == {
        f"gnu.tar::./{name}".replace("\n", "\\x0a"): name.encode() * 100 for name in names if not name.endswith(".txt")
    }
    assert {file.split for file in videos(shard) if "walk" in file.name} == {"train"}
    assert rejects(shard) == []


@pytest.mark.parametrize("style", ["gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax"])
def test_a_sparse_member_is_a_reject_and_what_follows_it_is_listed(tmp_path: Path, style: str) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    sparse = "1-sparse" + "x" * 150 + ".mp4"  # long, so that pax tells tar's made-up name and the true one
    with (folder / sparse).open("wb") as file:
        for hole in range(40):  # more holes than the header holds, so that the map goes on behind it
            file.seek(hole << 20)
            file.write(b"data")
    (folder / "2.mp4").write_bytes(b"whole")
    shard = tmp_path / "s.tar"
    command = f"tar --sparse --format={style} --sort=name -cf {shard} -C {folder} ."
    assert subprocess.run(command.split(), check=False).returncode == 0
    assert shard.stat().st_size < 1 << 20
    assert rejects(shard) == [(f"s.tar::./{sparse}", "sparse_member")]
    assert [(file.name, read(file.place)) for file in videos(shard)] == [("s.tar::./2.mp4", b"whole")]


def test_a_member_larger_than_eight_gibibytes_is_listed_by_its_pax_or_its_binary_size(tmp_path: Path) -> None:
    for style in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        shard = tmp_path / f"huge-{style}.tar"
        info = tarfile.TarInfo("huge.mp4")
        info.size = 9 << 30
        with shard.open("wb") as file:  # a hole of 9 GiB, which takes no room on disk
            file.write(info.tobuf(style))
            start = file.tell()
            file.seek(info.size, 1)
            file.write(tarfile.TarInfo("next.mp4").tobuf(style))
            file.truncate(file.tell() + 10240)
        first, second = videos(shard)
        assert (first.place.offset, first.size_bytes) == (start, 9 << 30)
        assert [first.name.partition("::")[2], second.name.partition("::")[2]] == ["huge.mp4", "next.mp4"]


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_a_compressed_shard_is_a_reject_with_the_next_step(tmp_path: Path, mode: str) -> None:
    for name in (f"s.tar.{mode}", "lying.tar"):
        with tarfile.open(tmp_path / name, f"w:{mode}") as tar:
            tar.addfile(tarfile.TarInfo("a.mp4"))
        (item,) = listed(tmp_path / name)
        assert isinstance(item, Reject)
        assert (item.name, item.reason) == (name, "compressed_shard")
        assert "unpack it to a plain .tar first" in item.detail


def test_a_cut_shard_gives_what_was_whole_and_names_the_byte(tmp_path: Path) -> None:
    members = {f"{number}.mp4": bytes([number]) * 1000 for number in range(5)} | {"5.txt": b"x" * 1000}
    whole = write_tar(tmp_path / "s.tar", members, format=tarfile.USTAR_FORMAT).read_bytes()
    cut = tmp_path / "cut.tar"
    for size, count, words in [
        (1536 * 3 + 700, 3, "the member '3.mp4' from byte 4,608 should end at 6,120"),
        (1536 * 3 + 200, 3, "ends at byte 4,808 without tar's end mark"),
        (1536 * 3, 3, "ends at byte 4,608 without tar's end mark"),
        (1536 * 5 + 600, 5, "the member '5.txt' from byte 7,680 should end at 9,192"),
    ]:
        cut.write_bytes(whole[:size])
        *found, last = listed(cut)
        assert [item.name for item in found] == [f"cut.tar::{number}.mp4" for number in range(count)]
        assert isinstance(last, Reject)
        assert (last.name, last.reason) == ("cut.tar", "truncated")
        assert words in last.detail
        assert str(cut) in last.detail


def test_a_damaged_or_joined_shard_says_so_after_what_could_be_read(tmp_path: Path) -> None:
    first = write_tar(tmp_path / "1.tar", {"a.mp4": b"a", "b.mp4": b"b"}, format=tarfile.USTAR_FORMAT).read_bytes()
    (tmp_path / "damaged.tar").write_bytes(first[:1024] + b"\1" + first[1025:])
    (tmp_path / "joined.tar").write_bytes(first + first)
    assert rejects(tmp_path / "damaged.tar") == [("damaged.tar", "corrupt")]
    assert [file.name for file in videos(tmp_path / "damaged.tar")] == ["damaged.tar::a.mp4"]
    assert rejects(tmp_path / "joined.tar") == [("joined.tar", "corrupt")]
    assert len(videos(tmp_path / "joined.tar")) == 2


def test_what_is_no_tar_at_all_is_a_reject_with_its_reason(tmp_path: Path) -> None:
    cases = {
        "empty.tar": (b"", "empty"),
        "text.tar": (b"hello" * 1000, "corrupt"),
        "pointer.tar": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "lfs_pointer"),
    }
    for name, (data, reason) in cases.items():
        (tmp_path / name).write_bytes(data)
        assert rejects(tmp_path / name) == [(name, reason)]
    assert rejects(tmp_path / "nowhere.tar") == [("nowhere.tar", "missing")]


def test_a_bad_shard_does_not_cost_the_others(tmp_path: Path) -> None:
    write_tar(tmp_path / "s-0.tar", {"a.mp4": b"a"})
    (tmp_path / "s-1.tar").write_bytes(b"rubbish" * 100)
    write_tar(tmp_path / "s-2.tar", {"c.mp4": b"c"})
    assert [item.name for item in listed(tmp_path / "s-{0..3}.tar")] == [
        "s-0.tar::a.mp4",
        "s-1.tar",
        "s-2.tar::c.mp4",
        "s-3.tar",
    ]


def test_pickles_in_a_shard_are_never_loaded(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (canary,))

    trap = pickle.dumps(Trap())
    kinds = ["pyd", "pth", "pkl", "pickle", "npy", "npz", "ten", "json", "txt", "cls"]
    shard = write_tar(tmp_path / "s.tar", {f"0.{kind}": trap for kind in kinds} | {"0.mp4": trap})
    (file,) = videos(shard)
    assert [sidecar.kind for sidecar in file.sidecars] == ["json", "txt", "cls"]
    assert rejects(shard) == []
    pickle.loads(trap)
    assert canary.exists(), "the trap does not work, so this test shows nothing"


def test_a_name_that_occurs_twice_is_listed_twice_under_two_names(tmp_path: Path) -> None:
    shard = tmp_path / "s.tar"
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("a.mp4"))
    assert [file.name for file in videos(shard)] == ["s.tar::a.mp4", "s.tar::a.mp4@1024"]


def test_a_sample_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", {f"0.{number}.mp4": b"" for number in range(600)})
    assert len(videos(shard)) == 600
    assert {reason for _, reason in rejects(shard)} == {"hostile_member"}


def test_captions_that_do_not_lie_beside_their_video_are_rejects_that_name_the_sample(tmp_path: Path) -> None:
    """As GNU tar writes a folder in the order of the disk: txt txt txt mp4 mp4 mp4."""
    names = ["./1.txt", "./1.json", "./2.txt", "./3.txt", "./1.mp4", "./2.mp4", "./3.mp4", "./3.json"]
    shard = write_tar(tmp_path / "s.tar", dict.fromkeys(names, b"x"))
    assert {file.name: [sidecar.kind for sidecar in file.sidecars] for file in videos(shard)} == {
        "s.tar::./1.mp4": [],
        "s.tar::./2.mp4": [],
        "s.tar::./3.mp4": ["json"],
    }
    assert rejects(shard) == [(f"s.tar::./{number}", "orphan_sidecar") for number in (1, 2, 3)]
    first = next(item for item in listed(shard) if isinstance(item, Reject))
    assert first.detail == (
        f".txt, .json of the sample './1' in {shard} is not beside its video in the shard and is left out. "
        "Write the shard with `tar --sort=name`"
    )


def test_videos_of_one_key_that_lie_apart_are_named_if_one_of_them_has_a_sidecar(tmp_path: Path) -> None:
    cases = [
        (["1.a.mp4", "1.txt", "2.mp4", "1.b.mp4"], 1),
        (["1.a.mp4", "2.mp4", "1.b.mp4", "1.txt"], 1),
        (["1.a.mp4", "2.mp4", "1.b.mp4"], 0),
        (["1.a.mp4", "1.txt", "2.mp4"], 0),
    ]
    for names, count in cases:
        shard = write_tar(tmp_path / "s.tar", dict.fromkeys(names, b"x"))
        assert rejects(shard) == [("s.tar::1", "orphan_sidecar")] * count, names
        assert len(videos(shard)) == sum(name.endswith("mp4") for name in names)


def test_a_sidecar_whose_video_was_rejected_or_cut_off_is_not_named_again(tmp_path: Path) -> None:
    shard = tmp_path / "s.tar"
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
        link = tarfile.TarInfo("0.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        for info in (link, tarfile.TarInfo("0.txt"), tarfile.TarInfo("1.txt"), tarfile.TarInfo("1.mp4")):
            tar.addfile(info)
    assert rejects(shard) == [("s.tar::0.mp4", "hostile_member")]
    shard.write_bytes(shard.read_bytes()[: 3 * 512 + 100])
    assert rejects(shard) == [("s.tar::0.mp4", "hostile_member"), ("s.tar", "truncated")]


def test_a_shard_of_captions_alone_names_a_thousand_and_counts_the_others(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", {f"{number}.txt": b"" for number in range(1003)})
    *named, last = listed(shard)
    assert [item.name for item in named] == [f"s.tar::{number}" for number in range(1000)]
    assert isinstance(last, Reject)
    assert (last.name, last.reason) == ("s.tar", "orphan_sidecar")
    assert "3 more samples have sidecars that are not beside their video" in last.detail


def test_what_is_passed_over_in_shards_and_beside_them_is_counted(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", dict.fromkeys(("1.mp4", "1.txt", "1.npy", "2.npy", "3.jpg"), b"x"))
    write_tar(tmp_path / "b.tar", {"1.npy": b"x"})
    (tmp_path / "README").write_text("words")
    source = WebDatasetTar(str(tmp_path))
    for _ in range(2):
        assert [item.name for item in source.list_videos()] == ["a.tar::1.mp4"]
        assert source.passed_over == {"npy": 3, "jpg": 1, "": 1}


def test_a_folder_of_shards_that_cannot_be_read_costs_itself_only(tmp_path: Path, as_nobody) -> None:
    for name in ("a", "private"):
        (tmp_path / name).mkdir()
        write_tar(tmp_path / name / "s.tar", {f"{name}.mp4": b"x"})
    (tmp_path / "private").chmod(0)
    try:
        with as_nobody(tmp_path):
            items = [(item.name, getattr(item, "reason", "listed")) for item in listed(tmp_path)]
    finally:
        (tmp_path / "private").chmod(0o755)
    assert items == [("a/s.tar::a.mp4", "listed"), ("private", "unreadable")]
