"""Judging: a checkpoint's generated clips and held-out real ones go in; scores with intervals and controls come out.

    clip_set.py                    clips that are judged together
    prompts.py, samples.py         what a run is asked again and again, and what a checkpoint makes of it
    moving.py, sample_files.py     that as files: `cineray sample`
    metric.py, scores.py           the seam of all metrics; registry.py lists them and judges clips by all
    tracks.py, flow.py, ...        what metrics look at      sensitivity.py  do they see what they are for?
    config.py, procedure.py        what an evaluation was told, and how it goes
    compare.py, pipeline_check.py  two evaluations side by side; two recipes side by side

Names are loaded when they are first used: configs and records of evaluations need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cineray.evaluate.clip_set import ClipSet
    from cineray.evaluate.compare import Comparison, compare_runs
    from cineray.evaluate.config import EvaluateConfig, PipelineConfig
    from cineray.evaluate.evaluation import Evaluation, evaluations_of
    from cineray.evaluate.feature_net import FeatureNet, train_feature_net
    from cineray.evaluate.metric import Metric, Rows
    from cineray.evaluate.pipeline_check import check_pipelines
    from cineray.evaluate.procedure import evaluate
    from cineray.evaluate.prompts import Prompt, prompts_of, real_clips
    from cineray.evaluate.registry import METRICS, Setting, judge, make_metrics
    from cineray.evaluate.sample_config import SampleConfig
    from cineray.evaluate.sample_files import sample_run
    from cineray.evaluate.samples import Sampler, generate, load_sampler
    from cineray.evaluate.scores import Difference, MetricUnavailable, Score

_HOME = {
    "clip_set": ("ClipSet",),
    "compare": ("Comparison", "compare_runs"),
    "config": ("EvaluateConfig", "PipelineConfig"),
    "evaluation": ("Evaluation", "evaluations_of"),
    "feature_net": ("FeatureNet", "train_feature_net"),
    "metric": ("Metric", "Rows"),
    "pipeline_check": ("check_pipelines",),
    "procedure": ("evaluate",),
    "prompts": ("Prompt", "prompts_of", "real_clips"),
    "registry": ("METRICS", "Setting", "judge", "make_metrics"),
    "sample_config": ("SampleConfig",),
    "sample_files": ("sample_run",),
    "samples": ("Sampler", "generate", "load_sampler"),
    "scores": ("Difference", "MetricUnavailable", "Score"),
}

__all__ = [
    "METRICS",
    "ClipSet",
    "Comparison",
    "Difference",
    "EvaluateConfig",
    "Evaluation",
    "FeatureNet",
    "Metric",
    "MetricUnavailable",
    "PipelineConfig",
    "Prompt",
    "Rows",
    "SampleConfig",
    "Sampler",
    "Score",
    "Setting",
    "check_pipelines",
    "compare_runs",
    "evaluate",
    "evaluations_of",
    "generate",
    "judge",
    "load_sampler",
    "make_metrics",
    "prompts_of",
    "real_clips",
    "sample_run",
    "train_feature_net",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
