"""A small net that learns, on the training clips, how real clips look and move; its features compare sets.

It is told, of windows cut from real clips: their class, whether time runs forwards, whether every second frame was left
out, and whether frames were shuffled. Nobody's weights are needed, so its features know only this data: scores compare
only under one net. A net is a safetensors file; its sha256 is its name. The same clips and seed give the same net on
one machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cineray.errors import UsageError
from cineray.evaluate.intervals import Reals
from cineray.evaluate.shared import Frames

if TYPE_CHECKING:
    from cineray.evaluate.clip_set import ClipSet

SIDE_PX = 32
"""Pictures are shrunk to this height and width."""
WIDTHS = (16, 24, 32)
"""Channels after each block; the last is the number of features."""
LEAST_FRAMES = 4
STILL_FRAMES = 4
AT_ONCE = 64
FORMAT = 1


class ClipNet(nn.Module):
    """R(2+1)D: blocks of a convolution over the picture, which halves it, and one over time, which keeps the length."""

    mean_D: Tensor
    std_D: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        before = (3, *WIDTHS[:-1])
        self.over_picture = nn.ModuleList(
            nn.Conv3d(i, o, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False) for i, o in zip(before, WIDTHS, strict=True)
        )
        self.over_time = nn.ModuleList(
            nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0), bias=False) for width in WIDTHS
        )
        # Norms over the batch: they keep how clips differ in strength, which norms over a clip take away; with those
        # (GroupNorm) the net told 18 % of eight directions apart where it tells 99 % with these.
        self.picture_norms = nn.ModuleList(nn.BatchNorm3d(width) for width in WIDTHS)
        self.time_norms = nn.ModuleList(nn.BatchNorm3d(width) for width in WIDTHS)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(WIDTHS[-1], 2) for name in ("backwards", "hurried", "shuffled")}
            | ({"class": nn.Linear(WIDTHS[-1], classes)} if classes > 1 else {})
        )
        # Features are given as so many standard deviations from the training clips' mean.
        self.register_buffer("mean_D", torch.zeros(WIDTHS[-1]))
        self.register_buffer("std_D", torch.ones(WIDTHS[-1]))

    def pooled(self, x_BCTHW: Tensor) -> Tensor:
        """(B, D): the mean over all places and times."""
        for at in range(len(WIDTHS)):
            x_BCTHW = F.relu(self.picture_norms[at](self.over_picture[at](x_BCTHW)))
            x_BCTHW = F.relu(x_BCTHW + self.time_norms[at](self.over_time[at](x_BCTHW)))
        return x_BCTHW.mean(dim=(2, 3, 4))


@dataclass(frozen=True, slots=True, eq=False)
class FeatureNet:
    """A trained net, and the name of its weights."""

    net: ClipNet
    content: bytes
    """The safetensors file."""
    sha256: str
    learnt: dict[str, float]
    """What it could tell at the end of its training: question -> fraction right; chance is 1/2, or 1/classes."""

    def features(self, frames_NTHWC: Frames) -> Reals:
        """(N, D) of whole clips."""
        return self._of(pictures(frames_NTHWC))

    def frame_features(self, frames_NTHWC: Frames) -> Reals:
        """(N, D) of single frames, held still: the mean of the middle and the last one's."""
        t = frames_NTHWC.shape[1]
        chosen = sorted({t // 2, t - 1})
        x_NCTHW = pictures(frames_NTHWC[:, chosen])
        still = [self._of(x_NCTHW[:, :, [at]].repeat(1, 1, STILL_FRAMES, 1, 1)) for at in range(len(chosen))]
        return np.asarray(np.mean(still, axis=0))

    @torch.inference_mode()
    def _of(self, x_NCTHW: Tensor) -> Reals:
        pooled_ND = _a_few_at_a_time(self.net.pooled, x_NCTHW)
        return ((pooled_ND - self.net.mean_D) / self.net.std_D).double().numpy()

    def save(self, path: str | Path) -> None:
        """As a file."""
        Path(path).write_bytes(self.content)

    @classmethod
    def load(cls, path: str | Path) -> FeatureNet:
        """What `save` wrote."""
        from safetensors import SafetensorError, safe_open

        try:
            content = Path(path).read_bytes()
            with safe_open(str(path), framework="pt") as file:
                about = json.loads((file.metadata() or {})["cineray"])
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if about["format"] != FORMAT:
                raise UsageError(f"{path} has format {about['format']}; this code reads {FORMAT}: train another net")
            net = ClipNet(int(about["classes"]))
            net.load_state_dict(weights)
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
            raise UsageError(f"{path} is not a feature net ({error}); wanted what FeatureNet.save wrote") from None
        return cls(net.eval(), content, hashlib.sha256(content).hexdigest(), dict(about["learnt"]))


def pictures(frames_NTHWC: Frames) -> Tensor:
    """(N, C, T, SIDE, SIDE), around 0."""
    n, t = frames_NTHWC.shape[:2]
    x_FCHW = torch.from_numpy(np.ascontiguousarray(frames_NTHWC)).flatten(0, 1).permute(0, 3, 1, 2)
    if x_FCHW.shape[-2:] != (SIDE_PX, SIDE_PX):
        x_FCHW = _a_few_at_a_time(lambda few: F.adaptive_avg_pool2d(few.float(), (SIDE_PX, SIDE_PX)), x_FCHW)
    return (x_FCHW.float() / 127.5 - 1).reshape(n, t, 3, SIDE_PX, SIDE_PX).transpose(1, 2)


def _a_few_at_a_time(of_few: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """The same as all at once, in less memory; also of none."""
    return torch.cat([of_few(values[first : first + AT_ONCE]) for first in range(0, max(len(values), 1), AT_ONCE)])


# ---- training --------------------------------------------------------------------------------------------------------


def train_feature_net(
    clips: ClipSet, *, steps: int = 300, batch: int = 32, learning_rate: float = 1e-2, seed: int = 0
) -> FeatureNet:
    """A net that has learnt to answer its questions on these clips."""
    if clips.num_frames < LEAST_FRAMES or len(clips) < 2:
        raise UsageError(
            f"a feature net was to learn from {len(clips)} clips of {clips.num_frames} frames; "
            f"wanted two clips or more, of {LEAST_FRAMES} frames or more"
        )
    names = sorted(set(clips.labels) - {""})
    class_N = torch.tensor([names.index(label) if label else -1 for label in clips.labels])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ClipNet(len(names))
    optimiser = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, pct_start=0.1)
    right: dict[str, list[float]] = {}
    draw = np.random.Generator(np.random.Philox(key=[seed, 11]))
    x_NCTHW = pictures(clips.frames_NTHWC)
    for step in range(steps):
        loss, told = _asked(net, *_questions(x_NCTHW, class_N, batch, draw))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step >= steps - max(1, steps // 5):
            for name, fraction in told.items():
                right.setdefault(name, []).append(fraction)
    learnt = {name: round(float(np.mean(fractions)), 4) for name, fractions in sorted(right.items())}
    return _finished(net, x_NCTHW, len(names), learnt)


def _questions(
    x_NCTHW: Tensor, class_N: Tensor, batch: int, draw: np.random.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Windows of half a clip, what was done to each, and the answers; -1 where a question has none."""
    n, t = len(x_NCTHW), x_NCTHW.shape[2]
    window = t // 2
    done = draw.integers(0, 2, (batch, 3)).astype(bool)  # backwards, hurried, shuffled
    done[:, 2] &= draw.uniform(size=batch) < 0.5  # of a shuffled window nothing else can be asked
    chosen = draw.integers(0, n, batch)
    frames = np.empty((batch, window), dtype=np.int64)
    for b, (backwards, hurried, shuffled) in enumerate(done):
        stride = 2 if hurried else 1
        frames[b] = draw.integers(0, t - (window - 1) * stride) + stride * np.arange(window)
        if shuffled:
            frames[b] = _out_of_order(frames[b], draw)
        elif backwards:
            frames[b] = frames[b, ::-1]
    x_BCTHW = torch.stack([x_NCTHW[c][:, f] for c, f in zip(chosen, torch.from_numpy(frames), strict=True)])
    backwards_B, hurried_B, shuffled_B = torch.from_numpy(done).long().unbind(dim=1)
    unasked = shuffled_B == 1
    answers = {
        "backwards": backwards_B.masked_fill(unasked, -1),
        "hurried": hurried_B.masked_fill(unasked, -1),
        "shuffled": shuffled_B,
        # A direction played backwards is another class.
        "class": class_N[torch.from_numpy(chosen)].masked_fill(unasked | (backwards_B == 1), -1),
    }
    return x_BCTHW, answers


def _out_of_order(frames_T: np.ndarray[Any, np.dtype[np.int64]], draw: np.random.Generator) -> Any:
    """A permutation that is neither the order nor its reverse; of two frames there is none: the first stands still."""
    if len(frames_T) < 3:
        return np.repeat(frames_T[:1], len(frames_T))
    while True:
        order = draw.permutation(len(frames_T))
        if abs(int(np.sign(np.diff(order)).sum())) < len(frames_T) - 1:
            return frames_T[order]


def _asked(net: ClipNet, x_BCTHW: Tensor, answers: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """The sum of all questions' losses, and the fraction of right answers to each."""
    pooled_BD = net.pooled(x_BCTHW)
    losses, right = [], {}
    for name, head in net.heads.items():
        answer_B = answers[name]
        if bool((answer_B >= 0).any()):
            logits = head(pooled_BD)
            losses.append(F.cross_entropy(logits, answer_B, ignore_index=-1))
            asked = answer_B >= 0
            right[name] = float((logits.argmax(dim=1) == answer_B)[asked].float().mean())
    return torch.stack(losses).sum(), right


def _finished(net: ClipNet, x_NCTHW: Tensor, classes: int, learnt: dict[str, float]) -> FeatureNet:
    """With features in units of the training clips' spread, and as a file."""
    from safetensors.torch import save

    net.eval()
    with torch.no_grad():
        pooled_ND = _a_few_at_a_time(net.pooled, x_NCTHW)
        net.mean_D.copy_(pooled_ND.mean(dim=0))
        net.std_D.copy_(pooled_ND.std(dim=0).clamp(min=1e-3))
    about = json.dumps({"format": FORMAT, "classes": classes, "learnt": learnt}, sort_keys=True)
    # One entry only: the library writes several in no fixed order, and the hash must be of the net alone.
    content = save({name: value.contiguous() for name, value in net.state_dict().items()}, metadata={"cineray": about})
    return FeatureNet(net, content, hashlib.sha256(content).hexdigest(), learnt)
