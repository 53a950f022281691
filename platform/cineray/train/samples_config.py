"""What a training says of the clips that are made of its checkpoints while it goes on. No torch here."""

from __future__ import annotations

from pydantic import Field

from cineray.diffusion.config import SamplerConfig


class SamplesConfig(SamplerConfig):
    """Samples beside the training: of the run's own prompts, and never on the training workers' time.

    Under Ray they are a validation task of Ray Train; else a child process of low priority beside the training.
    """

    every_steps: int = Field(default=0, ge=0)
    """Clips are made of the first checkpoint at or after each so manieth step, and of the last one; 0: never."""
    guidance: float = Field(default=1.5, ge=0)
    """Above 1 moves away from what the network makes without a class or caption; 1 asks it once, not twice."""
    clips: int = Field(default=16, ge=1)
    """The first so many of the run's prompts."""
    first_frame: bool = False
    """Give each clip the first frame of its prompt's held-out clip."""
    cpus: float = Field(default=1.0, gt=0)
    """Cores that they compute with. An embedded Ray has them on top of those that decode; a cluster sets them aside."""
    gpus: float = Field(default=0.0, ge=0)
    """GPUs of the cluster that they get, whole or in part; 0: they are made on CPUs. Without Ray, above 0 shares the
    GPU of the training."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Under Ray: only on machines with these labels."""
    limit_seconds: float = Field(default=1800.0, gt=0)
    """What takes longer is given up, with a warning."""

    @property
    def threads(self) -> int:
        """Of the process that makes them."""
        return max(1, int(self.cpus))
