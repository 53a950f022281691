"""Servers on this machine for tests: S3, Google's store, a web server, and a proxy that breaks answers on purpose.

All listen on loopback, on a port the system chose, and end with the test session. tests/conftest.py makes the fixtures
known to every test. The S3 and GCS ones are real server processes; their buckets are new for each test, and set the
environment variables that a user would set.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass(frozen=True)
class ServerProcess:
    """A server process, its address, and the log that it writes itself."""

    url: str
    log: Path

    def requests(self) -> list[str]:
        """The request lines of its log, as `GET /bucket/key HTTP/1.1`."""
        plain = re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text(errors="replace"))
        return re.findall(r'"((?:GET|PUT|HEAD|POST|DELETE) [^"]*)"', plain)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """moto's S3 server, in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    yield from _serve(command, port, tmp_path_factory.mktemp("s3_server") / "log")


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """gcp-storage-emulator, in a process of its own, behind a proxy that adds the conditions which it ignores."""
    port = free_port()
    start = ["start", "--host=127.0.0.1", f"--port={port}", "--in-memory"]
    command = [sys.executable, "-m", "gcp_storage_emulator", *start]
    for server in _serve(command, port, tmp_path_factory.mktemp("gcs_server") / "log"):
        with _listening(GenerationConditions(server.url).answer) as url:
            yield ServerProcess(url=url, log=server.log)


@pytest.fixture
def s3_bucket(s3_server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://<a new bucket>`, with the environment of a user whose store has this endpoint."""
    use_s3_endpoint(monkeypatch, s3_server.url)
    name = f"test-{uuid.uuid4().hex[:12]}"
    _ask("PUT", f"{s3_server.url}/{name}")
    return f"s3://{name}"


@pytest.fixture
def gcs_bucket(gcs_server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> str:
    """`gs://<a new bucket>` on the emulator."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    name = f"test-{uuid.uuid4().hex[:12]}"
    _ask("POST", f"{gcs_server.url}/storage/v1/b?project=test", b'{"name": "%s"}' % name.encode())
    return f"gs://{name}"


def use_s3_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """What a user sets for a store of their own."""
    settings = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@dataclass
class WebServer:
    """A web server over a dictionary: ranges, ETags, redirects; `ignores_ranges` makes it one of the bad ones."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    ignores_ranges: bool = False
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    """(path, Range header) of every request."""
    bytes_sent: int = 0
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.seen.append((request.path, wanted))
        if request.path in self.redirects:
            return _reply(request, 302, {"Location": self.redirects[request.path]}, b"")
        if request.path not in self.files:
            return _reply(request, 404, {}, b"not here")
        data = self.files[request.path]
        headers = {"ETag": f'"{hash(data):x}"', "Accept-Ranges": "none" if self.ignores_ranges else "bytes"}
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted or "")
        if not found or self.ignores_ranges:
            return self._send(request, 200, headers, data)
        start, stop = int(found[1]), min(int(found[2]) + 1, len(data))
        if start >= len(data):
            return _reply(request, 416, {"Content-Range": f"bytes */{len(data)}"}, b"")
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return self._send(request, 206, headers, data[start:stop])

    def _send(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes) -> None:
        request.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            request.send_header(name, value)
        request.end_headers()
        for at in range(0, len(data), 1 << 16):
            request.wfile.write(data[at : at + (1 << 16)])
            self.bytes_sent += len(data[at : at + (1 << 16)])


@pytest.fixture
def web_server() -> Iterator[WebServer]:
    """A new WebServer, running; put files into `web_server.files["/name"]`."""
    server = WebServer()
    with _listening(server.answer) as server.url:
        yield server


@dataclass
class FaultyProxy:
    """Passes requests on to another server, and answers ranged GETs with what `faults` says, one fault a request.

    503          an answer of this status      truncate   half of the body, then the end of the connection
    reset        a TCP reset before an answer  cut        half of the body, then a TCP reset
    stall        nothing at all                drip       the body, byte by byte, for ever too slowly
    slow         the whole answer, a fifth of a second later

    `weather` says instead for every request of any kind, by its method and path, which fault it meets, if any.
    """

    upstream: str
    faults: list[str] = field(default_factory=list)
    weather: Callable[[str, str], str] | None = None
    met: list[str] = field(default_factory=list)
    """The faults that requests met."""
    lose_answers_to_puts: int = 0
    """How many PUTs are passed on and then answered with a reset."""
    seen: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.seen.append(request.command)
        ranged = request.command == "GET" and request.headers.get("Range") is not None
        fault = self.faults.pop(0) if ranged and self.faults else ""
        if self.weather is not None:
            fault = self.weather(request.command, request.path)
        self.met += [fault] * bool(fault)
        if fault == "reset":
            return _reset(request)
        if fault == "stall":
            self.over.wait(20)
            return _reset(request)
        if fault == "slow":
            self.over.wait(0.2)
        if fault.isdecimal():
            request.rfile.read(int(request.headers.get("Content-Length") or 0))
            return _reply(request, int(fault), {"Retry-After": "0"}, b"")
        return self._pass_on(request, fault)

    def _pass_on(self, request: BaseHTTPRequestHandler, fault: str) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        host = self.upstream.removeprefix("http://")
        headers = {name: value for name, value in request.headers.items() if name != "Connection"}
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request(request.command, request.path, body or None, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if request.command == "PUT" and self.lose_answers_to_puts:
            self.lose_answers_to_puts -= 1
            _reset(request)
            return
        request.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                request.send_header(name, value)
        length = answer.getheader("Content-Length") if request.command == "HEAD" else str(len(data))
        request.send_header("Content-Length", length or "0")
        request.send_header("Connection", "close")
        request.end_headers()
        self._body(request, data, fault)

    def _body(self, request: BaseHTTPRequestHandler, data: bytes, fault: str) -> None:
        if fault == "drip":
            for at in range(len(data)):
                request.wfile.write(data[at : at + 1])
                if self.over.wait(0.05):
                    break
            request.close_connection = True
        elif fault in ("truncate", "cut"):
            request.wfile.write(data[: len(data) // 2])
            if fault == "cut":
                _reset(request)
            request.close_connection = True
        else:
            request.wfile.write(data)


@dataclass
class GenerationConditions(FaultyProxy):
    """Google's `ifGenerationMatch`, which the emulator accepts and ignores: compared here, one request at a time."""

    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = urllib.parse.parse_qs(request.path.partition("?")[2]).get("ifGenerationMatch")
        with self.lock:
            body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
            request.rfile = io.BytesIO(body)
            if wanted and self._generation(request.path.partition("?")[0], body) != wanted[0]:
                _reply(request, 412, {"Connection": "close"}, b"")
                request.close_connection = True
            else:
                super().answer(request)
                request.close_connection = True

    def _generation(self, path: str, body: bytes) -> str:
        if path.startswith("/upload/"):
            name = json.loads(re.search(rb"\{.*\}", body)[0])["name"]
            path = f"{path.removeprefix('/upload')}/{urllib.parse.quote(name, safe='')}"
        try:
            with urllib.request.urlopen(self.upstream + path, timeout=20) as answer:
                return str(json.load(answer)["generation"])
        except urllib.error.HTTPError:
            return "0"


@pytest.fixture
def faulty_proxy() -> Iterator[Callable[[str], FaultyProxy]]:
    """`faulty_proxy(upstream_url)` starts a proxy in front of that server."""
    started: list[tuple[FaultyProxy, _Listening]] = []

    def start(upstream: str) -> FaultyProxy:
        proxy = FaultyProxy(upstream)
        listening = _listening(proxy.answer)
        proxy.url = listening.__enter__()
        started.append((proxy, listening))
        return proxy

    yield start
    for proxy, listening in started:
        proxy.over.set()
        listening.__exit__()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class _Listening:
    """A threaded HTTP/1.1 server over one function, for the time of a `with`; its value is the server's url."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def log_message(self, format: str, *arguments: object) -> None:
                """The tests look at `seen`; nothing is printed."""

        for method in ("GET", "PUT", "HEAD", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", lambda request: answer(request))  # noqa: PLW0108 - a function becomes a method
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


_listening = _Listening


def _reply(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes) -> None:
    request.send_response(status)
    for name, value in (headers | {"Content-Length": str(len(data))}).items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(data)


def _reset(request: BaseHTTPRequestHandler) -> None:
    """End the connection with a TCP reset instead of a goodbye."""
    request.wfile.flush()
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()
    request.close_connection = True


def _serve(command: list[str], port: int, log: Path) -> Iterator[ServerProcess]:
    """Start, wait until it listens, and end it with its children."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        _wait_until_listening(process, port, log)
        yield ServerProcess(url=f"http://127.0.0.1:{port}", log=log)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended by itself:\n{log.read_text(errors='replace')}"
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"no server on port {port} after 60 s:\n{log.read_text(errors='replace')}")


def _ask(method: str, url: str, body: bytes = b"") -> None:
    request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        answer.read()
