"""Autoencoders of the `diffusers` library, loaded by our own code from folders that the library itself wrote.

The models are tiny and their weights random: what is tested is the loading, the layout, the statistics and the hash.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cineray.errors import CinerayError, UsageError
from cineray.models.autoencoder import load_autoencoder
from cineray.models.autoencoder_config import DiffusersVaeConfig, GateLimits
from cineray.models.diffusers_vae import load_diffusers_vae

FOUR = (8, 8, 8, 8)
TINY: dict[str, tuple[dict[str, Any], tuple[int, int, int, int]]] = {
    "AutoencoderKL": (
        {
            "block_out_channels": (8, 16),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "norm_num_groups": 4,
            "scaling_factor": 0.5,
            "shift_factor": 0.1,
        },
        (4, 6, 32, 32),
    ),
    "AutoencoderKLWan": (
        {
            "base_dim": 4,
            "z_dim": 4,
            "dim_mult": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "latents_mean": [0.1, 0.2, 0.3, 0.4],
            "latents_std": [2.0, 1.0, 1.0, 0.5],
        },
        (4, 3, 8, 8),
    ),
    "AutoencoderKLCogVideoX": (
        {"block_out_channels": FOUR, "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2},
        (4, 3, 8, 8),
    ),
    "AutoencoderKLHunyuanVideo": (
        {"block_out_channels": FOUR, "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 4},
        (4, 3, 8, 8),
    ),
    "AutoencoderKLLTXVideo": (
        {
            "block_out_channels": FOUR,
            "decoder_block_out_channels": FOUR,
            "latent_channels": 8,
            "layers_per_block": (1,) * 5,
            "decoder_layers_per_block": (1,) * 5,
        },
        (8, 2, 2, 2),
    ),
}
CLIP = (6, 64, 64)


@pytest.fixture
def library() -> Any:
    return pytest.importorskip("diffusers", reason="the extra `diffusers` is not installed")


def saved(library: Any, name: str, folder: Path) -> Any:
    torch.manual_seed(0)
    vae = getattr(library, name)(**TINY[name][0]).eval()
    vae.save_pretrained(folder)
    return vae


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_a_saved_autoencoder_is_loaded_and_has_the_shapes_that_it_tells(
    library: Any, name: str, tmp_path: Path
) -> None:
    saved(library, name, tmp_path)
    vae = load_autoencoder(DiffusersVaeConfig(path=str(tmp_path)))
    x = torch.rand(2, 3, *CLIP) * 2 - 1
    z = vae.encode(x)
    assert tuple(z.shape[1:]) == vae.latent_shape(CLIP) == TINY[name][1]
    assert vae.decode(z, CLIP[0]).shape == x.shape
    assert not any(weight.requires_grad for weight in vae.parameters())


@torch.no_grad()
def test_an_image_autoencoder_sees_each_frame_by_itself_in_the_librarys_own_units(library: Any, tmp_path: Path) -> None:
    theirs = saved(library, "AutoencoderKL", tmp_path)
    ours = load_diffusers_vae(str(tmp_path)).eval()
    x = torch.rand(2, 3, *CLIP) * 2 - 1
    frame = (theirs.encode(x[1, :, 4][None]).latent_dist.mean - 0.1) * 0.5
    torch.testing.assert_close(ours.encode(x)[1, :, 4], frame[0], rtol=1e-4, atol=1e-5)
    again = theirs.decode(frame / 0.5 + 0.1).sample
    torch.testing.assert_close(ours.decode(ours.encode(x))[1, :, 4], again[0], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_video_autoencoders_statistics_are_taken_off(library: Any, tmp_path: Path) -> None:
    theirs = saved(library, "AutoencoderKLWan", tmp_path)
    ours = load_diffusers_vae(str(tmp_path)).eval()
    x = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    mean = theirs.encode(x).latent_dist.mean
    wide = (1, -1, 1, 1, 1)
    wanted = (mean - torch.tensor([0.1, 0.2, 0.3, 0.4]).view(wide)) / torch.tensor([2.0, 1.0, 1.0, 0.5]).view(wide)
    torch.testing.assert_close(ours.encode(x), wanted, rtol=1e-4, atol=1e-5)


def test_the_hash_is_of_the_weights(library: Any, tmp_path: Path) -> None:
    vae = saved(library, "AutoencoderKLWan", tmp_path / "a")
    with torch.no_grad():
        next(vae.parameters()).add_(1e-3)
    vae.save_pretrained(tmp_path / "b")
    hashes = [load_diffusers_vae(str(tmp_path / name)).content_hash for name in ("a", "a", "b")]
    assert hashes[0] == hashes[1] != hashes[2]


def test_limits_want_figures_that_these_do_not_carry(library: Any, tmp_path: Path) -> None:
    saved(library, "AutoencoderKLWan", tmp_path)
    with pytest.raises(UsageError, match="carries no held-out figures"):
        load_autoencoder(DiffusersVaeConfig(path=str(tmp_path), gate=GateLimits()))


def test_a_class_that_is_not_known_is_refused_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "ConsistencyDecoderVAE"}))
    with pytest.raises(UsageError, match=r"'ConsistencyDecoderVAE'.*AutoencoderKL, AutoencoderKLCogVideoX"):
        load_diffusers_vae(str(tmp_path))


def test_without_the_library_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(CinerayError, match=r"pip install 'cineray\[diffusers\]'"):
        load_diffusers_vae(str(tmp_path))


def test_an_object_store_is_refused() -> None:
    with pytest.raises(UsageError, match="reads local folders"):
        load_diffusers_vae("s3://bucket/vae")
