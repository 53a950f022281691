"""The nouns of cineray, one frozen value per station of the data's way.

    source  -> VideoFile      what exists: a name, a place, what its surroundings say of it
    index   -> IndexedVideo   what is inside: geometry, colour, and a FrameTable with every frame's time
            |  Reject         why not
    plan    -> ClipSpec       which frames of which video, cut and turned how: everything but the pixels
    decode  -> Clip           the pixels of one ClipSpec
    batch   -> Batch          one contiguous array per field

Stations do not import each other; they meet here. Times are integers with a time base, never float seconds;
units live in names; identity is never a float. Nothing here opens a file, and nothing here needs FFmpeg or torch.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where bytes lie: a whole object, or `length` bytes of it from `offset` (a member of a tar shard, a blob)."""

    uri: str
    offset: int = 0
    length: int | None = None

    def __str__(self) -> str:
        return self.uri if self.length is None else f"{self.uri}[{self.offset}:{self.offset + self.length}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """A file that travels with a video under its base name. `kind` is its extension: txt, json, cls, srt, vtt, wav."""

    kind: str
    place: Place
    version_tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFile:
    """One video as a source lists it, unopened. `name` is its stable id within the source."""

    name: str
    place: Place
    size_bytes: int | None = None
    version_tag: str = ""
    """Changes when the bytes do: an ETag, or size and modification time; empty when listing cannot know it."""
    split: str | None = None
    label: str | None = None
    group: str | None = None
    captions: tuple[str, ...] = ()
    sidecars: tuple[Sidecar, ...] = ()
    columns: Mapping[str, Scalar] = field(default_factory=dict)
    """Whatever else the source says of this video (metadata columns), as plain scalars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """Why a video is left out. `reason` is a short stable code (`truncated`); `detail` is a sentence for people."""

    name: str
    stage: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioStream:
    """One audio stream's facts; `start_pts` in its own time base tells its offset against the video."""

    stream_index: int
    codec: str
    sample_rate: int
    channels: int
    time_base: Fraction
    start_pts: int | None
    duration_pts: int | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameTable:
    """Every frame of one video stream, in display order, as parallel arrays of equal length.

        display order   0   1   2   3   4        an I P B B P... stream
        pts             0 512 1024 1536 2048     strictly increasing, in the stream's time base
        decode_order    0   2   3   1   4        the place of that frame's packet among the stream's packets

    Packets that the container marks as not to be shown (edit lists) are not here: `hidden_packets` counts them.
    `position` is the packet's byte offset in the *video's* bytes (not the shard's), -1 where the container does not
    say.
    """

    pts: npt.NDArray[np.int64]
    duration: npt.NDArray[np.int64]
    decode_order: npt.NDArray[np.int32]
    key: npt.NDArray[np.bool_]
    disposable: npt.NDArray[np.bool_]
    """No other frame refers to this one, as far as the container says: it may be left undecoded when unwanted."""
    position: npt.NDArray[np.int64]
    size_bytes: npt.NDArray[np.int32]
    hidden_packets: int = 0

    def __post_init__(self) -> None:
        n = len(self.pts)
        for name, dtype in _COLUMNS:
            array: npt.NDArray[Any] = np.ascontiguousarray(getattr(self, name), dtype=dtype)
            if array.shape != (n,):
                raise ValueError(f"FrameTable.{name} has shape {array.shape}; it must have one entry per frame, ({n},)")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if n > 1 and not bool(np.all(np.diff(self.pts) > 0)):
            raise ValueError("FrameTable.pts must be strictly increasing: each frame has its own instant")

    def __len__(self) -> int:
        return len(self.pts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FrameTable):
            return NotImplemented
        same = all(np.array_equal(getattr(self, name), getattr(other, name)) for name, _ in _COLUMNS)
        return same and self.hidden_packets == other.hidden_packets

    __hash__ = None  # type: ignore[assignment]

    @property
    def start_pts(self) -> int:
        """When the first frame is shown."""
        return int(self.pts[0])

    @property
    def end_pts(self) -> int:
        """Half-open: the first instant at which the last frame is no longer shown."""
        return int(self.pts[-1] + self.duration[-1])

    def shown_at(self, pts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The frame number on screen at each instant: the last frame that began at or before it."""
        return self.pts.searchsorted(pts, side="right") - 1

    def to_bytes(self) -> bytes:
        """Packed for the lake: differences of each column, compressed; 300 frames take 1 to 2 kB."""
        parts = [_HEADER.pack(_MAGIC, _FORMAT, len(self), self.hidden_packets)]
        for name, _ in _COLUMNS:
            column = np.asarray(getattr(self, name), dtype="<i8")
            packed = zlib.compress(np.diff(column, n=1, prepend=np.int64(0)).astype("<i8").tobytes(), 6)
            parts += [struct.pack("<I", len(packed)), packed]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> FrameTable:
        """The inverse of `to_bytes`."""
        magic, version, n, hidden = _HEADER.unpack_from(data)
        if magic != _MAGIC or version != _FORMAT:
            raise ValueError(f"not a frame table of format {_FORMAT} (starts with {data[:5]!r}); index the video again")
        at = _HEADER.size
        columns: dict[str, npt.NDArray[Any]] = {}
        for name, dtype in _COLUMNS:
            (size,) = struct.unpack_from("<I", data, at)
            at += 4
            # Bounded: a damaged or hostile table cannot unpack to more than its frames.
            raw = zlib.decompressobj().decompress(data[at : at + size], 8 * n)
            at += size
            columns[name] = np.cumsum(np.frombuffer(raw, "<i8", count=n)).astype(dtype)
        return cls(hidden_packets=hidden, **columns)

    def torchcodec_mappings(self) -> str:
        """The JSON that torchcodec's `custom_frame_mappings` takes: opening scans nothing and seeks are exact."""
        rows = zip(self.pts.tolist(), self.duration.tolist(), self.key.tolist(), strict=True)
        frames = [{"pts": p, "duration": d, "key_frame": int(k)} for p, d, k in rows]
        return json.dumps({"frames": frames})


_MAGIC, _FORMAT = b"CRFT", 1
_HEADER = struct.Struct("<4sBIi")
_COLUMNS: tuple[tuple[str, type], ...] = (
    ("pts", np.int64),
    ("duration", np.int64),
    ("decode_order", np.int32),
    ("key", np.bool_),
    ("disposable", np.bool_),
    ("position", np.int64),
    ("size_bytes", np.int32),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedVideo:
    """What is inside one video, read without decoding it. Widths and heights are as coded, before rotation."""

    video_id: str
    """The first 32 hex digits of the content hash: the same bytes are the same video wherever they lie."""
    content_hash: str
    """`blake3:<hex>` of all bytes, or `blake3-header:<hex>` of size and header of a remote file not read whole."""
    size_bytes: int
    version_tag: str
    container: str
    codec: str
    profile: str
    stream_index: int
    width: int
    height: int
    rotation_degrees: int
    """Clockwise turn that shows the picture upright: 0, 90, 180 or 270."""
    sample_aspect_ratio: Fraction
    pixel_format: str
    bit_depth: int
    color_range: str
    """`limited`, `full` or `unknown`; the three below are FFmpeg's names (`bt709`), or `unknown`."""
    color_space: str
    color_primaries: str
    color_transfer: str
    time_base: Fraction
    average_rate: Fraction | None
    nominal_rate: Fraction | None
    variable_rate: bool
    frames: FrameTable
    times_from: str = "packets"
    """`packets`: the container gives every frame's time; `decoder`: it does not, and a decoder had to tell."""
    audio: tuple[AudioStream, ...] = ()
    validated: str = "packets"
    """How far it was looked at: `header`, `packets` or `decode`."""
    bytes_read: int = 0
    """What indexing cost: bytes fetched from the place."""
    requests: int = 0

    @property
    def num_frames(self) -> int:
        """How many frames are shown."""
        return len(self.frames)

    @property
    def duration_seconds(self) -> Fraction:
        """From the first frame's begin to the last one's end, exactly."""
        return (self.frames.end_pts - self.frames.start_pts) * self.time_base


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """What part of the upright picture (after rotation) a clip shows, and how large it leaves.

    The source rectangle `top, left, height, width` is resized to `out_height x out_width` less the black borders that a
    padded picture has (`pad_top`, ...; else all 0) and laid between them; then the whole is mirrored if `flip`.
    """

    top: int
    left: int
    height: int
    width: int
    out_height: int
    out_width: int
    flip: bool = False
    pad_top: int = 0
    pad_bottom: int = 0
    pad_left: int = 0
    pad_right: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSpec:
    """One clip of a batch, before any pixel exists: a pure function of (version, recipe, seed, step, slot)."""

    clip_id: str
    """The row of the lake's `clips` table that it is drawn from."""
    video_id: str
    dataset: int
    """Which of the recipe's datasets."""
    clip_number: int
    """The clip's number within its dataset; with epoch and draw it keys every random choice."""
    epoch: int
    draw: int
    """Which of the clips of one visit: 0 .. clips_per_visit - 1."""
    frame_numbers: tuple[int, ...]
    """Display-order frame numbers in the video's FrameTable, one per frame; a padded frame repeats the last."""
    frame_pts: tuple[int, ...]
    """The instants asked for, in `time_base`: what the model is told of each frame's time."""
    time_base: Fraction
    frame_is_real: tuple[bool, ...]
    """False where a short video was padded."""
    crop: Crop
    caption: str | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """The pixels of one ClipSpec: `frames_THWC`, uint8 RGB, full range, BT.709 primaries taken as they are."""

    spec: ClipSpec
    frames_THWC: npt.NDArray[np.uint8]
    frames_decoded: int
    """How many frames the decoder had to produce for it; shared work of a visit is counted once, at its first clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Substitution:
    """A clip that could not be decoded, and what stands in its slot instead."""

    step: int
    slot: int
    wanted_clip_id: str
    used_clip_id: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredLatents:
    """Latents of a batch's clips that a store had: what an autoencoder once made of them, so nobody decodes them again.

    C channels, T frames, H x W places of the latent.
    """

    values_BCTHW: npt.NDArray[Any]
    """float32, or the bits of bfloat16 as uint16; zeros where the store had none."""
    is_here_B: npt.NDArray[np.bool_]
    """For which clips it had one. The others have pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """One step's clips for one rank (or for all): one contiguous array per field, slots in order.

    B clips, T frames, H x W pixels, C = 3 channels.
    """

    step: int
    first_slot: int
    """The global slot of the first clip: a rank's share is `first_slot .. first_slot + B`."""
    global_size: int
    """How many clips the step has over all ranks."""
    frames_BTHWC: npt.NDArray[np.uint8]
    frame_is_real_BT: npt.NDArray[np.bool_]
    seconds_BT: npt.NDArray[np.float64]
    """Each frame's time since its clip's first frame, in seconds; computed last, from exact timestamps."""
    start_seconds_B: npt.NDArray[np.float64]
    """When the clip begins within its video."""
    specs: tuple[ClipSpec, ...]
    substitutions: tuple[Substitution, ...] = ()
    frames_decoded: int = 0
    latents: StoredLatents | None = None
    """What a store of latents had. Then `frames_BTHWC` holds only the clips that it had not, in order; maybe none."""
