"""How a checkpoint is judged: a run and a config go in; an evaluation, written beside the run, comes out.

    prompts, seeds     the run's own, fixed for ever   ->  the model's clips, and the held-out real ones
    the same, spoilt   frames shuffled, labels permuted, the untrained model  ->  what each number is read against
    metrics            rows per clip, scores with 95 % intervals, of all clips and of what was never seen in training
    losses             as in training, by noise level

As many real clips as generated ones. What was found once for the same config, checkpoint and prompts is read again,
not computed again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import blake3
import torch

from cineray.evaluate.clip_files import write_clips
from cineray.evaluate.clip_set import ClipSet
from cineray.evaluate.config import EvaluateConfig
from cineray.evaluate.controls import (
    PERMUTED,
    SHUFFLED,
    UNTRAINED,
    frames_shuffled,
    labels_permuted,
    reads_words,
    same_rows,
)
from cineray.evaluate.evaluation import FORMAT, Evaluation, RowsOf, place_for, read_evaluation, write_evaluation
from cineray.evaluate.losses import validation_losses
from cineray.evaluate.metric import Metric
from cineray.evaluate.net_of_run import feature_net_for
from cineray.evaluate.parts import LEAST_CLIPS, names_of_parts, scores_of_part
from cineray.evaluate.prompts import Prompt, prompts_of, real_clips
from cineray.evaluate.registry import Setting, make_metrics, measure, score
from cineray.evaluate.samples import Sampler, checkpoint_of, load_sampler
from cineray.evaluate.scores import Score
from cineray.evaluate.sensitivity import sensitivity
from cineray.evaluate.stages import Stages, Tell
from cineray.evaluate.training_clips import training_clips, training_combinations
from cineray.evaluate.verdict import verdict
from cineray.train.checkpoint_manifest import CheckpointInfo
from cineray.train.run_facts import software
from cineray.train.run_folder import RunFolder

_AS_USUAL = EvaluateConfig()
_NOT_OF_THE_SAMPLER = {"clips", "batch", "clip_format", "grid_format"}
"""Fields of a `SampleConfig` that change no clip of an evaluation."""


def evaluate(
    run: RunFolder,
    config: EvaluateConfig = _AS_USUAL,
    *,
    step: int | None = None,
    asked_of: RunFolder | None = None,
    device: torch.device | None = None,
    tell: Tell = lambda _: None,
) -> Evaluation:
    """Judge the newest whole checkpoint of a run, or that of `step`.

    `asked_of`: the run whose prompts are asked, where this one is held against it; `tell` hears what is being done.
    """
    stages = Stages(tell)
    with stages("reading the checkpoint"):
        info = checkpoint_of(run, step)
    questioner = run if asked_of is None else asked_of
    prompts = prompts_of(questioner, config.clips, truth_layer=config.truth_layer)
    key = key_of(info, config, prompts)
    uri = place_for(run, info.step, key)
    known = read_evaluation(uri)
    if known is not None:
        return known
    return _Judging(run, config, info, questioner, prompts, device, stages).whole(uri, key)


def key_of(info: CheckpointInfo, config: EvaluateConfig, prompts: Sequence[Prompt]) -> str:
    """What an evaluation follows from: the checkpoint's bytes, the config, the prompts, the files of weights."""
    told = {
        "format": FORMAT,
        "config": config.model_dump(mode="json", exclude={"sampler": _NOT_OF_THE_SAMPLER}),
        "checkpoint": [info.step, sorted(file.blake3 for file in info.files)],
        "prompts": [asdict(prompt) for prompt in prompts],
        "files": [_file_tag(path) for path in (config.feature_net, *config.weights.paths().values())],
    }
    return blake3.blake3(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def _file_tag(path: str) -> str:
    """Size and time of a file; empty where there is none, so that it is looked for again."""
    if not os.path.isfile(path):
        return ""
    found = os.stat(path)
    return f"{found.st_size}-{found.st_mtime_ns}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clips:
    """All clips of an evaluation, of one length and size."""

    generated: ClipSet
    real: ClipSet
    training: ClipSet | None
    untrained: ClipSet | None


@dataclass(frozen=True, slots=True)
class _Judging:
    """One evaluation on its way."""

    run: RunFolder
    config: EvaluateConfig
    info: CheckpointInfo
    questioner: RunFolder
    prompts: Sequence[Prompt]
    device: torch.device | None
    stages: Stages

    def whole(self, uri: str, key: str) -> Evaluation:
        """From the checkpoint to the record."""
        sampler = self._sampler(self.config.sampler.weights)
        held_out, training = self._known_clips()
        # Before any clip is made: what is wrong with a path is told in seconds.
        metrics, skipped = self._metrics(training, sampler)
        clips = self._clips(sampler, held_out, training)
        with self.stages("measuring"):
            generated, real = measure(metrics, clips.generated), measure(metrics, clips.real)
        scores = [*self._scores(metrics, clips, generated, real), *skipped]
        parts = self._parts(metrics, clips, generated, real)
        loss = self._loss(sampler)
        noticed = self._sensitivity(metrics, clips.real, {score.name for score in scores if score.value is not None})
        with self.stages("writing clips"):
            samples = write_clips(uri, clips.generated, clips.real, self.config.shown)
        facts = {
            **self._record(sampler, clips, scores),
            "key": key,
            "metrics": [one.to_dict() for one in scores],
            "parts": parts,
            "loss": loss,
            "sensitivity": noticed,
            "samples": samples,
            "verdict": verdict(scores, loss, parts, clips=len(clips.generated), real_from=self.prompts[0].source),
        }
        return write_evaluation(uri, facts, generated, real)

    # ---- clips -------------------------------------------------------------------------------------------------------

    def _sampler(self, weights: Any) -> Sampler:
        return load_sampler(self.run, step=self.info.step, device=self.device, weights=weights)

    def _known_clips(self) -> tuple[ClipSet, ClipSet | None]:
        """The held-out clips of the prompts, and training clips of the same shape."""
        with self.stages("decoding held-out clips"):
            real = real_clips(self.questioner, self.prompts)
        with self.stages("decoding training clips"):
            shape = (real.num_frames, real.height, real.width)
            count, layer = self.config.training_clips, self.config.truth_layer
            return real, training_clips(self.run, count, shape, truth_layer=layer)

    def _metrics(self, training: ClipSet | None, sampler: Sampler) -> tuple[list[Metric], list[Score]]:
        config = self.config
        names = None if config.metrics == "all" else config.metrics
        with self.stages("preparing the feature network"):
            net = feature_net_for(self.run, config, training)
        device = next(sampler.model.parameters()).device.type
        setting = Setting(feature_net=net, train=training, weights=config.weights.paths(), device=device)
        return make_metrics(setting, names)

    def _clips(self, sampler: Sampler, real: ClipSet, training: ClipSet | None) -> _Clips:
        config, untrained = self.config, None
        with self.stages("generating clips"):
            generated = sampler.generate(self.prompts, config.sampler)
        if config.controls and config.sampler.weights != "initial":
            with self.stages("generating clips with the untrained model"):
                # Asked once, not twice: guidance has nothing to move away from where nothing was learnt.
                once = config.sampler.model_copy(update={"guidance": 1.0})
                untrained = self._sampler("initial").generate(self.prompts, once)
        return _Clips(generated=generated, real=real, training=training, untrained=untrained)

    # ---- scores ------------------------------------------------------------------------------------------------------

    def _scores(self, metrics: Sequence[Metric], clips: _Clips, generated: RowsOf, real: RowsOf) -> list[Score]:
        config = self.config
        with self.stages("scoring"):
            scores = score(metrics, generated, real, bootstrap=config.bootstrap, seed=config.seed)
        if not config.controls:
            return scores
        spoilt: dict[str, RowsOf] = {}
        with self.stages("measuring controls"):
            if clips.generated.num_frames > 1:
                spoilt[SHUFFLED] = measure(metrics, frames_shuffled(clips.generated, seed=config.seed))
            if clips.untrained is not None:
                spoilt[UNTRAINED] = measure(metrics, clips.untrained)
            spoilt[PERMUTED] = self._permuted(metrics, clips, real)
        with self.stages("scoring"):
            by_name = {metric.name: metric for metric in metrics}
            return [self._with_controls(one, by_name[one.name], spoilt, real) for one in scores]

    def _permuted(self, metrics: Sequence[Metric], clips: _Clips, real: RowsOf) -> RowsOf:
        """Of the metrics for which it matters whose words a clip has, and not only that it has some.

        Real clips say which: they do what their words say, which a model's clips may not.
        """
        readers = [metric for metric in metrics if reads_words(metric, clips.real)]
        turned = measure(readers, labels_permuted(clips.real, seed=self.config.seed))
        heeding = [metric for metric in readers if not same_rows(turned[metric.name], real[metric.name])]
        return measure(heeding, labels_permuted(clips.generated, seed=self.config.seed))

    def _with_controls(self, score: Score, metric: Metric, spoilt: dict[str, RowsOf], real: RowsOf) -> Score:
        """The same statistic of what cannot be good; a metric that says nothing of it has no such control."""
        beside = real[metric.name] if metric.needs_real else None
        told = {"bootstrap": self.config.bootstrap, "seed": self.config.seed}
        found = {
            what: metric.score(rows[metric.name], beside, **told)
            for what, rows in spoilt.items()
            if metric.name in rows
        }
        return score.with_controls({what: control for what, control in found.items() if not control.skipped})

    def _parts(self, metrics: Sequence[Metric], clips: _Clips, generated: RowsOf, real: RowsOf) -> dict[str, Any]:
        config = self.config
        with self.stages("scoring parts"):
            known = training_combinations(self.run, config.truth_layer, config.combination)
            names = names_of_parts(clips.generated, known, config.combination)
            told = {"bootstrap": config.bootstrap, "seed": config.seed}
            return {
                part: scores_of_part(metrics, generated, real, some, **told)
                for part, some in names.items()
                if len(some) >= LEAST_CLIPS
            }

    def _loss(self, sampler: Sampler) -> dict[str, Any]:
        if not self.config.loss:
            return {"skipped": "loss is false in the evaluation's config"}
        with self.stages("losses on the validation clips"):
            return validation_losses(sampler)

    def _sensitivity(self, metrics: Sequence[Metric], real: ClipSet, valued: set[str]) -> list[dict[str, Any]]:
        """Of the metrics that had something to say."""
        if not self.config.sensitivity_clips:
            return []
        with self.stages("testing what the metrics notice"):
            many = min(self.config.sensitivity_clips, len(real) // 2)
            spoilt, beside = real.select(range(many)), real.select(range(many, 2 * many))
            asked = [metric for metric in metrics if metric.name in valued]
            return sensitivity(asked, spoilt, beside, seed=self.config.seed) if many else []

    # ---- the record --------------------------------------------------------------------------------------------------

    def _record(self, sampler: Sampler, clips: _Clips, scores: Sequence[Score]) -> dict[str, Any]:
        nets = {str(one.facts["feature_net_sha256"]) for one in scores if "feature_net_sha256" in one.facts}
        config = self.config
        return {
            "format": FORMAT,
            "run": self.run.uri,
            "run_id": self.run.run_id,
            "job": sampler.job.name,
            "checkpoint": self.info.step,
            "weights": config.sampler.weights,
            "fingerprint": self.run.identity.fingerprint,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": self.stages.total,
            "stages": self.stages.seconds,
            "software": software(),
            "config": config.model_dump(mode="json"),
            "record": {
                "sampler": config.sampler.model_dump(mode="json", exclude=_NOT_OF_THE_SAMPLER),
                "clips": len(clips.generated),
                "real_clips": len(clips.real),
                "real_rows": len({prompt.first_frame_of for prompt in self.prompts}),
                "real_from": self.prompts[0].source,
                "training_clips": 0 if clips.training is None else len(clips.training),
                "seed": config.seed,
                "prompts_of": self.questioner.run_id,
                "prompt_seeds": [prompt.seed for prompt in self.prompts],
                "frames": clips.generated.num_frames,
                "height": clips.generated.height,
                "width": clips.generated.width,
                "feature_net_sha256": next(iter(nets), ""),
            },
        }
