"""VMAF, where the `ffmpeg` program has it: two runs of pictures of one size in, a score from 0 to 100 out, else None.

FFmpeg's wheel for Python has no libvmaf, so the program on the PATH is asked; most distributions build theirs without.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]


@functools.cache
def has_vmaf() -> bool:
    """Whether the program on the PATH can."""
    try:
        words = subprocess.run(["ffmpeg", "-hide_banner", "-filters"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return False
    return any(line.split()[1:2] == ["libvmaf"] for line in words.stdout.splitlines())


def vmaf_of(frames_THWC: Frames, reference_THWC: Frames) -> float | None:
    """The mean over the frames; None without libvmaf, and where it refuses pictures (too small ones, say)."""
    if not has_vmaf():
        return None
    _, height, width, _ = frames_THWC.shape
    with tempfile.TemporaryDirectory(prefix="cineray-vmaf-") as folder:
        inputs: list[str] = []
        for name, frames in (("new", frames_THWC), ("old", reference_THWC)):
            path = os.path.join(folder, name)
            np.ascontiguousarray(frames).tofile(path)
            inputs += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-i", path]
        log = os.path.join(folder, "log.json")
        chain = f"[0:v]format=yuv420p[a];[1:v]format=yuv420p[b];[a][b]libvmaf=log_fmt=json:log_path={log}:n_threads=1"
        command = ["ffmpeg", "-nostdin", "-v", "error", *inputs, "-lavfi", chain, "-f", "null", "-"]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode != 0 or not os.path.exists(log):
            return None
        with open(log, encoding="utf-8") as file:
            return float(json.load(file)["pooled_metrics"]["vmaf"]["mean"])
