"""Metrics with weights of others, from local paths: a path goes in; a metric, or why there is none, comes out.

    files.py      a path, its sha256, and how TorchScript files and folders of `transformers` are opened
    prepare.py    frames as each network wants them
    fvd.py        I3D: the Frechet video distance, as `fvd2048_16f` computes it
    embedded.py   VideoMAE-v2 and V-JEPA: kernel distances of their features
    looks.py      DINO: does the subject stay itself; LPIPS: how much neighbours differ to the eye
    raft.py       RAFT: dynamic degree and warping error by its flow
    registry.py   all of them

Nothing is downloaded, and no code that comes with weights is run but TorchScript. The name, the sha256 and what was
done to the frames stand in each score's facts. Without its file a metric is skipped with the reason.
"""

from cineray.evaluate.weights.registry import WEIGHTED

__all__ = ["WEIGHTED"]
