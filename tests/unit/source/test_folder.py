"""A folder of videos: what is listed, what is said of it, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cineray.errors import SourceError
from cineray.records import Place, Reject, Sidecar, VideoFile
from cineray.source import VideoFolder, open_source, true_name
from cineray.storage import open_place, place_stat


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    return folder


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def videos(folder: Path) -> list[VideoFile]:
    return [item for item in VideoFolder(str(folder)).list_videos() if isinstance(item, VideoFile)]


def rejects(folder: Path) -> list[Reject]:
    return [item for item in VideoFolder(str(folder)).list_videos() if isinstance(item, Reject)]


def test_split_and_label_come_from_the_folders(clips: Path) -> None:
    write(clips, "train/walk/1.mp4", "val/2.mp4", "TEST/a/b/run/3.mp4", "jump/4.mp4", "5.mp4", "walk/train/6.mp4")
    assert [(file.name, file.split, file.label) for file in videos(clips)] == [
        ("5.mp4", None, None),
        ("TEST/a/b/run/3.mp4", "test", "run"),
        ("jump/4.mp4", None, "jump"),
        ("train/walk/1.mp4", "train", "walk"),
        ("val/2.mp4", "validation", None),
        ("walk/train/6.mp4", None, "train"),
    ]


def test_only_visible_files_with_a_videos_extension_are_videos(clips: Path) -> None:
    write(clips, "a.mp4", "b.MKV", "c.txt", "d", "e.jpg", ".f.mp4", ".g/h.mp4", "i/.j/k.mp4", "l.mp4.part", "m.pkl")
    assert [file.name for file in videos(clips)] == ["a.mp4", "b.MKV"]
    assert rejects(clips) == []


def test_a_listing_tells_place_size_and_version_without_opening_anything(clips: Path) -> None:
    write(clips, "a.mp4")
    found = os.stat(clips / "a.mp4")
    assert videos(clips) == [
        VideoFile(
            name="a.mp4",
            place=Place(uri=str(clips / "a.mp4")),
            size_bytes=5,
            version_tag=f"5-{found.st_mtime_ns}",
        )
    ]


def test_sidecars_have_the_videos_name_up_to_the_last_dot(clips: Path) -> None:
    write(clips, "a.mp4", "a.txt", "a.json", "a.en.srt", "a.b.mp4", "a.b.wav", "A.vtt", "x/a.cls", "a.npy")

    def beside(name: str) -> Sidecar:
        place = Place(uri=str(clips / name))
        return Sidecar(kind=name.rsplit(".", 1)[1], place=place, version_tag=place_stat(place)[1])

    assert {file.name: file.sidecars for file in videos(clips)} == {
        "a.mp4": (beside("a.json"), beside("a.txt")),
        "a.b.mp4": (beside("a.b.wav"),),
    }


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_metadata_is_laid_over_what_the_folders_say(clips: Path, suffix: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write(clips, "train/1.mp4", "train/sub/2.mp4", "train/3.mp4")
    table = clips / "train" / f"metadata.{suffix}"
    if suffix == "csv":
        table.write_text('file_name,text,label,fps\n./1.mp4,"a, dog",walk,25\nsub/2.mp4,,run,\n1.mp4,again,,\n')
    elif suffix == "jsonl":
        table.write_text(
            '{"file_name": "./1.mp4", "text": "a, dog", "label": "walk", "fps": "25"}\n\n'
            '{"file_name": "sub/2.mp4", "label": "run"}\n{"file_name": "1.mp4", "text": "again"}\n'
        )
    else:
        columns = {
            "file_name": ["./1.mp4", "sub/2.mp4", "1.mp4"],
            "text": ["a, dog", None, "again"],
            "label": ["walk", "run", None],
            "fps": ["25", None, None],
            "pickled": [b"\x80\x04", b"", None],
        }
        pq.write_table(pa.table(columns), table)
    assert [(file.name, file.label, file.captions, dict(file.columns)) for file in videos(clips)] == [
        ("train/1.mp4", "walk", ("a, dog", "again"), {"fps": "25"}),
        ("train/3.mp4", None, (), {}),
        ("train/sub/2.mp4", "run", (), {}),
    ]


def test_a_column_ending_in_file_name_that_names_a_video_is_taken(clips: Path) -> None:
    write(clips, "1.mp4")
    (clips / "metadata.csv").write_text("depth_file_name,video_file_name\n1.npy,1.mp4\n")
    assert [(file.name, dict(file.columns)) for file in videos(clips)] == [("1.mp4", {"depth_file_name": "1.npy"})]


def test_a_row_that_cannot_be_joined_is_a_reject_that_names_row_and_file(clips: Path) -> None:
    write(clips, "1.mp4", "notes.txt")
    (clips / "metadata.jsonl").write_text(
        '{"file_name": "1.mp4"}\n{"file_name": "lost.mp4"}\n{"file_name": "notes.txt"}\n{"file_name": ""}\n'
        '{"file_name": "../../etc/passwd"}\n{"file_name": "/etc/passwd"}\nnot json\n{"file_name": "s3://b/1.mp4"}\n'
    )
    assert [(item.name, item.reason) for item in rejects(clips)] == [
        ("metadata.jsonl#4", "bad_row"),
        ("../../etc/passwd", "refused"),
        ("/etc/passwd", "refused"),
        ("metadata.jsonl#7", "bad_row"),
        ("s3:/b/1.mp4", "refused"),
        ("lost.mp4", "missing"),
        ("notes.txt", "not_video"),
    ]
    assert rejects(clips)[5].detail == (
        "row 2 of metadata.jsonl names 'lost.mp4', and there is no such video; add the file or drop the row"
    )
    assert [file.name for file in videos(clips)] == ["1.mp4"]


def test_metadata_without_a_file_name_column_is_an_error_that_says_what_it_has(clips: Path) -> None:
    write(clips, "1.mp4")
    (clips / "metadata.csv").write_text("file,caption\n1.mp4,a dog\n")
    with pytest.raises(SourceError, match=r"has the columns file, caption; wanted one called `file_name`"):
        videos(clips)


def test_a_video_whose_row_states_no_possible_split_is_a_reject_and_in_no_other_split(clips: Path) -> None:
    write(clips, "train/1.mp4", "train/2.mp4")
    (clips / "metadata.csv").write_text("file_name,split\ntrain/1.mp4,hold out\ntrain/2.mp4,holdout\n")
    assert [(file.name, file.split) for file in videos(clips)] == [("train/2.mp4", "holdout")]
    (item,) = rejects(clips)
    assert (item.name, item.reason) == ("train/1.mp4", "bad_row")
    assert item.detail.startswith("row 1 of metadata.csv: its split is 'hold out'; wanted a name of at most 64 letters")


@pytest.mark.parametrize(
    "data",
    ["file_name,text\n1.mp4,a dog\n".encode("utf-16"), b"\x89PNG\r\n", b"\x00\x01\x02", b"\xff\xfe\n1.mp4,a dog\n"],
)
def test_a_metadata_csv_that_is_no_utf8_is_an_error_that_can_be_printed(clips: Path, data: bytes) -> None:
    write(clips, "1.mp4")
    (clips / "metadata.csv").write_bytes(data)
    with pytest.raises(SourceError, match="which is no UTF-8 text; save it as UTF-8") as caught:
        videos(clips)
    assert str(caught.value).isprintable()
    str(caught.value).encode()


def test_the_columns_of_wrong_metadata_are_shown_short_and_printable(clips: Path) -> None:
    write(clips, "1.mp4")
    (clips / "metadata.jsonl").write_text(json.dumps({f"a\x1b{number}{'x' * 500}": 1 for number in range(999)}) + "\n")
    with pytest.raises(SourceError, match=r"has the columns a\\x1b0xxx.*, \.\.\.; wanted one called") as caught:
        videos(clips)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 3000


def test_a_folder_that_cannot_be_read_is_a_reject_and_the_rest_is_listed(clips: Path, as_nobody) -> None:
    write(clips, "a/1.mp4", "private/2.mp4", ".hidden/3.mp4", "z.mp4")
    for name in ("private", ".hidden"):
        (clips / name).chmod(0)
    try:
        with as_nobody(clips):
            items = list(open_source(clips).list_videos())
    finally:
        for name in ("private", ".hidden"):
            (clips / name).chmod(0o755)
    assert [(item.name, getattr(item, "reason", "listed")) for item in items] == [
        ("private", "unreadable"),
        ("a/1.mp4", "listed"),
        ("z.mp4", "listed"),
    ]
    assert items[0].detail == (
        f"listing '{clips}/private': not permitted to this user; grant the access or name another place. "
        "What lies in it is left out"
    )


def test_what_is_passed_over_is_counted_by_extension(clips: Path) -> None:
    write(clips, "a.mp4", "a.txt", "b.txt", "x/c.TXT", "notes.md", "README", ".hidden", ".git/x.md", "x/metadata.jsonl")
    (clips / "x" / "metadata.jsonl").write_text("")
    (clips / "link.md").symlink_to("notes.md")
    (clips / "folder-link").symlink_to("x")
    source = VideoFolder(str(clips))
    assert source.passed_over == {}
    for _ in range(2):
        assert [item.name for item in source.list_videos()] == ["a.mp4"]
        assert source.passed_over == {"txt": 2, "md": 2, "": 1}


def test_a_thousand_extensions_are_counted_together_from_the_fiftieth_on(clips: Path) -> None:
    write(clips, *(f"{number}.e{number:03d}{'x' * 100}" for number in range(100)))
    source = VideoFolder(str(clips))
    assert list(source.list_videos()) == []
    assert len(source.passed_over) == 51
    assert source.passed_over["other"] == 50
    assert max(map(len, source.passed_over)) == 20


def test_a_link_inside_the_folder_is_another_name_and_a_link_out_is_refused(clips: Path, tmp_path: Path) -> None:
    write(clips, "train/1.mp4")
    write(tmp_path, "outside/secret.mp4", "outside/secret.txt", "clips-2/3.mp4")
    (clips / "again.mp4").symlink_to("train/1.mp4")
    (clips / "out.mp4").symlink_to(tmp_path / "outside" / "secret.mp4")
    (clips / "sibling.mp4").symlink_to(tmp_path / "clips-2" / "3.mp4")
    (clips / "chain.mp4").symlink_to("out.mp4")
    (clips / "train" / "1.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (clips / "metadata.csv").symlink_to("/etc/passwd")
    (clips / "folder").symlink_to(tmp_path / "outside")
    (clips / "inner").symlink_to("train")
    (clips / "loop").symlink_to(".")
    (clips / "dangling.mp4").symlink_to("nothing.mp4")
    (clips / "self.mp4").symlink_to("self.mp4")
    (clips / "unrelated.pem").symlink_to("/etc/ssl/key.pem")
    assert [(file.name, file.place.uri, file.sidecars) for file in videos(clips)] == [
        ("again.mp4", str(clips / "train" / "1.mp4"), ()),
        ("train/1.mp4", str(clips / "train" / "1.mp4"), ()),
    ]
    assert {item.name: item.reason for item in rejects(clips)} == {
        "out.mp4": "refused",
        "sibling.mp4": "refused",
        "chain.mp4": "refused",
        "train/1.txt": "refused",
        "metadata.csv": "refused",
        "folder": "refused",
        "dangling.mp4": "missing",
        "self.mp4": "missing",
    }


def test_a_root_that_is_a_link_itself_is_a_folder_like_any(clips: Path, tmp_path: Path) -> None:
    write(clips, "1.mp4")
    (clips / "2.mp4").symlink_to("1.mp4")
    (tmp_path / "link").symlink_to(clips)
    assert [file.name for file in videos(tmp_path / "link")] == ["1.mp4", "2.mp4"]


def test_names_that_hurt_are_listed_and_open(clips: Path) -> None:
    deep = "/".join(["d" * 180] * 5)
    raw = [b"line\nbreak.mp4", b"quote'\"`$(x).mp4", b"not\xff\xfeutf8.mp4", b"tab\t\x1b[2J.mp4", b"back\\x41slash.mp4"]
    names = [os.fsdecode(name) for name in raw] + [f"{deep}/x.mp4", "-rf.mp4", "100%.mp4", "a?b#c.mp4", "{a,b}.mp4"]
    for name in names:
        (clips / name).parent.mkdir(parents=True, exist_ok=True)
        (clips / name).write_bytes(os.fsencode(name))
    listed = videos(clips)
    assert sorted(true_name(file.name) for file in listed) == sorted(names)
    for file in listed:
        file.name.encode()
        with open_place(file.place) as reader:
            assert reader.read_at(0, 5000) == os.fsencode(true_name(file.name))


def test_an_empty_folder_lists_nothing_and_no_folder_is_an_error(clips: Path) -> None:
    assert list(VideoFolder(str(clips)).list_videos()) == []
    with pytest.raises(SourceError, match="nowhere is no folder; wanted a folder with videos"):
        list(VideoFolder(str(clips / "nowhere")).list_videos())


def test_ten_thousand_files_are_listed_in_flat_memory(clips: Path) -> None:
    import tracemalloc

    for folder in range(20):
        (clips / f"{folder:02d}").mkdir()
        for number in range(500):
            (clips / f"{folder:02d}" / f"{number:04d}.mp4").touch()
    tracemalloc.start()
    count = sum(1 for _ in VideoFolder(str(clips)).list_videos())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 10_000
    assert peak_bytes < 1 << 20
