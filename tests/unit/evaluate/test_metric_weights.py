"""Metrics with weights of others: loaded by the real code, from tiny random networks that are saved here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cineray.evaluate.distances import frechet
from cineray.evaluate.metric import Metric
from cineray.evaluate.registry import METRICS, Setting, judge, make_metrics
from cineray.evaluate.weights.embedded import VjepaKernel, _Embedded
from cineray.evaluate.weights.files import sha256_of
from cineray.evaluate.weights.prepare import Preparation, preparation_of, resampled_in_time
from cineray.testing.made_clips import made_clips
from cineray.testing.metric_contract import KnownAnswer, MetricContract

# ---- networks that are small enough to know what they say ------------------------------------------------------------


class MeanColours(nn.Module):
    """As the I3D file is called: six features, the mean and the deviation of each colour over the clip."""

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        if not (rescale and resize and return_features):
            raise ValueError("the protocol was not followed")
        return torch.cat([x.flatten(2).mean(2), x.flatten(2).std(2)], dim=1)


class Squares(nn.Module):
    """As LPIPS is called: how different two pictures are."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean(dim=[1, 2, 3], keepdim=True)


class Sideways(nn.Module):
    """As RAFT is called: two refinements, of which the second is 1.5 pixels to the right everywhere."""

    def forward(self, a: Tensor, b: Tensor) -> list[Tensor]:
        flow = torch.zeros_like(a[:, :2])
        flow[:, 0] = 1.5
        return [flow * 0, flow]


class Still(nn.Module):
    """As RAFT is called: nothing moves."""

    def forward(self, a: Tensor, b: Tensor) -> list[Tensor]:
        return [torch.zeros_like(a[:, :2])]


class Pooled(nn.Module):
    """A clip (N, C, T, H, W) or picture (N, C, H, W) to the mean of each colour."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2)


@lru_cache(maxsize=1)
def folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory()


@lru_cache
def file_of(network: type[nn.Module]) -> str:
    path = f"{folder().name}/{network.__name__}.pt"
    torch.jit.script(network()).save(path)  # type: ignore[no-untyped-call]
    return path


def made(name: str, **weights: str) -> Metric:
    (metric,), _ = make_metrics(Setting(weights=weights), [name])
    return metric


# ---- the contract ----------------------------------------------------------------------------------------------------


class TestFvd(MetricContract):
    """The Frechet distance of the network's features, values 0 to 255."""

    frames = 16

    def metric(self) -> Metric:
        return made("fvd", fvd=file_of(MeanColours))

    def known_answer(self) -> KnownAnswer:
        a, b = self.clips(), self.clips(seed=1)
        x, y = (each.frames_NTHWC.astype(np.float64).reshape(len(each), -1, 3) for each in (a, b))
        features = (np.concatenate([each.mean(1), each.std(1, ddof=1)], axis=1) for each in (x, y))
        return KnownAnswer(clips=a, real=b, value=frechet(*features), within=0.01)


class TestVideoMaeKernel(MetricContract):
    """On pictures of 32 px, so that it runs anywhere."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_Embedded, "usual_px", 32)
        monkeypatch.setattr(VjepaKernel, "usual_px", 32)

    def metric(self) -> Metric:
        return made("videomae_kernel", videomae=file_of(Pooled))

    def known_answer(self) -> KnownAnswer:
        """Clips from one source: about nothing."""
        return KnownAnswer(clips=self.clips(32), real=self.clips(32, seed=1), value=0.0, within=0.05)


class TestVjepaKernel(TestVideoMaeKernel):
    def metric(self) -> Metric:
        return made("vjepa_kernel", vjepa=file_of(Pooled))


class TestDinoConsistency(MetricContract):
    """All frames the same."""

    count = 4

    def metric(self) -> Metric:
        return made("dino_consistency", dino=file_of(Pooled))

    def known_answer(self) -> KnownAnswer:
        still = made_clips(4)
        still.frames_NTHWC[:, 1:] = still.frames_NTHWC[:, :1]
        return KnownAnswer(clips=still, value=1.0)


class TestLpipsChange(MetricContract):
    """Frames of 255 and 0 in turn are two apart, in values of -1 to 1."""

    def metric(self) -> Metric:
        return made("lpips_change", lpips=file_of(Squares))

    def known_answer(self) -> KnownAnswer:
        clips = made_clips(4)
        clips.frames_NTHWC[:, ::2], clips.frames_NTHWC[:, 1::2] = 0, 255
        return KnownAnswer(clips=clips, value=4.0)


class TestRaftDynamicDegree(MetricContract):
    """1.5 of 128 pixels (to which clips are enlarged) per frame, eight frames a second."""

    def metric(self) -> Metric:
        return made("raft_dynamic_degree", raft=file_of(Sideways))

    def known_answer(self) -> KnownAnswer:
        return KnownAnswer(clips=self.clips(), value=1.5 / 128 * 8)


class TestRaftWarpingError(MetricContract):
    """Nothing moves, by this network: frames of 0 and 51 in turn differ by 51 levels."""

    def metric(self) -> Metric:
        return made("raft_warping_error", raft=file_of(Still))

    def known_answer(self) -> KnownAnswer:
        clips = made_clips(4)
        clips.frames_NTHWC[:, ::2], clips.frames_NTHWC[:, 1::2] = 0, 51
        return KnownAnswer(clips=clips, value=51.0, within=1e-4)

    def test_where_nothing_is_seen_twice_it_says_nothing(self) -> None:
        """Going right both ways never comes back: all is masked, and that is not a perfect score."""
        metric = made("raft_warping_error", raft=file_of(Sideways))
        score = metric.score(metric.measure(self.clips()))
        assert score.value is None
        assert score.skipped == "no two neighbouring frames show the same, or the clips are too short"


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "network"), [("fvd", "fvd"), ("lpips_change", "lpips"), ("raft_warping_error", "raft")]
)
def test_a_missing_or_wrong_file_is_a_skipped_score_with_the_reason(name: str, network: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.pt").write_bytes(b"not weights at all")
    said = []
    for weights in ({}, {network: "nowhere.pt"}, {network: str(tmp_path / "wrong.pt")}):
        metrics, (score,) = make_metrics(Setting(weights=weights), [name])
        assert (metrics, score.name, score.value) == ([], name, None)
        said.append(score.skipped)
    assert said[0] == f"no path was given for its weights; give weights.{network}=PATH"
    assert said[1] == "there is nothing at nowhere.pt, where its weights were said to be"
    assert "TorchScript file" in said[2]


def test_a_score_names_its_weights_and_what_was_done_to_frames() -> None:
    path = Path(file_of(MeanColours))
    (score,) = judge([made("fvd", fvd=str(path))], made_clips(8, frames=16), made_clips(8, frames=16, seed=1))
    assert score.facts == {
        "weights": "MeanColours.pt",
        "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "weights_kind": "torchscript",
        "preprocessing": "values 0 to 255, the network rescales and resizes (rescale, resize, return_features)",
    }
    assert score.note == "not fvd2048_16f: 8 clips, and published numbers are of 2048"


def test_the_protocol_is_of_16_frames() -> None:
    """Of longer clips the first ones, of shorter ones none."""
    metric, long = made("fvd", fvd=file_of(MeanColours)), made_clips(4, frames=20)
    short = replace(long, frames_NTHWC=long.frames_NTHWC[:, :16], seconds_NT=long.seconds_NT[:, :16])
    assert np.array_equal(metric.measure(long).values_ND, metric.measure(short).values_ND)
    (score,) = judge([metric], made_clips(8), made_clips(8, seed=1))
    assert (score.value, score.skipped) == (None, "fvd2048_16f is of clips of 16 frames, and these are shorter")


def test_a_folders_hash_covers_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = sha256_of(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = sha256_of(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, second, sha256_of(tmp_path)}) == 3


# ---- preparing frames ------------------------------------------------------------------------------------------------


def test_frames_are_resized_cut_and_normalised() -> None:
    """A grey frame of 255 * 0.485 becomes zero in red; a wide picture loses its sides."""
    frames = np.full((1, 20, 40, 3), round(255 * 0.485), dtype=np.uint8)
    frames[:, :, :10] = frames[:, :, 30:] = 255
    x = Preparation(short_px=32, crop_px=32)(frames)
    assert x.shape == (1, 3, 32, 32)
    assert float(x[0, 0, :, 4:-4].abs().max()) < 0.01


def test_a_folder_says_how_its_frames_are_to_be_prepared(tmp_path: Path) -> None:
    told = {"size": {"shortest_edge": 292}, "crop_size": {"height": 256, "width": 256}, "image_mean": [0.5] * 3}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(told))
    got = preparation_of(tmp_path, 224)
    assert (got.short_px, got.crop_px, got.mean) == (292, 256, (0.5, 0.5, 0.5))
    assert str(preparation_of(tmp_path / "no", 64)) == (
        "short side 64 px bilinear antialiased, middle 64 px, mean 0.485,0.456,0.406, std 0.229,0.224,0.225"
    )


def test_clips_are_brought_to_the_frames_that_a_network_wants() -> None:
    frames = np.arange(8, dtype=np.uint8)[None, :, None, None, None]
    assert resampled_in_time(frames, 4).ravel().tolist() == [0, 2, 5, 7]
    assert resampled_in_time(frames, 16).ravel().tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert resampled_in_time(frames, 8) is frames


# ---- folders of transformers -----------------------------------------------------------------------------------------


def tiny(library: Any, kind: str, path: Path) -> None:
    """A random network of a few thousand weights, as the library saves it."""
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "videomae":
            config = library.VideoMAEConfig(**small, image_size=32, patch_size=16, num_frames=8)
            library.VideoMAEModel(config).save_pretrained(path)
        elif kind == "vjepa":
            predictor = {"pred_hidden_size": 16, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2}
            config = library.VJEPA2Config(**small, **predictor, crop_size=32, patch_size=16, frames_per_clip=8)
            library.VJEPA2Model(config).save_pretrained(path)
        else:
            config = library.Dinov2Config(**small, image_size=28, patch_size=14)
            library.Dinov2Model(config).save_pretrained(path)


@pytest.mark.parametrize(
    ("name", "network"), [("videomae_kernel", "videomae"), ("vjepa_kernel", "vjepa"), ("dino_consistency", "dino")]
)
def test_folders_of_transformers_are_loaded_and_named(name: str, network: str, tmp_path: Path) -> None:
    library = pytest.importorskip("transformers", reason="needs the extra: pip install 'cineray[text]'")
    tiny(library, network, tmp_path)
    metric = made(name, **{network: str(tmp_path)})
    (score,) = judge([metric], made_clips(6), made_clips(6, seed=1), bootstrap=10)
    assert score.value is not None
    assert score.facts["weights_sha256"] == sha256_of(tmp_path)
    assert score.facts["weights_kind"].startswith("transformers/")
    alone = metric.measure(made_clips(6).select([2])).values_ND
    np.testing.assert_allclose(alone[0], metric.measure(made_clips(6)).values_ND[2], rtol=1e-3, atol=1e-5)


def test_a_folder_of_another_network_is_skipped_with_its_name(tmp_path: Path) -> None:
    library = pytest.importorskip("transformers", reason="needs the extra: pip install 'cineray[text]'")
    tiny(library, "dino", tmp_path)
    _, (score,) = make_metrics(Setting(weights={"videomae": str(tmp_path)}), ["videomae_kernel"])
    assert score.skipped == f"{tmp_path} holds a dinov2; wanted one of videomae"


def test_a_state_dict_of_torchvisions_raft_is_loaded(tmp_path: Path) -> None:
    try:
        import torchvision.models.optical_flow as models
    except (ImportError, RuntimeError):
        pytest.skip("needs a torchvision that fits this torch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(models.raft_small(weights=None).state_dict(), tmp_path / "raft.pth")
    metric = made("raft_dynamic_degree", raft=str(tmp_path / "raft.pth"))
    assert np.isfinite(metric.measure(made_clips(1, frames=2)).values_ND).all()
    assert metric.facts()["weights_kind"] == "state dict"


def test_without_torchvision_a_state_dict_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchvision", None)
    torch.save({"feature_encoder.weight": torch.zeros(1)}, tmp_path / "raft.pth")
    _, (score,) = make_metrics(Setting(weights={"raft": str(tmp_path / "raft.pth")}), ["raft_warping_error"])
    assert "is a state dict, which torchvision's RAFT is needed for: " in score.skipped


def test_every_metric_with_weights_is_held_to_the_contract() -> None:
    contracts = [each for each in globals().values() if isinstance(each, type) and issubclass(each, MetricContract)]
    tested = {each().metric().name for each in contracts if each is not MetricContract}
    assert tested == {name for name, kind in METRICS.items() if kind.group == "weights"}
