"""Which shards a spelling names, in which order, and when an index beside a shard is believed."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from cineray.errors import PlaceRefused, SourceError
from cineray.records import Place, Reject, VideoFile
from cineray.source import WebDatasetTar, open_source
from cineray.source.shard_index import read_shard_index
from cineray.source.shards import Shard, find_shards, index_uri_of, is_pattern
from cineray.source.tar_members import TarMember, walk_members
from cineray.storage import AccessPolicy, open_place


def write_tar(path: Path, names: list[str], style: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=style) as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 700
            tar.addfile(info, BytesIO(name.encode().ljust(700)))
    return path


def names_of(uri: str) -> list[str]:
    return [shard.name for shard in find_shards(uri)]


@pytest.mark.parametrize(
    ("pattern", "uris"),
    [
        ("s3://b/x-{08..11}.tar", ["s3://b/x-08.tar", "s3://b/x-09.tar", "s3://b/x-10.tar", "s3://b/x-11.tar"]),
        ("/d/{2..0}.tar", ["/d/2.tar", "/d/1.tar", "/d/0.tar"]),
        ("/d/{b,a}/{0..1}.tar", ["/d/b/0.tar", "/d/b/1.tar", "/d/a/0.tar", "/d/a/1.tar"]),
        ("https://h/{a,b}.tar?sig=1", ["https://h/a.tar?sig=1", "https://h/b.tar?sig=1"]),
    ],
)
def test_braces_name_their_shards_whether_they_exist_or_not(pattern: str, uris: list[str]) -> None:
    assert [shard.uri for shard in find_shards(pattern) if isinstance(shard, Shard)] == uris


def test_a_shards_name_is_its_path_behind_what_all_share() -> None:
    assert names_of("/d/e/{a,b}/x.tar") == ["a/x.tar", "b/x.tar"]
    assert names_of("/d/e/x-{0..1}.tar") == ["x-0.tar", "x-1.tar"]
    assert names_of("/d/e/x.tar") == ["x.tar"]


@pytest.mark.parametrize("pattern", ["/d/{}.tar", "/d/{abc}.tar", "/d/{1..x}.tar", "/d/{0..99999999999}.tar"])
def test_braces_that_mean_nothing_or_too_much_are_an_error(pattern: str) -> None:
    with pytest.raises(SourceError, match=r"in braces|at most 10,000,000"):
        list(find_shards(pattern))


def test_folders_and_globs_list_their_tars_in_byte_order(tmp_path: Path) -> None:
    for name in ("b.tar", "a/x.tar", "a/y.tgz", "a/deep/z.tar", ".hidden.tar", "a.tar.txt", "[odd].tar"):
        write_tar(tmp_path / name, ["1.mp4"])
    root = str(tmp_path)
    assert names_of(root) == ["[odd].tar", "a/deep/z.tar", "a/x.tar", "a/y.tgz", "b.tar"]
    assert names_of(f"{root}/*.tar") == ["[odd].tar", "b.tar"]
    assert names_of(f"{root}/**/*.tar") == ["[odd].tar", "a/deep/z.tar", "a/x.tar", "b.tar"]
    assert names_of(f"{root}/a/?.tar") == ["x.tar"]
    assert names_of(f"{root}/[a-c].tar") == ["b.tar"]
    assert names_of(f"{root}/[!a]*.tar") == ["[odd].tar", "b.tar"]
    assert names_of(f"{root}/[odd].tar") == ["[odd].tar"], "a file that is there is no pattern"
    with pytest.raises(SourceError, match=r"no \.tar shards in .*; look at the path"):
        names_of(f"{root}/c*.tar")


def test_a_question_mark_in_a_web_address_is_no_glob() -> None:
    assert not is_pattern("https://host/shard.tar?X-Amz-Signature=[a*]")


def test_shards_that_are_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "outside" / "o.tar", ["secret.mp4"])
    write_tar(tmp_path / "in" / "i.tar", ["1.mp4"])
    (tmp_path / "in" / "again.tar").symlink_to("i.tar")
    (tmp_path / "in" / "out.tar").symlink_to(tmp_path / "outside" / "o.tar")
    items = list(WebDatasetTar(str(tmp_path / "in")).list_videos())
    assert [item.name for item in items] == ["again.tar::1.mp4", "i.tar::1.mp4", "out.tar"]
    assert isinstance(items[2], Reject)
    assert items[2].reason == "refused"


@pytest.mark.parametrize("uri", ["pipe:cat /etc/passwd", " PIPE:curl http://x |", "pipe:aws s3 cp s3://b/{0..9}.tar -"])
def test_an_address_that_is_a_command_is_refused(uri: str) -> None:
    for kind in ("auto", "webdataset", "manifest", "folder", "lance"):
        with pytest.raises(PlaceRefused, match="would run a command"):
            open_source(uri, kind=kind)


# --- the index beside a shard ---


def write_index(shard: Path) -> Path:
    """As DALI's wds2idx v1.2 writes it: one line a sample, extension, data offset, size and name of each member."""
    samples: dict[str, list[str]] = {}
    with tarfile.open(shard) as tar:
        for info in tar:
            key, _, kind = info.name.partition(".")
            samples.setdefault(key, []).append(f"{kind} {info.offset_data} {info.size} {info.name}")
    path = Path(index_uri_of(str(shard)))
    path.write_text("\n".join([f"v1.2 {len(samples)}", *(" ".join(words) for words in samples.values())]) + "\n")
    return path


def by_index(shard: Path, index: str) -> list[TarMember] | None:
    with open_place(Place(uri=str(shard))) as reader:
        found = read_shard_index(index, reader, policy=AccessPolicy())
        return None if found is None else list(found)  # type: ignore[arg-type]


def by_headers(shard: Path) -> list[object]:
    with open_place(Place(uri=str(shard))) as reader:
        return list(walk_members(reader))


MEMBERS = [f"{number:02d}.{kind}" for number in range(20) for kind in ("json", "mp4")]


def test_an_index_says_the_same_as_the_headers(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", MEMBERS)
    index = str(write_index(shard))
    assert index == f"{tmp_path}/s.idx"
    assert by_index(shard, index) == by_headers(shard)
    assert len(by_headers(shard)) == 40


def test_an_index_spares_the_headers(tmp_path: Path) -> None:
    shard = tmp_path / "s.tar"
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(40):
            info = tarfile.TarInfo(f"{number:02d}.mp4")
            info.size = 100_000
            tar.addfile(info, BytesIO(bytes(info.size)))
    requests = []
    for write in (lambda: None, lambda: write_index(shard)):
        write()
        with open_place(Place(uri=str(shard))) as reader:
            members = read_shard_index(index_uri_of(str(shard)), reader, policy=AccessPolicy()) or walk_members(reader)
            assert sum(isinstance(member, TarMember) for member in members) == 40
            requests.append(reader.counter.requests)
    assert requests[0] > 40
    assert requests[1] < 12


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: text.replace("v1.2", "v1.1"),
        lambda text: text.replace("v1.2 20", "v1.2 21"),
        lambda text: text.replace("\n", "\n\n", 1),
        lambda text: text[: len(text) // 2],
        lambda text: text.replace(" 700 00.json", " 600 00.json"),
        lambda text: text.replace(" 700 00.json", " -700 00.json"),
        lambda text: text.replace("00.json", "../../etc/passwd"),
        lambda text: text.replace("19.mp4", "20.mp4"),
        lambda text: text.replace("00.json", "00 .json"),
        lambda text: text.replace("json 512 ", "json 1024 "),
        lambda text: text.replace("json 512 ", "json 99999999999 "),
        lambda text: "\n".join(text.splitlines()[:-1]).replace("v1.2 20", "v1.2 19") + "\n",
        lambda text: "",
        lambda text: "\x00" * 100,
    ],
)
def test_an_index_that_does_not_fit_its_shard_is_not_believed(tmp_path: Path, harm: object) -> None:
    shard = write_tar(tmp_path / "s.tar", MEMBERS)
    expected = list(WebDatasetTar(str(shard)).list_videos())
    index = write_index(shard)
    index.write_text(harm(index.read_text()))  # type: ignore[operator]
    assert by_index(shard, str(index)) is None
    assert list(WebDatasetTar(str(shard)).list_videos()) == expected


def test_an_index_of_a_small_part_of_its_shard_costs_no_reading_of_the_rest(tmp_path: Path) -> None:
    shard = tmp_path / "s.tar"
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, size in [("0.mp4", 700), ("1.mp4", 5_000_000)]:
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, BytesIO(bytes(size)))
    index = tmp_path / "s.idx"
    index.write_text("v1.2 1\nmp4 512 700 0.mp4\n")
    with open_place(Place(uri=str(shard))) as reader:
        assert read_shard_index(str(index), reader, policy=AccessPolicy()) is None
        assert reader.counter.bytes_read == 0


def test_an_index_of_an_older_shard_is_not_believed(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", MEMBERS)
    index = write_index(shard)
    write_tar(shard, [name.replace("mp4", "mkv") for name in MEMBERS])
    assert by_index(shard, str(index)) is None


def test_an_index_of_a_shard_with_pax_headers_is_left_to_the_headers(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", [f"{'long' * 60}/{name}" for name in MEMBERS], tarfile.PAX_FORMAT)
    write_index(shard)
    assert by_index(shard, index_uri_of(str(shard))) is None
    assert len([item for item in WebDatasetTar(str(shard)).list_videos() if isinstance(item, VideoFile)]) == 20


def test_a_listing_with_and_without_indexes_gives_the_same(tmp_path: Path) -> None:
    shards = [write_tar(tmp_path / f"s-{number}.tar", MEMBERS) for number in range(3)]
    without = list(WebDatasetTar(str(tmp_path)).list_videos())
    for shard in shards:
        write_index(shard)
    assert list(WebDatasetTar(str(tmp_path)).list_videos()) == without
    assert [shard.index_uri for shard in find_shards(str(tmp_path)) if isinstance(shard, Shard)] == [
        f"{tmp_path}/s-{number}.idx" for number in range(3)
    ]
