"""What a caller may decide about decoding. `decoder` and `verify` may change what a batch shows, and so they belong to
its identity; the rest changes cost and patience alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cineray.errors import UsageError
from cineray.storage import AccessPolicy

DecoderName = Literal["auto", "pyav", "torchcodec"]
Verify = Literal["none", "sample"]

AUTO: DecoderName = "pyav"
"""What `auto` means, for every video: cheaper on every file that was measured (decisions/0010-decoders.md)."""


def decoder_name(name: DecoderName) -> DecoderName:
    """The decoder that is meant by a name."""
    return AUTO if name == "auto" else name


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """How to decode. Frozen, so that it can be handed to workers and kept beside a run."""

    decoder: DecoderName = "auto"
    """Which decoder (`registry.py`). It belongs to the identity of a batch: the two scale in their own ways."""
    verify: Verify = "sample"
    """`sample`: the frames' times, and the places and sizes of their packets, must be those of the index; a clip for
    which they are not is replaced."""
    budget_seconds: float = 120.0
    """The longest that one visit may take; looked at between packets, so a decoder that hangs is not ours to stop."""
    policy: AccessPolicy | None = None
    """Which addresses may be read; by default what the environment says."""
    keep_open: int = 2
    """How many videos a thread keeps open for the next visit."""
    gap_bytes: int = 64 << 10
    """Remote media: two ranges that are no further apart are read as one."""
    ahead: int = 4
    """Remote media: how many ranges of one video are fetched at the same time."""

    @property
    def identity(self) -> str:
        """What of this a batch depends on, where it is not the default; empty where it is."""
        usual = DecodeOptions()
        chosen = {"decoder": decoder_name(self.decoder), "verify": self.verify}
        by_default = {"decoder": decoder_name(usual.decoder), "verify": usual.verify}
        return " ".join(f"{name}={value}" for name, value in chosen.items() if value != by_default[name])

    def __post_init__(self) -> None:
        for name, low in (("budget_seconds", 1e-9), ("keep_open", 0), ("gap_bytes", 0), ("ahead", 1)):
            if getattr(self, name) < low:
                raise UsageError(f"DecodeOptions.{name} is {getattr(self, name)}; wanted {low} or more")
        if self.verify not in ("none", "sample"):
            raise UsageError(f"DecodeOptions.verify is {self.verify!r}; wanted 'none' or 'sample'")
