"""What a device can compute at most: its name and a precision go in, floating-point operations per second come out.

Vendors' figures, dense, without sparsity. bf16 is that of the tensor cores, fp32 is TF32: whoever leaves TF32 off sees
it in the MFU. A device that is not here has no MFU, rather than a guessed one.
"""

from __future__ import annotations

import math
from typing import Literal

PEAK_FLOPS: dict[str, dict[str, float]] = {
    "GH200": {"bf16": 989e12, "fp32": 494e12},
    "H200": {"bf16": 989e12, "fp32": 494e12},
    "H100 PCIe": {"bf16": 756e12, "fp32": 378e12},
    "H100 NVL": {"bf16": 835e12, "fp32": 417e12},
    "H100": {"bf16": 989e12, "fp32": 494e12},
    "B200": {"bf16": 2250e12, "fp32": 1100e12},
    "A100": {"bf16": 312e12, "fp32": 156e12},
    "A10G": {"bf16": 70e12, "fp32": 35e12},
    "L40S": {"bf16": 362e12, "fp32": 183e12},
    "L4": {"bf16": 121e12, "fp32": 60e12},
    "RTX 4090": {"bf16": 165e12, "fp32": 82.6e12},
}
"""Part of the device's name -> precision -> FLOP/s; the first name that fits counts, so the longer ones come first."""


def peak_flops(device_name: str, precision: Literal["fp32", "bf16"]) -> float:
    """NaN where it is not known."""
    words = device_name.replace("-", " ")
    for name, peaks in PEAK_FLOPS.items():
        if f" {name} " in f" {words} ":
            return peaks[precision]
    return math.nan
