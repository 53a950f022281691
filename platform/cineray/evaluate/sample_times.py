"""How long generated clips are: prompts and what was asked for go in; each frame's time comes out, or why it cannot be.

What a model takes follows from its patches (a clip falls into whole ones) and its positions: rotations by seconds and
pixels take any length, rate and size; a learnt table ends where the clips that it was trained on end. Both are found
out here, by the names of the fields, before anything is computed.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from cineray.errors import UsageError
from cineray.evaluate.prompts import Prompt
from cineray.evaluate.sample_config import SampleConfig
from cineray.models.autoencoder import Autoencoder
from cineray.models.configs import Image2VideoConfig, ModelConfig, StDiTConfig

Shape3 = tuple[int, int, int]
Seconds = tuple[float, ...]


def times_of(prompts: Sequence[Prompt], config: SampleConfig) -> list[Seconds]:
    """Each prompt's frame times: its own, or those that were asked for. All are of one length."""
    frames = _frames(prompts, config)
    gap = _gap(config)
    if gap is not None:
        return [tuple(number * gap for number in range(frames))] * len(prompts)
    return [_continued(prompt, frames) for prompt in prompts]


def size_of(prompts: Sequence[Prompt], config: SampleConfig) -> tuple[int, int]:
    """Rows and columns."""
    if config.height is not None and config.width is not None:
        return config.height, config.width
    return prompts[0].height, prompts[0].width


def _frames(prompts: Sequence[Prompt], config: SampleConfig) -> int:
    if config.frames is not None:
        return config.frames
    if config.seconds is None:
        return len(prompts[0].seconds)
    gap = float(1 / config.rate) if config.rate is not None else statistics.median(_pace(one) for one in prompts)
    return max(1, round(config.seconds / gap))


def _gap(config: SampleConfig) -> float | None:
    """Seconds between frames, where the config says it."""
    if config.rate is not None:
        return float(1 / config.rate)
    if config.frames is not None and config.seconds is not None:
        return config.seconds / config.frames
    return None


def _continued(prompt: Prompt, frames: int) -> Seconds:
    """The prompt's own times; beyond its end they go on at its mean pace."""
    own = prompt.seconds[:frames]
    missing = frames - len(own)
    return (*own, *(own[-1] + _pace(prompt) * number for number in range(1, missing + 1))) if missing else own


def _pace(prompt: Prompt) -> float:
    """The mean time between its frames."""
    if len(prompt.seconds) < 2:
        raise UsageError("the run's clips have one frame, so nothing says how fast longer ones go; give fps too")
    return prompt.seconds[-1] / (len(prompt.seconds) - 1)


# ---- what the model takes --------------------------------------------------------------------------------------------


def check_fits(
    clip: Shape3, model: ModelConfig, autoencoder: Autoencoder, *, trained: Sequence[tuple[int, int, int, int]]
) -> None:
    """Refuse clips (frames, rows, columns of pixels) that the model cannot make. `trained`: its training clips' latents
    as (channels, frames, rows, columns)."""
    _, *latent = autoencoder.latent_shape(clip)
    patch = patch_of(model)
    if latent[0] % patch[0]:
        below, above = (autoencoder.pixel_frames(latent[0] // patch[0] * patch[0] + more) for more in (0, patch[0]))
        choices = f"{below} or {above}" if latent[0] > patch[0] else f"{above}"
        raise UsageError(
            f"clips of {clip[0]} frames were asked for, and a patch of the model spans {patch[0]} frames"
            f"{_of_latents(autoencoder)}; set frames to {choices}"
        )
    steps = [part * cell for part, cell in zip(patch[1:], autoencoder.compression[1:], strict=True)]
    if any(size % step for size, step in zip(clip[1:], steps, strict=True)):
        raise UsageError(
            f"clips of {clip[1]} x {clip[2]} pixels were asked for, and a patch of the model spans "
            f"{steps[0]} x {steps[1]}; set height and width to multiples of these"
        )
    _check_positions(clip, latent, model, autoencoder, trained)


def patch_of(model: ModelConfig) -> Shape3:
    """Frames, rows and columns of latents that a clip must fall into."""
    if isinstance(model, StDiTConfig):
        return model.patch
    if isinstance(model, Image2VideoConfig):
        return model.base.patch
    halvings = 2 ** (len(model.multipliers) - 1)
    return 1, halvings, halvings


def _check_positions(
    clip: Shape3,
    latent: Sequence[int],
    model: ModelConfig,
    autoencoder: Autoencoder,
    trained: Sequence[tuple[int, int, int, int]],
) -> None:
    transformer = model.base if isinstance(model, Image2VideoConfig) else model
    if not isinstance(transformer, StDiTConfig) or transformer.positions != "rope+learned":
        return
    longest = [max(shape[axis] for shape in trained) for axis in (1, 2, 3)]
    images = isinstance(model, Image2VideoConfig)  # its table is of pictures: any number of frames passes through
    if any(size > most for size, most in list(zip(latent, longest, strict=True))[images:]):
        most = (
            autoencoder.pixel_frames(longest[0]),
            *(size * cell for size, cell in zip(longest[1:], autoencoder.compression[1:], strict=True)),
        )
        raise UsageError(
            f"clips of {clip[0]} frames of {clip[1]} x {clip[2]} were asked for, and the model's learnt positions end "
            f"at {'any number of' if images else most[0]} frames of {most[1]} x {most[2]} (model.positions is "
            "rope+learned); ask for no more, or train with model.positions=rope, which takes any length and size"
        )


def _of_latents(autoencoder: Autoencoder) -> str:
    each = autoencoder.compression[0]
    return f" of latents, each of {each} frames but the first" if each > 1 else ""
