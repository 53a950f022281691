"""A frozen image model learns to move: it begins as the image model, and its image weights stay what they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cineray.errors import UsageError
from cineray.models import Conditioning, Image2VideoConfig, StDiTConfig, VideoModel, build_model
from cineray.models.image2video import as_images

IMAGE = StDiTConfig(size="custom", width=24, depth=2, heads=2, patch=(1, 4, 4))
TOLD = {"channels": 3, "num_classes": 2, "text_width": 4, "longest": (5, 8, 8)}


@pytest.fixture
def image_model() -> VideoModel:
    """An image model whose every weight matters."""
    torch.manual_seed(0)
    model = build_model(IMAGE, **TOLD)  # type: ignore[arg-type]
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return model.eval()


def video_model(path: Path, base: StDiTConfig = IMAGE) -> VideoModel:
    return build_model(Image2VideoConfig(base=base, image_weights=str(path)), **TOLD)  # type: ignore[arg-type]


def clips() -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    draw = torch.Generator().manual_seed(1)
    cond = Conditioning(
        seconds_BT=torch.tensor([[0.0, 0.1, 0.15, 0.4, 0.5]] * 2),
        frame_is_real_BT=torch.tensor([[True] * 5, [True] * 4 + [False]]),
        class_B=torch.tensor([1, 2]),
        text_BLD=torch.randn(2, 3, 4, generator=draw),
        text_is_real_BL=torch.tensor([[True, True, True], [False] * 3]),
    )
    return torch.randn(2, 3, 5, 8, 8, generator=draw), torch.rand(2, 5, generator=draw), cond


@pytest.mark.parametrize("file", ["image.pt", "image.safetensors", "nested.pt"])
def test_before_training_it_is_the_image_model_frame_by_frame(
    image_model: VideoModel, tmp_path: Path, file: str
) -> None:
    """Whatever the frames' times, from a torch file, nested, or safetensors; bit for bit in one batch of images."""
    state = {name: value.contiguous() for name, value in image_model.state_dict().items()}
    if file.endswith(".safetensors"):
        save_file(state, tmp_path / file)
    else:
        torch.save({"model": state, "step": 3} if file == "nested.pt" else state, tmp_path / file)
    x, t, cond = clips()
    images = as_images(cond)
    x_NC1HW, t_N1 = x.transpose(1, 2).flatten(0, 1)[:, :, None], t.reshape(-1, 1)
    with torch.no_grad():
        video_NCHW = video_model(tmp_path / file)(x, t, cond).transpose(1, 2).flatten(0, 1)
        together = image_model(x_NC1HW, t_N1, images)[:, :, 0]
        alone = [image_model(x_NC1HW[n : n + 1], t_N1[n : n + 1], images[n : n + 1])[0, :, 0] for n in range(10)]
    real_N = cond.frame_is_real_BT.flatten()
    assert torch.equal(video_NCHW[real_N], together[real_N])
    torch.testing.assert_close(video_NCHW[real_N], torch.stack(alone)[real_N], rtol=1e-4, atol=1e-5)


def test_after_training_frames_see_each_other_and_image_weights_are_what_they_were(
    image_model: VideoModel, tmp_path: Path
) -> None:
    torch.save(image_model.state_dict(), tmp_path / "image.pt")
    model = video_model(tmp_path / "image.pt")
    before, x, t, cond = model.frozen_hash(), *clips()
    optimiser = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-2)
    for _ in range(3):
        model(x, t, cond).sub(x.roll(1, 2)).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    assert model.frozen_hash() == before
    other = x.clone()
    other[:, :, 0] += 1
    with torch.no_grad():
        change = (model(other, t, cond) - model(x, t, cond)).abs().amax((0, 1, 3, 4))
    assert bool((change[1:4] > 1e-5).all())


@pytest.mark.parametrize("with_caption", [False, True])
def test_the_work_of_training_leaves_out_what_is_frozen(tmp_path: Path, with_caption: bool) -> None:
    """By torch's count, forward and back: within a hundredth; three forward passes would be a quarter too much."""
    base = StDiTConfig(size="custom", width=48, depth=4, heads=2, patch=(1, 4, 4))
    told = {"channels": 3, "num_classes": 2, "text_width": 16 if with_caption else None, "longest": (8, 32, 32)}
    torch.save(build_model(base, **told).state_dict(), tmp_path / "image.pt")  # type: ignore[arg-type]
    config = Image2VideoConfig(base=base, image_weights=str(tmp_path / "image.pt"))
    model = build_model(config, **told)  # type: ignore[arg-type]
    cond = Conditioning(
        seconds_BT=torch.arange(8)[None] / 8,
        frame_is_real_BT=torch.ones(1, 8, dtype=torch.bool),
        class_B=torch.tensor([1]),
        text_BLD=torch.randn(1, 5, 16) if with_caption else None,
        text_is_real_BL=torch.ones(1, 5, dtype=torch.bool) if with_caption else None,
    )
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.randn(1, 3, 8, 32, 32), torch.rand(1, 8), cond).square().mean().backward()
    size, text_tokens = (3, 8, 32, 32), 5 if with_caption else 0
    counted = counter.get_total_flops()
    assert model.training_flops(size, text_tokens=text_tokens) == pytest.approx(counted, rel=0.01)
    assert 3 * model.forward_flops(size, text_tokens=text_tokens) > 1.25 * counted


def test_the_hash_tells_any_change_of_a_frozen_weight(image_model: VideoModel, tmp_path: Path) -> None:
    torch.save(image_model.state_dict(), tmp_path / "image.pt")
    model = video_model(tmp_path / "image.pt")
    before = model.frozen_hash()
    frozen = [value for value in model.parameters() if not value.requires_grad]
    with torch.no_grad():
        frozen[-1].view(-1)[0] += 1e-7
    assert model.frozen_hash() != before
    assert image_model.frozen_hash() != before, "a model that is wholly trained has nothing frozen"


def test_weights_of_another_model_are_refused_by_name_and_shape(image_model: VideoModel, tmp_path: Path) -> None:
    torch.save(image_model.state_dict(), tmp_path / "image.pt")
    wider = StDiTConfig(size="custom", width=32, depth=2, heads=2, patch=(1, 4, 4))
    with pytest.raises(
        UsageError, match=r"embed.pace.weight has shape \(24, 64\), the model wants \(32, 64\); and 43 more"
    ):
        video_model(tmp_path / "image.pt", wider)
    deeper = StDiTConfig(size="custom", width=24, depth=3, heads=2, patch=(1, 4, 4))
    with pytest.raises(UsageError, match=r"layers.2.offset_6D is missing.*and \d+ more"):
        video_model(tmp_path / "image.pt", deeper)


def test_what_is_no_state_dict_is_refused_and_never_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are no image weights at"):
        video_model(tmp_path / "nothing.pt")
    (tmp_path / "text.pt").write_text("not weights")
    with pytest.raises(UsageError, match="cannot be read as a state dict"):
        video_model(tmp_path / "text.pt")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(UsageError, match="cannot be read as safetensors"):
        video_model(tmp_path / "text.safetensors")
    torch.save({"weights": torch.nn.Linear(1, 1)}, tmp_path / "code.pt")
    with pytest.raises(UsageError, match="cannot be read as a state dict"):
        video_model(tmp_path / "code.pt")
