"""A fake AWS as a program of a test's machine: moto's EC2, IAM and S3 at one address, which notes who asked for what,
and has no more machines of a kind when it is told so.

    python aws_server.py ADDRESS PORT

Everybody on the network asks it over HTTP, as of AWS itself. The test, which is not on that network, asks by a line on
standard input, `{"service": "ec2", "call": "describe_instances", "told": {...}}`, and gets its answer as a line on
standard output. The call `asked` tells the notes: who (by the access key that signed) and what (the action). `sell_out`
with a type and a market (`spot` or `on-demand`) makes EC2 refuse that kind from then on, which is noted as `refused`.
"""

from __future__ import annotations

import html
import io
import json
import re
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

REGION = "eu-central-1"
TEST_KEY = "the-test"
_MOST_BYTES = 1 << 16
"""A question of EC2 is smaller; what is put into S3 is not looked at."""


class Desk:
    """A web application around another: what is asked is noted, then refused or answered by the other."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application, self._lock = application, threading.Lock()
        self.asked: dict[tuple[str, str], int] = {}
        self.changes: list[tuple[str, dict[str, str]]] = []
        """What EC2 was asked to make, name or end, and what it was told; not S3, and no looks."""
        self.sold_out: set[tuple[str, str]] = set()
        """(type, market)."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """As of WSGI."""
        who = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        action, told = _question(environ)
        for what in _deletions(environ) or [action]:
            self._note(who[1] if who else "", what)
        if action.startswith("ec2:") and not action.startswith("ec2:Describe"):
            self.changes.append((action, told))
        wanted = (told.get("InstanceType", ""), told.get("InstanceMarketOptions.MarketType", "on-demand"))
        if action != "ec2:RunInstances" or wanted not in self.sold_out:
            return self._application(environ, start_response)
        self._note("refused", wanted[0])
        start_response("500 Internal Server Error", [("Content-Type", "text/xml")])
        return [_NONE_LEFT.format(type=wanted[0]).encode()]

    def _note(self, who: str, what: str) -> None:
        with self._lock:
            self.asked[who, what] = self.asked.get((who, what), 0) + 1


_NONE_LEFT = """<?xml version="1.0" encoding="UTF-8"?>
<Response><Errors><Error><Code>InsufficientInstanceCapacity</Code>
<Message>There is no {type} capacity available that matches your request.</Message>
</Error></Errors><RequestID>0</RequestID></Response>"""


def _question(environ: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """`ec2:RunInstances` and what it is told; for S3, whose questions are addresses, `s3:GET /bucket/key`."""
    service = re.search(r"Credential=[^/]+/[^/]+/[^/]+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    if service is None or service[1] == "s3":
        return f"s3:{environ['REQUEST_METHOD']} {environ['PATH_INFO']}", {}
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length) if length < _MOST_BYTES else b""
    environ["wsgi.input"] = io.BytesIO(body)
    told = dict(urllib.parse.parse_qsl(body.decode("utf-8", "replace")))
    return f"{service[1]}:{told.get('Action', '?')}", told


def _deletions(environ: dict[str, Any]) -> list[str]:
    """Of a question that deletes many objects of a bucket at once, one for each."""
    if environ["REQUEST_METHOD"] != "POST" or not environ.get("QUERY_STRING", "").startswith("delete"):
        return []
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    environ["wsgi.input"] = io.BytesIO(body)
    keys = [html.unescape(one) for one in re.findall("<Key>([^<]*)</Key>", body.decode())]
    return [f"s3:DELETE {environ['PATH_INFO'].rstrip('/')}/{key}" for key in keys]


@contextmanager
def serving(address: str, port: int) -> Iterator[tuple[Desk, str]]:
    """In threads of this process; port 0 is a free one. Its desk, and its URL."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept

        def log(self, *_: Any) -> None:
            """Notes are enough."""

    desk = Desk(DomainDispatcherApplication(create_backend_app))
    server = make_server(address, port, desk, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield desk, f"http://{address}:{server.port}"
    finally:
        server.shutdown()
        server.server_close()


def answer_lines(desk: Desk, url: str) -> None:
    """Until standard input ends."""
    import boto3

    keys = {"aws_access_key_id": TEST_KEY, "aws_secret_access_key": "none", "region_name": REGION}
    clients: dict[str, Any] = {}
    print(json.dumps("up"), flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        answer: Any = None
        if told["call"] == "asked":
            answer = [[who, what, times] for (who, what), times in dict(desk.asked).items()]
        elif told["call"] == "sell_out":
            desk.sold_out.add((told["told"]["type"], told["told"]["market"]))
        else:
            service = told["service"]
            client = clients.setdefault(service, None) or boto3.client(service, endpoint_url=url, **keys)
            clients[service] = client
            answer = getattr(client, told["call"])(**told["told"])
            answer.pop("ResponseMetadata", None)
        print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    with serving(sys.argv[1], int(sys.argv[2])) as served:
        answer_lines(*served)
