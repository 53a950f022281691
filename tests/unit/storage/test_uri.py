"""How places are spelled: any spelling in, one canonical spelling out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cineray.errors import PlaceRefused
from cineray.storage import is_remote, join_uri, lance_options, lance_uri, normalise_uri


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("/data/100%25 #1?.mp4", "/data/100%25 #1?.mp4"),
        ("/data//a/./b/../c.mp4", "/data/a/c.mp4"),
        ("file:///data/a%20b.mp4", "/data/a b.mp4"),
        ("FILE://localhost/data/50%.mp4", "/data/50%.mp4"),
        ("file:///bad%FF.mp4", "/bad\udcff.mp4"),
        (Path("/data/x"), "/data/x"),
        ("s3://b/a b/?versionId=3#%41.mp4", "s3://b/a b/?versionId=3#%41.mp4"),
        ("S3A://b/a//b/", "s3://b/a//b"),
        ("s3://b", "s3://b"),
        ("gcs://b/k", "gs://b/k"),
        ("az://container/k", "abfs://container/k"),
        ("abfss://c@acc.dfs.core.windows.net/k", "abfs://c@acc.dfs.core.windows.net/k"),
        ("abfs://c@acc.blob.core.windows.net/k", "abfs://c@acc.dfs.core.windows.net/k"),
        ("hf://datasets/org/name@main/a.mp4", "hf://datasets/org/name@main/a.mp4"),
        ("HTTPS://Example.COM:443/A%20b?X=1#part", "https://example.com/A%20b?X=1"),
        ("http://example.com", "http://example.com/"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("lance+/data/./t.lance?version=3&column=v&row=5", "lance+/data/t.lance?version=3&column=v&row=5"),
        ("lance+s3a://b/t.lance?version=3&column=v&row=5", "lance+s3://b/t.lance?version=3&column=v&row=5"),
    ],
)
def test_spellings_have_one_canonical_form_and_it_is_stable(given: str | Path, canonical: str) -> None:
    assert normalise_uri(given) == canonical
    assert normalise_uri(canonical) == canonical


def test_relative_names_are_taken_from_the_base_or_the_working_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert normalise_uri("a/b.mp4") == f"{tmp_path}/a/b.mp4"
    assert normalise_uri("a/b.mp4", base="/lake") == "/lake/a/b.mp4"
    assert normalise_uri("../b 100%.mp4", base="s3://bucket/manifests") == "s3://bucket/b 100%.mp4"
    assert normalise_uri("b.mp4", base="https://host/dir/") == "https://host/dir/b.mp4"
    assert normalise_uri("s3://other/x", base="s3://bucket/manifests") == "s3://other/x"
    assert normalise_uri("lance+folder/x") == f"{tmp_path}/lance+folder/x"
    assert normalise_uri(os.fsdecode(b"\xff.mp4")) == os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")
    with pytest.raises(PlaceRefused, match="lead out of s3://bucket"):
        normalise_uri("../../b.mp4", base="s3://bucket/manifests")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("ftp://host/x", "has the scheme 'ftp'; places are a local path, file://, s3://"),
        ("javascript+x://y", "has the scheme"),
        ("", "names no place"),
        ("/a\0b", "zero byte"),
        ("s3:///key", "names no bucket"),
        ("file://server/share", "on the host 'server'"),
        ("https://user:secret@host/x", "holds a user name or a password"),
        ("http:///x", "names no host"),
        ("http://host:99999/x", "no web address"),
        ("abfs://c@evil.example.com/k", "has the host 'evil.example.com'"),
        ("lance+/data/t.lance", "names no blob"),
    ],
)
def test_what_is_no_place_is_refused_by_name(given: str, says: str) -> None:
    with pytest.raises(PlaceRefused, match=says):
        normalise_uri(given)
    assert "secret" not in says


def test_joining_stays_inside() -> None:
    assert join_uri("s3://b/lake/", "versions", "1.json") == "s3://b/lake/versions/1.json"
    assert join_uri("/", "x") == "/x"
    assert join_uri("/lake", "a/b", "", "c d%") == "/lake/a/b/c d%"
    for part in ("../x", "/etc", "a/../../b", "a\0"):
        with pytest.raises(PlaceRefused, match="lead out of"):
            join_uri("/lake", part)


def test_what_needs_a_network_is_remote() -> None:
    assert [
        is_remote(uri) for uri in ("/x", "file:///x", "s3://b/k", "https://h/", "lance+/t?x", "lance+s3://b/t?x")
    ] == [
        False,
        False,
        True,
        True,
        False,
        True,
    ]


def test_lance_is_told_what_our_own_reads_know(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_"))]:
        monkeypatch.delenv(name)
    assert [lance_options("/lake"), lance_options("s3://b/lake"), lance_options("gs://b/lake")] == [{}, {}, {}]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://all.example.com")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://store.example.com:9000")
    assert lance_options("s3://b/lake") == {
        "aws_region": "us-east-1",
        "aws_endpoint": "http://store.example.com:9000",
        "aws_virtual_hosted_style_request": "false",
        "allow_http": "true",
    }
    uri = "abfs://c@acc.dfs.core.windows.net/lake"
    assert (lance_uri(uri), lance_options(uri)) == ("abfss://c@acc.dfs.core.windows.net/lake", {"account_name": "acc"})
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "named")
    assert (lance_uri("abfs://c/lake"), lance_options("abfs://c/lake")) == ("az://c/lake", {"account_name": "named"})
    assert lance_uri("s3://b/lake") == "s3://b/lake"
