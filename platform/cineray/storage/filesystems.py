"""The clients of object stores, made from the environment. A uri goes in; a connected fsspec file system comes out.

One client per process and configuration: never one inherited over a fork, whose event loop thread is gone, and never a
stale one after the environment changed. Listings are not cached: other processes write to the same lake.
"""

from __future__ import annotations

import importlib
import os
import threading
from typing import TYPE_CHECKING, Any

from cineray.errors import CinerayError, PlaceRefused
from cineray.storage.uri import scheme_of, split_bucket

if TYPE_CHECKING:
    import fsspec

# scheme -> (module, class, the extra that brings it)
_CLIENTS: dict[str, tuple[str, str, str]] = {
    "file": ("fsspec.implementations.local", "LocalFileSystem", ""),
    "s3": ("s3fs", "S3FileSystem", "s3"),
    "gs": ("gcsfs.core", "GCSFileSystem", "gcs"),
    "abfs": ("adlfs", "AzureBlobFileSystem", "azure"),
    "hf": ("huggingface_hub", "HfFileSystem", "hf"),
}

_SETTINGS = ("AWS_", "GOOGLE_", "AZURE_", "HF_")
_made: dict[tuple[object, ...], fsspec.AbstractFileSystem] = {}
_lock = threading.Lock()
# A fork may happen while another thread holds the lock, and that thread is not in the child to let it go.
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


def filesystem(uri: str, *, single_attempt: bool = False) -> fsspec.AbstractFileSystem:
    """The fsspec file system of this uri. With `single_attempt` it does not retry by itself, if it can be told."""
    scheme = scheme_of(uri)
    if scheme not in _CLIENTS:
        raise PlaceRefused(f"{uri!r} has no file system to list or write; wanted a local path, s3, gs, abfs or hf")
    options = _options(scheme, uri, single_attempt=single_attempt)
    # A client keeps the credentials that it found when it was made, so they are part of the key.
    settings = sorted(item for item in os.environ.items() if item[0].startswith(_SETTINGS))
    key = (os.getpid(), scheme, repr(sorted(options.items())), repr(settings))
    with _lock:
        if key not in _made:
            client = _import_client(scheme)
            _made[key] = client(skip_instance_cache=True, use_listings_cache=False, **options)
        return _made[key]


def s3_endpoint() -> str:
    """The endpoint that the environment names for S3, or nothing for Amazon's own."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def s3_region() -> str:
    """The region that the environment names; other stores than Amazon's want one to be named, and ignore which."""
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return named or ("us-east-1" if s3_endpoint() else "")


def s3_anonymous() -> bool:
    """Whether requests go unsigned, as public buckets want from those who have no credentials."""
    return os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in ("1", "true", "yes")


def azure_account(uri: str) -> str:
    """The storage account: from the uri's host, else from the environment."""
    host = split_bucket(uri)[0].partition("@")[2]
    account = host.partition(".")[0] or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    if not account:
        raise CinerayError(
            f"{uri!r} names no storage account; write abfs://container@account.dfs.core.windows.net/path "
            "or set AZURE_STORAGE_ACCOUNT_NAME"
        )
    return account


def missing_extra(scheme: str, error: ImportError) -> CinerayError:
    """What to install so that this kind of place can be reached."""
    module, _, extra = _CLIENTS.get(scheme, ("", "", ""))
    package = module.partition(".")[0] or scheme
    return CinerayError(f"reading {scheme}:// needs {package}: pip install 'cineray[{extra}]' ({error})")


def _import_client(scheme: str) -> Any:
    module, name, _ = _CLIENTS[scheme]
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise missing_extra(scheme, error) from error


def _options(scheme: str, uri: str, *, single_attempt: bool) -> dict[str, Any]:
    """What the client is told; the rest it finds in the environment by itself."""
    if scheme == "s3":
        return _s3_options(single_attempt=single_attempt)
    if scheme == "gs" and (endpoint := os.environ.get("STORAGE_EMULATOR_HOST", "")):
        return {"endpoint_url": endpoint, "token": "anon"}
    if scheme == "abfs":
        named_elsewhere = "@" not in split_bucket(uri)[0] and "AZURE_STORAGE_CONNECTION_STRING" in os.environ
        return {} if named_elsewhere else {"account_name": azure_account(uri)}
    return {}


def _s3_options(*, single_attempt: bool) -> dict[str, Any]:
    config: dict[str, Any] = {"connect_timeout": 10, "read_timeout": 60, "max_pool_connections": 64}
    options: dict[str, Any] = {"config_kwargs": config}
    if single_attempt:
        config["retries"] = {"total_max_attempts": 1}
    if s3_region():
        options["client_kwargs"] = {"region_name": s3_region()}
    if s3_endpoint():
        options["endpoint_url"] = s3_endpoint()
        config["s3"] = {"addressing_style": "path"}
        # Checksum trailers are Amazon's; other stores answer them with errors, or store them as content.
        config["request_checksum_calculation"] = "when_required"
        config["response_checksum_validation"] = "when_required"
    if s3_anonymous():
        options["anon"] = True
    return options
