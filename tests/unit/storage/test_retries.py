"""Stores on a bad day: 503, bodies cut short, resets, stalls, drips. Reading goes on, or says why not."""

from __future__ import annotations

import dataclasses
import time

import pytest

from cineray.errors import PlaceError
from cineray.records import Place
from cineray.storage import AccessPolicy, ReadCounter, RetryPolicy, open_place, put_if_absent, put_object
from cineray.storage.retry import TransientError, with_retries

FILM = bytes(range(256)) * 1000
HERE = AccessPolicy(allow_hosts=frozenset({"127.0.0.1"}))
QUICK = RetryPolicy(
    tries=4,
    first_wait_seconds=0.01,
    connect_timeout_seconds=1.5,
    idle_timeout_seconds=1.5,
    slowest_bytes_per_second=1e6,
)
PATIENT = dataclasses.replace(QUICK, connect_timeout_seconds=20.0, idle_timeout_seconds=20.0)


def policy_for(*faults: str) -> RetryPolicy:
    """Quick only where waiting is what is tested: a busy machine may be silent for longer than half a second."""
    return QUICK if {"stall", "drip"} & set(faults) else PATIENT


BAD_DAYS = [
    ["503", "503", "503"],
    ["429", "500"],
    ["truncate", "truncate"],
    ["reset", "cut", "reset"],
    ["stall"],
    ["drip"],
    ["503", "truncate", "reset"],
]


@pytest.mark.parametrize("faults", BAD_DAYS, ids="-".join)
def test_web_reads_survive_and_have_the_right_bytes(web_server, faulty_proxy, faults: list[str]) -> None:
    web_server.files["/film.mp4"] = FILM
    proxy = faulty_proxy(web_server.url)
    with open_place(Place(uri=f"{proxy.url}/film.mp4"), policy=HERE, retry=policy_for(*faults)) as reader:
        proxy.faults += faults
        assert reader.read_at(1000, 50_000) == FILM[1000:51_000]
        assert reader.counter.retries == len(faults)


@pytest.mark.network
@pytest.mark.parametrize("faults", BAD_DAYS, ids="-".join)
def test_s3_reads_survive_and_have_the_right_bytes(s3_server, s3_bucket, faulty_proxy, faults, monkeypatch) -> None:
    put_object(f"{s3_bucket}/film.mp4", FILM)
    proxy = faulty_proxy(s3_server.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    with open_place(Place(uri=f"{s3_bucket}/film.mp4"), retry=policy_for(*faults)) as reader:
        proxy.faults += faults
        assert reader.read_at(1000, 50_000) == FILM[1000:51_000]
        # aiohttp itself repeats a GET once when a kept connection turns out to be dead; the rest is ours.
        assert 1 <= reader.counter.retries <= len(faults)
    assert proxy.seen == ["HEAD", *["GET"] * (1 + len(faults))]


@pytest.mark.network
@pytest.mark.parametrize("faults", [["503", "503"], ["truncate"], ["cut"], ["stall"]], ids="-".join)
def test_gcs_reads_survive_and_have_the_right_bytes(gcs_server, gcs_bucket, faulty_proxy, faults, monkeypatch) -> None:
    put_object(f"{gcs_bucket}/film.mp4", FILM)
    proxy = faulty_proxy(gcs_server.url)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    with open_place(Place(uri=f"{gcs_bucket}/film.mp4"), retry=policy_for(*faults)) as reader:
        proxy.faults += faults
        assert reader.read_at(1000, 50_000) == FILM[1000:51_000]
        assert reader.counter.retries == len(faults)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [("503", "answered 503"), ("truncate", "IncompleteRead"), ("reset", "Connection aborted"), ("drip", "trickles")],
)
def test_a_web_server_that_never_recovers_is_given_up_with_the_whole_story(
    web_server, faulty_proxy, fault: str, cause: str
) -> None:
    web_server.files["/film.mp4"] = FILM
    proxy = faulty_proxy(web_server.url)
    with open_place(Place(uri=f"{proxy.url}/film.mp4"), policy=HERE, retry=policy_for(fault)) as reader:
        proxy.faults += [fault] * 50
        with pytest.raises(PlaceError) as caught:
            reader.read_at(1000, 50_000)
    assert caught.value.reason == "unreadable"
    message = str(caught.value)
    assert f"reading bytes 1000 to 51000 of {proxy.url}/film.mp4 failed 4 times in " in message
    assert cause in message
    assert "run the same command again" in message
    assert len(proxy.seen) == 1 + 4


@pytest.mark.network
@pytest.mark.parametrize(
    ("fault", "cause"),
    [("503", "answered 503"), ("truncate", "(?i)incomplete|payload|not enough data"), ("stall", "no whole answer")],
)
def test_an_s3_store_that_never_recovers_is_given_up_with_the_whole_story(
    s3_server, s3_bucket, faulty_proxy, monkeypatch, fault: str, cause: str
) -> None:
    put_object(f"{s3_bucket}/film.mp4", FILM)
    proxy = faulty_proxy(s3_server.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    with open_place(Place(uri=f"{s3_bucket}/film.mp4"), retry=policy_for(fault)) as reader:
        proxy.faults += [fault] * 50
        with pytest.raises(PlaceError, match=cause) as caught:
            reader.read_at(1000, 50_000)
    assert f"reading bytes 1000 to 51000 of {s3_bucket}/film.mp4 failed 4 times" in str(caught.value)
    assert proxy.seen == ["HEAD", *["GET"] * 4]


@pytest.mark.network
def test_a_conditional_write_whose_answer_was_lost_knows_that_it_won(
    s3_server, s3_bucket, faulty_proxy, monkeypatch
) -> None:
    """The proxy passes the PUT on and loses the answer: the second PUT finds our own object, which is no defeat."""
    proxy = faulty_proxy(s3_server.url)
    proxy.lose_answers_to_puts = 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    assert put_if_absent(f"{s3_bucket}/1.json", b"mine") is True
    assert put_if_absent(f"{s3_bucket}/1.json", b"mine") is False
    assert proxy.seen == ["PUT", "PUT", "HEAD", "PUT", "HEAD"]


def test_waits_grow_are_drawn_at_random_and_are_bounded() -> None:
    policy = RetryPolicy(first_wait_seconds=1, longest_wait_seconds=8)
    for tries, full in enumerate([1, 2, 4, 8, 8, 8], start=1):
        waits = [policy.wait_seconds(tries) for _ in range(200)]
        assert full / 2 <= min(waits) < max(waits) <= full
        assert len(set(waits)) > 100
    assert policy.wait_seconds(1, asked_seconds=5) == 5
    assert policy.wait_seconds(1, asked_seconds=86_400) == 8


def test_other_errors_are_not_tried_again() -> None:
    counter, calls = ReadCounter(), []

    def broken() -> None:
        calls.append(1)
        raise PlaceError("broken")

    with pytest.raises(PlaceError, match=r"^broken$"):
        with_retries(broken, what="reading", policy=QUICK, counter=counter)
    assert (len(calls), counter.retries) == (1, 0)


def test_giving_up_takes_as_long_as_the_waits_say() -> None:
    def failing() -> None:
        raise TransientError("503")

    began = time.monotonic()
    policy = RetryPolicy(tries=3, first_wait_seconds=0.1, longest_wait_seconds=0.1)
    with pytest.raises(PlaceError, match="failed 3 times"):
        with_retries(failing, what="reading", policy=policy, counter=ReadCounter())
    assert time.monotonic() - began >= 0.1
