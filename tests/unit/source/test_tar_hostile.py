"""Tars that are made to harm: each member of that kind is a reject, the rest is listed, nothing is created or run."""

from __future__ import annotations

import io
import resource
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from cineray.records import Reject, VideoFile
from cineray.source import WebDatasetTar, true_name


def listed(path: Path) -> list[VideoFile | Reject]:
    return list(WebDatasetTar(str(path)).list_videos())


def member(
    name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, link: str = "", style: int = tarfile.PAX_FORMAT
) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info.tobuf(style, "utf-8", "surrogateescape")


def shard_of(path: Path, *members: bytes) -> Path:
    good = member("before.mp4"), *members, member("after.mp4")
    path.write_bytes(b"".join(good) + bytes(10240))
    return path


def rejects_between(path: Path) -> list[Reject]:
    """What is rejected; and the good members around it must both be there."""
    items = listed(path)
    assert [item.name for item in items if isinstance(item, VideoFile)] == ["s.tar::before.mp4", "s.tar::after.mp4"]
    return [item for item in items if isinstance(item, Reject)]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.LNKTYPE, "is a hard link"),
        (tarfile.SYMTYPE, "is a symbolic link"),
        (tarfile.CHRTYPE, "is a character device"),
        (tarfile.BLKTYPE, "is a block device"),
        (tarfile.FIFOTYPE, "is a named pipe"),
        (b"M", "is the continuation of a file from another volume"),
        (b"Z", "is of the unknown type 'Z'"),
    ],
)
def test_what_is_no_regular_file_is_rejected(tmp_path: Path, kind: bytes, words: str) -> None:
    (found,) = rejects_between(shard_of(tmp_path / "s.tar", member("evil.mp4", kind, link="/etc/passwd")))
    assert (found.name, found.stage, found.reason) == ("s.tar::evil.mp4", "source", "hostile_member")
    assert words in found.detail


@pytest.mark.parametrize("name", ["/etc/cron.d/x.mp4", "../x.mp4", "a/../../x.mp4", "a/..", "./../x.txt", ".."])
def test_names_that_lead_out_are_rejected(tmp_path: Path, name: str) -> None:
    (found,) = rejects_between(shard_of(tmp_path / "s.tar", member(name)))
    assert (found.name, found.reason) == (f"s.tar::{name}", "hostile_member")
    assert "has a name that leads out of the shard" in found.detail


def test_folders_are_passed_over_and_dots_in_a_name_are_only_dots(tmp_path: Path) -> None:
    shard = shard_of(tmp_path / "s.tar", member("a/", tarfile.DIRTYPE), member("..a/b..mp4"), member("a..b/c.mp4"))
    assert [item.name for item in listed(shard)][1:3] == ["s.tar::..a/b..mp4", "s.tar::a..b/c.mp4"]


@pytest.mark.parametrize("style", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize(
    "name",
    [
        "x" * 4000 + ".mp4",
        "/".join(["d" * 200] * 19) + "/x.mp4",
        "line\nbreak.mp4",
        "quote'\"`$(id).mp4",
        b"not\xff\xfeutf8.mp4".decode("utf-8", "surrogateescape"),
        "\x1b[2Jclear.mp4",
        "back\\slash.mp4",
    ],
)
def test_names_that_hurt_are_listed_harmlessly(tmp_path: Path, name: str, style: int) -> None:
    items = listed(shard_of(tmp_path / "s.tar", member(name, style=style)))
    assert [true_name(item.name) for item in items] == ["s.tar::before.mp4", f"s.tar::{name}", "s.tar::after.mp4"]
    assert all(item.name.encode().isascii() or item.name.isprintable() for item in items)


def test_a_name_of_a_hundred_thousand_characters_is_rejected_and_shown_cut(tmp_path: Path) -> None:
    (found,) = rejects_between(shard_of(tmp_path / "s.tar", member("x" * 100_000 + ".mp4")))
    assert found.reason == "hostile_member"
    assert "a name of 100,004 characters; at most 8,192" in found.detail
    assert len(found.name) < 400


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE])
def test_a_header_that_claims_gigabytes_is_not_read(tmp_path: Path, kind: bytes) -> None:
    shard = tmp_path / "s.tar"
    with shard.open("wb") as file:  # four GiB of header, as a hole on disk
        file.write(member("before.mp4") + member("bomb", kind, size=4 << 30, style=tarfile.GNU_FORMAT))
        file.seek(4 << 30, 1)
        file.write(member("spoilt.mp4") + member("after.mp4") + bytes(10240))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    items = listed(shard)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    if kind == tarfile.GNUTYPE_LONGLINK:  # it would name a link's target, which is of no interest
        assert [item.name for item in items] == [f"s.tar::{name}.mp4" for name in ("before", "spoilt", "after")]
        return
    assert [(item.name, getattr(item, "reason", "")) for item in items] == [
        ("s.tar::before.mp4", ""),
        ("s.tar::spoilt.mp4", "hostile_member"),
        ("s.tar::after.mp4", ""),
    ]
    assert "has a header of 4,294,967,296 bytes; at most 1,048,576 are read" in items[1].detail  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "records",
    [
        b"99999999999999999999 path=x\n",
        b"0 path=x\n",
        b"-5 path=x\n",
        b"11 path=x\n",
        b"garbage",
        b"12 size=1e99\n",
        b"14 size=-99999\n",
        b"9 no-mark\n",
    ],
)
def test_a_malformed_pax_header_spoils_the_next_member_only(tmp_path: Path, records: bytes) -> None:
    data = member("h", tarfile.XHDTYPE, size=len(records)) + records.ljust(512, b"\0")
    (found,) = rejects_between(shard_of(tmp_path / "s.tar", data, member("spoilt.mp4")))
    assert (found.name, found.reason) == ("s.tar::spoilt.mp4", "hostile_member")
    assert "extended header that cannot be read" in found.detail


def test_a_global_header_that_would_rename_or_resize_every_member_is_refused(tmp_path: Path) -> None:
    for record, word in [(b"14 path=../../\n", "path"), (b"9 size=7\n", "size")]:
        records = str(len(record.split(b" ", 1)[1]) + 3).encode() + b" " + record.split(b" ", 1)[1]
        records = records if int(records.split(b" ")[0]) == len(records) else b"9 size=7\n"
        data = member("g", tarfile.XGLTYPE, size=len(records)) + records.ljust(512, b"\0")
        (found,) = rejects_between(shard_of(tmp_path / "s.tar", data))
        assert f"a global header sets the {word} of all members" in found.detail


def test_a_size_that_reaches_beyond_the_shard_ends_the_walk_with_the_byte(tmp_path: Path) -> None:
    for style in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        shard = shard_of(tmp_path / "s.tar", member("bomb.mp4", size=1 << 60, style=style))
        *_, last = listed(shard)
        assert isinstance(last, Reject)
        assert (last.reason, last.name) == ("truncated", "s.tar")
        assert "the member 'bomb.mp4'" in last.detail


@pytest.mark.parametrize(
    "size_field", [b"\xff" * 12, b"-0000000001\0", b"0x000000fff\0", b"1_0000000\0\0\0", b"99999999999\0"]
)
def test_a_size_that_is_no_number_ends_the_walk(tmp_path: Path, size_field: bytes) -> None:
    header = bytearray(member("bomb.mp4", style=tarfile.USTAR_FORMAT))
    header[124:136] = size_field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    *_, last = listed(shard_of(tmp_path / "s.tar", bytes(header)))
    assert isinstance(last, Reject)
    assert last.reason == "corrupt"
    assert "where a number should be" in last.detail


def test_random_damage_never_raises_and_never_hangs(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(6):
            info = tarfile.TarInfo(f"{'ü' * 40}/{number}.mp4")
            info.size = 700
            tar.addfile(info, io.BytesIO(bytes(700)))
    whole = np.frombuffer(buffer.getvalue(), np.uint8)
    rng = np.random.default_rng(7)
    shard = tmp_path / "s.tar"
    for _ in range(300):
        data = whole.copy()
        at = rng.integers(0, len(data), size=rng.integers(1, 8))
        data[at] = rng.integers(0, 256, size=len(at))
        shard.write_bytes(data[: rng.integers(1, len(data) + 1)].tobytes())
        for item in listed(shard):
            assert isinstance(item, (VideoFile, Reject))


def write_empty_members(path: Path, count: int, suffix: bytes) -> None:
    """`00000000.mp4`, `00000001.mp4`, ...: ustar headers made a hundred thousand at a time, with right checksums."""
    with path.open("wb") as file:
        for start in range(0, count, 100_000):
            numbers = np.arange(start, min(start + 100_000, count))
            headers = np.zeros((len(numbers), 512), np.uint8)
            for digit in range(8):
                headers[:, 7 - digit] = 48 + numbers // 10**digit % 10
            headers[:, 8 : 8 + len(suffix)] = np.frombuffer(suffix, np.uint8)
            headers[:, 124:135] = 48
            headers[:, 148:156] = 32
            headers[:, 156] = 48
            headers[:, 257:265] = np.frombuffer(b"ustar\x0000", np.uint8)
            sums = headers.sum(axis=1, dtype=np.int64)
            for digit in range(6):
                headers[:, 153 - digit] = 48 + sums // 8**digit % 8
            headers[:, 154] = 0
            file.write(headers.tobytes())
        file.write(bytes(10240))


COUNT = """
import resource, sys
from collections import Counter
from cineray.source import WebDatasetTar
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
counts = Counter(type(item).__name__ for item in WebDatasetTar(sys.argv[1]).list_videos())
print(counts["VideoFile"], counts["Reject"], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) >> 10)
"""


@pytest.mark.slow
def test_a_million_empty_members_are_walked_in_flat_memory(tmp_path: Path) -> None:
    shard = tmp_path / "million.tar"
    write_empty_members(shard, 1_000_000, b".mp4")
    with tarfile.open(shard) as tar:
        first = tar.next()
    assert first is not None
    assert first.name == "00000000.mp4"
    started = time.process_time()
    done = subprocess.run([sys.executable, "-c", COUNT, str(shard)], capture_output=True, text=True, check=True)
    shard.unlink()
    found, rejected, grown_mib = map(int, done.stdout.split())
    assert (found, rejected) == (1_000_000, 0)
    assert grown_mib < 64
    assert time.process_time() - started < 120  # a minute of CPU would be slow; hours are what is guarded against
