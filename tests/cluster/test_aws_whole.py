"""cluster/vm/aws.yaml brought up whole: `ray up` from a laptop, a training on spot machines, one of them taken away in
the middle, everything given back, `ray down`.

EC2, IAM and S3 are moto's; machines are namespaces that one comes into by ssh, and `docker` on them is a stand-in over
what is installed here (cineray.testing.ubuntu_docker). The file is used as it stands, but for
- the lines that are marked `yours`, which name the fake account's network and image;
- AWS_ENDPOINT_URL, which says where the fake AWS is;
- sizes: two cores for each worker, one worker of each type, 15 s until an idle one ends.
It is one story, told once; each test looks at a part of it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
import yaml

from cineray.testing import make_shapes
from cineray.testing.aws_account import filled_in, instances, open_to_the_world, prepared_account
from cineray.testing.aws_cloud import HOME, NETWORK, REGION, SUBNET, Cloud, machines_of_aws_missing
from cineray.testing.machine_cluster import until
from cineray.testing.machines import Network
from cineray.testing.ubuntu_boot import ROOT

REPOSITORY = Path(__file__).resolve().parents[2]
VM = REPOSITORY / "cluster" / "vm"
STEPS, SAVED_EVERY = 120, 20
JOB = f"""
kind: train
name: tiny
recipe:
  datasets: [{{lake: lakes/shapes, split: null}}]
  sampling: {{mode: fps, fps: "8", frames: 4}}
  frame: {{height: 16, width: 16}}
  batch_size: 4
feed: {{workers: 2}}
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
ASK = """
import sys, urllib.error, urllib.request
try: print(urllib.request.urlopen(sys.argv[1], timeout=10).status)
except urllib.error.HTTPError as error: print(error.code)
except OSError: print(0)
"""
FILE = f"{HOME}/aws.yaml"
DASHBOARD = "http://127.0.0.1:8265"
TOKEN = "5f" * 32

pytestmark = [pytest.mark.ray, pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(1800)]


@dataclass
class Story:
    """What has happened, in its order."""

    cloud: Cloud
    folder: Path
    entered: dict[str, str] = field(default_factory=dict)
    """What the dashboard says at the end of the tunnel: with nobody's word, and with a wrong one."""
    processes: dict[str, str] = field(default_factory=dict)
    """Of each type's container, while the job is at work."""
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    """All instances that ever were, as when they ran."""
    disks: list[dict[str, Any]] = field(default_factory=list)
    taken: str = ""
    """The spot machine that the cloud took away."""
    watcher: str = ""
    """What its spot watcher had said by then."""
    job: dict[str, Any] = field(default_factory=dict)
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
        """The instance that decodes, once there is one."""
        found = [one["InstanceId"] for name, one in self.at_work().items() if name.startswith("decode-")]
        return found[0] if found else ""

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
        until(lambda: going.poll() is not None or self.cloud.failed, f"ray {verb}", 900)
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
    (home / "aws.yaml").write_text(yaml.safe_dump(config))
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
    """As README says; then who has no token is asked for one."""
    story.cloud.laptop.popen(story.typed("ray", "dashboard", FILE), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    asked = story.typed("python", "-c", ASK, f"{DASHBOARD}/api/jobs/")
    until(lambda: story.cloud.laptop.run(asked).stdout.strip() != "0", "the tunnel is there")
    story.entered["without a token"] = story.cloud.laptop.run(asked).stdout.strip()


def train(story: Story) -> None:
    """A training that loses the machine that decodes for it."""
    words = ["cineray", "submit", "train", "job.yaml", "--places", "s3://my-cineray"]
    log = story.folder / "submit.log"
    with log.open("w") as said:
        sent = story.cloud.laptop.popen(
            story.typed(*words, "--address", DASHBOARD, "--follow", "--json"), stdout=said, stderr=said
        )

    def or_ended(event: Any) -> Any:
        return event or (sent.poll() is not None and pytest.fail(f"the job ended early:\n{log.read_text()[-4000:]}"))

    until(lambda: or_ended(story.decoding()), "a machine decodes")
    until(lambda: or_ended(saved(story)), "the training has saved a checkpoint")
    look_around(story)
    take_away(story, story.decoding())
    until(lambda: or_ended(story.decoding() not in ("", story.taken)), "another machine decodes")
    until(lambda: sent.poll() is not None, "the job ends")
    story.said = log.read_text()
    lines = [line for line in story.said.splitlines() if line.startswith("{")]
    story.job = json.loads(lines[-1]) if lines else {}


def saved(story: Story) -> bool:
    found = story.cloud.ask("s3", "list_objects_v2", Bucket="my-cineray", Prefix="runs/")
    return any("/checkpoints/" in one["Key"] for one in found.get("Contents", []))


def look_around(story: Story) -> None:
    for name, one in story.at_work().items():
        story.processes[name] = story.on(one["InstanceId"], "docker exec cineray ps axo user:20,args")
        disks = [disk["Ebs"]["VolumeId"] for disk in one["BlockDeviceMappings"]]
        story.disks += story.cloud.ask("ec2", "describe_volumes", VolumeIds=disks)["Volumes"]


def take_away(story: Story, instance: str) -> None:
    """As EC2 does: a notice in the metadata, and then the end."""
    story.taken, soon = instance, datetime.now(UTC) + timedelta(minutes=2)
    story.cloud.notice(instance, {"action": "terminate", "time": soon.strftime("%Y-%m-%dT%H:%M:%SZ")})
    heard = "cat /scratch/spot-watch.log"
    until(lambda: '"drained"' in story.on(instance, heard), "the watcher has drained the node")
    story.watcher = story.on(instance, heard)
    story.cloud.ask("ec2", "terminate_instances", InstanceIds=[instance])


# ---- what one sees of it ---------------------------------------------------------------------------------------------


def test_the_job_ends_well_on_machines_that_were_not_there_before(story: Story) -> None:
    assert (story.job.get("status"), story.job.get("exit_code")) == ("SUCCEEDED", 0), story.said[-6000:]
    assert story.job["result"]["step"] == STEPS
    assert "feed.decode_subcluster=decode, because the head's label cineray-decode says so" in story.said


def test_decoding_is_on_spot_and_nothing_else_is(story: Story) -> None:
    kinds = {(one["tags"]["ray-user-node-type"], one.get("InstanceLifecycle", "")) for one in story.seen.values()}
    decode = {kind for kind in kinds if kind[0].startswith("decode-spot-")}
    assert decode
    assert {market for _, market in decode} == {"spot"}
    assert kinds - decode == {("head", ""), ("gpu", "")}


def test_a_spot_machine_that_is_taken_away_is_drained_and_replaced(story: Story) -> None:
    events = [json.loads(line)["event"] for line in story.watcher.splitlines() if line.startswith("{")]
    assert [event for event in events if event in ("notice", "drained")][:2] == ["notice", "drained"]
    launched = [one for one in story.seen.values() if one["tags"]["ray-user-node-type"].startswith("decode-")]
    assert len(launched) >= 2


def test_on_every_machine_ray_stands_under_its_keeper_and_on_workers_the_watcher_runs(story: Story) -> None:
    workers = {name: said for name, said in story.processes.items() if name != "head"}
    assert len(workers) == 2
    for name, said in story.processes.items():
        kept = [
            line.split()[0] for line in said.splitlines() if "cineray.launch.keep_node -- ray start --block" in line
        ]
        assert kept == ["cineray"], f"{name}:\n{said}"
    for name, said in workers.items():
        assert "cineray.launch.spot_watch --cloud aws" in said, f"{name}:\n{said}"


def test_machines_have_no_old_metadata_encrypted_disks_and_the_clusters_tag(story: Story) -> None:
    for one in story.seen.values():
        assert one["MetadataOptions"]["HttpTokens"] == "required"
        assert one["tags"]["ray-cluster-name"] == "cineray"
    assert len(story.disks) >= len(story.processes)
    assert all(disk["Encrypted"] for disk in story.disks)


def test_nobody_comes_in_without_the_token(story: Story) -> None:
    assert story.entered == {"without a token": "401"}


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


def test_idle_workers_go_and_ray_down_leaves_nothing(story: Story) -> None:
    assert story.idle == ["head"]
    assert instances(story.cloud.ec2, "pending", "running", "stopping", "stopped") == []
    until(lambda: not story.cloud.machines, "their machines are off")
    assert story.cloud.ask("ec2", "describe_volumes")["Volumes"] == []
    assert open_to_the_world(story.cloud.ec2) == []
    profiles = story.cloud.ask("iam", "list_instance_profiles")["InstanceProfiles"]
    assert {one["InstanceProfileName"] for one in profiles} == {"cineray-head", "cineray-worker"}, "Ray made none"
    assert story.cloud.ask("iam", "list_roles")["Roles"] == []
