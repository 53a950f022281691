"""What AWS answers on a machine at its metadata address: nothing, until a file says that the machine is taken back.

    python metadata_server.py FILE

As version 2 of that service: whoever brings no session token is refused. Port 80 of 169.254.169.254, which the machine
must have; it is the machine's own, as in a cloud.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ADDRESS = "169.254.169.254"
TOKEN = "of-this-session"


class Metadata(BaseHTTPRequestHandler):
    """`FILE` is what spot/instance-action says."""

    action: Path

    def do_PUT(self) -> None:
        lifetime = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self._reply(200 if self.path == "/latest/api/token" and lifetime else 400, TOKEN)

    def do_GET(self) -> None:
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self._reply(401, "unauthorized")
        elif self.path == "/latest/meta-data/spot/instance-action" and self.action.exists():
            self._reply(200, self.action.read_text())
        else:
            self._reply(404, "not found")

    def _reply(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None: ...


if __name__ == "__main__":
    Metadata.action = Path(sys.argv[1])
    ThreadingHTTPServer((ADDRESS, 80), Metadata).serve_forever()
