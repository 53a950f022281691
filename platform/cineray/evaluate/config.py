"""What judging was told: plain values in, checked configs out. No torch here.

What shapes the scores is all here, and an evaluation's record holds it: the same config, checkpoint and prompts give
the same scores.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from cineray.config import Config
from cineray.decode.options import DecoderName
from cineray.evaluate.sample_config import SampleConfig


class WeightsConfig(Config):
    """Where the weights of pretrained networks lie on this machine. Without a file a network's metrics are skipped,
    and say so; nothing else stands in for it."""

    fvd: str = ""
    """The I3D network of FVD, as TorchScript (`i3d_torchscript.pt`)."""
    videomae: str = ""
    """VideoMAE-v2, fine-tuned on SSv2: a folder of `transformers`, or TorchScript. It looks at motion more than I3D."""
    vjepa: str = ""
    """V-JEPA 2: a folder of `transformers`, or TorchScript."""
    dino: str = ""
    """DINO: a folder of `transformers`, or TorchScript."""
    lpips: str = ""
    """LPIPS, as TorchScript."""
    raft: str = ""
    """RAFT, as TorchScript or a state dict: how much moves, and what motion does not explain."""

    def paths(self) -> dict[str, str]:
        """Those that are given."""
        return {name: path for name, path in self.model_dump().items() if path}


_OF_A_CLIP = ("frames", "fps", "seconds", "height", "width")


class EvaluateConfig(Config):
    """How a checkpoint is judged."""

    clips: int = Field(default=64, ge=2, le=65536)
    """Clips that are generated, and held-out real ones beside them. 64 to look at; 256 for distances; 2048 at the
    end."""
    sampler: SampleConfig = SampleConfig()
    """How clips are made from noise. How many they are is said by `clips`."""
    metrics: Literal["all"] | tuple[str, ...] = "all"
    """Which metrics, by name."""
    bootstrap: int = Field(default=1000, ge=100)
    """Drawings of clips that an interval is made from."""
    seed: int = Field(default=0, ge=0)
    """Of those drawings, and of the permutations of the controls. The clips' noise has seeds of its own, in the run."""
    weights: WeightsConfig = WeightsConfig()
    """Pretrained networks, by local path."""
    feature_net: str = "train"
    """What features distances are taken in: `train` trains a small network on training clips, once for a run, and keeps
    it there; a path takes that one, so that runs share it; empty: no distances."""
    training_clips: int = Field(default=256, ge=0)
    """Training clips that generated ones are looked for in (memorisation), and that the feature network learns from."""
    truth_layer: str = "truth"
    """The lake's annotation layer that says what is true of a clip: direction, speed, shape; empty: none."""
    combination: tuple[str, ...] = ("shape", "colour", "direction")
    """Facts that make a combination: clips of one that no training clip has are reported apart."""
    controls: bool = True
    """Judge what cannot be good beside the model's clips: frames shuffled, labels permuted, the untrained model."""
    loss: bool = True
    """Losses on the validation clips, as in training."""
    sensitivity_clips: int = Field(default=16, ge=0)
    """Real clips that are spoilt in known ways, to see whether each metric notices; 0: not done."""
    shown: int = Field(default=16, ge=0)
    """Clips that are written as MP4, each beside the real clip of the same prompt."""

    @model_validator(mode="after")
    def _like_real_clips(self) -> EvaluateConfig:
        given = [name for name in _OF_A_CLIP if getattr(self.sampler, name) is not None]
        if given:
            raise ValueError(
                f"sampler.{given[0]} is given, but clips are judged beside held-out ones and must have their times and "
                "their size; leave it out, and look at other lengths and sizes with `cineray sample`"
            )
        return self


class PipelineConfig(Config):
    """How two recipes are held against each other."""

    clips: int = Field(default=16, ge=1, le=1024)
    """Clips that both make, evenly chosen from those that both have."""
    seed: int = Field(default=0, ge=0)
    """Of where a clip begins, where a recipe leaves that to chance; the same for both."""
    decoder_a: DecoderName = "auto"
    """Which decoder the first one uses."""
    decoder_b: DecoderName = "auto"
    """And the second one."""
    pixel_levels: float = Field(default=2.0, ge=0)
    """A mean difference of pixels, in levels of 255, above which two clips of the same moments are not the same."""
    jitter: float = Field(default=0.05, ge=0)
    """Unevenness of the frames' times, as a share of the distance between them, above which motion stutters."""
    shown: int = Field(default=8, ge=0)
    """Clips that are written as MP4, side by side."""
