"""What every model promises, as tests to inherit: a new model says its smallest config, and gets the rest.

    class TestMyModel(ModelContract):
        def config(self, folder: Path) -> ModelConfig:
            return MyConfig(channels=16)          # tiny: below two million weights, so that all of it runs on a CPU

A model fresh from its seed predicts 0 whatever it sees, and would pass any test of "does not influence". So models are
`awake` here: every weight is pushed a little off its first value.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cineray.errors import UsageError
from cineray.models import Conditioning, ModelConfig, VideoModel, build_model
from cineray.models.base import Modulation

Inputs = tuple[Tensor, Tensor, Conditioning]


def made_conditioning(frames_real: list[int], frames: int, *, num_classes: int, text_width: int | None) -> Conditioning:
    """One clip for each entry: so many real frames at an uneven pace, a class, a caption (the second clip has none)."""
    clips = len(frames_real)
    draw = torch.Generator().manual_seed(3)
    pace_B1 = 0.03 * (1 + torch.arange(clips)[:, None])
    real_BT = torch.arange(frames) < torch.tensor(frames_real)[:, None]
    words_BL = torch.arange(5) < torch.tensor([[5], [0], [3]])[torch.arange(clips) % 3]
    return Conditioning(
        seconds_BT=pace_B1 * (torch.arange(frames) + 0.3 * (torch.arange(frames) % 3 == 1)),
        frame_is_real_BT=real_BT,
        class_B=torch.arange(clips) % (num_classes + 1) if num_classes else None,
        text_BLD=torch.randn(clips, 5, text_width, generator=draw) if text_width else None,
        text_is_real_BL=words_BL if text_width else None,
        has_padding=not bool(real_BT.all()),
    )


def made_inputs(
    frames_real: list[int], size: tuple[int, int, int], *, channels: int, num_classes: int, text_width: int | None
) -> Inputs:
    """Clips, noise levels per frame, and conditions."""
    draw = torch.Generator().manual_seed(4)
    x_BCTHW = torch.randn(len(frames_real), channels, *size, generator=draw)
    t_BT = torch.rand(len(frames_real), size[0], generator=draw)
    cond = made_conditioning(frames_real, size[0], num_classes=num_classes, text_width=text_width)
    return x_BCTHW, t_BT, cond


class ModelContract:
    """Inherit in a class whose name begins with Test."""

    channels: ClassVar[int] = 3
    num_classes: ClassVar[int] = 4
    text_width: ClassVar[int | None] = 6
    size: ClassVar[tuple[int, int, int]] = (6, 16, 16)
    """Frames, rows and columns of the clips here."""
    other_sizes: ClassVar[tuple[tuple[int, int, int], ...]] = ((2, 16, 16), (8, 8, 24))
    """What the same weights must take too."""

    def config(self, folder: Path) -> ModelConfig:
        """The smallest config of this model; files that it needs may be written into the folder."""
        raise NotImplementedError("a model's contract test says its smallest config")

    @pytest.fixture(autouse=True)
    def _one_thread(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)

    def build(self, folder: Path, *, seed: int = 0) -> VideoModel:
        """A model as a training begins with it."""
        torch.manual_seed(seed)
        longest = tuple(max(lengths) for lengths in zip(self.size, *self.other_sizes, strict=True))
        return build_model(
            self.config(folder),
            channels=self.channels,
            num_classes=self.num_classes,
            text_width=self.text_width,
            longest=(longest[0], longest[1], longest[2]),
        )

    def awake(self, folder: Path) -> VideoModel:
        """A model that answers: all weights, also those that begin at zero, are pushed off their first values."""
        model = self.build(folder)
        draw = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for value in model.parameters():
                value.add_(0.05 * torch.randn(value.shape, generator=draw))
        return model.eval()

    def inputs(self, *frames_real: int, size: tuple[int, int, int] | None = None) -> Inputs:
        """Clips of this contract with so many real frames each."""
        told = {"channels": self.channels, "num_classes": self.num_classes, "text_width": self.text_width}
        return made_inputs(list(frames_real), size or self.size, **told)  # type: ignore[arg-type]

    def test_a_prediction_has_the_shape_of_its_clip_at_any_length_and_size(self, tmp_path: Path) -> None:
        """One set of weights, several buckets."""
        model = self.awake(tmp_path)
        for size in (self.size, *self.other_sizes):
            x, t, cond = self.inputs(size[0], size[0], size=size)
            with torch.no_grad():
                prediction = model(x, t, cond)
            assert prediction.shape == x.shape
            assert bool(prediction.isfinite().all())

    def test_the_contracts_config_is_tiny(self, tmp_path: Path) -> None:
        """It must run anywhere."""
        assert sum(value.numel() for value in self.build(tmp_path).parameters()) < 2_000_000

    def test_weights_are_a_function_of_the_seed(self, tmp_path: Path) -> None:
        """Also when the model was first built without memory, as a sharded one is."""
        one, same, other = (self.build(tmp_path, seed=seed).state_dict() for seed in (0, 0, 1))
        with torch.device("meta"):
            later = self.build(tmp_path)
        later.to_empty(device="cpu")
        torch.manual_seed(0)
        later.init_weights()
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert all(torch.equal(one[name], later.state_dict()[name]) for name in one)
        assert not all(torch.equal(one[name], other[name]) for name in one)

    def test_every_trainable_weight_learns_within_a_few_steps_and_no_frozen_one(self, tmp_path: Path) -> None:
        """Gradients are finite throughout; what begins at zero passes gradients on once it has moved."""
        model = self.build(tmp_path)
        trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
        frozen = {name: value for name, value in model.named_parameters() if not value.requires_grad}
        before = model.frozen_hash()
        optimiser = torch.optim.Adam(trainable.values(), lr=1e-2)
        x, t, cond = self.inputs(self.size[0], self.size[0] - 2)
        learnt: set[str] = set()
        for _ in range(6):
            model(x, t, cond).sub(x.roll(1, 0)).square().mean().backward()
            gradients = {name: value.grad for name, value in trainable.items() if value.grad is not None}
            assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())
            learnt |= {name for name, gradient in gradients.items() if bool(gradient.any())}
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        assert set(trainable) - learnt == set()
        assert all(value.grad is None for value in frozen.values())
        assert model.frozen_hash() == before

    def test_saved_and_loaded_it_predicts_the_same_bits(self, tmp_path: Path) -> None:
        """Through a file, into a model that was drawn from another seed."""
        model, file = self.awake(tmp_path), io.BytesIO()
        torch.save(model.state_dict(), file)
        other = self.build(tmp_path, seed=9).eval()
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        x, t, cond = self.inputs(6, 4)
        with torch.no_grad():
            assert torch.equal(model(x, t, cond), other(x, t, cond))

    def test_padded_frames_influence_nothing(self, tmp_path: Path) -> None:
        """Whatever lies in them, even what is not a number: real frames come out bit for bit as before."""
        model = self.awake(tmp_path)
        x, t, cond = self.inputs(self.size[0], self.size[0] - 2, self.size[0] - 3)
        real_BT = cond.frame_is_real_BT
        padded_BCTHW = ~real_BT[:, None, :, None, None].expand_as(x)
        garbage = torch.where(padded_BCTHW, torch.tensor([float("nan"), 1e6])[torch.arange(x.shape[-1]) % 2], x)
        late = replace(cond, seconds_BT=torch.where(real_BT, cond.seconds_BT, 77.0))
        with torch.no_grad():
            clean, dirty = model(x, t, cond), model(garbage, torch.where(real_BT, t, 0.123), late)
        seen = real_BT[:, None, :, None, None].expand_as(x)
        assert torch.equal(clean[seen], dirty[seen])

    def test_a_padded_clip_is_predicted_as_it_is_alone(self, tmp_path: Path) -> None:
        """The same frames in a bucket of their own length."""
        model = self.awake(tmp_path)
        x, t, cond = self.inputs(self.size[0], self.size[0] - 2)
        frames = self.size[0] - 2
        alone = cond[1:2]
        alone = replace(
            alone,
            seconds_BT=alone.seconds_BT[:, :frames],
            frame_is_real_BT=alone.frame_is_real_BT[:, :frames],
            has_padding=False,
        )
        with torch.no_grad():
            padded, short = model(x, t, cond)[1:2, :, :frames], model(x[1:2, :, :frames], t[1:2, :frames], alone)
        torch.testing.assert_close(padded, short, rtol=1e-4, atol=1e-5)

    def test_a_permuted_batch_gives_permuted_predictions(self, tmp_path: Path) -> None:
        """Clips do not see each other, with padding or without."""
        model = self.awake(tmp_path)
        x, t, cond = self.inputs(self.size[0], self.size[0] - 2, self.size[0], self.size[0] - 1)
        order = torch.tensor([2, 0, 3, 1])
        with torch.no_grad():
            straight, permuted = model(x, t, cond), model(x[order], t[order], cond.select(order))
            changed = model(torch.cat([x[:1] + 1, x[1:]]), t, cond)
        seen = cond.frame_is_real_BT[order][:, None, :, None, None].expand_as(x)
        torch.testing.assert_close(permuted[seen], straight[order][seen], rtol=1e-4, atol=1e-5)
        others = cond.frame_is_real_BT[1:][:, None, :, None, None].expand_as(x[1:])
        torch.testing.assert_close(changed[1:][others], straight[1:][others], rtol=1e-4, atol=1e-5)

    def test_saying_that_nothing_is_padded_changes_nothing(self, tmp_path: Path) -> None:
        """The mask is left out, and with it a slower kernel; not a result."""
        model = self.awake(tmp_path)
        x, t, cond = self.inputs(self.size[0], self.size[0])
        with torch.no_grad():
            without, masked = model(x, t, cond), model(x, t, replace(cond, has_padding=True))
        torch.testing.assert_close(without, masked, rtol=1e-4, atol=1e-5)

    def test_every_condition_is_heard(self, tmp_path: Path) -> None:
        """One frame's noise level, one frame's time, the pace, the class and the caption each change the prediction."""
        model = self.awake(tmp_path)
        x, t, cond = self.inputs(self.size[0], self.size[0])
        given = t.clone()
        given[:, 0] = 1.0
        uneven = cond.seconds_BT.clone()
        uneven[:, 1] += 0.01
        heard = {
            "noise level": (given, cond),
            "time": (t, replace(cond, seconds_BT=uneven)),
            "pace": (t, replace(cond, pace_is_known_B=torch.tensor([False, False]))),
            "everything": (t, cond.without(self.num_classes)),
        }
        if cond.class_B is not None:
            heard["class"] = (t, replace(cond, class_B=(cond.class_B + 1) % self.num_classes))
        if cond.text_BLD is not None:
            heard["caption"] = (t, replace(cond, text_BLD=cond.text_BLD.flip(1)))
        with torch.no_grad():
            plain = model(x, t, cond)
            deaf = [
                name for name, (level, told) in heard.items() if torch.allclose(model(x, level, told)[:1], plain[:1])
            ]
        assert deaf == []

    def test_no_caption_is_no_caption_however_it_is_said(self, tmp_path: Path) -> None:
        """A row without a real token, whatever lies in it, is the same as no text at all."""
        if self.text_width is None:
            pytest.skip("this model was built without captions")
        model = self.awake(tmp_path)
        x, t, cond = self.inputs(self.size[0], self.size[0])
        empty = cond.without(self.num_classes)
        absent = replace(empty, text_BLD=None, text_is_real_BL=None)
        with torch.no_grad():
            torch.testing.assert_close(model(x, t, empty), model(x, t, absent), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("text_tokens", [0, 5])
    def test_its_flops_are_what_torch_counts(self, tmp_path: Path, text_tokens: int) -> None:
        """To the last one, for each size."""
        model = self.build(tmp_path)
        for size in (self.size, *self.other_sizes):
            x, t, cond = self.inputs(size[0], size[0], size=size)
            if not text_tokens:
                cond = replace(cond, text_BLD=None, text_is_real_BL=None)
            # The counter does not know the CPU's fused attention; the plain one is two products that it counts.
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
                model(x, t, cond)
            told = text_tokens if self.text_width else 0
            assert 2 * model.forward_flops((self.channels, *size), text_tokens=told) == counter.get_total_flops()

    def test_muon_gets_hidden_matrices_of_blocks_that_train(self, tmp_path: Path) -> None:
        """Each once; all of them matrices; none outside the blocks, and none that only turns conditions into scales."""
        model = self.build(tmp_path)
        chosen = model.muon_parameters()
        inside = {id(value) for block in model.blocks() for value in block.parameters()}
        assert chosen
        assert len({id(value) for value in chosen}) == len(chosen)
        assert all(value.ndim == 2 and value.requires_grad and id(value) in inside for value in chosen)
        scales = {id(layer.weight) for layer in model.modules() if isinstance(layer, Modulation)}
        assert not scales & {id(value) for value in chosen}

    def test_a_block_compiles_to_one_graph(self, tmp_path: Path) -> None:
        """The first, the middle and the last: no break, forward or backward, and the same prediction as before."""
        model = self.awake(tmp_path)
        x, t, cond = self.inputs(self.size[0], self.size[0] - 2)
        with torch.no_grad():
            plain = model(x, t, cond)
        torch.compiler.reset()  # what other tests compiled would count against the limit of one function's graphs
        blocks = model.blocks()
        for block in (blocks[number] for number in {0, len(blocks) // 2, len(blocks) - 1}):
            block.compile(fullgraph=True, backend="aot_eager")
        compiled = model(x, t, cond)
        compiled.square().mean().backward()
        torch.testing.assert_close(compiled.detach(), plain, rtol=1e-4, atol=1e-5)

    def test_it_runs_under_bfloat16_autocast_and_with_bfloat16_weights(self, tmp_path: Path) -> None:
        """As one machine trains, and as sharded ones do; the prediction comes back in the clip's type."""
        model = self.awake(tmp_path)
        x, t, cond = self.inputs(self.size[0], self.size[0] - 2)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            cast = model(x, t, cond)
        with torch.no_grad():
            plain, stored = model(x, t, cond), model.to(torch.bfloat16)(x, t, cond)
        seen = cond.frame_is_real_BT[:, None, :, None, None].expand_as(x)
        for rounded in (cast, stored):
            assert rounded.dtype == torch.float32
            assert float((rounded - plain)[seen].norm() / plain[seen].norm()) < 0.1

    def test_what_attention_ran_has_a_name(self, tmp_path: Path) -> None:
        """It goes into the run's record."""
        model = self.build(tmp_path)
        x, t, cond = self.inputs(self.size[0])
        model(x, t, cond)
        assert model.attention.split("-")[0] in ("sdpa", "varlen", "flex")

    def test_clips_that_do_not_fit_are_refused_with_their_numbers(self, tmp_path: Path) -> None:
        """Rather than cut, or stretched."""
        model = self.build(tmp_path)
        x, t, cond = self.inputs(6, size=(6, 15, 16))
        with pytest.raises(UsageError, match="6 x 15 x 16"):
            model(x, t, cond)
        x, t, cond = self.inputs(6, size=self.size)
        with pytest.raises(UsageError, match=r"seconds_BT has shape \(1, 5\)"):
            model(x, t, replace(cond, seconds_BT=cond.seconds_BT[:, :5]))
        with pytest.raises(UsageError, match="built for 3"):
            model(x[:, :2], t, cond)
