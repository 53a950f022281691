"""`vae_lite`: what it promises whoever builds on its latents, on tiny ones that compute in milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cineray.errors import CinerayError, UsageError
from cineray.models.autoencoder import HeldOut, PixelAutoencoder, load_autoencoder
from cineray.models.autoencoder_config import GateLimits, PixelsConfig, VaeLiteConfig, VaeLiteShape
from cineray.models.vae_lite import VaeLite, haar
from cineray.models.vae_lite_file import read_vae_lite, write_vae_lite

GOOD = HeldOut(psnr_db=30.0, temporal_psnr_db=30.0, flicker_ratio=1.0, clips=8)


def tiny(seed: int = 0, **shape: object) -> VaeLite:
    torch.manual_seed(seed)
    model = VaeLite(VaeLiteShape.model_validate({"width": 8, "blocks": 1, "channels": 4, **shape})).eval()
    for block in model.blocks():  # fresh ones change nothing
        torch.nn.init.normal_(block.time.mix.weight, std=0.1)
    model.set_statistics(torch.linspace(-1, 1, model.channels), torch.linspace(0.5, 2, model.channels))
    return model


def clip(frames: int, size: int = 16, clips: int = 2, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(clips, 3, frames, size, size, generator=generator) * 2 - 1


@pytest.mark.parametrize("compression", [(4, 8, 8), (2, 4, 4), (1, 8, 8), (8, 16, 16)])
@pytest.mark.parametrize("frames", [1, 5, 6])
@torch.no_grad()
def test_any_number_of_frames_comes_back_and_the_latent_has_the_shape_that_was_told(
    compression: tuple[int, int, int], frames: int
) -> None:
    model = tiny(compression=compression)
    x = clip(frames)
    z = model.encode(x)
    assert tuple(z.shape[1:]) == model.latent_shape((frames, 16, 16))
    assert model.decode(z, frames).shape == x.shape


@torch.no_grad()
def test_the_first_frame_has_a_latent_of_its_own() -> None:
    model, x = tiny(), clip(9)
    whole, alone = model.encode(x), model.encode(x[:, :, :1])
    assert torch.equal(whole[:, :, :1], alone)
    assert torch.equal(model.decode(whole)[:, :, :1], model.decode(alone))


@torch.no_grad()
def test_no_latent_frame_knows_a_later_frame_and_no_decoded_frame_a_later_latent() -> None:
    model, x = tiny(), clip(13)
    later = x.clone()
    later[:, :, 5:] = 0.3
    z, z_later = model.encode(x), model.encode(later)
    assert torch.equal(z[:, :, :2], z_later[:, :, :2])
    assert not torch.allclose(z[:, :, 2], z_later[:, :, 2])
    assert torch.equal(model.decode(z)[:, :, :5], model.decode(z_later)[:, :, :5])


@pytest.mark.parametrize("at_once", [1, 2, 3])
@torch.no_grad()
def test_chunks_give_what_the_whole_gives(at_once: int) -> None:
    model, x = tiny(), clip(16)
    z = model.encode(x)
    torch.testing.assert_close(model.encode(x, latent_frames_at_once=at_once), z)
    torch.testing.assert_close(model.decode(z, latent_frames_at_once=at_once), model.decode(z))


@torch.no_grad()
def test_a_clip_is_encoded_alike_in_any_company() -> None:
    model, x = tiny(), clip(5, clips=4)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(model.encode(x[order]), model.encode(x)[order])


@torch.no_grad()
def test_latents_are_normalised_and_decoding_takes_that_back() -> None:
    model, x = tiny(), clip(5)
    mean = model.posterior(x).mean_BCTHW
    z = model.encode(x)
    wide = (1, -1, 1, 1, 1)
    torch.testing.assert_close(z * model.std_C.view(wide) + model.mean_C.view(wide), mean)
    torch.testing.assert_close(model.decode(z), model.pixels(mean))


@torch.no_grad()
def test_noise_moves_a_latent_by_the_posteriors_spread() -> None:
    model, x = tiny(), clip(5)
    posterior = model.posterior(x)
    noise = torch.ones_like(posterior.mean_BCTHW)
    moved = (model.encode(x, noise) - model.encode(x)) * model.std_C.view(1, -1, 1, 1, 1)
    torch.testing.assert_close(moved, (0.5 * posterior.log_variance_BCTHW).exp(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_wavelets_lose_nothing_and_begin_with_the_mean(size: int) -> None:
    waves = haar(size)
    torch.testing.assert_close(waves @ waves.T, torch.eye(size))
    torch.testing.assert_close(waves[0], torch.full((size,), size**-0.5))


def test_every_weight_gets_a_finite_gradient() -> None:
    model, x = tiny(), clip(5)
    again, posterior = model(x, torch.randn(2, *model.latent_shape((5, 16, 16))))
    ((again - x).square().mean() + posterior.divergence().mean()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all() & p.grad.any()) for p in model.parameters())


@pytest.mark.parametrize("compression", [(4, 8, 8), (1, 4, 4)])
@torch.no_grad()
def test_its_flops_are_those_that_torch_counts(compression: tuple[int, int, int]) -> None:
    model, shape = tiny(compression=compression, blocks=2), (6, 16, 16)
    with FlopCounterMode(display=False) as whole:
        model(clip(6, clips=1), torch.zeros(1, *model.latent_shape(shape)))
    with FlopCounterMode(display=False) as encoding:
        model.encode(clip(6, clips=1))
    counted = (whole.get_total_flops(), encoding.get_total_flops())
    assert counted == (model.forward_flops(shape), model.encode_flops(shape))


def test_a_picture_that_does_not_divide_is_refused_with_the_size_that_would() -> None:
    with pytest.raises(UsageError, match=r"20x16 pixels.*8x8 pixels.*recipe.frame.height=24 recipe.frame.width=16"):
        tiny().encode(torch.zeros(1, 3, 1, 20, 16))


def test_a_latent_frame_is_shown_with_its_last_frame_and_real_only_if_all_of_it_is() -> None:
    model = tiny()
    seconds = torch.arange(7)[None] / 10
    torch.testing.assert_close(model.latent_seconds(seconds), torch.tensor([[0.0, 0.4, 0.6]]))
    real = torch.tensor([[True] * 7, [True] * 5 + [False] * 2, [True] * 4 + [False] * 3])
    assert model.latent_is_real(real).tolist() == [[True, True, True], [True, True, False], [True, False, False]]


def test_pixels_pass_through_the_identity() -> None:
    pixels, x = load_autoencoder(PixelsConfig()), clip(6)
    assert isinstance(pixels, PixelAutoencoder)
    assert pixels.latent_shape((6, 16, 16)) == (3, 6, 16, 16)
    assert torch.equal(pixels.decode(pixels.encode(x), 6), x)
    assert torch.equal(pixels.latent_seconds(torch.arange(6)[None]), torch.arange(6)[None])


# ---- the file and the gate -------------------------------------------------------------------------------------------


def test_what_is_read_is_what_was_written_and_frozen(tmp_path: Path) -> None:
    model, path = tiny(), str(tmp_path / "vae.safetensors")
    content_hash = write_vae_lite(model, path, GOOD)
    again = load_autoencoder(VaeLiteConfig(path=path))
    assert again.content_hash == content_hash == model.content_hash
    assert again.held_out == GOOD
    assert not again.training
    assert not any(weight.requires_grad for weight in again.parameters())
    torch.testing.assert_close(again.encode(clip(5)), model.encode(clip(5)), rtol=0, atol=0)


def test_the_hash_changes_with_weights_statistics_and_shape() -> None:
    hashes = [tiny().content_hash, tiny(seed=1).content_hash, tiny(compression=(4, 8, 8)).content_hash]
    moved = tiny()
    moved.set_statistics(torch.zeros(4), torch.ones(4))
    assert hashes[0] == hashes[2]
    assert len({hashes[0], hashes[1], moved.content_hash, tiny(compression=(2, 8, 8)).content_hash}) == 4


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    write_vae_lite(tiny(), str(path), GOOD)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    with pytest.raises(CinerayError, match=r"was damaged. Copy it again"):
        read_vae_lite(str(path))
    path.write_bytes(b"something else")
    with pytest.raises(UsageError, match="not an autoencoder that cineray exported"):
        read_vae_lite(str(path))


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({"psnr_db": 27.5}, r"PSNR is 27.50 dB; wanted at least 28"),
        ({"psnr_db": float("nan")}, r"PSNR is nan dB; wanted at least 28"),
        ({"temporal_psnr_db": 20.0}, r"temporal PSNR is 20.00 dB; wanted at least 25"),
        ({"flicker_ratio": 1.2}, r"flicker is 1.200 times .* wanted 0.95 to 1.05"),
    ],
)
def test_the_gate_refuses_what_falls_short_and_says_what_to_do(
    tmp_path: Path, figures: dict[str, float], told: str
) -> None:
    path = str(tmp_path / "vae.safetensors")
    found = {"psnr_db": 30.0, "temporal_psnr_db": 30.0, "flicker_ratio": 1.0, "clips": 8} | figures
    write_vae_lite(tiny(), path, HeldOut(**found))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=told) as refused:
        load_autoencoder(VaeLiteConfig(path=path))
    assert "on 8 held-out clips" in str(refused.value)
    assert "jobs/train_vae.py" in str(refused.value)
    assert load_autoencoder(VaeLiteConfig(path=path, gate=None)).name == "vae_lite"
    lower = GateLimits(least_psnr_db=20, least_temporal_psnr_db=10, most_flicker_error=0.5)
    if figures.get("psnr_db") == figures.get("psnr_db"):  # not nan
        load_autoencoder(VaeLiteConfig(path=path, gate=lower))
