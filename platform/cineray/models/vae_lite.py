"""`vae_lite`: a small causal video autoencoder. Clips in [-1, 1] go in, latents 4 x 8 x 8 times smaller come out.

    frames 0 | 1 2 3 4 | ...     the first is repeated in front, so that it fills a group of its own
      -> Haar wavelets of small patches (2 x 4 x 4)       no convolution ever runs at full resolution
      -> residual blocks -> 2 x 2 x 2 places become one -> residual blocks -> mean and log variance
    and back the same way.

A block mixes space by a 3 x 3 convolution and time by three causal taps; norms are per place. So a latent frame depends
on no later frame, and a clip that is encoded or decoded in chunks, with the taps' last inputs remembered between them
(`Memory`), gives what it gives as a whole.

B clips, C channels (pixels: 3), T frames, H x W places. Inside, features are BTHWC: taps and norms then are plain
matrix products, and a convolution sees its fastest layout.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from cineray.models.autoencoder import Autoencoder, Shape3, fill_last_group, name_of
from cineray.models.autoencoder_config import VaeLiteShape

TAPS = 3
"""How many frames a block sees: its own and the two before it."""

FRESH_LOG_VARIANCE = -6.0

Memory = dict[nn.Module, Tensor]
"""What each layer of time taps saw last, from one chunk to the next; empty at the begin of a clip. None for a whole
clip: then a block is a pure function, which may be compiled and computed again."""


class Posterior(NamedTuple):
    """What the encoder says of a clip: per place a normal distribution, not yet normalised per channel."""

    mean_BCTHW: Tensor
    log_variance_BCTHW: Tensor

    def sample(self, noise_BCTHW: Tensor) -> Tensor:
        """Drawn with this noise."""
        return self.mean_BCTHW + torch.exp(0.5 * self.log_variance_BCTHW) * noise_BCTHW

    def divergence(self) -> Tensor:
        """(B,) from the standard normal: the mean over its places and channels."""
        variance = self.log_variance_BCTHW.exp()
        each = 0.5 * (self.mean_BCTHW.square() + variance - 1.0 - self.log_variance_BCTHW)
        return each.flatten(1).mean(1)


def haar(size: int) -> Tensor:
    """The orthonormal Haar wavelets of `size` samples (a power of two), as rows: the mean, then ever finer ones."""
    rows = torch.ones(1, 1)
    while rows.shape[1] < size:
        coarse = torch.kron(rows, torch.tensor([1.0, 1.0]))
        fine = torch.kron(torch.eye(rows.shape[1]), torch.tensor([1.0, -1.0]))
        rows = torch.cat([coarse, fine]) / 2**0.5
    return rows


class HaarPatches(nn.Module):
    """Patches of time, rows and columns as their wavelets, all colours side by side; and back, without any loss."""

    def __init__(self, patch: Shape3) -> None:
        super().__init__()
        self.patch = patch
        time, rows, columns = (haar(size) for size in patch)
        self.register_buffer("waves", torch.kron(torch.kron(time, rows), columns), persistent=False)
        self.waves: Tensor
        self.features = 3 * self.waves.shape[0]

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Pixels to features BTHWC."""
        i, j, k = self.patch
        parts = rearrange(x_BCTHW, "b c (t i) (h j) (w k) -> b t h w c (i j k)", i=i, j=j, k=k)
        return F.linear(parts, self.waves.to(parts.dtype)).flatten(-2)

    def back(self, features_BTHWC: Tensor) -> Tensor:
        """Features to pixels BCTHW."""
        i, j, k = self.patch
        parts = rearrange(features_BTHWC, "b t h w (c p) -> b t h w c p", c=3)
        parts = F.linear(parts, self.waves.to(parts.dtype).T)
        return rearrange(parts, "b t h w c (i j k) -> b c (t i) (h j) (w k)", i=i, j=j, k=k)


class CausalTaps(nn.Module):
    """A convolution over time of `TAPS` frames, none of them later than its own."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.mix = nn.Linear(TAPS * features, features)

    def forward(self, x_BTHWC: Tensor, memory: Memory | None) -> Tensor:
        """The mixed features; before a clip begins there is its first frame."""
        frames = x_BTHWC.shape[1]
        before = memory.get(self) if memory is not None else None
        if before is None:
            before = x_BTHWC[:, :1].expand(-1, TAPS - 1, -1, -1, -1)
        seen = torch.cat([before, x_BTHWC], 1)
        if memory is not None:
            memory[self] = seen[:, frames:]
        mixed: Tensor = self.mix(torch.cat([seen[:, tap : tap + frames] for tap in range(TAPS)], -1))
        return mixed


class Block(nn.Module):
    """Features plus what space and time around them suggest."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(features)
        self.space = nn.Conv2d(features, features, 3, padding=1)
        self.time = CausalTaps(features)
        # A fresh block changes nothing: what the wavelets carry passes unharmed, and is improved from there.
        nn.init.zeros_(self.time.mix.weight)
        nn.init.zeros_(self.time.mix.bias)

    def forward(self, x_BTHWC: Tensor, memory: Memory | None = None) -> Tensor:
        """The same shape."""
        frames = x_BTHWC.shape[1]
        flat = rearrange(self.norm(x_BTHWC), "b t h w c -> (b t) c h w")
        mixed = rearrange(F.silu(self.space(flat)), "(b t) c h w -> b t h w c", t=frames)
        out: Tensor = x_BTHWC + self.time(mixed, memory)
        return out


class _Half(nn.Module):
    """What both sides share: blocks at two levels, the finer first or last."""

    def __init__(self, shape: VaeLiteShape) -> None:
        super().__init__()
        time, rows, columns = shape.compression
        self.step: Shape3 = (min(2, time), 2, 2)
        self.patches = HaarPatches((time // self.step[0], rows // 2, columns // 2))
        self.fine_width, self.coarse_width = shape.width, 2 * shape.width
        self.joined = self.fine_width * self.step[0] * 4
        self.fine = nn.ModuleList(Block(self.fine_width) for _ in range(shape.blocks))
        self.coarse = nn.ModuleList(Block(self.coarse_width) for _ in range(shape.blocks))

    def shared_flops(self, places: int) -> int:
        """Of a clip with so many places in its latent: blocks, wavelets, and the steps between them."""
        fine_places = places * self.step[0] * 4
        waves = self.patches.waves.shape[0]
        wavelets = 3 * waves * waves + 3 * waves * self.fine_width
        fine = len(self.fine) * (9 + TAPS) * self.fine_width**2
        coarse = len(self.coarse) * (9 + TAPS) * self.coarse_width**2
        return 2 * (fine_places * (wavelets + fine) + places * (coarse + self.joined * self.coarse_width))

    def blocks(self) -> list[Block]:
        """Every residual block."""
        return [block for block in (*self.fine, *self.coarse) if isinstance(block, Block)]


class Encoder(_Half):
    """Pixels in, mean and log variance out."""

    def __init__(self, shape: VaeLiteShape) -> None:
        super().__init__(shape)
        self.enter = _linear(self.patches.features, self.fine_width)
        self.down = _linear(self.joined, self.coarse_width)
        self.leave = _linear(self.coarse_width, 2 * shape.channels)
        # A fresh posterior is narrow: with noise as large as the signal, the decoder learns to ignore both.
        nn.init.zeros_(self.leave.weight[shape.channels :])
        nn.init.constant_(self.leave.bias[shape.channels :], FRESH_LOG_VARIANCE)

    def forward(self, x_BCTHW: Tensor, memory: Memory | None) -> Tensor:
        """Frames in whole groups; 2 * channels features."""
        i, j, k = self.step
        h_BTHWC = self.enter(self.patches(x_BCTHW).to(self.enter.weight.dtype))
        for block in self.fine:
            h_BTHWC = block(h_BTHWC, memory)
        h_BTHWC = self.down(rearrange(h_BTHWC, "b (t i) (h j) (w k) c -> b t h w (i j k c)", i=i, j=j, k=k))
        for block in self.coarse:
            h_BTHWC = block(h_BTHWC, memory)
        told_BTHWC: Tensor = self.leave(h_BTHWC)
        return rearrange(told_BTHWC, "b t h w c -> b c t h w")


class Decoder(_Half):
    """Latents in, pixels out."""

    def __init__(self, shape: VaeLiteShape) -> None:
        super().__init__(shape)
        self.enter = _linear(shape.channels, self.coarse_width)
        self.up = _linear(self.coarse_width, self.joined)
        self.leave = _linear(self.fine_width, self.patches.features)

    def forward(self, z_BCTHW: Tensor, memory: Memory | None) -> Tensor:
        """Frames in whole groups."""
        i, j, k = self.step
        h_BTHWC = self.enter(rearrange(z_BCTHW, "b c t h w -> b t h w c").to(self.enter.weight.dtype))
        for block in self.coarse:
            h_BTHWC = block(h_BTHWC, memory)
        h_BTHWC = rearrange(self.up(h_BTHWC), "b t h w (i j k c) -> b (t i) (h j) (w k) c", i=i, j=j, k=k)
        for block in self.fine:
            h_BTHWC = block(h_BTHWC, memory)
        return self.patches.back(self.leave(h_BTHWC))


def _linear(features_in: int, features_out: int) -> nn.Linear:
    """Orthogonal and without an offset: before anything is learnt, the whole is a projection of the wavelets."""
    layer = nn.Linear(features_in, features_out)
    nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class VaeLite(Autoencoder):
    """The autoencoder. Its statistics are those of a standard normal until they are measured (`set_statistics`)."""

    name = "vae_lite"

    def __init__(self, shape: VaeLiteShape) -> None:
        super().__init__()
        self.shape = shape
        self.channels, self.compression = shape.channels, shape.compression
        self.encoder, self.decoder = Encoder(shape), Decoder(shape)
        self.register_buffer("mean_C", torch.zeros(shape.channels))
        self.register_buffer("std_C", torch.ones(shape.channels))
        self.mean_C: Tensor
        self.std_C: Tensor

    def posterior(self, x_BCTHW: Tensor, latent_frames_at_once: int | None = None) -> Posterior:
        """What is known of a clip's latent, in float32; in chunks of so many latent frames where memory is short."""
        self.latent_shape((x_BCTHW.shape[2], x_BCTHW.shape[3], x_BCTHW.shape[4]))
        time = self.compression[0]
        whole = fill_last_group(x_BCTHW, time)
        groups = torch.cat([whole[:, :, :1].expand(-1, -1, time - 1, -1, -1), whole], 2)
        if latent_frames_at_once is None:
            told = self.encoder(groups, None).float()
        else:
            memory: Memory = {}
            chunks = torch.split(groups, time * latent_frames_at_once, 2)
            told = torch.cat([self.encoder(chunk, memory) for chunk in chunks], 2).float()
        mean, log_variance = told.chunk(2, 1)
        return Posterior(mean, log_variance.clamp(-20.0, 10.0))

    def pixels(self, latent_BCTHW: Tensor, latent_frames_at_once: int | None = None) -> Tensor:
        """The clips of latents that are not normalised."""
        groups: Tensor
        if latent_frames_at_once is None:
            groups = self.decoder(latent_BCTHW, None)
        else:
            memory: Memory = {}
            chunks = torch.split(latent_BCTHW, latent_frames_at_once, 2)
            groups = torch.cat([self.decoder(chunk, memory) for chunk in chunks], 2)
        return groups[:, :, self.compression[0] - 1 :]

    def encode(
        self, x_BCTHW: Tensor, noise_BCTHW: Tensor | None = None, *, latent_frames_at_once: int | None = None
    ) -> Tensor:
        """Normalised latents; see `Autoencoder`."""
        posterior = self.posterior(x_BCTHW, latent_frames_at_once)
        latent = posterior.mean_BCTHW if noise_BCTHW is None else posterior.sample(noise_BCTHW)
        return (latent - _wide(self.mean_C)) / _wide(self.std_C)

    def decode(self, z_BCTHW: Tensor, frames: int | None = None, *, latent_frames_at_once: int | None = None) -> Tensor:
        """Pixels of normalised latents; see `Autoencoder`."""
        latent = z_BCTHW * _wide(self.std_C) + _wide(self.mean_C)
        return self.pixels(latent, latent_frames_at_once)[:, :, :frames]

    def set_statistics(self, mean_C: Tensor, std_C: Tensor) -> None:
        """From now on, latents are normalised by these."""
        self.mean_C.copy_(mean_C)
        self.std_C.copy_(std_C)

    @property
    def content_hash(self) -> str:
        """Of shape, weights and statistics."""
        return name_of(f"vae_lite {self.shape.model_dump_json()}", self.state_dict().items())

    def blocks(self) -> list[Block]:
        """What may be compiled, sharded and recomputed one by one."""
        return [*self.encoder.blocks(), *self.decoder.blocks()]

    def muon_parameters(self) -> list[nn.Parameter]:
        """The blocks' matrices; their convolutions go to AdamW."""
        weights = (block.time.mix.weight for block in self.blocks())
        return [weight for weight in weights if isinstance(weight, nn.Parameter)]

    def encode_flops(self, clip: Shape3) -> int:
        """Of the matrix products that one clip of (frames, rows, columns) takes on its way to the latent."""
        _, frames, rows, columns = self.latent_shape(clip)
        places = frames * rows * columns
        leave = 2 * places * self.encoder.coarse_width * 2 * self.channels
        return self.encoder.shared_flops(places) + leave

    def forward_flops(self, clip: Shape3) -> int:
        """There and back; training takes three times as many."""
        _, frames, rows, columns = self.latent_shape(clip)
        places = frames * rows * columns
        enter = 2 * places * self.channels * self.decoder.coarse_width
        return self.encode_flops(clip) + self.decoder.shared_flops(places) + enter

    def forward(self, x_BCTHW: Tensor, noise_BCTHW: Tensor) -> tuple[Tensor, Posterior]:
        """For training: the clip again, from a sample of its latent, and what that was drawn from."""
        posterior = self.posterior(x_BCTHW)
        again = self.pixels(posterior.sample(noise_BCTHW))
        return again[:, :, : x_BCTHW.shape[2]], posterior


def _wide(per_channel_C: Tensor) -> Tensor:
    return per_channel_C.view(1, -1, 1, 1, 1)
