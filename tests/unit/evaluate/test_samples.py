"""What a checkpoint makes of its run's prompts: the same noise each time, guidance, first frames, lengths, models."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cineray.config import override
from cineray.diffusion import DiffusionConfig, Purpose, normal
from cineray.errors import CinerayError, UsageError
from cineray.evaluate import Prompt, SampleConfig, Sampler, generate, load_sampler, prompts_of, real_clips
from cineray.evaluate.prompts import train_job
from cineray.evaluate.samples import checkpoint_of
from cineray.feed import FeedConfig
from cineray.ingest import EngineConfig, IngestConfig, ingest
from cineray.models import Image2VideoConfig, StDiTConfig, TextConfig, UNet3dConfig, build_model
from cineray.models.autoencoder import HeldOut
from cineray.models.autoencoder_config import VaeLiteConfig, VaeLiteShape
from cineray.models.vae_lite import VaeLite
from cineray.models.vae_lite_file import write_vae_lite
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes
from cineray.train import CheckpointConfig, EmaConfig, RunFolder, TrainJob, ValidationConfig, run_local
from cineray.train.checkpoint_read import read_tensors
from cineray.train.diffusion_task import DiffusionTask
from cineray.train.resolve import resolved, training_spec, validation_spec

torch.set_num_threads(1)

TINY = StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8), modulation_std=0.02)
PLAIN = SampleConfig(guidance=1, steps=2)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    """16 videos of two seconds; a quarter have a variable rate."""
    folder = tmp_path_factory.mktemp("samples")
    make_shapes(folder / "videos", videos=16, frames=24, size_px=32)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    return str(folder / "lake")


def job_of(lake: str, **told: Any) -> TrainJob:
    """4 frames of 16 px, two steps, a checkpoint after each; a fifth of the videos is held out."""
    values: dict[str, Any] = {
        "name": "shapes",
        "recipe": Recipe(
            datasets=(DatasetSpec(lake=lake, split=None),),
            sampling=SamplingSpec(mode="fps", fps="8", frames=4),
            frame=FrameSpec(height=16, width=16),
            batch_size=4,
        ),
        "feed": FeedConfig(driver="local"),
        "steps": 2,
        "classes": "data",
        "model": TINY,
        "diffusion": DiffusionConfig(least_noise=0.2, first_frame=0.2),
        "precision": "fp32",
        "ema": EmaConfig(decay=0.5, ramp=False),
        "validation": ValidationConfig(every_steps=100, clips=4, bins=2, held_out=0.2, baseline_clips=0),
        "checkpoint": CheckpointConfig(every_steps=1, keep_last=9),
    }
    return TrainJob(**(values | told))


@pytest.fixture(scope="module")
def run(lake: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained(job_of(lake), tmp_path_factory.mktemp("run"))


def trained(job: TrainJob, folder: Path) -> RunFolder:
    return RunFolder.open(run_local(job, uri=str(folder / "run"))["run"])


def heading(z_BCTHW: Tensor, value_B: Tensor) -> Tensor:
    """A velocity that is the same everywhere: along it, Euler ends at noise + value, exactly."""
    return value_B.view(-1, 1, 1, 1, 1).expand_as(z_BCTHW)


def pixels(x_BCTHW: Tensor) -> np.ndarray:
    return ((x_BCTHW.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).numpy()


# ---- prompts ---------------------------------------------------------------------------------------------------------


def test_prompts_are_of_held_out_clips_and_say_all_of_them_but_the_pixels(run: RunFolder, lake: str) -> None:
    job = resolved(job_of(lake))
    judging = validation_spec(job)
    assert judging is not None
    (first, *_), asked = judging.open().plan.batch(0), prompts_of(run, 40)
    num, den = first.time_base.numerator, first.time_base.denominator
    assert asked[0] == Prompt(
        name="prompt-0000",
        seed=0,
        label=first.label or "",
        caption=first.caption or "",
        seconds=tuple((pts - first.frame_pts[0]) * num / den for pts in first.frame_pts),
        facts=asked[0].facts,
        source="held_out",
        first_frame_of=first.clip_id,
        height=16,
        width=16,
        step=0,
        slot=0,
    )
    assert [prompt.name for prompt in asked] == [f"prompt-{number:04d}" for number in range(40)]
    catalog = training_spec(job).open().catalogs[0]
    trains = {catalog.clip(number).clip_id for number in range(len(catalog))}
    assert not {prompt.first_frame_of for prompt in asked} & trains


def test_prompts_are_written_once_and_stay(run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(run.uri, tmp_path / "run")
    copy = RunFolder.open(str(tmp_path / "run"))
    (tmp_path / "run" / "prompts.json").unlink(missing_ok=True)
    made = prompts_of(copy, 8)
    told = json.loads((tmp_path / "run" / "prompts.json").read_text())
    told["prompts"][3]["caption"] = "something that nobody would make again"
    (tmp_path / "run" / "prompts.json").write_text(json.dumps(told))
    assert prompts_of(copy, 3) == made[:3]
    assert prompts_of(copy, 8)[3].caption == "something that nobody would make again"


def test_more_prompts_than_there_are_and_damaged_ones_are_refused(run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(run.uri, tmp_path / "run")
    copy = RunFolder.open(str(tmp_path / "run"))
    with pytest.raises(UsageError, match=r"99999 clips were asked for, and the run .* has 2048 prompts; lower clips"):
        prompts_of(copy, 99999)
    (tmp_path / "run" / "prompts.json").write_text('{"format": 1}')
    with pytest.raises(CinerayError, match=r"prompts\.json is damaged .*restore it"):
        prompts_of(copy, 1)


def test_a_run_that_holds_nothing_out_asks_for_what_it_learnt_from(lake: str, tmp_path: Path) -> None:
    run = trained(job_of(lake, steps=1, validation=ValidationConfig(every_steps=0)), tmp_path)
    asked = prompts_of(run, 2)
    assert [prompt.source for prompt in asked] == ["training", "training"]
    assert real_clips(run, asked).names == ("prompt-0000", "prompt-0001")


def test_the_real_clips_of_prompts_are_those_of_the_plan(run: RunFolder, lake: str) -> None:
    from cineray.feed import local_batch

    judging = validation_spec(resolved(job_of(lake)))
    assert judging is not None
    whole = local_batch(judging, 1)
    asked = [prompt for prompt in prompts_of(run, 12) if prompt.step == 1]
    real = real_clips(run, asked[::-1])
    assert real.names == tuple(prompt.name for prompt in asked[::-1])
    assert (real.frames_NTHWC == whole.frames_BTHWC[::-1]).all()


# ---- noise, guidance, weights ----------------------------------------------------------------------------------------


def test_each_prompt_has_its_noise_at_every_checkpoint_and_in_every_batch(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Along a velocity of zero the clip is the noise itself."""
    monkeypatch.setattr(Sampler, "_velocity", lambda self, cond: lambda z, t: heading(z, torch.zeros(len(z))))
    asked = prompts_of(run, 5)
    slots = torch.arange(5)
    wanted = pixels(normal((3, 4, 16, 16), seed=0, step=0, slots_B=slots, purpose=Purpose.SAMPLE))
    for step, config in ((1, {}), (2, {}), (2, {"batch": 2}), (2, {"method": "heun", "steps": 3})):
        made = generate(run, asked, PLAIN.model_copy(update=config), step=step)
        assert (made.frames_NTHWC == wanted).all()
    part = generate(run, asked[3:4], PLAIN)
    assert (part.frames_NTHWC == wanted[3:4]).all(), "company does not matter"
    other = generate(run, asked, PLAIN.model_copy(update={"seed": 1}))
    assert (other.frames_NTHWC != wanted).any()


@pytest.mark.parametrize(("guidance", "where"), [(1.0, 0.2), (0.0, -0.1), (3.0, 0.8)])
def test_guidance_goes_from_what_is_made_without_a_class_to_beyond_what_is_made_with_it(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, guidance: float, where: float
) -> None:
    """With its class every clip heads for +0.2, without one for -0.1."""
    monkeypatch.setattr(
        Sampler,
        "_velocity",
        lambda self, cond: lambda z, t: heading(z, torch.where(cond.class_B < len(self.task.class_ids), 0.2, -0.1)),
    )
    asked = prompts_of(run, 2)
    made = generate(run, asked, PLAIN.model_copy(update={"guidance": guidance}))
    noise = normal((3, 4, 16, 16), seed=0, step=0, slots_B=torch.arange(2), purpose=Purpose.SAMPLE)
    apart = np.abs(made.frames_NTHWC.astype(int) - pixels(noise + where).astype(int))
    assert apart.max() <= 1


def test_guidance_needs_a_training_in_which_classes_were_hidden(lake: str, tmp_path: Path) -> None:
    run = trained(job_of(lake, steps=1, diffusion=DiffusionConfig(drop=0)), tmp_path)
    with pytest.raises(UsageError, match=r"guidance is 1\.5, .*diffusion\.drop=0.*set guidance to 1"):
        generate(run, prompts_of(run, 1))
    assert len(generate(run, prompts_of(run, 1), PLAIN)) == 1


def test_the_weights_are_the_checkpoints_average_or_its_own_or_the_first_ones(run: RunFolder) -> None:
    ema, own = (read_tensors(checkpoint_of(run, None), part) for part in ("ema", "model"))
    name = "net.modulation.weight"
    assert not torch.equal(ema[name], own[name])
    found = {kind: load_sampler(run, weights=kind).model.state_dict() for kind in ("ema", "model", "initial")}
    assert all(torch.equal(found["ema"][key], value) for key, value in ema.items())
    assert all(torch.equal(found["model"][key], value) for key, value in own.items())
    first = DiffusionTask(train_job(run)).build().state_dict()
    assert all(torch.equal(found["initial"][key], value) for key, value in first.items() if key.startswith("net."))
    assert not torch.equal(first[name], own[name])
    assert torch.equal(found["initial"]["data_mean_C"], ema["data_mean_C"])


def test_loading_leaves_torchs_own_random_numbers_alone(run: RunFolder) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    for weights in ("ema", "initial"):
        torch.manual_seed(5)
        load_sampler(run, weights=weights)
        assert torch.equal(torch.rand(3), wanted)


def test_a_checkpoint_that_is_not_there_is_named(run: RunFolder) -> None:
    with pytest.raises(CinerayError, match="has no checkpoint of step 7; go on with it: cineray train"):
        load_sampler(run, step=7)


# ---- first frames ----------------------------------------------------------------------------------------------------


def test_a_given_first_frame_is_the_clips_first_frame(run: RunFolder) -> None:
    asked = prompts_of(run, 3)
    made = generate(run, asked, PLAIN.model_copy(update={"first_frame": True}))
    real = real_clips(run, asked)
    assert (made.frames_NTHWC[:, 0] == real.frames_NTHWC[:, 0]).all()
    assert (made.frames_NTHWC[:, 1:] != real.frames_NTHWC[:, 1:]).any()


def test_a_model_that_never_saw_a_first_frame_is_said_to_be_one(lake: str, tmp_path: Path) -> None:
    run = trained(job_of(lake, steps=1, diffusion=DiffusionConfig(first_frame=0)), tmp_path)
    with pytest.warns(UserWarning, match=r"diffusion\.first_frame=0, so its model has never seen"):
        generate(run, prompts_of(run, 1), PLAIN.model_copy(update={"first_frame": True}))


def test_a_clip_that_cannot_be_decoded_any_more_is_no_first_frame(run: RunFolder) -> None:
    asked = prompts_of(run, 3)
    gone = replace(asked[1], first_frame_of="a clip that is not in that place")
    with pytest.warns(UserWarning, match="left out: prompt-0001"):
        made = generate(run, [asked[0], gone, asked[2]], PLAIN.model_copy(update={"first_frame": True}))
    assert made.names == ("prompt-0000", "prompt-0002")


# ---- lengths and rates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "seconds"),
    [
        ([], [0, 0.125, 0.25, 0.375]),
        (["frames=2"], [0, 0.125]),
        (["frames=6"], [0, 0.125, 0.25, 0.375, 0.5, 0.625]),
        (["fps=4"], [0, 0.25, 0.5, 0.75]),
        (["fps=4", "frames=2"], [0, 0.25]),
        (["seconds=0.25"], [0, 0.125]),
        (["seconds=0.5", "fps=10"], [0, 0.1, 0.2, 0.3, 0.4]),
        (["seconds=0.6", "frames=3"], [0, 0.2, 0.4]),
    ],
    ids=str,
)
def test_any_length_and_rate_that_is_asked_for(run: RunFolder, sets: list[str], seconds: list[float]) -> None:
    made = generate(run, prompts_of(run, 2), override(PLAIN, sets))
    assert made.seconds_NT.tolist() == [pytest.approx(seconds)] * 2
    assert made.frames_NTHWC.shape == (2, len(seconds), 16, 16, 3)


def test_another_size_is_made_where_positions_are_rotations(run: RunFolder) -> None:
    made = generate(run, prompts_of(run, 1), override(PLAIN, ["height=24", "width=32"]))
    assert made.frames_NTHWC.shape == (1, 4, 24, 32, 3)
    with pytest.raises(UsageError, match=r"20 x 32 pixels .* spans 8 x 8; set height and width to multiples"):
        generate(run, prompts_of(run, 1), override(PLAIN, ["height=20", "width=32"]))


def test_what_learnt_positions_cannot_take_is_refused(lake: str, tmp_path: Path) -> None:
    model = TINY.model_copy(update={"positions": "rope+learned", "patch": (2, 8, 8)})
    run = trained(job_of(lake, steps=1, model=model), tmp_path)
    asked = prompts_of(run, 1)
    assert generate(run, asked, override(PLAIN, ["frames=2"])).num_frames == 2
    with pytest.raises(UsageError, match=r"clips of 6 frames .* learnt positions end at 4 frames of 16 x 16 .*rope"):
        generate(run, asked, override(PLAIN, ["frames=6"]))
    with pytest.raises(UsageError, match=r"clips of 3 frames .* spans 2 frames; set frames to 2 or 4"):
        generate(run, asked, override(PLAIN, ["frames=3"]))


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["frames=4", "fps=8", "seconds=1"], "all given"),
        (["height=8"], "width is not"),
        (["first_frame=true", "height=8", "width=8"], "leave height and width out"),
        (["fps=fast"], "must be a number or a ratio"),
        (["guidence=3"], "did you mean `guidance`"),
    ],
    ids=str,
)
def test_contradictions_are_refused_by_name(sets: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        override(SampleConfig(), sets)


# ---- every kind of model ---------------------------------------------------------------------------------------------


def image_weights(folder: Path) -> str:
    """An image model that somebody trained elsewhere."""
    torch.manual_seed(1)
    image = build_model(TINY, channels=3, num_classes=8, text_width=None, longest=(1, 16, 16))
    save_file({name: value.contiguous() for name, value in image.state_dict().items()}, folder / "image.safetensors")
    return str(folder / "image.safetensors")


def vae(folder: Path) -> str:
    """An autoencoder of 4 frames and 8 x 8 pixels for each place of a latent."""
    torch.manual_seed(0)
    path = str(folder / "vae.safetensors")
    model = VaeLite(VaeLiteShape(width=8, blocks=1, channels=4)).eval()
    write_vae_lite(model, path, HeldOut(psnr_db=40.0, temporal_psnr_db=40.0, flicker_ratio=1.0, clips=8))
    return path


KINDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "unet3d": lambda folder: {"model": UNet3dConfig(channels=8, multipliers=(1, 2), blocks=1, heads=1)},
    "text": lambda folder: {"text": TextConfig(kind="builtin", width=16, depth=1, heads=2, tokens=12)},
    "neither class nor text": lambda folder: {"classes": "none"},
    "bf16": lambda folder: {"precision": "bf16"},
    "image2video": lambda folder: {"model": Image2VideoConfig(base=TINY, image_weights=image_weights(folder))},
    "latents": lambda folder: {
        "autoencoder": VaeLiteConfig(path=vae(folder)),
        "model": TINY.model_copy(update={"patch": (1, 1, 1)}),
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_makes_clips_with_guidance_and_a_first_frame(kind: str, lake: str, tmp_path: Path) -> None:
    run = trained(job_of(lake, steps=1, **KINDS[kind](tmp_path)), tmp_path)
    if kind == "image2video":
        os.remove(tmp_path / "image.safetensors")  # the checkpoint has all that a model is
    config = override(SampleConfig(steps=2, batch=2), ["method=heun", "first_frame=true", "frames=6"])
    made = generate(run, prompts_of(run, 3), config)
    assert made.frames_NTHWC.shape == (3, 6, 16, 16, 3)
    assert len({clip.tobytes() for clip in made.frames_NTHWC}) == 3


def test_latents_come_out_as_their_autoencoder_shows_them(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Along a velocity of zero, what is shown is what the autoencoder makes of the noise: 2 latent frames hold 4."""
    run = trained(job_of(lake, steps=1, **KINDS["latents"](tmp_path)), tmp_path)
    sampler = load_sampler(run)
    monkeypatch.setattr(Sampler, "_velocity", lambda self, cond: lambda z, t: heading(z, torch.zeros(len(z))))
    made = sampler.generate(prompts_of(run, 2), PLAIN)
    noise = normal((4, 2, 2, 2), seed=0, step=0, slots_B=torch.arange(2), purpose=Purpose.SAMPLE)
    with torch.no_grad():
        wanted = pixels(sampler.task.autoencoder.decode(noise, frames=4))
    assert (made.frames_NTHWC == wanted).all()


def test_a_caption_is_heard(lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each prompt's own caption is encoded, and what guidance compares with has none."""
    run = trained(job_of(lake, steps=1, **KINDS["text"](tmp_path)), tmp_path)
    sampler, asked = load_sampler(run), prompts_of(run, 3)
    assert sampler.model.text is not None
    heard: list[Sequence[str | None]] = []
    encode = sampler.model.text.encode

    def encoded(captions: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        heard.append(captions)
        return encode(captions)

    monkeypatch.setattr(sampler.model.text, "encode", encoded)
    conds: list[Any] = []

    def velocity(self: Sampler, cond: Any) -> Any:
        conds.append(cond)
        return lambda z, t: heading(z, torch.zeros(len(z)))

    monkeypatch.setattr(Sampler, "_velocity", velocity)
    sampler.generate(asked, SampleConfig(steps=1))
    assert heard == [[prompt.caption for prompt in asked]]
    assert [bool(cond.text_is_real_BL.any()) for cond in conds] == [True, False]
