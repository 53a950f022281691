"""The clients: one per process and configuration, from the environment; a missing extra is named."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cineray.errors import CinerayError, PlaceRefused
from cineray.storage import filesystem
from cineray.storage.filesystems import azure_account


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [
        ("s3://b/k", "s3fs", "s3"),
        ("gs://b/k", "gcsfs", "gcs"),
        ("abfs://c@acc.dfs.core.windows.net/k", "adlfs", "azure"),
        ("hf://datasets/org/name/k", "huggingface_hub", "hf"),
    ],
)
def test_a_missing_extra_is_named_with_the_command(uri: str, package: str, extra: str) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None  # as if it were not installed
from cineray.errors import CinerayError
from cineray.records import Place
from cineray.storage import filesystem, open_place, list_objects
for act in (lambda: open_place(Place(uri={uri!r})), lambda: list(list_objects({uri!r})), lambda: filesystem({uri!r})):
    try:
        act()
    except CinerayError as error:
        print(str(error).partition(" (")[0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    scheme = uri.partition(":")[0]
    assert done.stdout == f"reading {scheme}:// needs {package}: pip install 'cineray[{extra}]'\n" * 3


def test_one_client_for_each_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://one.example.com")
    one = filesystem("s3://bucket/a")
    assert filesystem("s3://other/b") is one
    assert one.endpoint_url == "http://one.example.com"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://two.example.com")
    assert filesystem("s3://bucket/a").endpoint_url == "http://two.example.com"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another key")
    assert filesystem("s3://bucket/a") is not one


def test_web_addresses_and_blobs_have_no_file_system() -> None:
    for uri in ("https://host/x", "lance+/t.lance?version=1&column=c&row=0"):
        with pytest.raises(PlaceRefused, match="has no file system"):
            filesystem(uri)
    assert filesystem("/").protocol == ("file", "local")


def test_the_azure_account_comes_from_the_address_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    assert azure_account("abfs://c@acc.dfs.core.windows.net/k") == "acc"
    with pytest.raises(CinerayError, match="names no storage account"):
        azure_account("abfs://c/k")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "named")
    assert azure_account("abfs://c/k") == "named"
