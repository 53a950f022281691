"""A checkpoint judged from end to end: a tiny run on made shapes, its evaluation, and two runs beside each other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cineray.config import override
from cineray.diffusion import DiffusionConfig
from cineray.errors import CinerayError, UsageError
from cineray.evaluate import (
    METRICS,
    EvaluateConfig,
    Evaluation,
    SampleConfig,
    compare_runs,
    evaluate,
    evaluations_of,
    load_sampler,
    prompts_of,
)
from cineray.evaluate.config import WeightsConfig
from cineray.evaluate.parts import names_of_parts
from cineray.evaluate.training_clips import training_clips, training_combinations
from cineray.evaluate.weights.registry import NETWORKS
from cineray.feed import FeedConfig
from cineray.ingest import EngineConfig, IngestConfig, annotate, ingest
from cineray.lake import Lake
from cineray.models import StDiTConfig
from cineray.plan import DatasetSpec, FrameSpec, Recipe, SamplingSpec
from cineray.testing import make_shapes, write_splits, write_truth
from cineray.train import CheckpointConfig, RunFolder, TrainJob, ValidationConfig, run_local

torch.set_num_threads(1)

SMALL = EvaluateConfig(
    clips=8,
    sampler=SampleConfig(steps=2, guidance=1.5),
    bootstrap=100,
    training_clips=8,
    sensitivity_clips=2,
    shown=2,
    metrics=("direction_accuracy", "size_change", "flicker", "feature_kernel", "nearest_train", "fvd"),
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    """48 videos of half a second, what is true of them, and what is for training and for validation."""
    folder = tmp_path_factory.mktemp("evaluate")
    made = make_shapes(folder / "videos", videos=48, frames=14, size_px=32)
    write_splits(folder / "videos", made)
    ingest(IngestConfig(source=str(folder / "videos"), lake=str(folder / "lake")), EngineConfig(engine="local"))
    rows = write_truth(folder / "truth.jsonl", made)
    annotate(Lake.open(str(folder / "lake")), "truth", rows, author="a test", command="")
    return str(folder / "lake")


def trained(lake: str, folder: Path, **told: Any) -> RunFolder:
    """4 frames of 16 px, two steps, a checkpoint after each."""
    values: dict[str, Any] = {
        "name": "shapes",
        "recipe": Recipe(
            datasets=(DatasetSpec(lake=lake, split="train"),),
            sampling=SamplingSpec(mode="fps", fps="8", frames=4),
            frame=FrameSpec(height=16, width=16),
            batch_size=4,
            clips_per_visit=2,
        ),
        "feed": FeedConfig(driver="local"),
        "steps": 2,
        "classes": "data",
        "model": StDiTConfig(size="custom", width=24, depth=1, heads=2, patch=(1, 8, 8), modulation_std=0.02),
        "diffusion": DiffusionConfig(least_noise=0.2),
        "precision": "fp32",
        "validation": ValidationConfig(every_steps=100, clips=4, bins=2, baseline_clips=8),
        "checkpoint": CheckpointConfig(every_steps=1, keep_last=9),
    }
    return RunFolder.open(run_local(TrainJob(**(values | told)), uri=str(folder))["run"])


@pytest.fixture(scope="module")
def run(lake: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained(lake, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def made(run: RunFolder) -> Evaluation:
    return evaluate(run, SMALL)


def by_name(scores: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {score["name"]: score for score in scores}


# ---- the record ------------------------------------------------------------------------------------------------------


def test_an_evaluation_lies_in_the_run_and_says_what_made_it(run: RunFolder, made: Evaluation) -> None:
    record = json.loads(Path(run.uri, "evaluations/step-00000002/evaluation.json").read_text())
    assert record == made.facts
    told = {name: record[name] for name in ("run", "run_id", "job", "checkpoint", "weights", "fingerprint")}
    assert told == {
        "run": run.uri,
        "run_id": run.run_id,
        "job": "shapes",
        "checkpoint": 2,
        "weights": "ema",
        "fingerprint": run.identity.fingerprint,
    }
    asked = record["record"]
    assert {name: asked[name] for name in ("clips", "real_clips", "training_clips", "frames", "height", "width")} == {
        "clips": 8,
        "real_clips": 8,
        "training_clips": 8,
        "frames": 4,
        "height": 16,
        "width": 16,
    }
    assert asked["prompt_seeds"] == [prompt.seed for prompt in prompts_of(run, 8)]
    assert (asked["sampler"]["steps"], asked["real_from"]) == (2, "held_out")
    assert asked["real_rows"] == len({prompt.first_frame_of for prompt in prompts_of(run, 8)})
    assert "clips" not in asked["sampler"], "how many there are is said once"
    assert len(asked["feature_net_sha256"]) == 64


def test_every_metric_that_was_asked_for_has_a_score_or_a_reason(made: Evaluation) -> None:
    scores = by_name(made.facts["metrics"])
    assert set(scores) == set(SMALL.metrics)
    assert scores["fvd"]["value"] is None
    assert "weights.fvd" in scores["fvd"]["skipped"]
    assert scores["direction_accuracy"]["n"] == 8
    assert scores["direction_accuracy"]["low"] <= scores["direction_accuracy"]["value"]


def test_scores_stand_beside_what_cannot_be_good(made: Evaluation) -> None:
    scores = by_name(made.facts["metrics"])
    direction = scores["direction_accuracy"]["controls"]
    assert set(direction) == {"real", "labels permuted", "frames shuffled", "untrained"}
    assert direction["real"]["value"] == 1.0, "real clips move as the lake says"
    assert direction["frames shuffled"]["n"] == 8
    kernel = scores["feature_kernel"]["controls"]
    assert {"real halves", "as few samples", "frames shuffled", "untrained"} <= set(kernel)
    assert "labels permuted" not in kernel, "features do not look at labels"
    assert "labels permuted" not in scores["size_change"]["controls"], "it matters that there are some, not whose"


def test_without_controls_there_are_none_but_real_clips(run: RunFolder) -> None:
    config = SMALL.model_copy(update={"controls": False, "metrics": ("direction_accuracy",), "loss": False})
    facts = evaluate(run, config).facts
    assert set(facts["metrics"][0]["controls"]) == {"real"}
    assert facts["loss"] == {"skipped": "loss is false in the evaluation's config"}


def test_losses_are_those_of_the_training(run: RunFolder, made: Evaluation) -> None:
    trained_to = load_sampler(run).info.metrics
    loss = made.facts["loss"]
    assert loss["bins"] == pytest.approx([trained_to[f"validation/bin{number}"] for number in range(2)], rel=1e-5)
    assert loss["headline"] == pytest.approx(trained_to["validation/headline"], rel=1e-5)
    assert loss["wrong_over_right"] == pytest.approx(trained_to["validation/wrong_over_right"], rel=1e-5)
    assert loss["skill_linear"] == pytest.approx(
        [trained_to[f"validation/skill_linear{number}"] for number in range(2)], rel=1e-4, abs=1e-6
    )


def test_clips_lie_beside_the_record_each_with_the_real_one_of_its_prompt(made: Evaluation) -> None:
    samples = made.facts["samples"]
    assert [(one["file"], one["real_file"], one["name"]) for one in samples] == [
        ("clips/0000.mp4", "clips/real-0000.mp4", "prompt-0000"),
        ("clips/0001.mp4", "clips/real-0001.mp4", "prompt-0001"),
    ]
    assert all(Path(made.uri, one[file]).stat().st_size > 100 for one in samples for file in ("file", "real_file"))


def test_all_scores_follow_from_the_rows_that_are_kept(made: Evaluation) -> None:
    generated, real = made.rows()
    metric = METRICS["direction_accuracy"].__new__(METRICS["direction_accuracy"])
    again = metric.score(generated["direction_accuracy"], real["direction_accuracy"], bootstrap=100)
    told = by_name(made.facts["metrics"])["direction_accuracy"]
    assert (again.value, again.low, again.high, again.n) == (told["value"], told["low"], told["high"], told["n"])


def test_the_sensitivity_of_the_metrics_is_in_the_record(made: Evaluation) -> None:
    rows = made.facts["sensitivity"]
    assert {row["metric"] for row in rows} <= set(SMALL.metrics)
    assert all(len(row["values"]) == 4 and isinstance(row["ranks"], bool) for row in rows)
    assert rows


# ---- what is done once -----------------------------------------------------------------------------------------------


def test_the_same_question_is_not_computed_twice(run: RunFolder, made: Evaluation) -> None:
    stages: list[str] = []
    again = evaluate(run, SMALL, tell=stages.append)
    assert (again.uri, again.facts) == (made.uri, made.facts)
    assert stages == ["reading the checkpoint"]


def test_another_config_of_a_checkpoint_lies_in_a_folder_of_its_own(run: RunFolder, made: Evaluation) -> None:
    other = SMALL.model_copy(update={"clips": 4, "metrics": ("direction_accuracy",)})
    found = evaluate(run, other)
    assert found.uri == f"{made.uri}-{found.key[:8]}"
    assert evaluate(run, other).facts == found.facts
    assert {made.uri, found.uri} <= {one.uri for one in evaluations_of(run)}


def test_a_file_of_weights_that_comes_later_is_looked_at(run: RunFolder, tmp_path: Path) -> None:
    place = tmp_path / "i3d.pt"
    fields = {"metrics": ("fvd",), "controls": False, "sensitivity_clips": 0, "loss": False, "feature_net": ""}
    config = override(SMALL.model_copy(update=fields), [f"weights.fvd={place}"])
    [before] = evaluate(run, config).facts["metrics"]
    assert "there is nothing at" in before["skipped"]
    place.write_text("not a network")
    [after] = evaluate(run, config).facts["metrics"]
    assert "is not a TorchScript file" in after["skipped"]


def test_the_feature_network_is_learnt_once_for_a_run(run: RunFolder, made: Evaluation) -> None:
    [net] = Path(run.uri, "evaluations").glob("feature-net-*")
    assert net.name.endswith("-4x16x16-8.safetensors")
    first = evaluate(run, SMALL.model_copy(update={"metrics": ("feature_kernel",)}), step=1)
    assert first.facts["record"]["feature_net_sha256"] == made.facts["record"]["feature_net_sha256"]


# ---- what is asked ---------------------------------------------------------------------------------------------------


def test_the_step_that_is_named_is_judged(run: RunFolder) -> None:
    config = SMALL.model_copy(update={"metrics": ("direction_accuracy",), "controls": False})
    assert evaluate(run, config, step=1).checkpoint == 1
    with pytest.raises(CinerayError, match="no checkpoint of step 7"):
        evaluate(run, config, step=7)


def test_every_network_has_its_field() -> None:
    assert set(WeightsConfig.model_fields) == set(NETWORKS)


def test_clips_of_another_length_are_not_judged_beside_real_ones() -> None:
    with pytest.raises(UsageError, match=r"sampler\.frames is given, but clips are judged beside held-out ones"):
        override(EvaluateConfig(), ["sampler.frames=16"])


def test_a_feature_network_that_is_not_there_is_named(run: RunFolder, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"feature_net": str(tmp_path / "missing.safetensors")})
    with pytest.raises(UsageError, match=r"missing\.safetensors', and no file is there"):
        evaluate(run, config)


# ---- seen and unseen -------------------------------------------------------------------------------------------------


def test_training_clips_are_those_that_the_run_saw_each_of_another_video(run: RunFolder) -> None:
    clips = training_clips(run, 8, (4, 16, 16), truth_layer="truth")
    assert clips is not None
    plan = run.spec(journal="").open().plan
    specs = [spec for step in (0, 2) for spec in plan.batch(step)]
    assert [name.split("-")[0] for name in clips.names] == [spec.clip_id for spec in specs]
    assert len({spec.video_id for spec in specs}) == 8
    assert all(facts["direction"] == label for facts, label in zip(clips.facts, clips.labels, strict=True))
    assert training_clips(run, 8, (4, 32, 32), truth_layer="truth") is None, "no training clip has that size"


def test_combinations_that_were_never_trained_on_are_reported_apart(run: RunFolder, lake: str) -> None:
    known = training_combinations(run, "truth", ("shape", "colour", "direction"))
    table = Lake.open(lake).read("latest", "layers/truth", columns=["value"])
    facts = [json.loads(value) for value in table["value"].to_pylist()]
    held_out = [one for one in facts if one["held_out"]]
    assert held_out, "the made videos hold some out"
    assert known
    assert not {(one["shape"], one["colour"], one["direction"]) for one in held_out} & known
    clips = training_clips(run, 4, (4, 16, 16), truth_layer="truth")
    assert clips is not None
    changed = replace(clips, facts=(held_out[0], *clips.facts[1:3], {}))
    parts = names_of_parts(changed, known, ("shape", "colour", "direction"))
    assert parts == {"held_out": [clips.names[0]], "seen": list(clips.names[1:3])}, "what nobody knows is in neither"


# ---- two runs --------------------------------------------------------------------------------------------------------


def test_a_run_held_against_another_answers_the_same_prompts_under_the_same_network(
    run: RunFolder, made: Evaluation, lake: str, tmp_path: Path
) -> None:
    other = trained(lake, tmp_path / "other", seed=7)
    found = compare_runs(run, other, SMALL)
    assert json.loads(Path(found.uri, "comparison.json").read_text()) == found.facts
    a, b = found.facts["a"], found.facts["b"]
    assert (a["run_id"], b["run_id"]) == (run.run_id, other.run_id)
    assert a["uri"] == made.uri, "what was evaluated before is used"
    assert b["record"]["prompts_of"] == run.run_id
    assert b["record"]["feature_net_sha256"] == a["record"]["feature_net_sha256"]
    rows = {row["name"]: row for row in found.facts["metrics"]}
    assert set(rows) == set(SMALL.metrics)
    assert rows["feature_kernel"]["n"] == rows["flicker"]["n"] == 8 or rows["flicker"]["note"]
    assert rows["fvd"]["difference"] is None
    assert "A (shapes, 2 steps) and B (shapes, 2 steps)" in found.facts["verdict"] or "beyond" in found.facts["verdict"]


def test_two_checkpoints_of_one_run_compare_and_one_with_itself_does_not_differ(run: RunFolder) -> None:
    config = SMALL.model_copy(update={"metrics": ("direction_accuracy", "nearest_train")})
    found = compare_runs(run, run, config, step_a=1, step_b=2)
    assert (found.facts["a"]["checkpoint"], found.facts["b"]["checkpoint"]) == (1, 2)
    same = compare_runs(run, run, config).facts["metrics"]
    assert [(row["difference"], row["beyond_noise"]) for row in same] == [(0.0, False)] * 2


def test_noise_is_the_same_for_both_checkpoints(run: RunFolder) -> None:
    """What differs between two checkpoints is the model alone."""
    prompts, config = prompts_of(run, 2), SampleConfig(steps=1, guidance=1, weights="initial")
    one, other = (load_sampler(run, step=step, weights="initial").generate(prompts, config) for step in (1, 2))
    assert np.array_equal(one.frames_NTHWC, other.frames_NTHWC)
