"""The metadata address of a test's EC2 machine, as a program of that machine: credentials, and the notice of its end.

    python -I -S aws_metadata.py FOLDER

Version 2 only, as the files under cluster/vm require: without a session token, got by PUT, nothing is told. The machine
is whoever `FOLDER/role` names, and is told to go once `FOLDER/notice` says when. Standard library only.
"""

from __future__ import annotations

import json
import secrets
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ADDRESS = "169.254.169.254"
_TOKEN = secrets.token_hex(16)


class Metadata(BaseHTTPRequestHandler):
    """One question."""

    folder: Path
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        """A session token."""
        self._say(200 if self.path == "/latest/api/token" else 404, _TOKEN)

    def do_GET(self) -> None:
        """Anything else."""
        if self.headers.get("X-aws-ec2-metadata-token") != _TOKEN:
            return self._say(401, "wanted a token")
        return self._say(*self._answer(self.path.rstrip("/").removeprefix("/latest/")))

    def _answer(self, path: str) -> tuple[int, str]:
        role = (self.folder / "role").read_text()
        if path == "meta-data/iam/security-credentials":
            return 200, role
        if path == f"meta-data/iam/security-credentials/{role}":
            keys = {"AccessKeyId": f"{role}-key", "SecretAccessKey": "none", "Token": "none"}
            whose = {"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z"}
            return 200, json.dumps({**whose, **keys, "Expiration": "2099-01-01T00:00:00Z"})
        notice = self.folder / "notice"
        if path == "meta-data/spot/instance-action" and notice.exists():
            return 200, notice.read_text()
        return 404, "not here"

    def _say(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("X-aws-ec2-metadata-token-ttl-seconds", "21600")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """In silence."""


if __name__ == "__main__":
    Metadata.folder = Path(sys.argv[1])
    ThreadingHTTPServer((ADDRESS, 80), Metadata).serve_forever()
