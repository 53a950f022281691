"""One core: the machine is shared, and tiny tensors are no faster on two."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
