"""How docker gets into the clouds' private registries: the lines of the files for machines that make its helper run
here, and the helper is asked as docker does.

Their curl is the real one; addresses of the clouds lead to a small server here, which knows what the real ones ask for
and gives another token each time. AWS has a helper of its own (tests/faults/test_machines_aws.py).
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

VM = Path(__file__).resolve().parents[2] / "cluster" / "vm"
GOOGLE, AZURE = "europe-west4-docker.pkg.dev", "myregistry.azurecr.io"
SUDO = """#!/bin/bash
exec "${@//\\/usr\\/local\\/bin/$BIN}"
"""
"""Does as it is told, in a folder of the test's."""

pytestmark = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("bash", "curl", "openssl")), reason="needs bash, curl and openssl"
)


class Clouds(BaseHTTPRequestHandler):
    """Both metadata addresses, and Azure's registry."""

    tokens: list[str]

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/computeMetadata/v1/instance/service-accounts/default/token":
            return self.reply(self.headers.get("Metadata-Flavor") == "Google", access_token=self.token())
        wanted = {"api-version": "2018-02-01", "resource": "https://management.azure.com/"}
        known = path == "/metadata/identity/oauth2/token" and dict(urllib.parse.parse_qsl(query)) == wanted
        return self.reply(known and self.headers.get("Metadata") == "true", access_token=self.token())

    def do_POST(self) -> None:
        told = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        asked = {"grant_type": "access_token", "service": AZURE, "access_token": self.tokens[-1]}
        known = (self.path, self.headers["Host"], told) == ("/oauth2/exchange", AZURE, asked)
        self.reply(known, refresh_token=f"for {self.tokens[-1]}")

    def token(self) -> str:
        self.tokens.append(f"token+{len(self.tokens)}")
        return self.tokens[-1]

    def reply(self, is_known: bool, **told: str) -> None:
        body = json.dumps(told).encode()
        self.send_response(200 if is_known else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user there."""
    certificate = ["-nodes", "-subj", f"/CN={AZURE}", "-addext", f"subjectAltName=DNS:{AZURE}", "-days", "1"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *certificate]
    subprocess.run([*made, "-keyout", "key", "-out", "crt"], cwd=tmp_path, capture_output=True, check=True)
    (tmp_path / "sudo").write_text(SUDO)
    (tmp_path / "sudo").chmod(0o755)
    handler = type("Bound", (Clouds,), {"tokens": []})
    plain, locked = (ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    locked.socket = context.wrap_socket(locked.socket, server_side=True)
    leads = {"169.254.169.254:80": plain, f"{AZURE}:443": locked}
    lines = [f'connect-to = "{at}:127.0.0.1:{server.server_address[1]}"' for at, server in leads.items()]
    (tmp_path / ".curlrc").write_text("\n".join([*lines, f'cacert = "{tmp_path / "crt"}"', 'noproxy = "*"']))
    for server in leads.values():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {"HOME": str(tmp_path), "BIN": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    finally:
        for server in leads.values():
            server.shutdown()
            server.server_close()


def told_to_docker(machine: dict[str, str], registry: str) -> dict[str, str]:
    """What the helper that docker's settings name for it says, asked as docker does."""
    settings = json.loads((Path(machine["HOME"]) / ".docker" / "config.json").read_text())
    helper = f"docker-credential-{settings['credHelpers'][registry]}"
    asked = subprocess.run([helper, "get"], env=machine, input=registry, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(asked.stdout)
    return found


@pytest.mark.parametrize(
    ("cloud", "registry", "name", "secrets"),
    [
        ("gcp", GOOGLE, "oauth2accesstoken", ["token+0", "token+1"]),
        ("azure", AZURE, "00000000-0000-0000-0000-000000000000", ["for token+0", "for token+1"]),
    ],
)
def test_docker_shows_the_registry_who_the_machine_is_with_a_new_token_each_time(
    machine: dict[str, str], cloud: str, registry: str, name: str, secrets: list[str]
) -> None:
    commands = yaml.safe_load((VM / f"{cloud}.yaml").read_text())["initialization_commands"]
    (makes_helper,) = (one for one in commands if "credHelpers" in one)
    for _ in range(2):  # `ray up` may come again
        subprocess.run(["bash", "-c", f"({makes_helper})"], env=machine, check=True)
    assert [told_to_docker(machine, registry) for _ in secrets] == [
        {"Username": name, "Secret": secret} for secret in secrets
    ]
    kept = (Path(machine["HOME"]) / ".docker" / "config.json").read_text()
    assert "token" not in kept, "nothing is kept on the machine"
