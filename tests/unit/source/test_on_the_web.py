"""Sources behind web addresses: the access policy holds for shards, their indexes and manifests alike."""

from __future__ import annotations

import io
import tarfile

import pytest

from cineray.errors import SourceError
from cineray.records import Reject, VideoFile
from cineray.source import open_source
from cineray.storage import AccessPolicy, open_place

pytestmark = pytest.mark.network

ALLOWED = AccessPolicy(allow_hosts=frozenset({"127.0.0.1"}))


def tar_of(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_a_shard_at_a_web_address_is_listed_and_read_by_ranges(web_server) -> None:
    web_server.files["/shards/s-0.tar"] = tar_of("walk/1.mp4", b"video" * 50_000)
    (video,) = open_source(f"{web_server.url}/shards/s-{{0..0}}.tar", policy=ALLOWED).list_videos()
    assert isinstance(video, VideoFile)
    assert (video.name, video.size_bytes) == ("s-0.tar::walk/1.mp4", 250_000)
    assert web_server.bytes_sent < 64_000, "headers only"
    with open_place(video.place, policy=ALLOWED, expect_tag=video.version_tag) as reader:
        assert reader.read_at(0, 250_000) == b"video" * 50_000


def test_a_manifest_at_a_web_address_names_files_beside_it(web_server) -> None:
    web_server.files["/data/m.jsonl"] = b'{"uri": "clips/1.mp4"}\n{"uri": "../2.mp4"}\n'
    files = list(open_source(f"{web_server.url}/data/m.jsonl", policy=ALLOWED).list_videos())
    places = [item.place.uri for item in files if isinstance(item, VideoFile)]
    assert places == [f"{web_server.url}/data/clips/1.mp4", f"{web_server.url}/2.mp4"]


def test_a_manifest_from_elsewhere_may_not_name_files_of_this_machine(web_server) -> None:
    uris = ["/etc/passwd", "file:///etc/passwd", "lance+/data/t.lance?version=1&column=v&row=0", "clips/1.mp4"]
    web_server.files["/m.jsonl"] = "".join(f'{{"uri": "{uri}"}}\n' for uri in uris).encode()
    items = list(open_source(f"{web_server.url}/m.jsonl", policy=ALLOWED).list_videos())
    assert [(item.name, getattr(item, "reason", "listed")) for item in items] == [
        ("row 1", "refused"),
        ("row 2", "refused"),
        ("row 3", "refused"),
        ("clips/1.mp4", "listed"),
    ]
    assert "names '/etc/passwd' on this machine, and the manifest lies elsewhere" in items[0].detail


def test_loopback_is_refused_unless_it_is_allowed(web_server) -> None:
    web_server.files["/s.tar"] = tar_of("1.mp4", b"x")
    web_server.files["/m.csv"] = b"uri\n1.mp4\n"
    (item,) = open_source(f"{web_server.url}/s.tar", policy=AccessPolicy()).list_videos()
    assert isinstance(item, Reject)
    assert (item.name, item.reason) == ("s.tar", "refused")
    with pytest.raises(SourceError, match="is loopback, and such addresses are refused"):
        list(open_source(f"{web_server.url}/m.csv", policy=AccessPolicy()).list_videos())
    assert web_server.seen == [], "not a byte was asked for"
