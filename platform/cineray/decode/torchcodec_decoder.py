"""The second opinion: torchcodec, with the index's frame table as its own. Frame numbers go in, pictures come out.

torchcodec gives whole pictures in RGB; they are cut as RGB pixels and resized by torch's antialiased bilinear filter,
so this decoder is also the reference that the other one's scaler is measured against. It uses the system's FFmpeg,
whose colour conversion may differ between versions: batches are the same on machines with the same FFmpeg only. It
believes the index's key frames, where the other decoder looks at them (`true_keys.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from cineray.decode.colour import FULL, colour_of, is_rgb
from cineray.decode.geometry import Pixels, between_borders, inner_size
from cineray.decode.options import DecodeOptions
from cineray.decode.reasons import Deadline, DecodeFault
from cineray.decode.runs import runs_for
from cineray.decode.visit_file import VisitFile
from cineray.records import Crop, IndexedVideo

_AT_ONCE = 8  # whole pictures in memory: 8 of 1280x720 are 22 MB
_EXACT = ("mp4", "mov", "matroska", "webm")


class TorchcodecDecoder:
    """One open video, read through torchcodec."""

    def __init__(self, video: IndexedVideo, file: VisitFile) -> None:
        if video.container not in _EXACT or video.times_from != "packets":
            raise DecodeFault(
                "unsupported",
                f"torchcodec does not find frames exactly in this {video.container} file; use the decoder 'pyav', or "
                "ingest the video again so that it is remuxed",
            )
        if colour_of(video).range == FULL and not (video.pixel_format.startswith("yuvj") or is_rgb(video.pixel_format)):
            raise DecodeFault(
                "unsupported", f"torchcodec takes full-range {video.pixel_format} for limited; use the decoder 'pyav'"
            )
        self.video, self._file = video, file
        self.decoded = 0
        self.faults: dict[int, DecodeFault] = {}
        self._decoder: Any = None

    def pictures(
        self, frames: Sequence[int], deadline: Deadline, options: DecodeOptions
    ) -> Iterator[tuple[int, _TorchPicture]]:
        """See `seam.FrameDecoder`. What torchcodec decodes is not told by it; counted is what the runs say."""
        self.faults = {}
        decoder = self._opened()
        self.decoded += sum(run.last - run.first + 1 for run in runs_for(self.video.frames, frames))
        for at in range(0, len(frames), _AT_ONCE):
            deadline.check(self.decoded)
            some = [int(frame) for frame in frames[at : at + _AT_ONCE]]
            for frame, picture_HWC, seconds in self._some(decoder, some):
                fault = self._fault(frame, seconds) if options.verify != "none" else None
                if fault is not None:
                    self.faults[frame] = fault
                else:
                    yield frame, _TorchPicture(picture_HWC)

    def close(self) -> None:
        """Let go of torchcodec's object."""
        self._decoder = None

    def _some(self, decoder: Any, frames: list[int]) -> list[tuple[int, Any, float]]:
        """These frames; where one fails, each on its own, so that it takes no other with it."""
        try:
            batch = decoder.get_frames_at(indices=frames)
        except (RuntimeError, ValueError, IndexError) as error:
            self._file_failure()
            if len(frames) > 1:
                return [found for frame in frames for found in self._some(decoder, [frame])]
            self.faults[frames[0]] = DecodeFault("decode_failed", f"torchcodec: {_first_line(error)}")
            return []
        return list(zip(frames, batch.data, batch.pts_seconds.tolist(), strict=True))

    def _opened(self) -> Any:
        if self._decoder is None:
            from torchcodec.decoders import VideoDecoder

            self._file.seek(0)
            try:
                self._decoder = VideoDecoder(
                    self._file,
                    stream_index=self.video.stream_index,
                    dimension_order="NHWC",
                    num_ffmpeg_threads=1,
                    custom_frame_mappings=self.video.frames.torchcodec_mappings(),
                )
            except (RuntimeError, ValueError) as error:
                self._file_failure()
                raise DecodeFault("decode_failed", f"torchcodec cannot open it: {_first_line(error)}") from error
        return self._decoder

    def _file_failure(self) -> None:
        if self._file.failure is not None:
            raise self._file.failure

    def _fault(self, frame: int, seconds: float) -> DecodeFault | None:
        """torchcodec tells times in float seconds: the nearest tick must be the index's."""
        expected = int(self.video.frames.pts[frame])
        found = round(Fraction(seconds) / self.video.time_base)
        if found == expected:
            return None
        return DecodeFault(
            "wrong_frame",
            f"frame {frame} is shown at {found} by the decoder and at {expected} by the index (in units of "
            f"{self.video.time_base} s); ingest the video again",
        )


class _TorchPicture:
    """A whole picture in RGB, upright already."""

    def __init__(self, picture_HWC: Any) -> None:
        self._picture_HWC = picture_HWC

    def write(self, crop: Crop, into_HWC: Pixels) -> None:
        """See `seam.Picture`."""
        import torch

        rows, columns = slice(crop.top, crop.top + crop.height), slice(crop.left, crop.left + crop.width)
        cut_1CHW = self._picture_HWC[rows, columns].permute(2, 0, 1)[None]
        out_1CHW = torch.nn.functional.interpolate(cut_1CHW, inner_size(crop), mode="bilinear", antialias=True)
        pixels = out_1CHW[0].permute(1, 2, 0).numpy()
        np.copyto(between_borders(crop, into_HWC), pixels[:, ::-1] if crop.flip else pixels)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:300]
