"""The ledger: a row per step, which survives a kill, and in which a step that was done again counts once."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cineray.train.device_clock import StepTimes
from cineray.train.device_peak import peak_flops
from cineray.train.ledger import SCHEMA, Ledger, last_of_each_step, read_all_rows, read_ledger
from cineray.train.ledger_row import COLUMNS, row_of
from cineray.train.loop import StepFacts


def facts(step: int, **changed: Any) -> StepFacts:
    told: dict[str, Any] = {
        "step": step,
        "loss": 1 / (1 + step),
        "grad_norm": 0.5,
        "lr": 1e-3,
        "epoch": 0,
        "clips": 8,
        "frames": 120,
        "tokens": 1024,
        "forward_flops": 4_000_000,
        "padding_fraction": 0.0625,
        "substituted": 1,
        "frames_decoded": 180,
        "losses": (0.5,) * 8,
    }
    return StepFacts(**told | changed)


def times(**changed: float) -> StepTimes:
    told = {
        "data_wait_s": 0.1,
        "host_to_device_s": 0.01,
        "compute_s": 0.4,
        "checkpoint_s": 0.0,
        "validation_s": 0.0,
        "gpu_stall_s": math.nan,
        "step_s": 0.5,
        "ended": 1000.0,
    }
    return StepTimes(**told | changed)


def row(step: int, attempt: int = 1, **changed: Any) -> dict[str, Any]:
    return row_of(facts(step), times(), attempt=attempt, bucket="16x64x64", world_size=2) | changed


def test_a_row_has_the_columns_of_the_design() -> None:
    design = """step epoch clips frames tokens loss lr grad_norm data_wait_s host_to_device_s compute_s gpu_stall_s
    checkpoint_s step_s clips_per_s frames_per_s tokens_per_s mfu padding_fraction substituted decode_waste
    gpu_memory_bytes world_size"""
    assert set(design.split()) <= set(COLUMNS)
    assert list(row(3)) == list(COLUMNS) == SCHEMA.names


def test_rates_are_over_the_whole_step_and_mfu_counts_three_passes_on_all_devices() -> None:
    made = row_of(facts(3), times(), attempt=1, bucket="", world_size=2, peak_flops=1e8)

    assert (made["clips_per_s"], made["frames_per_s"], made["tokens_per_s"]) == (16, 240, 2048)
    assert made["mfu"] == pytest.approx(3 * 4e6 / (1e8 * 2 * 0.5))
    assert made["decode_waste"] == 1.5
    assert math.isnan(row(3)["mfu"]), "of a device that is not known"


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("Some Other GPU", math.nan),
    ],
)
def test_peaks_go_by_the_devices_name(name: str, peak: float) -> None:
    assert peak_flops(name, "bf16") == pytest.approx(peak, nan_ok=True)


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), 1, part_rows=4)
    rows = [row(step) for step in range(10)]
    for one in rows:
        ledger.add(one)
    assert [path.name for path in sorted(tmp_path.glob("*.parquet"))] == [
        "00001-000001.parquet",
        "00001-000002.parquet",
    ]
    assert [one["step"] for one in read_all_rows(str(tmp_path))] == list(range(10)), "while it is written, too"
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["00001-000003.jsonl"], "of the part under way"
    ledger.close()
    assert list(tmp_path.glob("*.jsonl")) == []

    back = read_ledger(str(tmp_path)).to_pylist()
    assert [{k: v for k, v in one.items() if not _nan(v)} for one in back] == [
        {k: v for k, v in one.items() if not _nan(v)} for one in rows
    ]


def _nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def test_a_step_that_was_done_again_counts_once_as_it_was_done_last(tmp_path: Path) -> None:
    for attempt, steps in [(1, range(6)), (2, range(4, 8)), (3, range(7, 9))]:
        ledger = Ledger(str(tmp_path), attempt)
        for step in steps:
            ledger.add(row(step, attempt))
        ledger.close()

    rows = read_all_rows(str(tmp_path))
    assert len(rows) == 12
    assert [(one["step"], one["attempt"]) for one in last_of_each_step(rows)] == [
        (0, 1),
        (1, 1),
        (2, 1),
        (3, 1),
        (4, 2),
        (5, 2),
        (6, 2),
        (7, 3),
        (8, 3),
    ]


WRITER = """
import sys, json
from cineray.train.ledger import Ledger
ledger, row = Ledger(sys.argv[1], 1, part_rows=50), json.loads(sys.argv[2])
for step in range(10**6):
    ledger.add(row | {"step": step})
    print(step, flush=True)
"""


@pytest.mark.parametrize("seen", [0, 49, 50, 51, 137])
def test_a_kill_loses_no_row(tmp_path: Path, seen: int) -> None:
    import json

    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), json.dumps(row(0))], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) >= seen:
            break
    os.kill(writer.pid, signal.SIGKILL)
    rest = [int(line) for line in writer.stdout.read().split("\n")[:-1]]
    writer.wait()
    said = rest[-1] if rest else seen

    steps = [one["step"] for one in read_all_rows(str(tmp_path))]
    assert steps == list(range(len(steps)))
    assert len(steps) >= said + 1


@pytest.mark.network
def test_in_an_object_store_the_part_under_way_is_put_again_and_again(s3_bucket: str) -> None:
    import time

    folder = f"{s3_bucket}/run/ledger"
    ledger = Ledger(folder, 1, part_rows=6, every_seconds=0.1)
    for step in range(15):
        ledger.add(row(step))
        if step in (2, 8):
            deadline = time.monotonic() + 10
            while len(read_all_rows(folder)) < step + 1 and time.monotonic() < deadline:
                time.sleep(0.05)
    ledger.close()
    assert [one["step"] for one in read_all_rows(folder)] == list(range(15))
