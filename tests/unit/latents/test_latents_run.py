"""Online, cache and precomputed are one run at three speeds: the same latents to the bit, and ever less to decode."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cineray.batch import batch_digest, concat, split
from cineray.errors import UsageError
from cineray.feed import TorchFeed, from_torch, latent_store, local_batches
from cineray.feed.latent_plan import second_epoch_hit_rate
from cineray.feed.latent_store import LatentStore
from cineray.feed.wire import pack, unpack
from cineray.models.autoencoder import HeldOut, load_autoencoder
from cineray.models.autoencoder_config import VaeLiteConfig
from cineray.models.vae_lite import VaeLite
from cineray.models.vae_lite_file import read_vae_lite, write_vae_lite
from cineray.plan import DatasetSpec, FrameSpec, SamplingSpec
from cineray.records import Batch, ClipSpec
from cineray.train.attempt import open_or_create
from cineray.train.config import TrainJob
from cineray.train.latents import LatentEncoder, from_tensor
from cineray.train.latents_config import LatentsConfig
from cineray.train.latents_job import prepare
from cineray.train.latents_run import RunLatents, feed_of, open_store
from cineray.train.local_run import run_local
from cineray.train.resolve import training_spec

JobOf = Callable[..., TrainJob]
CPU = torch.device("cpu")
STEPS = range(6)
"""Two epochs of the 12 videos."""


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written a moment ago is seen."""
    monkeypatch.setattr(latent_store, "LOOK_AGAIN_SECONDS", 0.0)


def passed(job: TrainJob, uri: Path, steps: range = STEPS) -> Iterator[tuple[Batch, np.ndarray[Any, Any]]]:
    """The batches that a run is fed, and the latents that its model would learn, as bits."""
    run, job = open_or_create(job, str(uri))
    spec = feed_of(job, run, on_gpu=False)
    latents = RunLatents(job, CPU)
    for batch in latents.batches(lambda steps: local_batches(spec, steps))(steps):
        if batch.latents is not None:
            yield batch, batch.latents.values_BCTHW
        else:
            assert latents.encoder is not None
            yield batch, from_tensor(latents.encoder.encode(torch.from_numpy(batch.frames_BTHWC)))


def bits(job: TrainJob, uri: Path) -> np.ndarray[Any, Any]:
    return np.stack([latents for _, latents in passed(job, uri)])


def precompute(job: TrainJob, engine: str = "local") -> Any:
    return prepare(job, range(job.steps)).make(engine)


# ---- the same, to the bit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_online_cache_and_precomputed_are_equal_bit_for_bit(job_of: JobOf, tmp_path: Path, dtype: str) -> None:
    told = {"dtype": dtype}
    online = bits(job_of("online", latents=told), tmp_path / "online")
    cache = job_of("cache", latents={**told, "store": str(tmp_path / "cached"), "shard_bytes": 1})
    first, again = bits(cache, tmp_path / "cache"), bits(cache, tmp_path / "again")
    made = job_of("precomputed", latents=told)
    precompute(made)
    ready = bits(made, tmp_path / "ready")
    assert online.dtype == (np.uint16 if dtype == "bf16" else np.float32)
    assert online.shape == (6, 4, 4, 2, 4, 4)
    assert all(np.array_equal(online, other) for other in (first, again, ready))
    assert len(np.unique(online.reshape(24, -1), axis=0)) == 12, "twelve clips, each twice"


def test_what_a_clip_is_encoded_with_does_not_change_it(job_of: JobOf, tmp_path: Path) -> None:
    """Groups of three over batches of four: the last clip of each batch is filled up with itself."""
    uneven = bits(job_of("online", latents={"clips_at_once": 3}), tmp_path / "a")
    assert np.array_equal(uneven, bits(job_of("online", latents={"clips_at_once": 4}), tmp_path / "b"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("compute", ["bf16", "fp32"])
def test_a_gpu_gives_a_clip_the_same_bits_in_any_batch_and_in_any_training(vae_file: str, compute: str) -> None:
    config = LatentsConfig.model_validate({"clips_at_once": 8, "compute": compute})
    encoder = LatentEncoder(load_autoencoder(VaeLiteConfig(path=vae_file)), config)
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (21, 9, 64, 64, 3), dtype=torch.uint8, generator=generator).cuda()
    whole = encoder.encode(frames)
    with torch.autocast("cuda", torch.bfloat16):
        alone = torch.cat([encoder.encode(frames[b : b + 1]) for b in range(21)])
    assert torch.equal(whole, alone)


def test_a_clip_whose_latent_is_stored_is_not_decoded(job_of: JobOf, tmp_path: Path) -> None:
    cache = job_of("cache", latents={"shard_bytes": 1})
    decoded = [(batch.frames_decoded, len(batch.frames_BTHWC)) for batch, _ in passed(cache, tmp_path / "run")]
    assert all(frames > 0 for frames, _ in decoded[:3])
    assert [frames for frames, _ in decoded[3:]] == [0, 0, 0]
    assert {shown for _, shown in decoded} == {0}, "what was encoded here needs no pixels any more either"


def test_a_whole_training_loses_the_same_in_all_modes_and_says_when_keeping_latents_pays(
    job_of: JobOf, tmp_path: Path
) -> None:
    small = {"model": {"kind": "stdit", "size": "custom", "width": 16, "depth": 1, "heads": 2, "patch": [1, 2, 2]}}
    facts = {}
    for mode in ("online", "cache", "precomputed"):
        job = job_of(mode, latents={"shard_bytes": 1}, checkpoint={"every_steps": None}, **small)
        if mode == "precomputed":
            precompute(job)
        facts[mode] = run_local(job, uri=str(tmp_path / mode))
    losses = {mode: told["loss"] for mode, told in facts.items()}
    assert losses["online"] == losses["cache"] == losses["precomputed"]
    told = {mode: one["latents"] for mode, one in facts.items()}
    assert (told["cache"]["encoded"], told["cache"]["found"]) == (12, 12)
    assert (told["precomputed"]["encoded"], told["precomputed"]["found"]) == (0, 24)
    assert [told[mode]["measured"] for mode in told] == [False, True, False]
    for one in told.values():
        saved = one["online_step_s"] - one["cached_step_s"]
        assert one["make_s"] > one["encode_s"] > 0, "what `cineray latents` noted beside the store, or the plan's guess"
        assert one["break_even_epochs"] == (pytest.approx(one["make_s"] / saved) if saved > 0 else None)
        assert ("epochs on" in one["sentence"]) == (saved > 0)


def test_what_encoding_takes_is_said_of_a_whole_step_and_not_of_one_of_its_parts(
    job_of: JobOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four clips in four parts, each of which is encoded in a tenth of a second; validation is no part of a step."""
    encode = VaeLite.encode

    def slow(self: VaeLite, *told: Any, **more: Any) -> torch.Tensor:
        time.sleep(0.1)
        return encode(self, *told, **more)

    monkeypatch.setattr(VaeLite, "encode", slow)
    small = {"model": {"kind": "stdit", "size": "custom", "width": 16, "depth": 1, "heads": 2, "patch": [1, 2, 2]}}
    judged = {"every_steps": 1, "clips": 2, "bins": 2, "held_out": 0.1, "baseline_clips": 0}
    told = run_local(job_of(steps=3, micro_batch=1, validation=judged, **small), uri=str(tmp_path / "run"))["latents"]
    assert 0.4 < told["encode_s"] <= told["online_step_s"]

    encoder = LatentEncoder(load_autoencoder(job_of().autoencoder), job_of().latents)
    frames = torch.zeros(2, 5, 32, 32, 3, dtype=torch.uint8)
    encoder.encode(frames)
    assert encoder.seconds() == 0
    began = time.perf_counter()
    for step in (7, 7, 8):
        encoder.encode(frames, step=step)
    took = time.perf_counter() - began
    seventh, eighth = encoder.step_seconds()
    assert 0.2 <= seventh <= took - eighth <= took - 0.1, "none is counted twice"
    assert encoder.seconds() == pytest.approx(seventh + eighth)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "rate"),
    [
        ({}, 1.0),
        ({"frame": FrameSpec(height=32, width=32, flip=0.5)}, 0.5),
        ({"sampling": SamplingSpec(mode="fps", fps="8", frames=5)}, 0.1),
    ],
)
def test_the_plan_says_how_often_a_cache_is_hit(job_of: JobOf, recipe: dict[str, Any], rate: float) -> None:
    plan = training_spec(job_of("online", recipe=recipe)).open().plan

    def key(clip: ClipSpec) -> str:
        return repr((clip.video_id, clip.frame_numbers, clip.crop))

    assert second_epoch_hit_rate(plan, key) == pytest.approx(rate, abs=0.25 if rate < 1 else 0)


def test_a_cache_that_could_serve_nothing_is_refused_before_anything_is_decoded(job_of: JobOf, tmp_path: Path) -> None:
    random = {"sampling": SamplingSpec(mode="random", frames=5)}
    with pytest.raises(UsageError) as refused:
        next(passed(job_of("cache", recipe=random), tmp_path / "run"))
    told = str(refused.value)
    assert "% of the second epoch's clips would be found" in told
    assert "sampling.mode is random" in told
    assert "latents.mode=online" in told
    allowed = job_of("cache", recipe=random, latents={"least_hit_rate": 0})
    assert next(passed(allowed, tmp_path / "other"))[0].step == 0


def test_precomputed_latents_that_were_not_made_are_missed_at_the_start(job_of: JobOf, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"24 clips .* 24 have no latent .* `cineray latents JOB`"):
        next(passed(job_of("precomputed"), tmp_path / "run"))


def test_any_recipe_may_be_precomputed_draw_by_draw(job_of: JobOf, tmp_path: Path) -> None:
    random = {"sampling": SamplingSpec(mode="random", frames=5), "clips_per_visit": 2}
    job = job_of("precomputed", recipe=random)
    precompute(job)
    assert np.array_equal(bits(job_of("online", recipe=random), tmp_path / "online"), bits(job, tmp_path / "run"))


def test_a_store_of_another_autoencoder_crop_or_sampler_is_refused_with_what_differs(
    job_of: JobOf, tmp_path: Path, vae_file: str
) -> None:
    precompute(job_of("precomputed"))
    model = read_vae_lite(vae_file)
    model.set_statistics(torch.zeros(4), torch.ones(4))
    other_file = str(tmp_path / "other.safetensors")
    write_vae_lite(model, other_file, HeldOut(psnr_db=40, temporal_psnr_db=40, flicker_ratio=1, clips=8))
    others = {
        r'autoencoder.hash: "\w+" -> "\w+"': {"autoencoder": VaeLiteConfig(path=other_file)},
        r'frame.crop: "center" -> "random"': {"recipe": {"frame": FrameSpec(height=32, width=32, crop="random")}},
        r'sampling.fps: "8" -> "6"': {
            "recipe": {"sampling": SamplingSpec(mode="fps", fps="6", frames=5, start="first")}
        },
        r'dtype: "bf16" -> "fp32"': {"latents": {"dtype": "fp32"}},
        r'compute: "fp32" -> "bf16"': {"latents": {"compute": "bf16"}},
    }
    for number, (differs, told) in enumerate(others.items()):
        with pytest.raises(UsageError, match=differs):
            next(passed(job_of("precomputed", **told), tmp_path / f"run{number}"))


# ---- batches with latents travel as others do ------------------------------------------------------------------------


def partly_stored(job_of: JobOf, tmp_path: Path) -> tuple[Any, list[Batch]]:
    """A feed whose store has the first step's clips only, and its batches."""
    job = job_of("precomputed", recipe={"clips_per_visit": 1, "batch_size": 6})
    prepare(job, range(1)).make("local")
    run, job = open_or_create(job.model_copy(update={"steps": 1}), str(tmp_path / "partly"))
    spec = feed_of(job, run, on_gpu=False)
    return spec, list(local_batches(spec, range(4)))


def same(one: Batch, other: Batch) -> bool:
    if (one.latents is None) != (other.latents is None) or tuple(one.specs) != tuple(other.specs):
        return False
    arrays = [(one.frames_BTHWC, other.frames_BTHWC), (one.seconds_BT, other.seconds_BT)]
    if one.latents is not None and other.latents is not None:
        arrays += [(one.latents.values_BCTHW, other.latents.values_BCTHW)]
        arrays += [(one.latents.is_here_B, other.latents.is_here_B)]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays)


def test_batches_of_latents_pixels_or_both_survive_the_wire(job_of: JobOf, tmp_path: Path) -> None:
    _, batches = partly_stored(job_of, tmp_path)
    kinds = [None if b.latents is None else int(b.latents.is_here_B.sum()) for b in batches]
    assert kinds[0] == 6
    assert len(set(kinds)) > 1
    assert all(map(same, unpack(*pack(batches)), batches))


def test_batches_with_latents_are_split_and_joined(job_of: JobOf, tmp_path: Path) -> None:
    _, batches = partly_stored(job_of, tmp_path)
    for batch in batches:
        for world in (1, 2, 3):
            shares = split(batch, world)
            joined = concat(shares)
            assert same(joined, batch)
            assert batch_digest(shares) == batch_digest([batch])
            assert all(len(share.frames_BTHWC) == _missing(share) for share in shares)


def _missing(batch: Batch) -> int:
    return len(batch.specs) if batch.latents is None else int((~batch.latents.is_here_B).sum())


def test_a_data_loaders_workers_bring_them_too(job_of: JobOf, tmp_path: Path) -> None:
    spec, batches = partly_stored(job_of, tmp_path)
    loaded = [from_torch(told) for told in TorchFeed(spec, range(4), rank=0, world=1).loader(num_workers=2)]
    assert all(map(same, loaded, batches))


def test_a_clip_that_cannot_be_decoded_has_the_same_substitute_in_the_store(
    job_of: JobOf, videos: Path, tmp_path: Path
) -> None:
    from cineray.ingest import EngineConfig, IngestConfig, ingest

    shutil.copytree(videos / "videos", tmp_path / "videos")
    ingest(IngestConfig(source=str(tmp_path / "videos"), lake=str(tmp_path / "lake")), EngineConfig(engine="local"))
    path = sorted((tmp_path / "videos").rglob("*.mp4"))[0]
    before = path.stat()
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    recipe = {"datasets": (DatasetSpec(lake=str(tmp_path / "lake"), split=None),), "max_substituted_fraction": 0.5}
    cache = job_of("cache", recipe=recipe, latents={"shard_bytes": 1})
    found = [batch.substitutions for batch, _ in passed(cache, tmp_path / "run")]
    assert [len(some) for some in found].count(1) == 2, "once in each epoch"
    online = bits(job_of("online", recipe=recipe), tmp_path / "online")
    assert np.array_equal(online, bits(cache, tmp_path / "again"))


# ---- filling the store -----------------------------------------------------------------------------------------------


def command(job_yaml: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "cineray", "latents", str(job_yaml), "--engine", "local", "--json", *more]


def written(job: TrainJob, folder: Path) -> Path:
    from cineray.config import job_to_yaml
    from cineray.train.job_kinds import JOB_KINDS

    path = folder / "job.yaml"
    path.write_text(job_to_yaml(job, JOB_KINDS))
    return path


def test_two_commands_at_once_fill_one_store_and_a_third_has_nothing_to_do(job_of: JobOf, tmp_path: Path) -> None:
    path = written(job_of("precomputed"), tmp_path)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(command(path), stdout=subprocess.PIPE, env=env) for _ in range(2)]
    told = [json.loads(child.communicate(timeout=120)[0]) for child in both]
    assert [child.returncode for child in both] == [0, 0]
    assert [(one["draws"], one["distinct"], one["second_epoch_hit_rate"]) for one in told] == [(24, 12, 1.0)] * 2
    assert 12 <= sum(one["encoded"] for one in told) <= 24
    third = json.loads(subprocess.check_output(command(path), env=env))
    assert (third["present"], third["encoded"]) == (12, 0)
    assert third["bytes_per_clip"] == 4 * 2 * 4 * 4 * 2
    assert np.array_equal(bits(job_of("online"), tmp_path / "online"), bits(job_of("precomputed"), tmp_path / "run"))


def test_one_that_is_killed_leaves_a_store_that_the_next_one_completes(job_of: JobOf, tmp_path: Path) -> None:
    random = {"sampling": SamplingSpec(mode="random", frames=5)}
    job = job_of("precomputed", recipe=random, steps=120, latents={"shard_bytes": 2000})
    path = written(job, tmp_path)
    child = subprocess.Popen(command(path), stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})
    rows = tmp_path / "store" / "rows"
    while child.poll() is None and (not rows.is_dir() or len(list(rows.glob("*.safetensors"))) < 5):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait(timeout=60) == -signal.SIGKILL, "it was killed before it was done"
    kept = len(open_store(job, CPU))
    done = prepare(job, range(job.steps))
    assert 0 < kept == done.wanted.present < done.wanted.distinct
    made = done.make("local")
    assert done.wanted.distinct - kept <= made.encoded < done.wanted.distinct
    assert np.array_equal(
        bits(job_of("online", recipe=random, steps=120), tmp_path / "online"), bits(job, tmp_path / "run")
    )


def test_where_latents_are_made_follows_what_was_asked_for_and_not_what_is_seen(
    job_of: JobOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray shows all GPUs to tasks that were given none."""
    from cineray.train.ray_latents import work_of

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    job = job_of("precomputed")
    on_cores = prepare(job, STEPS, on_gpu=False)
    assert (on_cores.on_gpu, on_cores.compute) == (False, "fp32")
    work = work_of(job.model_dump_json(), on_cores.spec.fingerprint, "fp32", on_gpu=False)
    assert work.device == CPU
    assert work.make(on_cores.wanted.steps).encoded == 12
    # In this process: as the job would train.
    assert prepare(job_of("precomputed", parallel={"gpus_per_worker": 0}), STEPS).on_gpu is False


@pytest.mark.ray
def test_rays_workers_fill_the_same_store_and_the_ray_feed_reads_it(
    job_of: JobOf, tmp_path: Path, ray_here: None
) -> None:
    from cineray.feed.ray_feed import RayFeed, RayOptions

    made = job_of("precomputed")
    assert precompute(made, "ray").encoded == 12
    assert np.array_equal(bits(job_of("online"), tmp_path / "online"), bits(made, tmp_path / "run"))
    spec, batches = partly_stored(job_of, tmp_path / "second")
    (shard,) = RayFeed(RayOptions(spec=spec), range(4)).shards()
    assert all(map(same, shard.batches(), batches))


def test_a_store_on_the_way_is_only_as_large_as_its_rows(job_of: JobOf) -> None:
    job = job_of("precomputed")
    precompute(job)
    store = open_store(job, CPU)
    assert isinstance(store, LatentStore)
    files = list((Path(store.uri) / "rows").iterdir())
    assert len(store) == 12
    assert sum(file.stat().st_size for file in files) < 12 * (4 * 2 * 4 * 4 * 2 + 200)
