"""As much of Kubernetes' API as KubeRay's autoscaler uses: one RayCluster and its pods, over TLS, each patch checked.

    with KubeApi(cluster, check=complaints) as api:
        subprocess.Popen(["ray", "kuberay-autoscaler", ...], env=os.environ | api.environment)
        api.add_pod(pod), api.cluster(), api.patches

Who has no certificate of this server's own making is not let in. A patch is done as the real one does it: on a copy,
which then has to pass `check` whole, or nothing is changed and the answer is 422 with what is wrong. What pods do, and
that there are as many as the RayCluster says, is the operator's work (`kube_cluster.py`).
"""

from __future__ import annotations

import copy
import json
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

Document = dict[str, Any]
Check = Callable[[Document], Sequence[str]]
"""What is wrong with a RayCluster: nothing, or a line for each."""

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Patch:
    """One change that was asked for."""

    at: float
    """Seconds since the server began."""
    operations: tuple[Document, ...]
    refused: tuple[str, ...]
    """Why it was not done."""


class KubeApi:
    """A server of one namespace with one RayCluster. `pods` come and go by `add_pod` and `remove_pod`."""

    def __init__(self, cluster: Document, *, check: Check) -> None:
        self._lock = threading.RLock()
        self._cluster, self._check = copy.deepcopy(cluster), check
        self._pods: dict[str, Document] = {}
        self._version = 1
        self._began = time.monotonic()
        self.name, self.namespace = cluster["metadata"]["name"], cluster["metadata"]["namespace"]
        self.patches: list[Patch] = []
        wrong = check(cluster)
        if wrong:
            raise ValueError(f"the RayCluster {self.name} would not be taken: {'; '.join(wrong)}")
        self._stamp(self._cluster)

    def __enter__(self) -> KubeApi:
        self._folder = tempfile.TemporaryDirectory(prefix="kube-")
        folder = Path(self._folder.name)
        make_certificates(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        context.load_verify_locations(folder / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        self._server = ThreadingHTTPServer((HOST, 0), _handler(self))
        self._server.daemon_threads = True
        # Hands are shaken by each connection's own thread: one that says nothing keeps nobody waiting.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.environment = {
            "KUBERNETES_SERVICE_HOST": HOST,
            "KUBERNETES_SERVICE_PORT_HTTPS": str(self._server.server_address[1]),
            "RAY_KUBERAY_CA_CERT_PATH": str(folder / "ca.crt"),
            "RAY_KUBERAY_CLIENT_CERT_PATH": str(folder / "client.crt"),
            "RAY_KUBERAY_CLIENT_KEY_PATH": str(folder / "client.key"),
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)
        self._folder.cleanup()

    # ---- what the operator does ------------------------------------------------------------------------------------

    def cluster(self) -> Document:
        """The RayCluster as it is now."""
        with self._lock:
            return copy.deepcopy(self._cluster)

    def pods(self) -> dict[str, Document]:
        """The pods by name."""
        with self._lock:
            return copy.deepcopy(self._pods)

    def add_pod(self, pod: Document) -> None:
        """A new pod, or another state of one that there is."""
        with self._lock:
            self._stamp(pod)
            self._pods[pod["metadata"]["name"]] = copy.deepcopy(pod)

    def remove_pod(self, name: str) -> None:
        """As if it had never been."""
        with self._lock:
            self._version += 1
            self._pods.pop(name, None)

    # ---- what clients ask ------------------------------------------------------------------------------------------

    def get(self, path: str, query: dict[str, list[str]]) -> Document | None:
        """The object, or the list of pods, of a path below the namespace."""
        with self._lock:
            kind, _, name = path.partition("/")
            if kind == "rayclusters":
                return copy.deepcopy(self._cluster) if name == self.name else None
            if kind != "pods":
                return None
            if name:
                return copy.deepcopy(self._pods.get(name))
            wanted = dict(one.split("=", 1) for one in query.get("labelSelector", [""])[0].split(",") if one)
            found = [pod for pod in self._pods.values() if wanted.items() <= pod["metadata"]["labels"].items()]
            return {"metadata": {"resourceVersion": str(self._version)}, "items": copy.deepcopy(found)}

    def patch(self, path: str, operations: list[Document]) -> tuple[HTTPStatus, Document]:
        """Change the RayCluster, if what comes out passes."""
        with self._lock:
            if path != f"rayclusters/{self.name}":
                return _status(HTTPStatus.NOT_FOUND, f"{path} is not here")
            made, wrong = patched(self._cluster, operations)
            wrong = wrong or list(self._check(made))
            self.patches.append(Patch(time.monotonic() - self._began, tuple(operations), tuple(wrong)))
            if wrong:
                return _status(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(wrong))
            self._cluster = made
            self._stamp(self._cluster)
            return HTTPStatus.OK, copy.deepcopy(self._cluster)

    def _stamp(self, document: Document) -> None:
        self._version += 1
        document["metadata"]["resourceVersion"] = str(self._version)


def patched(document: Document, operations: list[Document]) -> tuple[Document, list[str]]:
    """A copy after a JSON patch, and what could not be done. Kubernetes lets `replace` add what is not there yet."""
    import jsonpatch
    import jsonpointer

    made = copy.deepcopy(document)
    for one in operations:
        try:
            parent, last = jsonpointer.JsonPointer(one["path"]).to_last(made)
            is_new = one["op"] == "replace" and isinstance(parent, dict) and last not in parent
            made = jsonpatch.apply_patch(made, [{**one, "op": "add"} if is_new else one])
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, KeyError) as error:
            return document, [f"{json.dumps(one)} cannot be done: {error}"]
    return made, []


def built_in_check(document: Document) -> list[str]:
    """What KubeRay's schema asks of what an autoscaler changes, for where its CRDs are not at hand."""
    wrong = []
    for group in document["spec"]["workerGroupSpecs"]:
        name = group.get("groupName")
        for field in ("replicas", "minReplicas", "maxReplicas"):
            if not isinstance(group.get(field, 0), int) or isinstance(group.get(field), bool):
                wrong.append(f"{name}.{field}: got {group.get(field)!r}; wanted integer")
        strategy = group.get("scaleStrategy", {})
        if not isinstance(strategy, dict) or set(strategy) - {"workersToDelete"}:
            wrong.append(f"{name}.scaleStrategy: got {strategy!r}; wanted workersToDelete and no more")
            continue
        named = strategy.get("workersToDelete", [])
        if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
            wrong.append(f"{name}.scaleStrategy.workersToDelete: got {named!r}; wanted a list of names")
    return wrong


def make_certificates(folder: Path) -> None:
    """An authority, and by it a server at 127.0.0.1 and a client."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    ca = ("-CA", folder / "ca.crt", "-CAkey", folder / "ca.key")
    _openssl("req", "-x509", *key, "-keyout", folder / "ca.key", "-out", folder / "ca.crt", "-subj", "/CN=cineray test")
    for name, more in (("server", ("-addext", f"subjectAltName=IP:{HOST}")), ("client", ())):
        files = ("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt", "-subj", f"/CN={name}")
        _openssl("req", "-x509", *key, *ca, *files, "-addext", "basicConstraints=critical,CA:FALSE", *more)


def _openssl(*arguments: object) -> None:
    command = ["openssl", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


def _status(code: HTTPStatus, message: str) -> tuple[HTTPStatus, Document]:
    return code, {"kind": "Status", "status": "Failure", "code": int(code), "message": message}


def _handler(api: KubeApi) -> type[BaseHTTPRequestHandler]:
    roots = (f"/api/v1/namespaces/{api.namespace}/", f"/apis/ray.io/v1/namespaces/{api.namespace}/")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_GET(self) -> None:
            path, query = self._asked()
            found = api.get(path, query)
            self._answer(*((HTTPStatus.OK, found) if found else _status(HTTPStatus.NOT_FOUND, f"{path} is not here")))

        def do_PATCH(self) -> None:
            path, _ = self._asked()
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            kind = self.headers.get_content_type()
            if kind != "application/json-patch+json":
                self._answer(*_status(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{kind}; wanted a JSON patch"))
            else:
                self._answer(*api.patch(path, body))

        def _asked(self) -> tuple[str, dict[str, list[str]]]:
            asked = urlsplit(self.path)
            path = next((asked.path.removeprefix(root) for root in roots if asked.path.startswith(root)), "")
            return path, parse_qs(asked.query)

        def _answer(self, code: HTTPStatus, document: Document) -> None:
            body = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet: `patches` tells."""

    return Handler
