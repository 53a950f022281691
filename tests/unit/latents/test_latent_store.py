"""The store of latents: rows by key, files written whole, several writers, and nothing mistaken for anything else."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from cineray.errors import UsageError
from cineray.feed import latent_store
from cineray.feed.latent_store import LatentStore, LatentWriter, StoreIdentity, StoreSpec, latent_key
from cineray.records import ClipSpec, Crop

IDENTITY = StoreIdentity({"autoencoder": {"hash": "aa", "channels": 4}, "dtype": "bf16", "frame": {"crop": "center"}})

SPEC = ClipSpec(
    clip_id="clip",
    video_id="0f" * 16,
    dataset=0,
    clip_number=3,
    epoch=0,
    draw=0,
    frame_numbers=(0, 2, 4),
    frame_pts=(0, 200, 400),
    time_base=Fraction(1, 1000),
    frame_is_real=(True, True, True),
    crop=Crop(top=0, left=0, height=32, width=32, out_height=16, out_width=16),
)


def row(number: int) -> np.ndarray[Any, Any]:
    return np.full((4, 2, 2, 2), number, np.uint16)


def filled(folder: Path, *numbers: int) -> LatentStore:
    store = LatentStore.open(str(folder), IDENTITY)
    with LatentWriter(store) as writer:
        for number in numbers:
            writer.add(f"{number:032x}", row(number))
    store.look()
    return store


def found(store: LatentStore, *numbers: int) -> list[int | None]:
    rows = store.find([f"{number:032x}" for number in numbers])
    return [None if one is None else int(one.flat[0]) for one in rows]


# ---- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"video_id": "0e" * 16},
        {"frame_numbers": (0, 2, 5)},
        {"frame_pts": (0, 200, 401)},
        {"time_base": Fraction(1, 1001)},
        {"frame_is_real": (True, True, False)},
        *({"crop": replace(SPEC.crop, **{name: 7})} for name in Crop.__slots__ if name != "flip"),
        {"crop": replace(SPEC.crop, flip=True)},
    ],
    ids=str,
)
def test_whatever_changes_pixels_changes_the_key(change: dict[str, Any]) -> None:
    assert latent_key(IDENTITY, replace(SPEC, **change)) != latent_key(IDENTITY, SPEC)


@pytest.mark.parametrize("change", [{"epoch": 5}, {"draw": 2}, {"clip_number": 9}, {"caption": "a"}, {"label": "b"}])
def test_what_changes_no_pixel_leaves_the_key(change: dict[str, Any]) -> None:
    assert latent_key(IDENTITY, replace(SPEC, **change)) == latent_key(IDENTITY, SPEC)


def test_another_autoencoder_has_other_keys() -> None:
    other = StoreIdentity({**IDENTITY.values, "autoencoder": {"hash": "bb", "channels": 4}})
    assert latent_key(other, SPEC) != latent_key(IDENTITY, SPEC)


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_what_was_added_is_found_by_whoever_opens_the_store_and_the_rest_is_not(tmp_path: Path) -> None:
    filled(tmp_path, 1, 2, 3)
    again = LatentStore.open(str(tmp_path), IDENTITY)
    assert found(again, 3, 9, 1, 3) == [3, None, 1, 3]
    assert len(again) == 3


def test_a_file_of_the_store_is_a_safetensors_file(tmp_path: Path) -> None:
    filled(tmp_path, 1, 2)
    (file,) = (tmp_path / "rows").iterdir()
    tensors = safetensors.torch.load_file(file)
    assert {name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()} == {
        f"{number:032x}": (torch.bfloat16, (4, 2, 2, 2)) for number in (1, 2)
    }
    assert torch.equal(tensors[f"{2:032x}"].view(torch.uint16), torch.from_numpy(row(2)))


def test_rows_are_written_when_there_are_enough_or_when_they_have_waited(tmp_path: Path) -> None:
    store = LatentStore.open(str(tmp_path), IDENTITY)
    size = row(0).nbytes
    writer = LatentWriter(store, shard_bytes=3 * size, flush_seconds=1000)
    for number in range(7):
        writer.add(f"{number:032x}", row(number))
    assert writer.written == 6
    writer.flush_if_due()
    assert writer.written == 6
    writer.flush_seconds = 0
    writer.flush_if_due()
    assert writer.written == 7
    assert len(list((tmp_path / "rows").iterdir())) == 3


def test_a_row_is_not_written_twice_by_one_writer(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    writer = LatentWriter(store)
    for number in (1, 2, 2):
        writer.add(f"{number:032x}", row(number))
    writer.flush()
    assert writer.written == 1


def test_a_reader_sees_what_others_write_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = LatentStore.open(str(tmp_path), IDENTITY)
    filled(tmp_path, 5)
    assert found(reader, 5) == [None], "it has looked a moment ago, and does not list the folder for every clip"
    monkeypatch.setattr(latent_store, "LOOK_AGAIN_SECONDS", 0.0)
    assert found(reader, 5) == [5]


# ---- several writers, and killed ones --------------------------------------------------------------------------------

WRITER = """
import sys, numpy as np
from cineray.feed.latent_store import LatentStore, LatentWriter, StoreIdentity
folder, start, stop, each, identity = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
store = LatentStore.open(folder, StoreIdentity.from_json(identity))
writer = LatentWriter(store, shard_bytes=each * 64)
for number in range(start, stop):
    writer.add(f"{number:032x}", np.full((4, 2, 2, 2), number, np.uint16))
    print(number, flush=True)
writer.flush()
"""


@pytest.fixture
def writing() -> Callable[..., subprocess.Popen[str]]:
    def start(folder: Path, first: int, last: int, each: int) -> subprocess.Popen[str]:
        told = [str(folder), str(first), str(last), str(each), IDENTITY.to_json()]
        return subprocess.Popen([sys.executable, "-c", WRITER, *told], stdout=subprocess.PIPE, text=True)

    return start


def test_two_writers_at_once_both_land_where_their_rows_are_the_same_and_where_not(
    tmp_path: Path, writing: Callable[..., subprocess.Popen[str]]
) -> None:
    both = [writing(tmp_path, 0, 200, 7), writing(tmp_path, 100, 300, 11)]
    for one in both:
        one.communicate(timeout=60)
    assert [one.returncode for one in both] == [0, 0]
    store = LatentStore.open(str(tmp_path), IDENTITY)
    assert found(store, *range(300)) == list(range(300))


def test_a_writer_that_is_killed_leaves_what_it_had_finished_and_the_next_one_goes_on(
    tmp_path: Path, writing: Callable[..., subprocess.Popen[str]]
) -> None:
    writer = writing(tmp_path, 0, 10**6, 10)
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) >= 57:
            break
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=60)
    store = LatentStore.open(str(tmp_path), IDENTITY)
    kept = len(store)
    assert kept >= 50
    assert kept % 10 == 0
    assert found(store, *range(kept)) == list(range(kept))
    assert found(filled(tmp_path, kept, kept + 1), kept - 1, kept, kept + 1) == [kept - 1, kept, kept + 1]


def test_an_unfinished_file_is_not_seen(tmp_path: Path) -> None:
    """What a writer that was killed inside its one write leaves behind."""
    filled(tmp_path, 1)
    (whole,) = (tmp_path / "rows").iterdir()
    torn = tmp_path / "rows" / "ffffffffffffffff-000000000000.safetensors"
    for length in (0, 4, 60, 200):
        torn.write_bytes(whole.read_bytes()[:length].replace(b"%032x" % 1, b"%032x" % 2))
        store = LatentStore.open(str(tmp_path), IDENTITY)
        assert found(store, 1, 2) == [1, None], length


def test_a_damaged_row_is_none_and_is_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path, 1, 2)
    (file,) = (tmp_path / "rows").iterdir()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    store = LatentStore.open(str(tmp_path), IDENTITY)
    with caplog.at_level(logging.WARNING):
        assert found(store, 1, 2) == [1, None]
    assert f"{2:032x}" in caplog.text
    assert f"{2:032x}" not in store, "so that it is written again"


# ---- another store ---------------------------------------------------------------------------------------------------


def test_a_store_of_something_else_is_refused_with_what_differs(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    other = StoreIdentity(
        {"autoencoder": {"hash": "bb", "channels": 4}, "dtype": "bf16", "frame": {"crop": "random", "flip": 0.5}}
    )
    with pytest.raises(UsageError) as refused:
        StoreSpec(str(tmp_path), other.to_json()).open()
    told = str(refused.value)
    assert 'autoencoder.hash: "aa" -> "bb"' in told
    assert 'frame.crop: "center" -> "random"' in told
    assert "frame.flip: (nothing) -> 0.5" in told
    assert "channels" not in told
    assert "latents.store" in told


def test_a_store_goes_to_workers_in_words(tmp_path: Path) -> None:
    store = filled(tmp_path, 4)
    assert found(store.spec.open(), 4) == [4]


@pytest.mark.network
def test_the_same_on_an_object_store(s3_bucket: str) -> None:
    store = LatentStore.open(f"{s3_bucket}/latents", IDENTITY)
    with LatentWriter(store, shard_bytes=200) as writer:
        for number in range(6):
            writer.add(f"{number:032x}", row(number))
    assert found(LatentStore.open(f"{s3_bucket}/latents", IDENTITY), 5, 0, 9) == [5, 0, None]
