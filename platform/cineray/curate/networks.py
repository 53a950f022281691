"""Networks of the job's own, which judge pictures: a file of this machine and pictures go in, columns come out.

    it takes     one float32 tensor [N, 3, S, S]: N pictures of one video in the order of time, upright, RGB,
                 each colour (value / 255 - mean) / spread
    it gives     score: [N] or [N, 1]       vector: [N, D]

The file is TorchScript, as `torch.jit.trace(network, pictures).save(path)` writes it. It is a program, and runs with
the rights of whoever curates: name none that you would not run. Nothing is fetched, and nothing is unpickled (which is
why programs of `torch.export` are not read: torch unpickles some of their weights).

The pictures of one video are one batch, and one thread computes, without TorchScript's rewriting of what ran before:
what is said of a video does not depend on which others were looked at, nor on how many workers did it. A GPU rounds
otherwise than a CPU; scores keep six digits and vectors 16 bits, which hides most of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cineray.curate.config import CurateJob
from cineray.curate.looker import Looked, Pictures, Todo
from cineray.curate.network_config import NetworkConfig, hash_of, network_key, score_columns
from cineray.curate.stage import Columns, columns_to_json
from cineray.curate.vectors import vector_to_text
from cineray.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


class Networks:
    """The networks of a job, loaded and tried once; `keys` are those that their results are kept by."""

    def __init__(self, configs: Mapping[str, NetworkConfig], keys: Mapping[str, str], *, on_gpu: bool) -> None:
        self.keys = dict(keys)
        self.held = {name: _Network(name, configs[name], keys[name], on_gpu=on_gpu) for name in sorted(keys)}

    def told(self, looked: Looked) -> Looked:
        """A finished row with what the networks say of its pictures, and without these."""
        if not looked.pictures:
            return looked
        said = {self.keys[name]: self._said(name, pictures) for name, pictures in looked.pictures.items()}
        return replace(looked, columns={**looked.columns, **said}, pictures={})

    def _said(self, name: str, pictures_NHWC: Pictures) -> str:
        return columns_to_json(self.held[name].columns(pictures_NHWC))


def networks_for(todo: Iterable[Todo], job: CurateJob, keys: Mapping[str, str], *, on_gpu: bool) -> Networks:
    """The networks of which something is not known; the others are not loaded."""
    missing = {name for one in todo for name in one.stages}
    return Networks(job.models, {name: keys[name] for name in sorted(missing & job.models.keys())}, on_gpu=on_gpu)


class _Network:
    """One of them."""

    def __init__(self, name: str, config: NetworkConfig, key: str, *, on_gpu: bool) -> None:
        self.name, self.config = name, config
        if network_key(name, config, hash_of(name, config.path)) != key:
            raise UsageError(f"{config.path} is not the file of `{name}` that this curation began with; begin anew")
        self.device = _device(name, on_gpu)
        self.network = _loaded(name, config.path, self.device)
        self.columns(np.zeros((config.pictures, config.side, config.side, 3), np.uint8))  # before a video is opened

    def columns(self, pictures_NHWC: Pictures) -> Columns:
        """A score and the lowest of them, or a vector of length 1; None for what is no number."""
        given_ND = self._given(pictures_NHWC)
        is_known = bool(np.isfinite(given_ND).all())
        if self.config.gives == "score":
            mean, lowest = float(given_ND.mean(dtype=np.float64)), float(given_ND.min())
            told = (_six_digits(mean), _six_digits(lowest)) if is_known else (None, None)
            return dict(zip(score_columns(self.name), told, strict=True))
        return {"dims": given_ND.shape[1], "vector": vector_to_text(_middle(given_ND)) if is_known else None}

    def _given(self, pictures_NHWC: Pictures) -> npt.NDArray[np.float32]:
        import torch

        with torch.inference_mode(), _the_same_everywhere():
            try:
                given = self.network(_tensor(pictures_NHWC, self.config).to(self.device))
            except RuntimeError as error:
                last = str(error).strip().splitlines()[-1]
                raise UsageError(f"the network `{self.name}` ({self.config.path}) failed: {last}") from error
            return self._checked(given, len(pictures_NHWC))

    def _checked(self, given: Any, count: int) -> npt.NDArray[np.float32]:
        import torch

        shape = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
        is_score = self.config.gives == "score"
        wanted = f"[{count}] or [{count}, 1]" if is_score else f"[{count}, D]"
        fits = isinstance(shape, tuple) and (
            shape in ((count,), (count, 1)) if is_score else len(shape) == 2 and shape[0] == count and shape[1] > 0
        )
        if not fits:
            raise UsageError(
                f"the network `{self.name}` ({self.config.path}) gave {shape} for {count} pictures; for a "
                f"{self.config.gives} wanted one tensor {wanted}: wrap it so that it gives that, and save it again"
            )
        numbers: npt.NDArray[np.float32] = given.reshape(count, -1).float().cpu().numpy()
        return numbers


def _loaded(name: str, path: str, device: str) -> Any:
    import torch

    try:
        return torch.jit.load(path, map_location=device).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        said = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{path}, named for the network `{name}`, is not a TorchScript file ({said}); make one with "
            "torch.jit.trace(network, pictures).save(path)"
        ) from None


def _device(name: str, on_gpu: bool) -> str:
    import torch

    if on_gpu and not torch.cuda.is_available():
        raise UsageError(f"the network `{name}` is to run on a GPU, but torch finds none here; run without --gpus")
    return "cuda" if on_gpu else "cpu"


@contextmanager
def _the_same_everywhere() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            yield
    finally:
        torch.set_num_threads(threads)


def _tensor(pictures_NHWC: Pictures, config: NetworkConfig) -> Tensor:
    import torch

    mean, spread = (np.array(values, np.float32) for values in (config.mean, config.spread))
    scaled_NHWC = (pictures_NHWC.astype(np.float32) / 255 - mean) / spread
    return torch.from_numpy(np.ascontiguousarray(scaled_NHWC.transpose(0, 3, 1, 2)))


def _middle(vectors_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The direction between all of them; each counts alike, however long it is."""
    lengths = np.linalg.norm(vectors_ND, axis=1, keepdims=True).astype(np.float64)
    middle = (vectors_ND / np.maximum(lengths, 1e-12)).mean(axis=0)
    return np.asarray(middle / max(float(np.linalg.norm(middle)), 1e-12))


def _six_digits(value: float) -> float:
    return float(f"{value:.6g}")
