"""Local files: ranges, listings of any name, and writes that are whole or not there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from cineray.errors import PlaceChanged, PlaceError, PlaceMissing, PlaceRefused
from cineray.records import Place
from cineray.storage import (
    ObjectInfo,
    Unlisted,
    check_room,
    delete_object,
    list_objects,
    new_object,
    object_exists,
    open_place,
    place_stat,
    put_if_absent,
    put_object,
    read_object,
    upload_file,
    walk_objects,
)


def test_reads_are_exact_and_shorter_only_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(b"0123456789")
    with open_place(Place(uri=str(tmp_path / "film"), offset=2, length=6)) as reader:
        reads = [reader.read_at(0, 6), reader.read_at(4, 100), reader.read_at(6, 1), reader.read_at(99, 1)]
        assert (reader.size_bytes, reads) == (6, [b"234567", b"67", b"", b""])
        with pytest.raises(ValueError, match="must be 0 or more"):
            reader.read_at(-1, 5)
    with pytest.raises(ValueError, match="was closed"):
        reader.read_at(0, 1)


def test_a_place_beyond_its_file_is_truncated(tmp_path: Path) -> None:
    (tmp_path / "shard.tar").write_bytes(b"0123456789")
    with pytest.raises(PlaceError, match="which has 10 bytes") as caught:
        open_place(Place(uri=str(tmp_path / "shard.tar"), offset=5, length=6))
    assert caught.value.reason == "truncated"


def test_the_version_tag_is_size_and_time_and_another_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(b"old")
    size, tag = place_stat(Place(uri=str(path)))
    assert (size, tag) == (3, f"3-{path.stat().st_mtime_ns}")
    open_place(Place(uri=str(path)), expect_tag=tag).close()
    os.utime(path, ns=(0, 7))
    with pytest.raises(PlaceChanged, match="version tag '3-7'"):
        open_place(Place(uri=str(path)), expect_tag=tag)


def test_a_file_written_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(b"0123456789")
    with open_place(Place(uri=str(path))) as reader:
        assert reader.read_at(0, 2) == b"01"
        with path.open("ab") as file:
            file.write(b"more")
        with pytest.raises(PlaceChanged, match="written while it was read"):
            reader.read_at(0, 2)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(PlaceError, match="wanted a regular file"):
            open_place(Place(uri=str(path)))
    for path in (tmp_path / "none", tmp_path / "pipe" / "below"):
        with pytest.raises(PlaceMissing, match="no such file"):
            open_place(Place(uri=str(path)))
    assert [object_exists(str(tmp_path)), object_exists(str(tmp_path / "none"))] == [False, False]


ODD_NAMES = [
    b"a b/100%.mp4",
    b"a/#1?.mp4",
    b"a/%41.mp4",
    b"a/line\nbreak.mp4",
    b"a/'single' \"double\".mp4",
    b"a/bad \xff\xfe utf-8.mp4",
    "a/späß 映画.mp4".encode(),
    b"n" * 255,
]


def test_odd_names_are_listed_in_byte_order_and_read(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    for name in ODD_NAMES:
        os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
        Path(os.fsdecode(os.path.join(root, name))).write_bytes(name)
    listed = list(list_objects(str(tmp_path)))
    assert [os.fsencode(info.uri) for info in listed] == sorted(os.path.join(root, name) for name in ODD_NAMES)
    for info in listed:
        assert read_object(info.uri, limit_bytes=999) == os.fsencode(os.path.relpath(info.uri, tmp_path))
        assert (info.size_bytes, info.version_tag) == place_stat(Place(uri=info.uri))


def test_a_listing_is_sorted_as_object_stores_sort(tmp_path: Path) -> None:
    names = ["a-b", "a.txt", "a/x", "a/y/z", "a0", "b"]
    for name in names:
        put_object(str(tmp_path / name), b"")
    assert [os.path.relpath(info.uri, tmp_path) for info in list_objects(str(tmp_path))] == names


def test_links_are_listed_as_links_and_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    put_object(str(outside / "secret.mp4"), b"secret")
    root = tmp_path / "root"
    put_object(str(root / "real.mp4"), b"real")
    (root / "file-link.mp4").symlink_to(outside / "secret.mp4")
    (root / "folder-link").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    listed = [(os.path.relpath(info.uri, root), info.is_link) for info in list_objects(str(root))]
    assert listed == [
        ("dangling", True),
        ("file-link.mp4", True),
        ("folder-link", True),
        ("loop", True),
        ("real.mp4", False),
    ]


def test_a_file_lists_itself_and_nothing_lists_nothing(tmp_path: Path) -> None:
    put_object(str(tmp_path / "a.tar"), b"12")
    size, tag = place_stat(Place(uri=str(tmp_path / "a.tar")))
    assert list(list_objects(str(tmp_path / "a.tar"))) == [
        ObjectInfo(uri=str(tmp_path / "a.tar"), size_bytes=size, version_tag=tag)
    ]
    assert list(list_objects(str(tmp_path / "none"))) == []


def test_folders_deeper_than_the_stack_are_listed(tmp_path: Path) -> None:
    deep = str(tmp_path)
    for _ in range(1500):
        deep += "/d"
        os.mkdir(deep)
    Path(deep, "film.mp4").write_bytes(b"deep")
    (info,) = list_objects(str(tmp_path))
    assert read_object(info.uri, limit_bytes=4) == b"deep"
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # pytest's own cleaning is recursive


def test_a_path_that_is_too_long_is_named_and_the_listing_goes_on(tmp_path: Path) -> None:
    """40 folders of 200 characters: no call that takes a path takes this one."""
    root = tmp_path / "sp ace"
    for name in ("a/film.mp4", "z/film.mp4"):
        put_object(str(root / name), b"film")
    _make_deep(root / "deep")
    found = list(walk_objects(str(root)))
    assert [item.uri.removeprefix(f"{root}/")[:10] for item in found] == ["a/film.mp4", "deep/" + "d" * 5, "z/film.mp4"]
    problem = found[1]
    assert isinstance(problem, Unlisted)
    assert len(os.fsencode(problem.uri)) > 4000
    words = r"failed with ENAMETOOLONG: File name too long; shorten the names of its folders"
    with pytest.raises(PlaceError, match=rf"listing '{root}/deep/ddd.*\(4,\d\d\d characters\) {words}"):
        list(list_objects(str(root)))
    subprocess.run(["rm", "-rf", root], check=True)  # pytest's own cleaning works by paths


def _make_deep(folder: Path) -> None:
    folder.mkdir()
    home = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)
        for _ in range(40):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
        Path("lost.mp4").write_bytes(b"out of reach")
    finally:
        os.fchdir(home)
        os.close(home)


def test_a_folder_of_another_user_is_named_and_the_listing_goes_on(tmp_path: Path, as_nobody) -> None:
    for name in ("a/1.mp4", "private/2.mp4", "shut/3.mp4", "z.mp4"):
        put_object(str(tmp_path / name), b"film")
    (tmp_path / "private").chmod(0)
    (tmp_path / "shut").chmod(0o644)  # its names may be read, and nothing more
    try:
        with as_nobody(tmp_path):
            found = list(walk_objects(str(tmp_path)))
            with pytest.raises(PlaceError, match=f"listing '{tmp_path}/private': not permitted to this user; grant"):
                list(list_objects(str(tmp_path)))
    finally:
        (tmp_path / "private").chmod(0o755)
        (tmp_path / "shut").chmod(0o755)
    assert [(item.uri.removeprefix(f"{tmp_path}/"), isinstance(item, Unlisted)) for item in found] == [
        ("a/1.mp4", False),
        ("private", True),
        ("shut/3.mp4", True),
        ("z.mp4", False),
    ]


def test_the_root_of_a_listing_that_may_not_be_read_is_an_error(tmp_path: Path, as_nobody) -> None:
    (tmp_path / "private").mkdir(mode=0)
    with as_nobody(tmp_path), pytest.raises(PlaceError, match="private': not permitted"):
        list(walk_objects(str(tmp_path / "private")))


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (errno.ENOSPC, "ENOSPC: No space left on device; free some space there, or choose another place"),
        (errno.EROFS, "EROFS: Read-only file system; mount it writable, or choose another place"),
        (errno.EIO, "EIO: Input/output error; look at the file system"),
    ],
)
def test_a_write_that_the_system_refuses_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, step: str
) -> None:
    """The system's own call is made to fail: a full or read-only disk cannot be had without root."""

    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(PlaceError) as caught:
        put_object(str(tmp_path / "x"), b"x")
    assert str(caught.value) == f"writing '{tmp_path}/x' failed with {step}"


def test_put_if_absent_never_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    uri = str(tmp_path / "lake" / "versions" / "1.json")
    assert [put_if_absent(uri, b"first"), put_if_absent(uri, b"second")] == [True, False]
    assert read_object(uri, limit_bytes=5) == b"first"
    assert os.listdir(tmp_path / "lake" / "versions") == ["1.json"]


def test_of_six_processes_that_race_for_ten_names_one_wins_each(tmp_path: Path) -> None:
    program = Path(__file__).with_name("race.py")
    racers = [
        subprocess.Popen([sys.executable, program, tmp_path, f"racer {n}", "10"], stdout=subprocess.PIPE, text=True)
        for n in range(6)
    ]
    won = [racer.communicate(timeout=120)[0].split() for racer in racers]
    assert sorted(name for names in won for name in names) == sorted(f"{n}" for n in range(10))
    for number, names in enumerate(won):
        for name in names:
            assert read_object(str(tmp_path / "race" / name), limit_bytes=99) == f"racer {number}".encode()
    assert sorted(os.listdir(tmp_path / "race")) == sorted(f"{n}" for n in range(10))


WRITER = """
import sys
from cineray.storage import put_if_absent, put_object
data = bytes(8 << 20)
for number in range(10_000):
    put_if_absent(f"{sys.argv[1]}/{number}", data)
    put_object(f"{sys.argv[1]}/again", data)
    print(number, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_whole_objects_only(tmp_path: Path) -> None:
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        writer = subprocess.Popen([sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()  # at work now
        time.sleep(0.003 * attempt)
        writer.send_signal(signal.SIGKILL)
        done = writer.communicate()[0].count(b"\n") + 1
        listed = list(list_objects(str(folder)))
        assert {info.size_bytes for info in listed} == {8 << 20}
        assert len(listed) >= done


def test_put_replaces_and_upload_copies(tmp_path: Path) -> None:
    put_object(str(tmp_path / "x"), b"one")
    put_object(str(tmp_path / "x"), b"two")
    upload_file(str(tmp_path / "x"), str(tmp_path / "media" / "y"))
    assert [read_object(str(tmp_path / name), limit_bytes=3) for name in ("x", "media/y")] == [b"two", b"two"]
    assert sorted(os.listdir(tmp_path)) == ["media", "x"]


def test_a_large_object_is_there_when_it_is_whole_and_not_by_halves(tmp_path: Path) -> None:
    where = tmp_path / "shards" / "x.tar"
    with new_object(str(where), size_bytes=6) as file:
        file.write(b"first ")
        assert list(list_objects(str(tmp_path))) == []
    with suppress(RuntimeError), new_object(str(where), size_bytes=6) as file:
        file.write(b"second")
        raise RuntimeError("stopped")
    assert read_object(str(where), limit_bytes=99) == b"first "
    assert os.listdir(where.parent) == ["x.tar"]


def test_what_goes_to_a_store_needs_room_on_this_machine_and_what_stays_here_does_not() -> None:
    with pytest.raises(PlaceError, match=r"bytes free, .* s3://bucket/x is written there .* TMPDIR to a larger disk"):
        check_room("s3://bucket/x", 1 << 60)
    with pytest.raises(PlaceError, match="bytes free"), new_object("s3://bucket/x", size_bytes=1 << 60):
        pass
    check_room("s3://bucket/x", 1)
    check_room("/anywhere", 1 << 60)


def test_deleting_is_idempotent_stays_inside_and_refuses_the_root(tmp_path: Path) -> None:
    put_object(str(tmp_path / "keep" / "x"), b"1")
    put_object(str(tmp_path / "lake" / "y"), b"1")
    (tmp_path / "lake" / "link").symlink_to(tmp_path / "keep")
    for _ in range(2):
        delete_object(str(tmp_path / "lake"), recursive=True)
        delete_object(str(tmp_path / "lake" / "y"))
    assert [info.uri for info in list_objects(str(tmp_path))] == [str(tmp_path / "keep" / "x")]
    with pytest.raises(PlaceRefused, match="deleting everything"):
        delete_object("/", recursive=True)


def test_an_object_over_the_limit_is_not_read(tmp_path: Path) -> None:
    put_object(str(tmp_path / "big.json"), bytes(1000))
    with pytest.raises(PlaceError, match="has 1000 bytes; wanted at most 999") as caught:
        read_object(str(tmp_path / "big.json"), limit_bytes=999)
    assert caught.value.reason == "too_large"


def test_local_reading_imports_no_cloud_library(tmp_path: Path) -> None:
    put_object(str(tmp_path / "x"), b"1")
    program = f"""
import sys
from cineray.storage import list_objects, read_object
assert read_object({str(tmp_path / "x")!r}, limit_bytes=1) == b"1" and list(list_objects({str(tmp_path)!r}))
heavy = {{"fsspec", "s3fs", "gcsfs", "aiohttp", "botocore", "urllib3", "lance", "pyarrow", "torch", "ray"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
