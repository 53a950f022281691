"""The watcher of one node: clouds that say nothing, say that the machine goes, or are silent; a real Ray that drains.

The clouds are small HTTP servers here that answer as the clouds' documents say: they check the headers and tokens that
the real ones ask for, so that a question that a real one would refuse is refused here too.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cineray.errors import CinerayError
from cineray.launch.nodes.cloud_notice import CLOUDS, Metadata, MetadataSilent, Notice, notices_of
from cineray.launch.nodes.spot_watch import drain_in_time, find, main, watch
from cineray.testing.clusters.ray_head import RayHead

Reply = tuple[int, str]
SILENT_ADDRESS = "http://127.0.0.1:9"


class Cloud:
    """What the metadata address says now, by path; and the questions that it was asked."""

    def __init__(self) -> None:
        self.says: dict[str, Reply] = {}
        self.tokens = ["first", "second", "third"]
        self.asked: list[str] = []
        self.url = ""
        self.begin: Callable[[], object] = lambda: None


class Handler(BaseHTTPRequestHandler):
    """One cloud's rules; `cloud` is set by `served`."""

    cloud: Cloud

    def reply(self, status: int, text: str, **headers: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


class Aws(Handler):
    def do_PUT(self) -> None:
        lifetime = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        if self.path != "/latest/api/token" or not lifetime or not 1 <= int(lifetime) <= 21600:
            return self.reply(400, "bad request")
        return self.reply(200, self.cloud.tokens[0])

    def do_GET(self) -> None:
        self.cloud.asked.append(self.path)
        if self.headers.get("X-aws-ec2-metadata-token") != self.cloud.tokens[0]:
            return self.reply(401, "unauthorized")
        status, text = self.cloud.says.get(self.path, (404, "not found"))
        return self.reply(status, text, **({"Location": "/elsewhere"} if status == 302 else {}))


class Gcp(Handler):
    def do_GET(self) -> None:
        self.cloud.asked.append(self.path)
        if self.headers.get("Metadata-Flavor") != "Google":
            return self.reply(403, "missing Metadata-Flavor")
        path = "/computeMetadata/v1/instance/preempted"
        return self.reply(*self.cloud.says.get(self.path, (404, path)), Metadata_Flavor="Google")


class Azure(Handler):
    def do_GET(self) -> None:
        self.cloud.asked.append(self.path)
        if self.headers.get("Metadata") != "true":
            return self.reply(400, "missing Metadata")
        return self.reply(*self.cloud.says.get(self.path.partition("?")[0], (404, "not found")))


KINDS = {"aws": Aws, "gcp": Gcp, "azure": Azure}
AWS = "/latest/meta-data/spot/instance-action"
GCP = "/computeMetadata/v1/instance/preempted"
AZURE, AZURE_NAME = "/metadata/scheduledevents", "/metadata/instance/compute/name"
QUIET: dict[str, dict[str, Reply]] = {
    "aws": {},
    "gcp": {GCP: (200, "FALSE")},
    "azure": {AZURE_NAME: (200, "decode-7"), AZURE: (200, '{"DocumentIncarnation": 1, "Events": []}')},
}


@contextmanager
def served(name: str, *, late: bool = False) -> Iterator[Cloud]:
    """This cloud, saying nothing; a late one refuses connections until its `begin()`."""
    cloud = Cloud()
    cloud.says = dict(QUIET[name])
    handler = type("Bound", (KINDS[name],), {"cloud": cloud})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler, bind_and_activate=False)
    server.server_bind()
    cloud.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    cloud.begin = lambda: (server.server_activate(), thread.start())
    if not late:
        cloud.begin()
    try:
        yield cloud
    finally:
        if thread.is_alive():
            server.shutdown()
        server.server_close()


def asked(name: str, cloud: Cloud) -> Notice | None:
    return CLOUDS[name](Metadata(cloud.url)).notice()


# ---- what clouds say -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_cloud_that_says_nothing_gives_no_notice_and_is_recognised(name: str) -> None:
    with served(name) as cloud:
        assert asked(name, cloud) is None
        found = notices_of("auto", Metadata(cloud.url))
        assert type(found) is CLOUDS[name]


def test_aws_tells_two_minutes_before_with_a_time_of_its_own() -> None:
    with served("aws") as cloud:
        cloud.says[AWS] = (200, '{"action": "terminate", "time": "2026-11-21T10:02:00Z"}')
        notice = asked("aws", cloud)
    assert notice == Notice(cloud="aws", what="spot terminate", deadline=1795255320.0)
    assert notice.seconds_left(now=1795255200.0) == 120.0
    assert notice.seconds_left(now=1795255400.0) == 0.0


def test_aws_tokens_run_out_and_are_made_anew() -> None:
    with served("aws") as cloud:
        source = CLOUDS["aws"](Metadata(cloud.url))
        assert source.notice() is None
        cloud.tokens.pop(0)
        assert source.notice() is None
        assert cloud.asked == [AWS, AWS, AWS], "once refused, asked again with the new token"


def test_gcp_has_half_a_minute_from_when_it_says_so() -> None:
    with served("gcp") as cloud:
        cloud.says[GCP] = (200, "TRUE")
        notice = asked("gcp", cloud)
    assert notice is not None
    assert (notice.cloud, notice.what) == ("gcp", "preempted")
    assert 28 < notice.seconds_left() <= 30


def events(*told: dict[str, Any]) -> Reply:
    return (200, json.dumps({"DocumentIncarnation": 2, "Events": list(told)}))


def test_azure_tells_of_the_whole_set_and_only_our_own_preemption_counts() -> None:
    ours = {
        "EventId": "f020ba2e-3bc0-4c40-a10b-86575a9eabd5",
        "EventType": "Preempt",
        "ResourceType": "VirtualMachine",
        "Resources": ["decode-7"],
        "EventStatus": "Scheduled",
        "NotBefore": "Sat, 21 Nov 2026 10:02:00 GMT",
        "Description": "",
        "EventSource": "Platform",
        "DurationInSeconds": -1,
    }
    with served("azure") as cloud:
        cloud.says[AZURE] = events(ours | {"Resources": ["decode-8"]}, ours | {"EventType": "Freeze"})
        assert asked("azure", cloud) is None
        cloud.says[AZURE] = events(ours | {"Resources": ["decode-8"]}, ours)
        assert asked("azure", cloud) == Notice(cloud="azure", what="preempt", deadline=1795255320.0)
        cloud.says[AZURE] = events(ours | {"NotBefore": "", "EventStatus": "Started"})
        begun = asked("azure", cloud)
        assert begun is not None
        assert 28 < begun.seconds_left() <= 30


@pytest.mark.parametrize(
    ("name", "path", "reply", "complaint"),
    [
        ("aws", AWS, (200, "<html>"), "aws said '<html>'; wanted a JSON object"),
        ("aws", AWS, (200, '{"action": "stop"}'), "wanted an object with `action` and `time`"),
        ("aws", AWS, (200, '{"action": "stop", "time": "soon"}'), "the notice's time is 'soon'; wanted one like 2026"),
        ("aws", AWS, (500, "oh"), "aws answered with status 500, wanted 200 or 404: 'oh'"),
        ("gcp", GCP, (200, "MAYBE"), "said 'MAYBE'; wanted TRUE or FALSE, from Google"),
        ("azure", AZURE, (200, "[]"), "azure said '[]'; wanted a JSON object"),
    ],
)
def test_an_answer_of_another_form_is_no_notice_and_no_silence(
    name: str, path: str, reply: Reply, complaint: str
) -> None:
    with served(name) as cloud:
        cloud.says[path] = reply
        with pytest.raises(MetadataSilent) as raised:
            asked(name, cloud)
    assert complaint in str(raised.value)


def test_an_answer_that_leads_elsewhere_is_not_followed() -> None:
    with served("aws") as cloud:
        cloud.says[AWS] = (302, "elsewhere")
        cloud.says["/elsewhere"] = (200, '{"action": "terminate", "time": "2026-11-21T10:02:00Z"}')
        with pytest.raises(MetadataSilent, match="aws answered with status 302"):
            asked("aws", cloud)
        assert cloud.asked == [AWS]


def test_what_speaks_another_language_than_http_is_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with listening.accept()[0] as asked:
                asked.recv(1 << 16)
                asked.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(MetadataSilent, match=r"did not answer within 2 s: SSH-2\.0"):
            CLOUDS["gcp"](Metadata(f"http://127.0.0.1:{listening.getsockname()[1]}")).notice()
        thread.join()


def test_where_no_cloud_is_each_ones_silence_is_told() -> None:
    with pytest.raises(MetadataSilent, match=r"no cloud answers at http://127\.0\.0\.1:9: aws: .* gcp: .* azure: "):
        notices_of("auto", Metadata(SILENT_ADDRESS))


@pytest.mark.parametrize("name", KINDS)
def test_a_metadata_address_that_comes_up_after_the_watcher_is_waited_for_and_recognised(name: str) -> None:
    with served(name, late=True) as cloud:
        told: list[tuple[str, str]] = []

        def tell(event: str, *, error: str, asked_for_seconds: float) -> None:
            assert asked_for_seconds == 600
            told.append((event, error))
            cloud.begin()

        found = find("auto", Metadata(cloud.url), tell=tell, every_seconds=0)
    assert type(found) is CLOUDS[name]
    ((event, error),) = told
    assert event == "metadata_silent"
    assert error.startswith(f"no cloud answers at {cloud.url}: aws: ")


def test_a_machine_without_a_cloud_is_told_so_after_the_stated_time(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--address", "127.0.0.1:6379", "--cloud", "auto", "--metadata-url", SILENT_ADDRESS, "--every-seconds", "0"]
    assert main([*asked, "--find-seconds", "0.01"]) == 1
    first, *_, last = capsys.readouterr().err.splitlines()
    assert json.loads(first)["event"] == "metadata_silent"
    assert last.startswith(f"error: asked for 0.01 s: no cloud answers at {SILENT_ADDRESS}: aws: ")
    assert last.endswith("On a machine of a cloud say which by --cloud; elsewhere there is nothing to watch")


# ---- watching and draining -------------------------------------------------------------------------------------------


class Told:
    """What the watcher says."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __call__(self, event: str, **_: Any) -> None:
        self.events.append(event)


class Script:
    """A cloud that answers in turn what is written here."""

    def __init__(self, *answers: Notice | MetadataSilent | None) -> None:
        self._answers = list(answers)

    def notice(self) -> Notice | None:
        answer = self._answers.pop(0)
        if isinstance(answer, MetadataSilent):
            raise answer
        return answer


SOON = Notice(cloud="aws", what="spot terminate", deadline=time.time() + 3600)


def test_a_silence_is_told_once_and_the_watch_goes_on() -> None:
    told, silence = Told(), MetadataSilent("nobody")
    found = watch(Script(None, silence, silence, None, silence, SOON), tell=told, every_seconds=0)
    assert found is SOON
    assert told.events == ["metadata_silent", "metadata_answers_again", "metadata_silent", "metadata_answers_again"]


def refusing(times: int) -> Callable[[Notice], None]:
    left = [times]

    def drain(_: Notice) -> None:
        if left[0]:
            left[0] -= 1
            raise CinerayError("Ray does not answer")

    return drain


def test_a_ray_that_does_not_answer_is_asked_again_until_the_machine_must_be_gone() -> None:
    told = Told()
    assert drain_in_time(SOON, refusing(1), tell=told)
    assert told.events == ["drain_failed", "drained"]
    gone = Notice(cloud="aws", what="spot terminate", deadline=time.time() - 60)
    assert not drain_in_time(gone, refusing(99), tell=told)


def test_an_address_for_rays_clients_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--address", "http://127.0.0.1:8265", "--now"]) == 2
    assert "wanted host:port of its head as for `ray start --address`" in capsys.readouterr().err


def test_the_node_on_this_machine_is_the_one_with_our_address_and_two_need_a_choice() -> None:
    pytest.importorskip("ray")
    from cineray.launch.nodes.ray_drain import DrainRefused, chosen_node

    nodes = {"aa": "192.0.2.7", "bb": "192.0.2.8", "cc": "192.0.2.8"}
    assert chosen_node(nodes, {"192.0.2.7", "127.0.0.1"}, "head:6379") == "aa"
    with pytest.raises(DrainRefused, match=r"2 of its 3 nodes are on this machine .*: say which by --node-id"):
        chosen_node(nodes, {"192.0.2.8"}, "head:6379")
    with pytest.raises(DrainRefused, match=r"0 of its 3 nodes are on this machine .*: start the node first"):
        chosen_node(nodes, {"192.0.2.9"}, "head:6379")


DRIVER = """
import ray, time
import ray._private.state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On
ray.init(logging_level="ERROR", log_to_driver=False)
while not any(n["Labels"].get("pool") == "decode" for n in ray.nodes()):
    time.sleep(0.1)
node = next(n["NodeID"] for n in ray.nodes() if n["Labels"].get("pool") == "decode")
where = ray.remote(num_cpus=0.5)(lambda: ray.get_runtime_context().get_node_id())
print(node, flush=True)
class Work:
    def where(self):
        return ray.get_runtime_context().get_node_id()
# A node with nothing to do leaves as soon as it is drained.
work = ray.remote(num_cpus=0.5)(Work).options(scheduling_strategy=On(node, soft=False)).remote()
print("before", ray.get(work.where.remote()) == node, flush=True)
input()
for _ in range(100):  # the node tells the cluster's state a moment after it has agreed
    draining = ray._private.state.state.get_draining_nodes()  # what Ray Train's controllers look at
    if draining:
        break
    time.sleep(0.1)
print("at work", ray.get(work.where.remote()) == node, flush=True)
print("draining", list(draining), 90 < max(draining.values(), default=0) / 1000 - time.time() < 120, flush=True)
spread = where.options(scheduling_strategy="SPREAD")
print("after", node in ray.get([spread.remote() for _ in range(6)]), flush=True)
"""


@contextmanager
def a_driver(head: RayHead) -> Iterator[subprocess.Popen[str]]:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], env=head.environment, stdin=-1, stdout=-1, text=True)
    try:
        yield driver
    finally:
        driver.kill()
        driver.wait()


def watched(environment: dict[str, str], cloud: Cloud, node: str, seconds_left: float) -> tuple[int, list[Any]]:
    """The watcher as a process of its own, as on a node; the cloud speaks once it watches."""
    command = [sys.executable, "-m", "cineray.launch.nodes.spot_watch", "--cloud", "aws", "--node-id", node]
    watcher = subprocess.Popen(
        [*command, "--metadata-url", cloud.url, "--every-seconds", "0.1"], env=environment, stderr=-1, text=True
    )
    assert watcher.stderr is not None
    assert json.loads(watcher.stderr.readline())["event"] == "watching"
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds_left))
    cloud.says[AWS] = (200, json.dumps({"action": "terminate", "time": at}))
    try:
        _, told = watcher.communicate(timeout=120)
    finally:
        watcher.kill()
    return watcher.returncode, [json.loads(line) for line in told.splitlines() if line.startswith("{")]


@pytest.mark.ray
@pytest.mark.slow
def test_a_notice_of_the_cloud_drains_the_node_of_a_real_ray_and_without_the_token_nobody_can() -> None:
    """Ray's schedulers then leave the node alone, and its trainers are told the deadline."""
    with RayHead(cpus=1) as head, served("aws") as cloud, a_driver(head) as driver:
        head.add_node(cpus=1, labels={"pool": "decode"})
        assert driver.stdout is not None
        node, before = driver.stdout.readline().strip(), driver.stdout.readline().strip()
        assert before == "before True"
        outside = {name: text for name, text in head.environment.items() if name != "RAY_AUTH_TOKEN_PATH"}
        code, said = watched(outside | {"RAY_AUTH_MODE": "disabled"}, cloud, node, seconds_left=-28)
        assert code == 1, "it tried until the machine must have been gone"
        assert {one["event"] for one in said} == {"notice", "drain_failed"}
        cloud.says.clear()
        code, said = watched(head.environment, cloud, node, seconds_left=115)
        assert (code, [one["event"] for one in said]) == (0, ["notice", "drained"])
        printed, _ = driver.communicate("\n", timeout=120)
    assert printed.splitlines() == ["at work True", f"draining ['{node}'] True", "after False"]
