"""Who is told of a run: W&B's own files read back, TensorBoard's, gauges, the live line; and none of them ends it."""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cineray.train.progress import ProgressLine, line_of
from cineray.train.run_folder import RunFolder
from cineray.train.sinks import Guarded, TensorboardSink, WandbSink, open_sinks

ROW = {
    "step": 0,
    "attempt": 1,
    "at": 1000.0,
    "bucket": "16x64x64",
    "clips": 8,
    "loss": 0.5,
    "step_s": 0.5,
    "data_wait_s": 0.1,
    "gpu_stall_s": math.nan,
    "mfu": math.nan,
}


class Tracking:
    wandb, wandb_project, wandb_group, tensorboard, prometheus = "off", "cineray", "", False, True


def wandb_records(file: Path) -> Iterator[Any]:
    """What W&B wrote: a log of protobuf records in blocks of 32 KiB, each piece with its length and kind."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a full record, or the last piece of one
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def test_wandb_offline_writes_files_that_hold_every_figure(run: RunFolder) -> None:
    sink = WandbSink(run, {"steps": 3}, mode="offline", project="cineray", group="a sweep")
    for step in (0, 1, 1):  # a step that is done again is one point more
        sink.row(ROW | {"step": step, "loss": 1 / (1 + step)})
    sink.judged(2, {"validation/headline": 0.25})
    sink.close({"verdict": "compute-bound", "goodput": 0.9})

    (file,) = Path(run.uri).glob("wandb/offline-run-*/*.wandb")
    records = list(wandb_records(file))
    history = [
        {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in one.history.item}
        for one in records
        if one.WhichOneof("record_type") == "history"
    ]
    runs = [one.run for one in records if one.WhichOneof("record_type") == "run"]
    summary = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for one in records
        if one.WhichOneof("record_type") == "summary"
        for item in one.summary.update
    }

    assert [(one["step"], one.get("train/loss")) for one in history] == [(0, 1.0), (1, 0.5), (1, 0.5), (2, None)]
    assert history[-1]["validation/headline"] == 0.25
    assert "train/mfu" not in history[0], "what is no number is not drawn"
    assert (runs[0].run_id, runs[0].project, runs[0].run_group) == (run.run_id, "cineray", "a sweep")
    config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert config["fingerprint"] == run.facts["fingerprint"]
    assert config["steps"] == 3
    assert (summary["verdict"], summary["goodput"]) == ("compute-bound", 0.9)


def test_wandb_is_told_neither_the_command_nor_the_environment(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "hunter2-of-the-environment")
    monkeypatch.setattr("sys.argv", ["cineray", "--token", "hunter2-of-the-command"])
    sink = WandbSink(run, {}, mode="offline", project="cineray")
    sink.row(ROW)
    sink.close({})
    for file in Path(run.uri).rglob("*"):
        assert not file.is_file() or b"hunter2" not in file.read_bytes(), file


def test_tensorboard_gets_every_figure(run: RunFolder) -> None:
    from tensorboardX.event_file_writer import EventFileWriter  # noqa: F401 - the extra is there
    from tensorboardX.proto import event_pb2

    sink = TensorboardSink(run)
    sink.row(ROW)
    sink.judged(1, {"validation/headline": 0.25})
    sink.close({"verdict": "compute-bound"})

    (file,) = Path(run.uri).glob("tensorboard/*")
    data, at, found = file.read_bytes(), 0, {}
    while at < len(data):  # records: length, its checksum, the event, its checksum
        (size,) = struct.unpack_from("<Q", data, at)
        event = event_pb2.Event.FromString(data[at + 12 : at + 12 + size])
        found |= {value.tag: (event.step, value.simple_value) for value in event.summary.value}
        at += 16 + size
    assert found["train/loss"] == (0, 0.5)
    assert found["validation/headline"] == (1, 0.25)
    assert "train/mfu" not in found


def test_a_sink_that_fails_is_left_alone_and_ends_nothing() -> None:
    class Failing:
        rows = 0

        def row(self, row: Any) -> None:
            self.rows += 1
            raise ConnectionError("the tracker is down")

        judged = close = None

    class Good(Failing):
        def row(self, row: Any) -> None:
            self.rows += 1

    failing, good = Failing(), Good()
    sinks = Guarded([failing, good])  # type: ignore[list-item]
    with pytest.warns(UserWarning, match="Failing failed and is told no more: ConnectionError: the tracker is down"):
        sinks.row(ROW)
    for _ in range(2):
        sinks.row(ROW)
    assert (failing.rows, good.rows) == (1, 3)


def test_only_what_a_job_asks_for_is_opened(run: RunFolder) -> None:
    assert open_sinks(Tracking(), run, {}) == []


@pytest.mark.ray
def test_gauges_come_out_of_rays_metrics(run: RunFolder) -> None:
    import urllib.request

    import ray

    from cineray.telemetry.ray_session import connected

    with connected(num_cpus=1, object_store_memory=80_000_000):
        (sink,) = open_sinks(Tracking(), run, {})
        sink.row(ROW)
        port = ray.nodes()[0]["MetricsExportPort"]
        deadline, text = 60, ""
        import time

        while deadline and "cineray_train_loss{" not in text:
            time.sleep(0.5)
            deadline -= 1
            sink.row(ROW)
            try:
                text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
            except OSError:
                continue
    line = next(line for line in text.splitlines() if "cineray_train_loss{" in line)
    assert run.run_id in line
    assert line.endswith(" 0.5")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_live_line() -> None:
    screen = Terminal()
    line = ProgressLine(100, stream=screen)
    for step in range(10):
        line.row(ROW | {"step": step})
    line.judged(10, {"validation/headline": 0.25})
    line.close({})
    shown = screen.getvalue()
    assert "step 1/100  loss 0.5  16.0 clips/s  wait 20.0 %  0:00:50 left" in shown
    assert "step 10  validation/headline 0.25" in shown
    assert shown.count("\n") <= 3


def test_a_run_that_ends_by_time_shows_the_time_that_is_left() -> None:
    line = ProgressLine(10_000_000, budget_seconds=30, stream=Terminal())
    for step in range(10):
        line.row(ROW | {"step": step, "training_seconds": (step + 1) * 0.5})
    assert line_of(line.facts()) == "step 10  loss 0.5  16.0 clips/s  wait 20.0 %  0:00:25 left"
    soon = ProgressLine(12, budget_seconds=30, stream=io.StringIO())
    soon.row(ROW | {"step": 9, "training_seconds": 5.0})
    assert line_of(soon.facts()) == "step 10/12  loss 0.5  16.0 clips/s  wait 20.0 %  0:00:01 left"


def test_a_pipe_gets_json_lines_now_and_then() -> None:
    pipe = io.StringIO()
    line = ProgressLine(100, stream=pipe, every_seconds=3600)
    for step in range(10):
        line.row(ROW | {"step": step})
    line.judged(10, {"validation/headline": 0.25})
    line.close({})
    told = [json.loads(one) for one in pipe.getvalue().splitlines()]
    assert told == [
        {"step": 1, "steps": 100, "loss": 0.5, "clips_per_s": 16.0, "data_wait_fraction": 0.2, "seconds_left": 49.5},
        {"step": 10, "validation/headline": 0.25},
    ]
