"""The diffusion objective: what a model is shown, what is hidden from it, and how it is judged."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from cineray.diffusion import DiffusionConfig, LinearDenoiser
from cineray.errors import UsageError
from cineray.models import Conditioning, TextConfig
from cineray.sweep.formulas import formulas_of
from cineray.train.baseline_losses import baseline_losses
from cineray.train.clip_losses import keep_clip_losses, read_clip_losses
from cineray.train.diffusion_task import DiffusionTask
from cineray.train.parallel import World
from cineray.train.validation import FlowValidation


class Spy(torch.nn.Module):
    """Stands before a model and keeps what it was asked."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.module = model
        self.asked: list[tuple[torch.Tensor, torch.Tensor, Conditioning]] = []

    def forward(self, z: torch.Tensor, t_BT: torch.Tensor, cond: Conditioning, *rest: Any) -> torch.Tensor:
        self.asked.append((z, t_BT, cond))
        out: torch.Tensor = self.module(z, t_BT, cond, *rest)
        return out


def asked(made: ModuleType, config: DiffusionConfig, **fields: Any) -> tuple[Any, Any, DiffusionTask, Any]:
    task = DiffusionTask(made.job_of(diffusion=config, **fields))
    spy = Spy(task.build())
    inputs = task.inputs(made.made_batch(0, size=200))
    losses = task.clip_losses(spy, inputs, 0)
    return inputs, losses, task, spy.asked[0]


def test_a_tenth_of_the_clips_hides_its_class_and_a_tenth_its_pace(made: ModuleType) -> None:
    inputs, losses, _, (_, t_BT, cond) = asked(made, DiffusionConfig(drop=0.1, drop_pace=0.1))
    hidden = cond.class_B == 2
    assert torch.equal(cond.class_B[~hidden], inputs.class_B[~hidden])
    assert 8 <= int(hidden.sum()) <= 34
    assert 8 <= int((~cond.pace_is_known_B).sum()) <= 34
    assert not torch.equal(hidden, ~cond.pace_is_known_B)
    assert losses.shape == (200,)
    assert losses.dtype == torch.float32
    assert bool((t_BT == t_BT[:, :1]).all()), "all frames of a clip have one noise level"


def test_hidden_captions_are_hidden_and_shown_ones_matter(made: ModuleType) -> None:
    text = TextConfig(kind="builtin", tokens=8, width=16, depth=1, heads=2)
    for drop, matters in ((1.0, False), (0.0, True)):
        task = DiffusionTask(made.job_of(diffusion=DiffusionConfig(drop=drop), text=text, classes="none"))
        model = task.build()
        with torch.no_grad():
            for weight in model.parameters():  # gates start at zero, behind which nothing matters yet
                weight.add_(0.05)
        inputs = task.inputs(made.made_batch(0))
        other = replace(inputs, captions=("something else entirely",) * 5)
        same = torch.allclose(task.clip_losses(model, inputs, 0), task.clip_losses(model, other, 0), rtol=1e-6)
        assert same is not matters


def test_first_frames_are_given_to_the_share_of_clips_that_was_asked_for(made: ModuleType) -> None:
    inputs, _, task, (z, t_BT, _) = asked(made, DiffusionConfig(first_frame=0.3))
    given = t_BT[:, 0] == 1
    assert 40 <= int(given.sum()) <= 80
    assert bool((t_BT[:, 1:] < 1).all())
    x = task.clips(inputs)[0]
    assert torch.equal(z[given][:, :, 0], x[given][:, :, 0])


def test_a_job_whose_classes_are_not_resolved_is_refused(made: ModuleType) -> None:
    with pytest.raises(UsageError, match="resolve the job first"):
        DiffusionTask(made.job_of(classes="data"))


def test_mean_and_spread_are_the_same_for_any_number_of_processes(made: ModuleType) -> None:
    """Sums of integers: each process's, added up, are those of one alone, exactly."""
    task = DiffusionTask(made.job_of())

    class Apart(World):
        def sum_(self, values: torch.Tensor) -> torch.Tensor:
            told.append(values)
            return values

    told: list[torch.Tensor] = []
    for rank in range(3):
        task.begin(task.build(), made.made_batch(0, rank=rank, world=3), Apart())
    apart, told = told, []
    task.begin(task.build(), made.made_batch(0), Apart())
    assert told[0].dtype == torch.int64
    assert torch.equal(sum(apart), told[0])


def test_given_mean_and_spread_are_taken(made: ModuleType) -> None:
    given = DiffusionConfig(data_mean=(0.1, 0.2, 0.3), data_sd=(0.5, 0.6, 0.7))
    task = DiffusionTask(made.job_of(diffusion=given))
    model = task.build()
    task.begin(model, made.made_batch(0), World())
    assert model.data_mean_C.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert model.data_sd_C.tolist() == pytest.approx([0.5, 0.6, 0.7])


# ---- validation ------------------------------------------------------------------------------------------------------


def validation(made: ModuleType, *, rank: int = 0, world: int = 1, **told: Any) -> FlowValidation:
    def batches(rank: int, world: int) -> Any:
        return made.made_batches(range(3), rank=rank, world=world, size=8, seed=5)

    class Alone(World):
        def sum_(self, values: torch.Tensor) -> torch.Tensor:
            return values

    return FlowValidation(batches, bins=4, world=Alone(rank, world), **told)


def fresh(task: DiffusionTask, made: ModuleType) -> torch.nn.Module:
    model = task.build()
    task.begin(model, made.made_batch(0), World())
    return model.eval()


def ready(task: DiffusionTask, made: ModuleType) -> torch.nn.Module:
    """One whose output depends on what it sees: a fresh one answers zero."""
    model = fresh(task, made)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    return model


@torch.no_grad()
def test_the_same_weights_have_the_same_figures_at_every_step_and_in_parts(made: ModuleType) -> None:
    task = DiffusionTask(made.job_of())
    model = ready(task, made)
    judge = validation(made)
    first = judge.measure(task, model, 10)
    assert first == judge.measure(task, model, 20) == validation(made).measure(task, model, 0)
    in_parts = DiffusionTask(made.job_of(micro_batch=3))
    assert validation(made).measure(in_parts, model, 0) == pytest.approx(first, rel=1e-4)
    assert first["validation/headline"] == pytest.approx((first["validation/bin0"] + first["validation/bin1"]) / 2)
    assert first["validation/loss"] == pytest.approx(sum(first[f"validation/bin{k}"] for k in range(4)) / 4)


@torch.no_grad()
def test_shares_of_several_processes_add_up_to_the_whole(made: ModuleType) -> None:
    task = DiffusionTask(made.job_of())
    model = ready(task, made)
    whole = validation(made)._summed(task, model)
    parts = [validation(made, rank=rank, world=3)._summed(task, model) for rank in range(3)]
    assert torch.equal(sum(part.count_K for part in parts), whole.count_K)
    assert torch.allclose(sum(part.right_K for part in parts), whole.right_K, rtol=1e-5)
    assert whole.count_K.tolist() == [6, 6, 6, 6]
    assert torch.allclose(sum(part.each_2C for part in parts), whole.each_2C, rtol=1e-5)
    assert whole.each_2C.shape == (2, 24)


@torch.no_grad()
def test_each_clips_losses_are_kept_and_their_means_are_the_figures(made: ModuleType, tmp_path: Path) -> None:
    task = DiffusionTask(made.job_of(micro_batch=3))
    model, run = ready(task, made), str(tmp_path)
    told = validation(made, keep=partial(keep_clip_losses, run)).measure(task, model, 40)

    kept = read_clip_losses(run)

    assert kept is not None
    assert (kept.step, kept.bins, len(kept.right), len(kept.wrong)) == (40, 4, 24, 24)
    assert min(kept.right) > 0, "each clip has a loss of its own"
    for level in range(4):
        assert np.mean(kept.right[level::4]) == pytest.approx(told[f"validation/bin{level}"])
    right, wrong = ([np.mean(one[level::4]) for level in (0, 1)] for one in (kept.right, kept.wrong))
    assert np.mean(wrong) / np.mean(right) == pytest.approx(told["validation/wrong_over_right"])

    of_one_class = DiffusionTask(made.job_of(classes="none"))
    validation(made, keep=partial(keep_clip_losses, run)).measure(of_one_class, ready(of_one_class, made), 50)
    again = read_clip_losses(run)
    assert again is not None
    assert (again.step, again.wrong) == (50, [])
    validation(made, rank=1, world=3, keep=pytest.fail).measure(task, model, 60)
    assert read_clip_losses(str(tmp_path / "nothing")) is None
    (tmp_path / "file").write_text("no folder")
    with pytest.warns(UserWarning, match="losses of single clips cannot be written: .* the run goes on without them"):
        keep_clip_losses(str(tmp_path / "file"), kept)


@torch.no_grad()
def test_a_model_that_ignores_its_class_has_a_ratio_of_one(made: ModuleType) -> None:
    task = DiffusionTask(made.job_of())
    assert validation(made).measure(task, fresh(task, made), 0)["validation/wrong_over_right"] == 1
    assert validation(made).measure(task, ready(task, made), 0)["validation/wrong_over_right"] != 1
    without = DiffusionTask(made.job_of(classes="none"))
    assert "validation/wrong_over_right" not in validation(made).measure(without, ready(without, made), 0)


@torch.no_grad()
def test_a_wrong_caption_is_another_one(made: ModuleType) -> None:
    text = TextConfig(kind="builtin", tokens=8, width=16, depth=1, heads=2)
    task = DiffusionTask(made.job_of(text=text, classes="none"))
    inputs = task.inputs(made.made_batch(0))
    judge = validation(made, captions=[caption for caption in inputs.captions if caption])
    wrong = judge._wrong(task, inputs)
    assert all(a != b for a, b in zip(inputs.captions, wrong.captions, strict=True))
    assert "validation/wrong_over_right" in judge.measure(task, ready(task, made), 0)


@torch.no_grad()
def test_skill_is_measured_on_the_very_questions_that_the_model_is_asked(made: ModuleType) -> None:
    """A model that is the linear denoiser has a skill of 0 over it."""
    task = DiffusionTask(made.job_of())
    core = ready(task, made)
    seen = torch.cat([task.clips(task.inputs(batch))[0] for batch in made.made_batches(range(8), size=8)])
    linear = LinearDenoiser(seen)

    class Linear(torch.nn.Module):
        module = core

        def forward(self, z: torch.Tensor, t_BT: torch.Tensor, *_: Any) -> torch.Tensor:
            clean = linear.clean(z, t_BT[:, 0])
            mean, sd = (part.view(1, 3, 1, 1, 1) for part in (core.data_mean_C, core.data_sd_C))
            return (clean - mean) / sd

    def baselines(*_: Any) -> dict[str, list[float]]:
        fixed = list(made.made_batches(range(3), size=8, seed=5))
        return baseline_losses(task, core, made.made_batches(range(20), size=8), fixed, clips=64, bins=4)

    found = validation(made, baselines=baselines).measure(task, Linear(), 0)
    assert found["validation/skill_linear"] == pytest.approx(0, abs=1e-4)
    assert [found[f"validation/skill_linear{k}"] for k in range(4)] == pytest.approx([0] * 4, abs=1e-3)
    assert found["validation/skill_mean"] > 0
    assert found.keys() == {f"validation/{one}" for one in formulas_of(4)}, "a sweep knows them by name"


@torch.no_grad()
def test_a_shape_that_training_never_shows_is_not_looked_for_for_ever(made: ModuleType) -> None:
    task, looked_at = DiffusionTask(made.job_of()), 0

    def endless() -> Any:
        nonlocal looked_at
        for batch in made.made_batches(range(10_000), size=8):
            looked_at += 8
            yield batch

    common = list(made.made_batches(range(1), size=8))
    rare = [replace(one, frames_BTHWC=one.frames_BTHWC[:, :, :8]) for one in common]
    told = baseline_losses(task, ready(task, made), endless(), [*common, *rare], clips=16, bins=4)
    assert told == {}, "one shape has none, so there is none for all"
    assert looked_at == 8 * 2 * 16


@torch.no_grad()
def test_too_few_clips_for_a_linear_denoiser_leave_the_mean(made: ModuleType) -> None:
    task = DiffusionTask(made.job_of())
    fixed = list(made.made_batches(range(3), size=8, seed=5))
    few = baseline_losses(task, ready(task, made), made.made_batches(range(1)), fixed, clips=64, bins=4)
    assert sorted(few) == ["mean"]
