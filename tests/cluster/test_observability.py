"""A real Prometheus scrapes a real run on a real Ray, with its token: each panel has something to draw, each alert
something to look at. And the alerts themselves, by promtool: when they are quiet, and when they speak.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cineray.testing.clusters.ray_head import RayHead, free_ports

REPO = Path(__file__).resolve().parents[2]
FILES = REPO / "cluster" / "observability"
DASHBOARD = json.loads((FILES / "dashboard.json").read_text())
RULES = yaml.safe_load((FILES / "rules.yml").read_text())
CONFIG = (FILES / "prometheus.yml").read_text()
PATIENCE_SECONDS = 240

pytestmark = pytest.mark.timeout(900)

PANELS = {
    f"{panel['title']}: {target['legendFormat']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
}
ALERTS = {rule["alert"]: rule["expr"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}

# A GPU's figures are not to be had on every machine: a made row goes the way of real ones, through the same sink.
AS_ON_A_GPU = """
import types, time, ray
from cineray.train.ray_metrics import PrometheusSink
ray.init(logging_level="ERROR", log_to_driver=False)
sink = PrometheusSink(types.SimpleNamespace(run_id="as-on-a-gpu"))
for step in range(10_000):
    sink.row({"step": step, "at": time.time(), "clips": 1, "step_s": 1.0, "mfu": 0.4, "gpu_stall_s": 0.01})
    time.sleep(1)
"""


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here: apt-get install prometheus brings it")
    return found


# ---- files -----------------------------------------------------------------------------------------------------------


def test_rules_and_config_are_ones_that_prometheus_takes() -> None:
    promtool = program("promtool")
    for told in (["check", "rules", "rules.yml"], ["check", "config", "--syntax-only", "prometheus.yml"]):
        done = subprocess.run([promtool, *told], cwd=FILES, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_quiet_and_speaks_as_its_tests_say() -> None:
    done = subprocess.run(
        [program("promtool"), "test", "rules", "rules_test.yml"], cwd=FILES, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_alert_is_without_a_test_of_its_silence_and_of_its_voice_and_each_says_what_to_do() -> None:
    tests = yaml.safe_load((FILES / "rules_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(ALERTS)
    for group in RULES["groups"]:
        for rule in group["rules"]:
            assert "record" in rule or {"summary", "next_step"} == set(rule["annotations"]), rule


def test_panels_stand_beside_each_other_and_use_no_variable_that_is_not_there() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"])))
    assert used == {one["name"] for one in DASHBOARD["templating"]["list"]}


# ---- a real run ------------------------------------------------------------------------------------------------------


@contextmanager
def running(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program with its group, until the end of the block."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, env=environment, start_new_session=True, cwd=REPO
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def training(lake: Path, run: Path, head: RayHead) -> list[str]:
    sets = [
        "feed.driver=ray",
        f"recipe.datasets=[{{lake: {lake}, split: train}}]",
        "recipe.batch_size=4",
        "steps=100000",
        "validation.every_steps=10",
        "validation.clips=8",
        "validation.baseline_clips=8",
        "checkpoint.every_steps=10",
    ]
    told = [word for one in sets for word in ("--set", one)]
    job = str(REPO / "jobs" / "smoke_cpu.py")
    return [sys.executable, "-m", "cineray", "train", job, "--run", str(run), "--address", head.address, *told]


INGEST_AGAIN = 'for n in $(seq 1000); do "$@" --lake "$LAKE-$n"; done'
"""An ingest ends, and its figures with it, sooner than all tests have looked at them."""


def ingesting(folder: Path, head: RayHead) -> list[str]:
    """The demo's videos under many names, and a tenth that are none, into one new lake after the other."""
    source, originals = folder / "many", sorted((folder / "demo" / "videos").glob("*/*.mp4"))
    source.mkdir()
    for number in range(5_000):
        path = source / f"{number:05d}.mp4"
        if number % 10:
            path.hardlink_to(originals[number % len(originals)])
        else:
            path.write_bytes(b"" if number % 20 else b"no video\n" * 100)
    told = [str(source), "--engine", "ray", "--address", head.address, "--workers", "1"]
    return ["sh", "-c", INGEST_AGAIN, "sh", sys.executable, "-m", "cineray", "ingest", *told]


def scraping(head: RayHead, folder: Path, port: int) -> list[str]:
    """The project's own config, with this head's address and token, and less patience."""
    assert CONFIG.count("http://127.0.0.1:8265/") == 1
    config = CONFIG.replace("http://127.0.0.1:8265/", f"{head.dashboard}/")
    config = config.replace("/etc/cineray/ray-token", str(head.token_path)).replace(": 15s", ": 1s")
    config = config.replace("refresh_interval: 30s", "refresh_interval: 1s")
    (folder / "prometheus.yml").write_text(config)
    (folder / "rules.yml").write_text((FILES / "rules.yml").read_text())
    return [
        *(program("prometheus"), f"--config.file={folder / 'prometheus.yml'}"),
        *(f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"),
    ]


Ask = Callable[[str], list[Any]]


@dataclass(frozen=True)
class Observed:
    """A cluster with a run under way, and what its Prometheus answers to an expression."""

    head: RayHead
    ask: Ask


@pytest.fixture(scope="module")
def ask(observed: Observed) -> Ask:
    return observed.ask


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    program("prometheus")
    folder, (port,) = tmp_path_factory.mktemp("observed"), free_ports(1)
    made = [
        sys.executable,
        "-m",
        "cineray",
        "demo",
        "--out",
        str(folder / "demo"),
        "--videos",
        "48",
        "--until",
        "ingest",
    ]
    subprocess.run(made, check=True, capture_output=True)

    def answer(expression: str) -> list[Any]:
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=10) as found:
            told: list[Any] = json.load(found)["data"]["result"]
        return told

    with (
        RayHead(cpus=4) as head,
        running(scraping(head, folder, port), folder / "prometheus.txt"),
        running([sys.executable, "-c", AS_ON_A_GPU], folder / "gpu.txt", head.environment),
        running(
            ingesting(folder, head), folder / "ingest.txt", {**head.environment, "LAKE": str(folder / "many-lake")}
        ),
        running(
            training(folder / "demo" / "lake", folder / "run", head), folder / "train.txt", head.environment
        ) as run,
    ):
        deadline = time.monotonic() + PATIENCE_SECONDS
        wanted = [
            "ray_cineray_train_validation_headline",
            "cineray:clips:rate",
            "ray_data_num_tasks_finished",
            "cineray:rejected:fraction",
        ]
        while time.monotonic() < deadline:
            time.sleep(1)
            assert run.poll() is None, (folder / "train.txt").read_text()[-3000:]
            try:
                if all(answer(one) for one in wanted):
                    break
            except OSError:
                continue
        yield Observed(head, answer)


def filled(expression: str) -> str:
    """As Grafana sends it, with all runs and the prices that the dashboard begins with."""
    for one in DASHBOARD["templating"]["list"]:
        value = ".*" if one["name"] == "run" else str(one.get("query"))
        expression = expression.replace(f"${one['name']}", value)
    return expression


def answered(ask: Ask, expression: str) -> list[Any]:
    """The first answer with numbers in it; rates need a few scrapes."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [one for one in ask(expression) if one["value"][1] != "NaN"]
        if found:
            return found
        time.sleep(1)
    return []


@pytest.mark.ray
@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("panel", PANELS)
def test_each_panel_has_something_to_draw(ask: Ask, panel: str) -> None:
    assert answered(ask, filled(PANELS[panel])), f"nothing for {filled(PANELS[panel])}"


@pytest.mark.ray
@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_something_to_look_at(ask: Ask, alert: str) -> None:
    looked_at = re.sub(r" (>|==) [\d.]+$", "", ALERTS[alert].strip())
    assert looked_at != ALERTS[alert].strip()
    assert answered(ask, looked_at), f"nothing for {looked_at}"


@pytest.mark.ray
@pytest.mark.network
@pytest.mark.slow
def test_the_seconds_of_a_run_add_up_and_series_carry_no_noise(ask: Ask) -> None:
    causes = {one["metric"]["cause"] for one in answered(ask, 'ray_cineray_train_seconds_total{run!="as-on-a-gpu"}')}
    assert {"productive", "data", "checkpoint", "validation"} >= causes >= {"productive", "data"}
    (gpu,) = answered(ask, 'cineray:goodput:fraction{run="as-on-a-gpu"}')
    assert float(gpu["value"][1]) == pytest.approx(0.99, abs=1e-6)
    (labels,) = (one["metric"] for one in answered(ask, 'ray_cineray_train_step{run="as-on-a-gpu"}'))
    assert not {"SessionName", "Version", "otel_scope_name"} & set(labels)
    up = answered(ask, "up")
    assert len(up) >= 3, "the head's node, its dashboard and its autoscaler answer"
    assert {one["value"][1] for one in up} == {"1"}


@pytest.mark.ray
@pytest.mark.network
@pytest.mark.slow
def test_top_shows_the_same_on_a_terminal_and_to_programs(observed: Observed) -> None:
    command = [sys.executable, "-m", "cineray", "top", observed.head.dashboard, "--core-hour", "0.04", "--once"]
    looks = {
        form: subprocess.run(
            [*command, form],
            env=observed.head.environment | {"COLUMNS": "140"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for form in ("--json", "--table")
    }
    facts = json.loads(looks["--json"])
    (run,) = [one for one in facts["runs"] if one["run"] != "as-on-a-gpu"]
    assert run["step"] > 0
    assert run["loss"] > 0
    assert run["mfu"] is None, "there is no GPU"
    assert 0 < run["goodput"] <= 1
    assert run["goodput"] == pytest.approx(run["seconds"]["productive"] / sum(run["seconds"].values()))
    assert 0 <= run["step_age_s"] < 60
    assert (facts["nodes"], facts["cores"], facts["silent"]) == (1, 4.0, [])
    assert facts["dollars_per_hour"] == pytest.approx(0.16)
    for shown in (run["run"], "as-on-a-gpu", "of 4 in use", "$0.16 an hour", "40%"):
        assert shown in looks["--table"]


@pytest.mark.ray
@pytest.mark.network
@pytest.mark.slow
def test_the_ports_of_the_figures_tell_no_secret(observed: Observed) -> None:
    """They have no token; so nothing may be in them that the token is for."""
    with urllib.request.urlopen(
        urllib.request.Request(
            f"{observed.head.dashboard}/api/prometheus/sd", headers={"Authorization": f"Bearer {observed.head.token}"}
        ),
        timeout=10,
    ) as found:
        ports = [port for group in json.load(found) for port in group["targets"]]
    for port in ports:
        with urllib.request.urlopen(f"http://{port}/metrics", timeout=10) as found:
            text = found.read().decode()
        assert len(text) > 1000
        assert observed.head.token not in text


@pytest.mark.ray
@pytest.mark.network
@pytest.mark.slow
def test_the_rejects_of_an_ingest_are_told_with_their_reasons_as_they_come(ask: Ask) -> None:
    shares = answered(ask, "cineray:rejected:fraction")
    assert shares, "one for each lake that was or is filled"
    for share in shares:
        assert float(share["value"][1]) == pytest.approx(0.1, abs=0.02), "a tenth, but for chunks of 128"
    counted: Counter[str] = Counter()
    for one in answered(ask, "ray_cineray_ingest_rejects_total"):
        counted[one["metric"]["reason"]] += int(float(one["value"][1]))
    assert counted.keys() == {"empty", "not_video"}
    assert counted["empty"] == pytest.approx(counted["not_video"], abs=counted["empty"] / 3)
