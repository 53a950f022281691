"""What Lance must be told to reach a store. A uri goes in; Lance's spelling of it and its storage options come out.

Lance has its own clients and reads credentials from the same environment as ours. What it does not read, or reads under
other names, is passed here: so the one setting that works for our reads works for the lake's tables.
"""

from __future__ import annotations

from cineray.storage.filesystems import azure_account, s3_anonymous, s3_endpoint, s3_region
from cineray.storage.uri import scheme_of, split_bucket


def lance_options(uri: str) -> dict[str, str]:
    """`storage_options` for pylance; empty for local tables."""
    scheme = scheme_of(uri)
    if scheme == "s3":
        return _s3_options()
    if scheme == "abfs":
        return {"account_name": azure_account(uri)}
    return {}


def lance_uri(uri: str) -> str:
    """The same place in the spelling that Lance knows; only Azure differs."""
    if scheme_of(uri) != "abfs":
        return uri
    bucket, key = split_bucket(uri)
    return f"abfss://{bucket}/{key}" if "@" in bucket else f"az://{bucket}/{key}"


def _s3_options() -> dict[str, str]:
    options = {}
    if s3_region():
        options["aws_region"] = s3_region()
    if s3_endpoint():
        options["aws_endpoint"] = s3_endpoint()
        options["aws_virtual_hosted_style_request"] = "false"
        if s3_endpoint().startswith("http://"):
            options["allow_http"] = "true"
    if s3_anonymous():
        options["aws_skip_signature"] = "true"
    return options
