"""How a place is spelled. Any spelling that people use goes in, one canonical spelling comes out; nothing is opened.

    plain path, file://     ->  /absolute/path              never percent-decoded unless it came as file://
    s3, s3a, s3n            ->  s3://bucket/key             the key is taken byte for byte: '?', '#', '%' belong to it
    gs, gcs                 ->  gs://bucket/key
    abfs, abfss, az, azure  ->  abfs://container/path       or abfs://container@account.dfs.core.windows.net/path
    hf                      ->  hf://datasets/org/name/path
    http, https             ->  scheme and host in lower case, no default port, no fragment
    lance+<uri of a table>?version=V&column=C&row=R         one blob of a Lance table (storage/lance_blob.py)

The promise: two canonical spellings are equal if they name the same place, and a scheme that is not listed is refused.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

from cineray.errors import PlaceRefused

ALIASES = {
    "s3": "s3",
    "s3a": "s3",
    "s3n": "s3",
    "gs": "gs",
    "gcs": "gs",
    "abfs": "abfs",
    "abfss": "abfs",
    "az": "abfs",
    "azure": "abfs",
    "hf": "hf",
    "http": "http",
    "https": "https",
}
ALLOWED = "a local path, file://, s3://, gs://, abfs:// (az://), https://, http://, hf:// or lance+<table>"
LANCE_PREFIX = "lance+"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def scheme_of(uri: str) -> str:
    """`file` for local paths, `lance` for a blob in a Lance table, else the canonical scheme; others are refused."""
    if _is_lance(uri):
        return "lance"
    found = _SCHEME.match(uri)
    if found is None or found[1].lower() == "file":
        return "file"
    scheme = ALIASES.get(found[1].lower())
    if scheme is None:
        raise PlaceRefused(f"{uri!r} has the scheme {found[1]!r}; places are {ALLOWED}")
    return scheme


def is_remote(uri: str) -> bool:
    """False for local paths and for blobs of local Lance tables; True for everything that needs a network."""
    if scheme_of(uri) == "lance":
        return is_remote(uri[len(LANCE_PREFIX) :])
    return scheme_of(uri) != "file"


def normalise_uri(text_or_path: str | os.PathLike[str], *, base: str | None = None) -> str:
    """The canonical spelling of a place; a relative path is taken from `base` (a folder) or the working folder."""
    text = os.fsdecode(text_or_path)
    if not text or "\0" in text:
        raise PlaceRefused(f"{text!r} names no place: it is empty or holds a zero byte; wanted {ALLOWED}")
    if not isinstance(text_or_path, str):
        return os.path.abspath(text)
    scheme = scheme_of(text)
    if scheme == "lance":
        table, mark, query = text[len(LANCE_PREFIX) :].rpartition("?")
        if not mark:
            raise PlaceRefused(f"{text!r} names no blob; wanted {LANCE_PREFIX}<table>?version=V&column=C&row=R")
        return LANCE_PREFIX + normalise_uri(table) + mark + query
    if scheme == "file":
        return _local(text, base)
    rest = text.split("://", 1)[1]
    if scheme in _DEFAULT_PORTS:
        return _web_address(scheme, rest, text)
    return f"{scheme}://{_bucket_and_key(scheme, rest, text)}"


def join_uri(base: str, *parts: str) -> str:
    """`join_uri("s3://b/lake", "versions", "1.json")`; a part that would leave `base` is refused."""
    joined = base if base == "/" else base.rstrip("/")
    for part in parts:
        steps = part.strip("/").split("/")
        if part.startswith("/") or ".." in steps or "\0" in part:
            raise PlaceRefused(f"{part!r} would lead out of {base!r}; wanted a relative name without '..'")
        if part.strip("/"):
            joined = f"{joined.rstrip('/')}/{part.strip('/')}"
    return joined


def split_bucket(uri: str) -> tuple[str, str]:
    """`s3://bucket/a/b` -> (`bucket`, `a/b`): nothing in the key is special."""
    bucket, _, key = uri.split("://", 1)[1].partition("/")
    return bucket, key


def _is_lance(text: str) -> bool:
    """A folder of one's own may be called `lance+x`; only a whole path or address after the prefix makes it ours."""
    rest = text.removeprefix(LANCE_PREFIX)
    return rest != text and (rest.startswith("/") or _SCHEME.match(rest) is not None)


def _local(text: str, base: str | None) -> str:
    if text[:5].lower() == "file:" and _SCHEME.match(text):
        host, slash, path = text.split("://", 1)[1].partition("/")
        if host not in ("", "localhost") or not slash:
            raise PlaceRefused(f"{text!r} names a file on the host {host!r}; wanted file:///absolute/path")
        return os.path.abspath("/" + os.fsdecode(unquote_to_bytes(path)))
    if base is None or os.path.isabs(text):
        return os.path.abspath(text)
    if scheme_of(base) == "file":
        return os.path.abspath(os.path.join(base, text))
    return _below(base, text)


def _below(base: str, relative: str) -> str:
    """A relative name under a remote folder; `..` steps up within the bucket or the host, and not out of it."""
    scheme, rest = base.split("://", 1)
    root, *steps = [part for part in rest.rstrip("/").split("/") if part] + relative.split("/")
    kept: list[str] = []
    for step in steps:
        if step == ".." and not kept:
            raise PlaceRefused(f"{relative!r} would lead out of {scheme}://{root}; wanted a name inside it")
        if step == "..":
            kept.pop()
        elif step not in ("", "."):
            kept.append(step)
    return normalise_uri(f"{scheme}://{root}/{'/'.join(kept)}")


def _bucket_and_key(scheme: str, rest: str, text: str) -> str:
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise PlaceRefused(f"{text!r} names no bucket; wanted {scheme}://bucket/key")
    if scheme == "abfs" and "@" in bucket:
        container, _, host = bucket.partition("@")
        if not re.fullmatch(r"[a-z0-9]+\.(dfs|blob)\.core\.(windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)", host):
            raise PlaceRefused(f"{text!r} has the host {host!r}; wanted <account>.dfs.core.windows.net")
        bucket = f"{container}@{host.replace('.blob.', '.dfs.', 1)}"
    return f"{bucket}/{key}".rstrip("/")


def _web_address(scheme: str, rest: str, text: str) -> str:
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise PlaceRefused(f"{text!r} is no web address ({error}); wanted {scheme}://host/path") from error
    if not host:
        raise PlaceRefused(f"{text!r} names no host; wanted {scheme}://host/path")
    if "@" in parts.netloc:
        raise PlaceRefused(
            f"the address of {host!r} holds a user name or a password, which would be written into the lake; "
            "wanted an address without them, for example a presigned one"
        )
    name = f"[{host}]" if ":" in host else host
    place = name if port in (None, _DEFAULT_PORTS[scheme]) else f"{name}:{port}"
    return urlunsplit((scheme, place, parts.path or "/", parts.query, ""))
