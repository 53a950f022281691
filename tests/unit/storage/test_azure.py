"""Azure, against its emulator where one is installed (`npm install azurite`, and `pip install 'cineray[azure]'`)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cineray.errors import PlaceChanged, PlaceMissing
from cineray.records import Place
from cineray.storage import (
    delete_object,
    filesystem,
    list_objects,
    object_exists,
    open_place,
    place_stat,
    put_if_absent,
    put_object,
    read_object,
    upload_file,
)

pytestmark = pytest.mark.network
# The emulator's one account, the same on every machine.
ACCOUNT, KEY = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Azurite's blob server; its url."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("no Azure emulator: azurite-blob is not on the PATH")
    pytest.importorskip("adlfs")
    servers = sys.modules["cineray_test_servers"]
    port, folder = servers.free_port(), tmp_path_factory.mktemp("azurite")
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--skipApiVersionCheck"]
    for server in servers._serve([program, *options], port, folder / "log"):
        yield server.url


@pytest.fixture
def container(emulator: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """`abfs://<a new container>`, found through the connection string."""
    parts = ["DefaultEndpointsProtocol=http", f"AccountName={ACCOUNT}", f"AccountKey={KEY}"]
    connection = ";".join([*parts, f"BlobEndpoint={emulator}/{ACCOUNT};"])
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
    name = f"test-{uuid.uuid4().hex[:12]}"
    filesystem(f"abfs://{name}").mkdir(name)
    return f"abfs://{name}"


def test_ranges_tags_and_changes(container: str) -> None:
    uri, data = f"{container}/film.mp4", bytes(range(256)) * 4096
    put_object(uri, data)
    size, tag = place_stat(Place(uri=uri))
    with open_place(Place(uri=uri, offset=256), expect_tag=tag) as reader:
        assert reader.read_at(0, 70_000) == data[256 : 256 + 70_000]
        assert reader.read_at(reader.size_bytes - 5, 100) == data[-5:]
        assert (size, reader.counter.requests, reader.counter.bytes_read) == (len(data), 3, 70_005)
        put_object(uri, data[::-1])
        with pytest.raises(PlaceChanged, match="replaced while it was read"):
            reader.read_at(0, 3)
    with pytest.raises(PlaceChanged, match="was indexed"):
        open_place(Place(uri=uri), expect_tag=tag)
    with pytest.raises(PlaceMissing):
        open_place(Place(uri=f"{container}/none"))


def test_odd_names_are_listed_in_byte_order_and_read_byte_for_byte(container: str) -> None:
    names = ["a b/100%.mp4", "a/?x=3#y", "a/%41.mp4", "a/späß 映画.mp4", "a.txt", "a/+&=;.mp4"]
    for name in names:
        put_object(f"{container}/{name}", name.encode())
    listed = list(list_objects(container))
    assert [info.uri for info in listed] == sorted((f"{container}/{name}" for name in names), key=str.encode)
    for info in listed:
        assert read_object(info.uri, limit_bytes=9999) == info.uri.removeprefix(f"{container}/").encode()
        assert (info.size_bytes, info.version_tag) == place_stat(Place(uri=info.uri))
    assert [info.uri for info in list_objects(f"{container}/a.txt")] == [f"{container}/a.txt"]


def test_writes_races_uploads_and_deletes(container: str, tmp_path: Path) -> None:
    uri = f"{container}/versions/1.json"
    assert [put_if_absent(uri, b"first"), put_if_absent(uri, b"second")] == [True, False]
    assert read_object(uri, limit_bytes=9) == b"first"
    (tmp_path / "film").write_bytes(b"film")
    upload_file(str(tmp_path / "film"), f"{container}/media/film")
    assert read_object(f"{container}/media/film", limit_bytes=9) == b"film"
    program = Path(__file__).with_name("race.py")
    racers = [
        subprocess.Popen([sys.executable, program, container, f"racer {n}", "10"], stdout=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    won = [racer.communicate(timeout=120)[0].split() for racer in racers]
    assert sorted(name for names in won for name in names) == sorted(f"{n}" for n in range(10))
    for _ in range(2):
        delete_object(f"{container}/race", recursive=True)
        delete_object(f"{container}/media", recursive=True)
        delete_object(uri)
    assert object_exists(uri) is False
    assert list(list_objects(container)) == []
