"""A fake AWS as a program of a test's machine: moto's EC2, IAM and S3 at one address, which notes who asked for what.

    python aws_server.py ADDRESS PORT

Everybody on the network asks it over HTTP, as of AWS itself. The test, which is not on that network, asks by a line on
standard input, `{"service": "ec2", "call": "describe_instances", "told": {...}}`, and gets its answer as a line on
standard output; the call `asked` tells the notes: who (by the access key that signed) and what (the action).
"""

from __future__ import annotations

import io
import json
import re
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any

REGION = "eu-central-1"
TEST_KEY = "the-test"
_MOST_BYTES = 1 << 16
"""A question of EC2 is smaller; what is put into S3 is not looked at."""


class Notes:
    """A web application around another: what is asked is noted, and answered by the other."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application, self._lock = application, threading.Lock()
        self.asked: dict[tuple[str, str], int] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """As of WSGI."""
        who = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        note = (who[1] if who else "", _action(environ))
        with self._lock:
            self.asked[note] = self.asked.get(note, 0) + 1
        return self._application(environ, start_response)


def _action(environ: dict[str, Any]) -> str:
    """`ec2:RunInstances`; for S3, whose questions are addresses, `s3:GET /bucket/key`."""
    service = re.search(r"Credential=[^/]+/[^/]+/[^/]+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    if service is None or service[1] == "s3":
        return f"s3:{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length) if length < _MOST_BYTES else b""
    environ["wsgi.input"] = io.BytesIO(body)
    named = urllib.parse.parse_qs(body.decode("utf-8", "replace")).get("Action", ["?"])
    return f"{service[1]}:{named[0]}"


def serve(address: str, port: int) -> Notes:
    """In threads of this process."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept

        def log(self, *_: Any) -> None:
            """Notes are enough."""

    notes = Notes(DomainDispatcherApplication(create_backend_app))
    server = make_server(address, port, notes, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return notes


def answer_lines(notes: Notes, url: str) -> None:
    """Until standard input ends."""
    import boto3

    keys = {"aws_access_key_id": TEST_KEY, "aws_secret_access_key": "none", "region_name": REGION}
    clients: dict[str, Any] = {}
    print(json.dumps("up"), flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        if told["call"] == "asked":
            answer: Any = [[who, what, times] for (who, what), times in dict(notes.asked).items()]
        else:
            service = told["service"]
            client = clients.setdefault(service, None) or boto3.client(service, endpoint_url=url, **keys)
            clients[service] = client
            answer = getattr(client, told["call"])(**told["told"])
            answer.pop("ResponseMetadata", None)
        print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    answer_lines(serve(sys.argv[1], int(sys.argv[2])), f"http://{sys.argv[1]}:{sys.argv[2]}")
