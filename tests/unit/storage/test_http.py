"""Files behind web addresses, and the addresses that are refused; the server is real, on this machine."""

from __future__ import annotations

import socket
import threading

import pytest

from cineray.errors import PlaceChanged, PlaceError, PlaceMissing, PlaceRefused
from cineray.records import Place
from cineray.storage import (
    AccessPolicy,
    PlaceFile,
    RetryPolicy,
    list_objects,
    object_exists,
    open_place,
    put_object,
    read_object,
)
from cineray.storage.policy import why_refused

FILM = bytes(range(256)) * 1000
HERE = AccessPolicy(allow_hosts=frozenset({"127.0.0.1"}))


@pytest.fixture
def film(web_server) -> str:
    web_server.files["/film.mp4"] = FILM
    return f"{web_server.url}/film.mp4"


def test_each_read_is_one_ranged_request_on_one_connection(web_server, film: str) -> None:
    with open_place(Place(uri=film), policy=HERE) as reader:
        assert (reader.size_bytes, reader.read_at(1000, 500)) == (256_000, FILM[1000:1500])
        assert reader.read_at(255_990, 500) == FILM[-10:]
    assert [range_ for _, range_ in web_server.seen] == ["bytes=0-0", "bytes=1000-1499", "bytes=255990-255999"]
    assert (reader.counter.requests, reader.counter.bytes_read) == (3, 1 + 500 + 10)


def test_a_file_object_over_it_reads_blocks(film: str) -> None:
    with open_place(Place(uri=film, offset=100, length=2000), policy=HERE) as reader:
        file = PlaceFile(reader, block_bytes=512)
        file.seek(700)
        assert file.read(600) == FILM[800:1400]
        assert file.read() == FILM[1400:2100]


def test_a_server_without_ranges_is_named_and_not_downloaded(web_server) -> None:
    web_server.ignores_ranges = True
    web_server.files["/big.mp4"] = bytes(64 << 20)
    with pytest.raises(PlaceError, match="does not do ranges"):
        open_place(Place(uri=f"{web_server.url}/big.mp4"), policy=HERE)
    assert web_server.bytes_sent < 16 << 20


def test_an_empty_file_has_no_bytes(web_server) -> None:
    web_server.files["/empty"] = b""
    with open_place(Place(uri=f"{web_server.url}/empty"), policy=HERE) as reader:
        assert (reader.size_bytes, reader.read_at(0, 10)) == (0, b"")


def test_odd_names_arrive_percent_encoded(web_server) -> None:
    web_server.files["/a%20b/100%25%20sp%C3%A4%C3%9F.mp4?key=x%2Fy"] = b"odd"
    uri = f"{web_server.url}/a b/100% späß.mp4?key=x%2Fy#fragment"
    assert read_object(uri, limit_bytes=3, policy=HERE) == b"odd"


def test_a_file_that_is_replaced_is_noticed_at_the_next_read_and_at_the_next_opening(web_server, film: str) -> None:
    with open_place(Place(uri=film), policy=HERE) as reader:
        tag = reader.version_tag
        web_server.files["/film.mp4"] = FILM[::-1]
        with pytest.raises(PlaceChanged, match="was replaced while it was read"):
            reader.read_at(0, 10)
    with pytest.raises(PlaceChanged, match="was indexed"):
        open_place(Place(uri=film), policy=HERE, expect_tag=tag)


def test_what_is_not_there_or_cannot_be_done_says_so(web_server, film: str, monkeypatch) -> None:
    with pytest.raises(PlaceMissing, match="answered 404"):
        open_place(Place(uri=f"{web_server.url}/none"), policy=HERE)
    with pytest.raises(PlaceRefused, match="cannot be listed"):
        list_objects(film)
    with pytest.raises(PlaceRefused, match="can only be read"):
        put_object(film, b"")
    monkeypatch.setenv("CINERAY_ALLOW_HOSTS", "127.0.0.1, other.host")
    assert [object_exists(film), object_exists(f"{web_server.url}/none")] == [True, False]


def test_redirects_are_followed_and_where_they_led_is_remembered(web_server, film: str) -> None:
    web_server.redirects["/old"] = "/older"
    web_server.redirects["/older"] = film
    with open_place(Place(uri=f"{web_server.url}/old"), policy=HERE) as reader:
        assert reader.read_at(10, 5) == FILM[10:15]
    assert [path for path, _ in web_server.seen] == ["/old", "/older", "/film.mp4", "/film.mp4"]


def test_a_signed_redirect_that_has_expired_is_asked_for_again(web_server, film: str) -> None:
    web_server.redirects["/stable"] = "/film.mp4"
    with open_place(Place(uri=f"{web_server.url}/stable"), policy=HERE) as reader:
        web_server.files["/moved.mp4"] = web_server.files.pop("/film.mp4")
        web_server.redirects["/stable"] = "/moved.mp4"
        assert reader.read_at(10, 5) == FILM[10:15]


def test_more_than_five_redirects_are_an_error(web_server) -> None:
    web_server.redirects["/loop"] = "/loop"
    with pytest.raises(PlaceError, match="redirected more than 5 times"):
        open_place(Place(uri=f"{web_server.url}/loop"), policy=HERE)
    assert len(web_server.seen) == 6


def test_a_redirect_to_a_file_of_this_machine_is_refused(web_server) -> None:
    web_server.redirects["/evil"] = "file:///etc/passwd"
    with pytest.raises(PlaceRefused, match="wanted an http or https address"):
        open_place(Place(uri=f"{web_server.url}/evil"), policy=HERE)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "127.1",
        "[::ffff:127.0.0.1]",
        "127.0.0.1.",
        "LOCALHOST",
    ],
)
def test_no_spelling_of_this_machine_is_asked(web_server, film: str, host: str) -> None:
    port = web_server.url.rpartition(":")[2]
    with pytest.raises(PlaceRefused, match=r"refused; wanted a public host|names no host"):
        open_place(Place(uri=f"http://{host}:{port}/film.mp4"))
    assert web_server.seen == []


@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://100.100.100.200/latest/meta-data/",
        "https://169.254.170.2/v2/credentials",
        "http://224.0.0.1/",
    ],
)
def test_metadata_and_link_local_addresses_are_refused_at_once(uri: str) -> None:
    with pytest.raises(PlaceRefused, match="CINERAY_ALLOW_HOSTS="):
        open_place(Place(uri=uri))


def test_a_redirect_to_loopback_is_refused_although_the_first_host_was_allowed(web_server, film: str) -> None:
    web_server.redirects["/bait"] = film.replace("127.0.0.1", "127.0.0.2")
    with pytest.raises(PlaceRefused, match=r"127\.0\.0\.2 is loopback"):
        open_place(Place(uri=f"{web_server.url}/bait"), policy=HERE)
    assert [path for path, _ in web_server.seen] == ["/bait"]


def _resolve(monkeypatch: pytest.MonkeyPatch, name: str, *answers: list[str]) -> None:
    """Let the system's resolver give these addresses for a name, one list for each look-up."""
    left = list(answers)
    real = socket.getaddrinfo

    def getaddrinfo(host, port, *rest, **options):
        if host != name:
            return real(host, port, *rest, **options)
        return [found for address in left.pop(0) for found in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_name_that_resolves_to_loopback_is_refused(web_server, film: str, monkeypatch) -> None:
    _resolve(monkeypatch, "videos.example.com", ["127.0.0.1"], ["93.184.216.34", "127.0.0.1"])
    uri = film.replace("127.0.0.1", "videos.example.com")
    for _ in range(2):
        with pytest.raises(PlaceRefused, match=r"videos.example.com \(at 127.0.0.1\) is loopback"):
            open_place(Place(uri=uri))
    assert web_server.seen == []


def test_a_name_is_looked_up_once_so_a_second_answer_cannot_lead_elsewhere(web_server, film: str, monkeypatch) -> None:
    _resolve(monkeypatch, "videos.example.com", ["127.0.0.1"])
    allowed = AccessPolicy(allow_hosts=frozenset({"videos.example.com"}))
    assert read_object(film.replace("127.0.0.1", "videos.example.com"), limit_bytes=1 << 20, policy=allowed) == FILM


def test_the_peer_of_the_socket_is_tested_before_a_byte_is_sent(web_server, film: str, monkeypatch) -> None:
    """As if the network led a public address to this machine: the look-up is clean, the connected peer is not."""
    port = int(web_server.url.rpartition(":")[2])
    _resolve(monkeypatch, "videos.example.com", ["93.184.216.34"])
    real = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", lambda self, _: real(self, ("127.0.0.1", port)))
    with pytest.raises(PlaceRefused, match="is loopback"):
        open_place(Place(uri="http://videos.example.com/film.mp4"))
    assert web_server.seen == []


def test_private_networks_are_refused_unless_the_host_is_allowed() -> None:
    private = [
        "10.0.0.7",
        "172.16.0.1",
        "172.31.255.9",
        "192.168.1.5",
        "100.64.0.1",
        "100.127.9.9",
        "fd12::1",
        "fec0::1",
    ]
    carried = ["::ffff:10.0.0.7", "64:ff9b::a00:7"]
    assert {why_refused(address) for address in private + carried} == {"is in a private network"}
    with pytest.raises(
        PlaceRefused, match=r"192\.168\.1\.5 is in a private network.*CINERAY_ALLOW_HOSTS=192\.168\.1\.5"
    ):
        AccessPolicy().check_address("192.168.1.5", "192.168.1.5")
    with pytest.raises(PlaceRefused, match=r"nas\.example\.com \(at 10\.0\.0\.7\) is in a private network"):
        AccessPolicy().check_address("nas.example.com", "10.0.0.7")
    for allowed in ("nas.example.com", "10.0.0.7"):
        AccessPolicy(allow_hosts=frozenset({allowed})).check_address("nas.example.com", "10.0.0.7")


def test_public_addresses_are_allowed_and_special_ones_are_not() -> None:
    public = ["93.184.216.34", "2606:2800::1", "11.0.0.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1"]
    assert [why_refused(address) for address in public] == [""] * len(public)
    refused = ["64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1", "::", "fe80::1%eth0", "ff02::1", "0.1.2.3"]
    assert all(why_refused(address) for address in refused)


def test_a_slow_trickle_and_a_silent_server_end_with_the_whole_story() -> None:
    """A server that accepts and says nothing: bounded by the time-outs, then one error that tells it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        held = []
        threading.Thread(target=lambda: [held.append(silent.accept()) for _ in range(2)], daemon=True).start()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}/film.mp4"
        patience = RetryPolicy(tries=2, first_wait_seconds=0.01, idle_timeout_seconds=0.3)
        with pytest.raises(PlaceError, match=r"opening .* failed 2 times in .*Read timed out") as caught:
            open_place(Place(uri=uri), policy=HERE, retry=patience)
        assert caught.value.reason == "unreadable"
