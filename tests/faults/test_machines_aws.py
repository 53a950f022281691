"""Spot machines of AWS that are sold out, or taken away: cluster/vm/aws.yaml brought up whole by `ray up`, from a
laptop, with a training that `cineray submit` sends; all is given back at the end by `ray down`.

EC2, IAM and S3 are moto's; machines are namespaces that one comes into by ssh, and `docker` on them is a stand-in over
what is installed here (cineray.testing.clusters.ubuntu_docker). The file is used as it stands, but for
- the lines that are marked `yours`, which name the fake account's network and image;
- AWS_ENDPOINT_URL, which says where the fake AWS is;
- sizes: two cores for each worker, one worker of each type, 15 s until an idle one ends; and patience with a busy host.
It is one story, told once, in about five minutes; each test looks at a part of it. What of it needs no machines is in
tests/cluster/test_aws_start.py, which always runs.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
import yaml

from cineray.testing import make_shapes
from cineray.testing.clusters.aws_account import filled_in, instances, open_to_the_world, prepared_account
from cineray.testing.clusters.aws_cloud import HOME, NETWORK, REGION, SUBNET, Cloud, machines_of_aws_missing
from cineray.testing.clusters.machines import Network
from cineray.testing.clusters.ubuntu_boot import ROOT
from cineray.testing.events import until as until_within
from cineray.testing.fault_table import Fault

REPOSITORY = Path(__file__).resolve().parents[2]
VM = REPOSITORY / "cluster" / "vm"
STEPS, SAVED_EVERY = 160, 10
JOB = f"""
kind: train
name: tiny
recipe:
  datasets: [{{lake: lakes/shapes, split: null}}]
  sampling: {{mode: fps, fps: "8", frames: 4}}
  frame: {{height: 16, width: 16}}
  batch_size: 4
feed: {{workers: 2, ahead_bytes: 400000}}
steps: {STEPS}
model: {{kind: stdit, size: custom, width: 24, depth: 1, heads: 2, patch: [1, 8, 8]}}
precision: fp32
validation: {{every_steps: 0}}
checkpoint: {{every_steps: {SAVED_EVERY}}}
parallel: {{cpus_per_worker: 0.5, gpus_per_worker: 0}}
"""
UPLOAD = """
import sys, pathlib
from cineray.storage import upload_file
folder = pathlib.Path(sys.argv[1])
for path in sorted(folder.rglob("*.*")):
    upload_file(str(path), f"s3://my-raw-videos/clips/{path.relative_to(folder)}")
"""
LEDGER = """
import json, sys
from cineray.train.ledger import read_all_rows
from cineray.train.run_folder import RunFolder
print(json.dumps([row["step"] for row in read_all_rows(RunFolder.open(sys.argv[1]).folder("ledger"))]))
"""
ASK = """
import sys, urllib.error, urllib.request
token = {"Authorization": f"Bearer {sys.argv[2]}"} if sys.argv[2:] else {}
try: print(urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers=token), timeout=10).status)
except urllib.error.HTTPError as error: print(error.code)
except OSError: print(0)
"""
FILE = f"{HOME}/aws.yaml"
DASHBOARD = "http://127.0.0.1:8265"
TOKEN = "5f" * 32
PATIENCE = 900
"""Seconds within which anything happens on a busy host; nothing waits for them to pass."""

pytestmark = [pytest.mark.ray, pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]


def until(true: Callable[[], Any], what: str) -> Any:
    """Wait for an event."""
    return until_within(true, what, PATIENCE)


@dataclass
class Story:
    """What has happened, in its order."""

    cloud: Cloud
    folder: Path
    entered: dict[str, str] = field(default_factory=dict)
    """What the dashboard says at the end of the tunnel."""
    processes: dict[str, str] = field(default_factory=dict)
    """Of each type's container, while the job is at work."""
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    """All instances that ever were, as when they ran."""
    disks: list[dict[str, Any]] = field(default_factory=list)
    refused_for: float = 0.0
    """Seconds from the first refusal until a machine that decodes ran all the same."""
    first: str = ""
    """The type of that machine, which the cloud took away later."""
    second: str = ""
    """The type of the one that decoded after it."""
    taken_for: float = 0.0
    """Seconds from its end until a checkpoint was saved that the next one had decoded for."""
    watcher: str = ""
    """What its spot watcher had said by then."""
    job: dict[str, Any] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    """That the run's ledger has."""
    said: str = ""
    idle: list[str] = field(default_factory=list)
    """Types that were left a while after the job."""

    def running(self) -> dict[str, dict[str, Any]]:
        """Instances by their type's name; looking is what fills `seen`."""
        if self.cloud.failed is not None:
            raise self.cloud.failed
        there = [one for one in self.cloud.instances if one["State"]["Name"] == "running"]
        self.seen |= {one["InstanceId"]: one for one in there}
        return {one["tags"]["ray-user-node-type"]: one for one in there}

    def at_work(self) -> dict[str, dict[str, Any]]:
        """Those that Ray has set up."""
        return {name: one for name, one in self.running().items() if one["tags"]["ray-node-status"] == "up-to-date"}

    def decoding(self) -> str:
        """The type that decodes, once there is one."""
        return next((name for name in self.at_work() if name.startswith("decode-")), "")

    def checkpoints(self) -> set[str]:
        """Of the run, by their folders."""
        found = self.cloud.ask("s3", "list_objects_v2", Bucket="my-cineray", Prefix="runs/").get("Contents", [])
        return {one["Key"].split("/checkpoints/")[1].split("/")[0] for one in found if "/checkpoints/" in one["Key"]}

    def on(self, instance: str, command: str) -> str:
        """What a command says on a machine, as its root."""
        return self.cloud.machines[instance].run(["chroot", str(ROOT), "sh", "-c", command], check=False).stdout

    def typed(self, *command: str) -> list[str]:
        """A command on the laptop, at home."""
        told = {"AWS_ENDPOINT_URL": self.cloud.url, "AWS_ACCESS_KEY_ID": "laptop", "AWS_SECRET_ACCESS_KEY": "none"}
        told |= {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "RAY_AUTH_MODE": "token"}
        return self.cloud.on_laptop("env", f"--chdir={HOME}", *command, env=told)

    def run(self, *command: str) -> str:
        return self.cloud.laptop.run(self.typed(*command)).stdout

    def ray(self, verb: str, *options: str) -> None:
        """`ray up` and `ray down`, which wait for machines: not when there can be none."""
        log = self.folder / f"{verb}.log"
        with log.open("w") as said:
            going = self.cloud.laptop.popen(self.typed("ray", verb, *options, FILE), stdout=said, stderr=said)
        until(lambda: going.poll() is not None or self.cloud.failed, f"ray {verb}")
        assert (going.poll(), self.cloud.failed) == (0, None), log.read_text()[-6000:]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    if reason := machines_of_aws_missing():
        pytest.skip(reason)
    with Network() as network, Cloud(network, REPOSITORY) as cloud:
        story = Story(cloud, tmp_path_factory.mktemp("aws"))
        prepare(story)
        story.ray("up", "--yes", "--no-config-cache")
        put_videos(story)
        open_tunnel(story)
        train(story)
        until(lambda: set(story.running()) <= {"head"}, "idle machines go")
        story.idle = sorted(story.running())
        story.ray("down", "--yes")
        yield story


def prepare(story: Story) -> None:
    """The account, the file, and the token."""
    cloud, home = story.cloud, story.cloud.laptop.outside(f"{ROOT}{HOME}")
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text(TOKEN)
    (home / ".ray" / "auth_token").chmod(0o600)
    mine = prepared_account(cloud.ec2, cloud.iam, VM / "policies", network=NETWORK, subnet=SUBNET)
    config = filled_in(yaml.safe_load((VM / "aws.yaml").read_text()), mine)
    config["docker"]["run_options"] += [f"--env AWS_ENDPOINT_URL={cloud.url}"]
    config |= {"idle_timeout_minutes": 0.25, "max_workers": 2}
    for name, one in config["available_node_types"].items():
        if name != "head":
            one["resources"]["CPU"], one["max_workers"] = 2, 1
    (home / "aws.yaml").write_text(yaml.safe_dump(config).replace("keep_node", f"keep_node --wait-seconds={PATIENCE}"))
    (home / "job.yaml").write_text(JOB)
    make_shapes(home / "videos", videos=6)


def put_videos(story: Story) -> None:
    """Raw media into their bucket, and a lake of them into the other."""
    for name in ("my-raw-videos", "my-cineray"):
        where = {"LocationConstraint": REGION}
        story.cloud.ask("s3", "create_bucket", Bucket=name, CreateBucketConfiguration=where)
    story.run("python", "-c", UPLOAD, "videos")
    story.run("cineray", "ingest", "s3://my-raw-videos/clips", "--lake", "s3://my-cineray/lakes/shapes")


def open_tunnel(story: Story) -> None:
    """As README says; then who has no token, or a wrong one, asks for the jobs."""
    story.cloud.laptop.popen(story.typed("ray", "dashboard", FILE), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)

    def says(*token: str) -> str:
        asked = story.typed("python", "-c", ASK, f"{DASHBOARD}/api/jobs/", *token)
        return story.cloud.laptop.run(asked).stdout.strip()

    until(lambda: says() != "0", "the tunnel is there")
    story.entered = {"without a token": says(), "with a wrong one": says("0" * 64)}


def train(story: Story) -> None:
    """A training whose first choice of machines is sold out, and which loses the one that decodes for it."""
    words = ["cineray", "submit", "train", "job.yaml", "--places", "s3://my-cineray"]
    log = story.folder / "submit.log"
    with log.open("w") as said:
        sent = story.cloud.laptop.popen(
            story.typed(*words, "--address", DASHBOARD, "--follow", "--json"), stdout=said, stderr=said
        )

    def wait(event: Callable[[], Any], what: str) -> float:
        """When it came; the job must be at work until then."""

        def came() -> Any:
            found = event()
            assert found or sent.poll() is None, f"the job ended before {what}:\n{log.read_text()[-4000:]}"
            return found

        until(came, what)
        return time.monotonic()

    story.cloud.sell_out("c6id.4xlarge")
    refused = wait(lambda: story.cloud.asked().get("refused"), "a machine is refused")
    story.refused_for = wait(story.decoding, "another decodes") - refused
    story.first = story.decoding()
    wait(story.checkpoints, "a checkpoint is saved")
    look_around(story)
    taken = take_away(story)
    wait(lambda: story.decoding() not in ("", story.first), "the next one decodes")
    story.second, saved = story.decoding(), story.checkpoints()
    story.taken_for = wait(lambda: story.checkpoints() - saved, "a checkpoint is saved after that") - taken
    until(lambda: sent.poll() is not None, "the job ends")
    story.said = log.read_text()
    lines = [line for line in story.said.splitlines() if line.startswith("{")]
    story.job = json.loads(lines[-1]) if lines else {}
    if "run" in story.job:
        story.steps = json.loads(story.run("python", "-c", LEDGER, story.job["run"]).splitlines()[-1])


def look_around(story: Story) -> None:
    for name, one in story.at_work().items():
        story.processes[name] = story.on(one["InstanceId"], "docker exec cineray ps axo user:20,args")
        disks = [disk["Ebs"]["VolumeId"] for disk in one["BlockDeviceMappings"]]
        story.disks += story.cloud.ask("ec2", "describe_volumes", VolumeIds=disks)["Volumes"]


def take_away(story: Story) -> float:
    """As EC2 does: a notice in the metadata, and then the end; and no more of that type. When it ended."""
    machine = story.at_work()[story.first]
    instance, soon = machine["InstanceId"], datetime.now(UTC) + timedelta(minutes=2)
    story.cloud.sell_out(machine["InstanceType"])
    story.cloud.notice(instance, {"action": "terminate", "time": soon.strftime("%Y-%m-%dT%H:%M:%SZ")})
    heard = "cat /scratch/spot-watch.log"
    until(lambda: '"drained"' in story.on(instance, heard), "the watcher has drained the node")
    story.watcher = story.on(instance, heard)
    story.cloud.ask("ec2", "terminate_instances", InstanceIds=[instance])
    return time.monotonic()


# ---- what one sees of it ---------------------------------------------------------------------------------------------


@pytest.mark.fault(
    cause="the first choice of spot machines is sold out when decoding begins",
    happens="what EC2 refused comes behind the others, and the next spot type is asked for",
    long=True,
)
def test_machines_that_are_sold_out_are_followed_by_others(story: Story, fault: Fault) -> None:
    assert "c6id.4xlarge" in story.cloud.asked()["refused"]
    assert story.first == "decode-spot-m6id"
    fault.lost(story.refused_for)
    fault.same("steps", found=story.steps, expected=range(STEPS))


@pytest.mark.fault(
    cause="a spot machine that decodes is taken away after a notice, and its type is sold out",
    happens="its watcher drains it, the autoscaler brings the next type, what lay on it is made again",
    long=True,
)
def test_a_spot_machine_that_is_taken_away_is_replaced_by_another_type(story: Story, fault: Fault) -> None:
    events = [json.loads(line)["event"] for line in story.watcher.splitlines() if line.startswith("{")]
    assert [event for event in events if event in ("notice", "drained")] == ["notice", "drained"]
    assert story.second == "decode-spot-r6id"
    fault.lost(story.taken_for)
    fault.same("steps", found=story.steps, expected=range(STEPS))


@pytest.mark.beside
def test_the_job_ends_well_on_machines_that_were_not_there_before(story: Story) -> None:
    assert (story.job.get("status"), story.job.get("exit_code")) == ("SUCCEEDED", 0), story.said[-6000:]
    assert story.job["result"]["step"] == STEPS
    assert "--set feed.decode_subcluster=decode" in story.said, "the head's label says so"


@pytest.mark.beside
def test_decoding_is_on_spot_and_nothing_else_is(story: Story) -> None:
    kinds = {(one["tags"]["ray-user-node-type"], one.get("InstanceLifecycle", "")) for one in story.seen.values()}
    assert kinds == {("head", ""), ("gpu", ""), ("decode-spot-m6id", "spot"), ("decode-spot-r6id", "spot")}


@pytest.mark.beside
def test_on_every_machine_ray_stands_under_its_keeper_and_on_workers_the_watcher_runs(story: Story) -> None:
    workers = {name: said for name, said in story.processes.items() if name != "head"}
    assert len(workers) == 2
    for name, said in story.processes.items():
        kept = [
            line.split()[0]
            for line in said.splitlines()
            if "cineray.launch.nodes.keep_node -- ray start --block" in line
        ]
        assert kept == ["cineray"], f"{name}:\n{said}"
    for name, said in workers.items():
        assert "cineray.launch.nodes.spot_watch --cloud aws" in said, f"{name}:\n{said}"


@pytest.mark.beside
def test_machines_have_no_old_metadata_encrypted_disks_and_the_clusters_tag(story: Story) -> None:
    for one in story.seen.values():
        assert one["MetadataOptions"]["HttpTokens"] == "required"
        assert one["tags"]["ray-cluster-name"] == "cineray"
    assert len(story.disks) >= len(story.processes)
    assert all(disk["Encrypted"] for disk in story.disks)


@pytest.mark.beside
def test_nobody_comes_in_without_the_token(story: Story) -> None:
    assert story.entered == {"without a token": "401", "with a wrong one": "403"}


@pytest.mark.beside
def test_each_machine_did_only_what_its_policies_allow(story: Story) -> None:
    asked = story.cloud.asked()
    head = {what for what in asked["cineray-head-key"] if not what.startswith("s3:")}
    told = json.loads((VM / "policies" / "aws-head.json").read_text())
    allowed = {action for one in told["Statement"] for action in listed(one["Action"])}
    assert {"ec2:RunInstances", "ec2:TerminateInstances"} <= head <= allowed
    workers = asked["cineray-worker-key"]
    assert {what for what in workers if not what.startswith("s3:")} == set()
    for who in ("cineray-head-key", "cineray-worker-key"):
        changed = [what for what in asked[who] if what.startswith(("s3:PUT", "s3:POST", "s3:DELETE"))]
        places = ("/my-cineray/lakes/", "/my-cineray/runs/")
        assert [what for what in changed if not what.partition(" ")[2].startswith(places)] == []
    assert any(what.startswith("s3:GET /my-raw-videos/clips/") for what in workers), "decoded where the lake says"


def listed(one: Any) -> list[str]:
    return [one] if isinstance(one, str) else list(one)


@pytest.mark.beside
def test_idle_workers_go_and_ray_down_leaves_nothing(story: Story) -> None:
    assert story.idle == ["head"]
    assert instances(story.cloud.ec2, "pending", "running", "stopping", "stopped") == []
    until(lambda: not story.cloud.machines, "their machines are off")
    assert story.cloud.ask("ec2", "describe_volumes")["Volumes"] == []
    assert open_to_the_world(story.cloud.ec2) == []
    profiles = story.cloud.ask("iam", "list_instance_profiles")["InstanceProfiles"]
    assert {one["InstanceProfileName"] for one in profiles} == {"cineray-head", "cineray-worker"}, "Ray made none"
    assert story.cloud.ask("iam", "list_roles")["Roles"] == []
