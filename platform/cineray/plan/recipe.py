"""What a training run wants of its data: plain values in, a checked `Recipe` out. It shapes every batch.

A recipe names datasets, how time is sampled, how pictures are cut, and how clips are batched. Contradictions (a mode
`fps` without `fps`, buckets beside a single shape) are refused by the names of the fields, before anything is read.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cineray.config import Config

Mode = Literal["uniform", "random", "stride", "fps", "keyframes", "scene", "all_windows"]

DEFAULT_SHAPE = (16, 128, 128)
"""Frames, height and width where a recipe says nothing of them."""


class DatasetSpec(Config):
    """One dataset: which clips of which version of which lake."""

    lake: str = ""
    """The lake's folder or object-store prefix."""
    version: str = "latest"
    """A number, a name or a fingerprint of a version; a run records the number that it was resolved to."""
    split: str | None = "train"
    """Only clips of this split; null takes all, also those without one."""
    filter: str | None = None
    """SQL over the media columns, and over what `cineray curate` measured: `height >= 480 AND motion_speed > 0.1`. A
    video without that measure is not drawn."""
    weight: float | None = Field(default=None, gt=0)
    """This dataset's share of the clips, beside the other weights; without weights each clip counts the same."""
    balance: Literal["none", "label", "caption"] = "none"
    """`label`: each label as often as any other; `caption`: as many clips with a caption as without."""


def exact_rate(fps: Any) -> Any:
    """Frames per second as an exact ratio in words: 23.976, "30000/1001" and 8 are all meant as they are written."""
    if fps is None or isinstance(fps, bool):
        return fps
    try:
        rate = Fraction(str(fps))
    except (ValueError, ZeroDivisionError):
        raise ValueError("fps must be a number or a ratio such as 8, 23.976 or 30000/1001") from None
    if not 0 < rate <= 1000:
        raise ValueError(f"fps must be above 0 and at most 1000, got {rate}")
    return str(rate)


class SamplingSpec(Config):
    """Which frames make a clip. Times are the file's own timestamps, never a frame number over a rate."""

    mode: Mode = "random"
    """`uniform`: evenly over the whole span; `random`: a piece from anywhere, spaced by `fps` or `stride`; `stride`:
    every n-th frame; `fps`: resampled in true time; `keyframes`: begins at a key frame; `scene`: never crosses a cut;
    `all_windows`: every window of the span, once per epoch."""
    frames: int | None = Field(default=None, ge=1, le=4096)
    """Frames per clip, 16 unless said; with `buckets`, each bucket says its own."""
    stride: int | None = Field(default=None, ge=1)
    """Source frames from one frame of the clip to the next; 1 unless said otherwise."""
    fps: str | None = None
    """Frames per second of true time, as text so that it is exact: `8`, `23.976`, `30000/1001`."""
    start: Literal["random", "first", "middle"] = "random"
    """Where modes `stride` and `fps` begin: anywhere, at the span's start, or so that the clip lies in its middle."""
    jitter: float = Field(default=0.0, ge=0, le=1)
    """How far each frame may move towards the next, as a share of the distance between them."""
    hop: int | None = Field(default=None, ge=1)
    """`all_windows`: frames of the clip from one window's start to the next; all of them (no overlap) unless said."""
    min_seconds: float = Field(default=0.0, ge=0)
    """Clips of a shorter span are left out."""
    short_videos: Literal["skip", "pad", "loop"] = "skip"
    """A span too short for a clip: left out; filled up with black frames that are masked; or begun again."""

    _exact = field_validator("fps", mode="before")(exact_rate)

    @model_validator(mode="after")
    def _no_contradiction(self) -> SamplingSpec:
        mode = self.mode
        if self.fps is not None and self.stride is not None:
            raise ValueError("sampling.fps and sampling.stride are both given; one of them spaces the frames")
        if mode == "fps" and self.fps is None:
            raise ValueError(
                "sampling.mode is fps but sampling.fps is not given; set it (fps=8), or choose mode stride"
            )
        if self.fps is not None and mode in ("stride", "uniform"):
            raise ValueError(
                f"sampling.fps is given but sampling.mode is {mode}, which does not use it; choose mode fps"
            )
        if self.stride is not None and mode in ("uniform", "fps"):
            raise ValueError(f"sampling.stride is given but sampling.mode is {mode}, which does not use it; remove it")
        if self.start != "random" and mode not in ("stride", "fps"):
            raise ValueError(f"sampling.start is {self.start} but sampling.mode is {mode}; only stride and fps use it")
        if self.hop is not None and mode != "all_windows":
            raise ValueError(f"sampling.hop is given but sampling.mode is {mode}; only all_windows uses it")
        if self.jitter and mode == "all_windows":
            raise ValueError("sampling.jitter moves frames, and sampling.mode all_windows shows every window as it is")
        return self

    @property
    def rate(self) -> Fraction | None:
        """`fps` as an exact ratio."""
        return Fraction(self.fps) if self.fps is not None else None


class FrameSpec(Config):
    """How a picture is cut to the shape that the model takes."""

    height: int | None = Field(default=None, ge=1, le=16384)
    """Rows of the clip; 128 x 128 unless said; with `buckets`, each bucket says its own."""
    width: int | None = Field(default=None, ge=1, le=16384)
    """Columns of the clip."""
    crop: Literal["center", "random"] = "center"
    """Which part stays where the shapes differ; one place for all frames of a clip."""
    aspect: Literal["keep", "stretch"] = "keep"
    """`keep`: circles stay circles, also where the file's pixels are not square; `stretch`: the whole picture, bent."""
    pad: bool = False
    """Show the whole picture between black borders instead of cutting."""
    flip: float = Field(default=0.0, ge=0, le=1)
    """The probability that a clip is mirrored left to right."""

    @model_validator(mode="after")
    def _no_contradiction(self) -> FrameSpec:
        if self.pad and self.aspect == "stretch":
            raise ValueError("frame.pad is true but frame.aspect is stretch, which leaves nothing to pad; choose one")
        if self.pad and self.crop == "random":
            raise ValueError(
                "frame.pad is true but frame.crop is random, and a padded picture is not cropped; choose one"
            )
        return self


class BucketSpec(Config):
    """One shape of batch. All clips of a step have the same shape."""

    frames: int = Field(ge=1, le=4096)
    """Frames per clip."""
    height: int = Field(ge=1, le=16384)
    """Rows."""
    width: int = Field(ge=1, le=16384)
    """Columns."""
    batch_size: int | None = Field(default=None, ge=1)
    """Clips per step over all ranks; else what the token budget allows."""
    weight: float | None = Field(default=None, gt=0)
    """This bucket's share of the steps; without weights, as many as its clips need."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, height, width)."""
        return self.frames, self.height, self.width


class Recipe(Config):
    """Everything that shapes the batches. With a version of the data and a seed it is a plan."""

    datasets: tuple[DatasetSpec, ...] = Field(default=(DatasetSpec(),), min_length=1)
    """What to draw from."""
    sampling: SamplingSpec = SamplingSpec()
    """Which frames make a clip."""
    frame: FrameSpec = FrameSpec()
    """How pictures are cut."""
    buckets: tuple[BucketSpec, ...] = ()
    """Several shapes, each clip in the one that suits it; empty: one shape, from `sampling.frames` and `frame`."""
    batch_size: int | None = Field(default=None, ge=1)
    """Clips per step over all ranks."""
    token_budget: int | None = Field(default=None, ge=1)
    """Instead of `batch_size`: tokens per step over all ranks; a bucket of larger clips then has fewer of them."""
    token_shape: tuple[int, int, int] = (1, 16, 16)
    """Frames, rows and columns of pixels that make one token; only `token_budget` uses it."""
    clips_per_visit: int = Field(default=1, ge=1, le=256)
    """Clips that each visit to a video gives, shown in that many successive steps; more makes decoding cheaper."""
    captions: Literal["first", "random"] = "first"
    """Which of a clip's captions goes along."""
    max_substituted_fraction: float = Field(default=0.01, ge=0, le=1)
    """A run stops when more of its clips than this could not be decoded and were replaced."""

    @model_validator(mode="after")
    def _no_contradiction(self) -> Recipe:
        self._check_shapes()
        self._check_sizes()
        if self.sampling.mode == "all_windows" and self.clips_per_visit > 1:
            raise ValueError(
                f"clips_per_visit is {self.clips_per_visit} but sampling.mode is all_windows, which shows each window "
                "once; set clips_per_visit to 1"
            )
        hop = self.sampling.hop
        longest = min(bucket.frames for bucket in self.shapes)
        if hop is not None and hop > longest:
            raise ValueError(
                f"sampling.hop is {hop} but a clip has {longest} frames: frames between would never be shown"
            )
        weighted = [spec.weight is not None for spec in self.datasets]
        if any(weighted) and not all(weighted):
            raise ValueError(f"datasets[{weighted.index(False)}].weight is not given, but others are; give all or none")
        return self

    def _check_shapes(self) -> None:
        single = {
            "sampling.frames": self.sampling.frames,
            "frame.height": self.frame.height,
            "frame.width": self.frame.width,
        }
        given = [name for name, value in single.items() if value is not None]
        if not self.buckets:
            if (self.frame.height is None) != (self.frame.width is None):
                one, other = ("width", "height") if self.frame.height is None else ("height", "width")
                raise ValueError(f"frame.{one} is given but frame.{other} is not; give both")
            return
        if given:
            raise ValueError(
                f"buckets and {' and '.join(given)} are both given; buckets say the shape, so remove the others"
            )
        shapes = [bucket.shape for bucket in self.buckets]
        twice = sorted({shape for shape in shapes if shapes.count(shape) > 1})
        if twice:
            raise ValueError(f"buckets has {'x'.join(map(str, twice[0]))} twice; each shape is one bucket")
        weighted = [bucket.weight is not None for bucket in self.buckets]
        if any(weighted) and not all(weighted):
            raise ValueError(f"buckets[{weighted.index(False)}].weight is not given, but others are; give all or none")

    def _check_sizes(self) -> None:
        if self.batch_size is not None and self.token_budget is not None:
            raise ValueError("batch_size and token_budget are both given; one of them says how many clips a step has")
        if min(self.token_shape) < 1:
            raise ValueError(f"token_shape is {self.token_shape}; each of its three numbers must be at least 1")
        for number, bucket in enumerate(self.shapes):
            name = "x".join(map(str, bucket.shape))
            if bucket.batch_size is None and self.batch_size is None and self.token_budget is None:
                where = f"buckets[{number}].batch_size, " if self.buckets else ""
                raise ValueError(
                    f"nothing says how many clips a step of {name} has; give {where}batch_size or token_budget"
                )
            if bucket.batch_size is None and self.token_budget is not None and self.size_of(bucket) < 1:
                raise ValueError(
                    f"token_budget is {self.token_budget} but one clip of {name} has {self.tokens_of(bucket)} tokens; "
                    "raise the budget, or make the clip smaller"
                )

    @property
    def shapes(self) -> tuple[BucketSpec, ...]:
        """The buckets, also where there is only the one that `sampling.frames` and `frame` describe."""
        if self.buckets:
            return self.buckets
        frames, height, width = DEFAULT_SHAPE
        return (
            BucketSpec(
                frames=self.sampling.frames or frames,
                height=self.frame.height or height,
                width=self.frame.width or width,
            ),
        )

    def tokens_of(self, bucket: BucketSpec) -> int:
        """Tokens of one clip of a bucket; what does not fill a token counts as one."""
        frames, height, width = (-(-size // token) for size, token in zip(bucket.shape, self.token_shape, strict=True))
        return frames * height * width

    def size_of(self, bucket: BucketSpec) -> int:
        """Clips per step of a bucket, over all ranks."""
        if bucket.batch_size is not None:
            return bucket.batch_size
        if self.batch_size is not None:
            return self.batch_size
        return (self.token_budget or 0) // self.tokens_of(bucket)

    def shaping(self) -> dict[str, Any]:
        """What of it shapes batches: not where the lake lies, nor when a run stops. The version is bound by content."""
        values = self.model_dump(mode="json", exclude={"max_substituted_fraction"})
        for dataset in values["datasets"]:
            del dataset["lake"], dataset["version"]
        return values
