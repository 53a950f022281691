"""The feature network that a run's clips are judged by: training clips go in, once; the same network comes out again.

Distances in features compare only under one network, so a run keeps the one that it was first judged by, and a run that
is held against another is judged by the other's.

    <run>/evaluations/feature-net-1-8x32x32-256.safetensors     format, shape of clips, how many clips it learnt from
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from cineray.errors import UsageError
from cineray.evaluate.clip_set import ClipSet
from cineray.evaluate.config import EvaluateConfig
from cineray.evaluate.feature_net import FORMAT, LEAST_FRAMES, FeatureNet, train_feature_net
from cineray.storage import is_remote, object_exists, put_if_absent, read_object
from cineray.train.run_folder import RunFolder

_LIMIT_BYTES = 1 << 28


def net_place(run: RunFolder, config: EvaluateConfig, *, frames: int, height: int, width: int) -> str:
    """Where the network is, or will be, that the config means; empty where it wants none."""
    if config.feature_net != "train":
        return config.feature_net
    shape = f"{frames}x{height}x{width}"
    return run.folder(f"evaluations/feature-net-{FORMAT}-{shape}-{config.training_clips}.safetensors")


def feature_net_for(run: RunFolder, config: EvaluateConfig, training: ClipSet | None) -> FeatureNet | None:
    """None where the config wants none, or where there is nothing to learn from."""
    if not config.feature_net:
        return None
    if config.feature_net != "train":
        if not object_exists(config.feature_net):
            raise UsageError(
                f"feature_net is {config.feature_net!r}, and no file is there; name one that an evaluation has kept "
                "(<run>/evaluations/feature-net-*), `train` to learn one from the run's clips, or '' for none"
            )
        return _load(config.feature_net)
    if training is None or training.num_frames < LEAST_FRAMES or len(training) < 2:
        return None
    place = net_place(run, config, frames=training.num_frames, height=training.height, width=training.width)
    if not object_exists(place):
        put_if_absent(place, train_feature_net(training).content)
    return _load(place)


def _load(place: str) -> FeatureNet:
    if not is_remote(place):
        return FeatureNet.load(place)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "feature-net.safetensors"
        copy.write_bytes(read_object(place, limit_bytes=_LIMIT_BYTES))
        return FeatureNet.load(copy)
