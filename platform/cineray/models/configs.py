"""What a job says of its model: plain values in, a checked description out; nothing here needs torch.

`StDiTConfig`, `UNet3dConfig` and `Image2VideoConfig` each name themselves by `kind`, so a job's record (YAML) tells
them apart; `ModelConfig` is any of them. `TextConfig` says what turns captions into vectors. What the data decides
(channels, classes, the longest clip) is not here: `build_model` gets it from the task.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, PositiveInt, model_validator

from cineray.config import Config


class Shape(NamedTuple):
    """How large a transformer is."""

    width: int
    depth: int
    heads: int


SIZES: dict[str, Shape] = {
    "XS": Shape(256, 8, 4),
    "S": Shape(384, 12, 6),
    "B": Shape(768, 12, 12),
    "L": Shape(1024, 24, 8),  # from here on heads of 128 values: fast attention kernels use tensor cores better
    "XL": Shape(1152, 28, 9),
}

Wavelengths = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


class StDiTConfig(Config):
    """The space-time diffusion transformer."""

    kind: Literal["stdit"] = "stdit"
    """Names this model in a job's record."""
    size: Literal["XS", "S", "B", "L", "XL", "custom"] = "S"
    """Width, depth and heads together; `custom` takes them from the three fields below."""
    width: int = Field(default=0, ge=0)
    """Values per token; only with size=custom."""
    depth: int = Field(default=0, ge=0)
    """Number of blocks; only with size=custom."""
    heads: int = Field(default=0, ge=0)
    """Attention heads per block; only with size=custom."""
    patch: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 2, 2)
    """Frames, rows and columns that become one token: (1, 2, 2) for latents, (2, 8, 8) for pixels."""
    bottleneck: int = Field(default=0, ge=0)
    """A big patch is first projected to so many values, then to the width (JiT); 0 projects at once."""
    attention: Literal["sdpa", "varlen", "flex"] = "sdpa"
    """The back end asked for. Where it cannot run, the reference runs; the model's `attention` says which one did."""
    flash: Literal["default", "FA3", "FA4"] = "default"
    """The flash kernel behind sdpa and varlen; FA3 and FA4 need their packages on the machine that trains."""
    factorised: bool = False
    """Blocks attend by turns within frames and across them, instead of everywhere: for clips above 8k tokens."""
    positions: Literal["rope", "rope+learned"] = "rope"
    """Rotations by seconds and pixels; `rope+learned` adds a learnt table, which helps short trainings of one size."""
    rope_seconds: Wavelengths = (0.16, 16.0)
    """Shortest and longest wavelength of the rotation by time."""
    rope_pixels: Wavelengths = (32.0, 1024.0)
    """Shortest and longest wavelength of the rotation by place."""
    modulation_std: float = Field(default=0.0, ge=0)
    """Spread of the modulation's first weights: 0 starts as the identity, 0.02 learns conditions sooner."""

    @model_validator(mode="after")
    def _one_shape(self) -> StDiTConfig:
        told = {"width": self.width, "depth": self.depth, "heads": self.heads}
        if self.size != "custom" and any(told.values()):
            given = ", ".join(name for name, value in told.items() if value)
            raise ValueError(f"size={self.size} sets {given} itself; leave them out, or say size=custom")
        if self.size == "custom":
            _check_shape(Shape(**told))
        if self.factorised and self.attention != "sdpa":
            raise ValueError(
                f"factorised=true got attention={self.attention}; its sequences are short and its masks simple, "
                "so it runs with attention=sdpa"
            )
        for name in ("rope_seconds", "rope_pixels"):
            shortest, longest = getattr(self, name)
            if shortest >= longest:
                raise ValueError(f"{name} got ({shortest}, {longest}); it wants (shortest, longest) wavelength")
        return self

    @property
    def shape(self) -> Shape:
        """Width, depth and heads, wherever they come from."""
        return SIZES.get(self.size) or Shape(self.width, self.depth, self.heads)


def _check_shape(shape: Shape) -> None:
    if min(shape) < 1:
        raise ValueError(f"size=custom got {shape}; width, depth and heads must each be at least 1")
    if shape.width % shape.heads or (shape.width // shape.heads) % 2 or shape.width // shape.heads < 6:
        raise ValueError(
            f"width {shape.width} over {shape.heads} heads gives heads of {shape.width / shape.heads:g} values; "
            "they must be an even number of at least 6, a pair for each of time, row and column"
        )


class UNet3dConfig(Config):
    """The compact (2+1)D U-Net: the classical baseline."""

    kind: Literal["unet3d"] = "unet3d"
    """Names this model in a job's record."""
    channels: PositiveInt = 64
    """Channels of the finest level."""
    multipliers: tuple[PositiveInt, ...] = Field(default=(1, 2, 4), min_length=2)
    """Channels of each level over those of the finest; each level halves rows and columns."""
    blocks: PositiveInt = 2
    """Residual blocks per level on the way down; one more on the way up."""
    heads: PositiveInt = 4
    """Attention heads, at the two lowest levels."""

    @model_validator(mode="after")
    def _divisible(self) -> UNet3dConfig:
        if self.channels % 8:
            raise ValueError(f"channels got {self.channels}; it must be a multiple of 8, the groups of normalisation")
        for multiplier in self.multipliers[-2:]:
            _check_shape(Shape(self.channels * multiplier, 1, self.heads))
        return self


class Image2VideoConfig(Config):
    """A frozen image model whose frames learn to move: time is all that is trained."""

    kind: Literal["image2video"] = "image2video"
    """Names this model in a job's record."""
    base: StDiTConfig = StDiTConfig()
    """The image model: an `stdit` that was trained on single frames, so its patch spans one frame."""
    image_weights: str = Field(min_length=1)
    """Its weights: a local file that `cineray export` wrote, or another `.safetensors` or `torch.save`d state dict."""

    @model_validator(mode="after")
    def _of_images(self) -> Image2VideoConfig:
        if self.base.patch[0] != 1:
            raise ValueError(
                f"base.patch got {self.base.patch}; an image model's patch spans 1 frame: (1, rows, columns)"
            )
        if self.base.factorised or self.base.attention != "sdpa":
            raise ValueError("base wants factorised=false and attention=sdpa: it sees one frame at a time")
        return self


ModelConfig = Annotated[StDiTConfig | UNet3dConfig | Image2VideoConfig, Field(discriminator="kind")]


class TextConfig(Config):
    """What turns captions into vectors."""

    kind: Literal["none", "builtin", "transformers"] = "none"
    """`builtin`: small, trained with the model, no downloads; `transformers`: a frozen encoder from a local folder."""
    tokens: PositiveInt = 48
    """Captions are cut to so many tokens, and padded to them: one shape, one compiled graph."""
    width: PositiveInt = 128
    """Values per token of the built-in encoder; others have a width of their own."""
    depth: PositiveInt = 2
    """Blocks of the built-in encoder."""
    heads: PositiveInt = 4
    """Attention heads of the built-in encoder."""
    path: str = ""
    """The folder of a `transformers` encoder with its tokenizer, as `save_pretrained` writes them."""
    cache: str = ""
    """Where its embeddings are kept, by caption and encoder hash: a folder or a prefix; empty: in memory alone."""

    @model_validator(mode="after")
    def _path_where_needed(self) -> TextConfig:
        if (self.kind == "transformers") != bool(self.path):
            raise ValueError(f"kind={self.kind} got path={self.path!r}; kind=transformers wants one, the others none")
        if self.cache and self.kind != "transformers":
            raise ValueError(f"kind={self.kind} got cache={self.cache!r}; only a frozen encoder's output can be kept")
        if self.kind == "builtin":
            _check_shape(Shape(self.width, self.depth, self.heads))
        return self
