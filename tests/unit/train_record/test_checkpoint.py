"""Checkpoints of one process: what is saved comes back, what is torn or damaged is never loaded, and old ones go."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cineray.errors import CinerayError, UsageError
from cineray.feed import FeedSpec
from cineray.train.checkpoint import Checkpoints
from cineray.train.checkpoint_manifest import CheckpointDamaged, check_files, read_manifest
from cineray.train.checkpoint_read import CheckpointUnfit, read_tensors
from cineray.train.run_folder import RunFolder

State = dict[str, Any]


def state_of(value: float) -> State:
    """A state whose every number is told by one."""
    weights = {"a.weight": torch.full((4, 3), value), "a.bias": torch.full((4,), value)}
    return {
        "model": weights,
        "ema": {name: weight + 0.5 for name, weight in weights.items()},
        "optimisers": {"state": {"a.weight": {"step": torch.tensor(value)}}, "param_groups": [{"lr": value / 10}]},
    }


def empty() -> State:
    return state_of(0.0)


def step_folder(run: RunFolder, step: int) -> Path:
    return Path(run.uri) / "checkpoints" / f"{step:08d}"


def loaded(checkpoints: Checkpoints) -> tuple[int, float]:
    """The step that is resumed from, and the number that its state was made of."""
    info = checkpoints.latest()
    assert info is not None
    state = empty()
    checkpoints.load(state, info)
    value = float(state["model"]["a.bias"][0])
    torch.testing.assert_close(state, state_of(value))
    return info.step, value


def test_what_is_saved_comes_back(run: RunFolder, rule: Any) -> None:
    checkpoints = Checkpoints(run, rule, facts={"attempt": 3})
    checkpoints.save(state_of(7.0), 100, {"loss": 0.25}, facts={"pixels": {"mean": [0.5]}})
    checkpoints.close()

    again = Checkpoints(RunFolder.open(run.uri), rule)
    assert loaded(again) == (100, 7.0)
    info = again.latest()
    assert info is not None
    assert (info.metrics, info.facts["pixels"], info.facts["world_size"]) == ({"loss": 0.25}, {"mean": [0.5]}, 1)
    assert info.identity == run.identity
    assert info.facts["journal"]["verdicts"] == 0
    assert "torch" in info.facts["software"]
    assert (info.facts["attempt"], info.facts["id"]) == (3, run.run_id)


def test_a_run_without_checkpoints_begins_anew(run: RunFolder, rule: Any) -> None:
    assert Checkpoints(run, rule).latest() is None


def test_what_changes_after_save_returned_is_not_saved(
    run: RunFolder, rule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cineray.train import checkpoint

    let_go, real = threading.Event(), checkpoint.write_checkpoint

    def slow(*told: Any) -> Any:
        let_go.wait(10)
        return real(*told)

    monkeypatch.setattr(checkpoint, "write_checkpoint", slow)
    checkpoints, state = Checkpoints(run, rule), state_of(1.0)
    checkpoints.save(state, 1)
    assert checkpoints.latest() is None, "training goes on before anything is written"
    state["model"]["a.bias"].fill_(99)
    let_go.set()
    checkpoints.close()

    assert loaded(checkpoints) == (1, 1.0)


def test_the_same_step_is_saved_once(run: RunFolder, rule: Any) -> None:
    checkpoints = Checkpoints(run, rule)
    checkpoints.save(state_of(1.0), 5)
    checkpoints.save(state_of(1.0), 5, blocking=True)

    assert len(list(step_folder(run, 5).iterdir())) == 2, "one folder of files, one manifest"


@pytest.mark.parametrize("part", ["__0_0.distcp", ".metadata", "manifest.json"])
@pytest.mark.parametrize("how", ["flipped", "shorter", "gone"])
def test_a_damaged_checkpoint_is_skipped_and_the_file_is_named(
    run: RunFolder, rule: Any, part: str, how: str, recwarn: pytest.WarningsRecorder
) -> None:
    checkpoints = Checkpoints(run, rule)
    checkpoints.save(state_of(1.0), 10, blocking=True)
    checkpoints.save(state_of(2.0), 20, blocking=True)
    (file,) = step_folder(run, 20).rglob(part)
    data = bytearray(file.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 1
    file.write_bytes(data if how == "flipped" else data[:-1])
    if how == "gone":
        file.unlink()

    assert loaded(checkpoints) == (10, 1.0)
    told = " ".join(str(one.message) for one in recwarn)
    assert str(file if part != "manifest.json" or how != "gone" else step_folder(run, 20)) in told


def test_a_manifest_that_was_edited_is_damaged(run: RunFolder, rule: Any) -> None:
    checkpoints = Checkpoints(run, rule)
    checkpoints.save(state_of(1.0), 10, {"loss": 0.5}, blocking=True)
    manifest = step_folder(run, 10) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"loss": 0.5', '"loss": 0.1'))

    with pytest.warns(UserWarning, match="was changed after it was written"):
        assert checkpoints.latest() is None


def test_a_save_that_was_never_finished_is_told_and_not_used(run: RunFolder, rule: Any) -> None:
    checkpoints = Checkpoints(run, rule)
    checkpoints.save(state_of(1.0), 10, blocking=True)
    checkpoints.save(state_of(2.0), 20, blocking=True)
    (step_folder(run, 20) / "manifest.json").unlink()

    with pytest.warns(UserWarning, match=r"a save of step 20 was never finished"):
        assert loaded(checkpoints) == (10, 1.0)


def test_a_step_whose_checkpoint_was_damaged_is_saved_again(run: RunFolder, rule: Any) -> None:
    Checkpoints(run, rule).save(state_of(1.0), 20, blocking=True)
    next(step_folder(run, 20).rglob("*.distcp")).unlink()
    again = Checkpoints(run, rule)
    with pytest.warns(UserWarning, match="replacing the damaged checkpoint of step 20"):
        again.save(state_of(2.0), 20, blocking=True)

    assert loaded(again) == (20, 2.0)
    assert len(list(step_folder(run, 20).iterdir())) == 2, "what was left of the damaged one is gone"


def test_of_two_processes_that_save_the_same_step_the_first_is_kept(run: RunFolder, rule: Any) -> None:
    Checkpoints(run, rule).save(state_of(1.0), 20, blocking=True)
    other = Checkpoints(run, rule)
    with pytest.warns(UserWarning, match="If two processes train this run at once, end one of them"):
        other.save(state_of(2.0), 20, blocking=True)

    assert loaded(other) == (20, 1.0)


def test_old_ones_go_by_the_rule(run: RunFolder, rule: Any) -> None:
    checkpoints = Checkpoints(run, rule)
    for step, loss in [(4, 0.5), (8, 0.1), (10, 0.9), (12, 0.3), (16, 0.4), (18, float("nan"))]:
        checkpoints.save(state_of(step), step, {"loss": loss}, blocking=True)

    kept = sorted(int(path.name) for path in (Path(run.uri) / "checkpoints").iterdir())
    assert kept == [8, 10, 16, 18], "the best, every tenth, the two newest"
    best = checkpoints.best()
    assert best is not None
    assert best.step == 8


def test_a_damaged_newer_one_never_pushes_out_the_good(run: RunFolder, rule: Any) -> None:
    checkpoints = Checkpoints(run, rule)
    for step in (5, 1001, 1002):
        checkpoints.save(state_of(step), step, blocking=True)
    for step in (1001, 1002):
        next(step_folder(run, step).rglob("*.distcp")).unlink()
    shutil.copytree(step_folder(run, 1001), step_folder(run, 1003))
    Checkpoints(run, rule).save(state_of(7), 7, blocking=True)  # after going back: the run saves step 7 next

    with pytest.warns(UserWarning, match="is not used"):
        assert loaded(Checkpoints(run, rule))[0] == 7


def test_the_checkpoint_of_another_plan_is_refused_with_what_differs(
    run: RunFolder, job: Any, spec: FeedSpec, rule: Any, tmp_path: Path
) -> None:
    Checkpoints(run, rule).save(state_of(1.0), 10, blocking=True)
    other = FeedSpec(recipe=spec.recipe, seed=4).pinned()
    elsewhere = RunFolder.create(job.model_copy(update={"seed": 4}), other, str(tmp_path / "other"))
    shutil.copytree(f"{run.uri}/checkpoints", f"{elsewhere.uri}/checkpoints")
    checkpoints, state = Checkpoints(elsewhere, rule), empty()
    info = checkpoints.latest()
    assert info is not None

    with pytest.raises(UsageError, match="seed: 3 -> 4"):
        checkpoints.load(state, info)
    checkpoints.load(state, info, same_plan=False)
    assert float(state["model"]["a.bias"][0]) == 1.0


def test_a_state_that_does_not_fit_is_refused_by_name(run: RunFolder, rule: Any) -> None:
    checkpoints = Checkpoints(run, rule)
    checkpoints.save(state_of(1.0), 10, blocking=True)
    info, state = checkpoints.latest(), empty()
    assert info is not None
    state["model"]["b.weight"] = torch.zeros(2)
    with pytest.raises(CheckpointUnfit, match=r"does not fit this model.*b\.weight"):
        checkpoints.load(state, info)
    state = empty()
    state["model"]["a.bias"] = torch.zeros(5)
    with pytest.raises(CheckpointUnfit, match=r"does not fit this model.*a\.bias"):
        checkpoints.load(state, info)


def test_one_part_can_be_read_without_a_model(run: RunFolder, rule: Any) -> None:
    checkpoints = Checkpoints(run, rule)
    checkpoints.save(state_of(1.0), 10, blocking=True)
    info = checkpoints.latest()
    assert info is not None
    torch.testing.assert_close(read_tensors(info, "ema"), state_of(1.0)["ema"])
    with pytest.raises(CheckpointUnfit, match=r"no tensors of 'vae'; it has: ema, model, optimisers"):
        read_tensors(info, "vae")


def test_a_journal_that_lost_verdicts_is_refused(run: RunFolder, rule: Any) -> None:
    verdicts = Path(run.uri) / "journal" / "verdicts"
    verdicts.mkdir(parents=True)
    (verdicts / "a.json").write_text("{}")
    checkpoints = Checkpoints(run, rule)
    checkpoints.save(state_of(1.0), 10, blocking=True)
    (verdicts / "a.json").unlink()
    info = checkpoints.latest()
    assert info is not None

    with pytest.raises(CinerayError, match="has 0 verdicts, and had 1 when step 10 was saved"):
        checkpoints.load(empty(), info)


def test_the_manifest_is_the_last_thing_written(run: RunFolder, rule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cineray.train import checkpoint_write

    real = checkpoint_write.put_if_absent

    def looking(uri: str, data: bytes) -> bool:
        told = json.loads(data)
        for one in told["files"]:
            file = step_folder(run, 10) / told["folder"] / one["name"]
            assert file.stat().st_size == one["size_bytes"]
        return real(uri, data)

    monkeypatch.setattr(checkpoint_write, "put_if_absent", looking)
    Checkpoints(run, rule).save(state_of(1.0), 10, blocking=True)
    info = read_manifest(str(step_folder(run, 10)))
    check_files(info)
    assert {one.name for one in info.files} == {".metadata", "__0_0.distcp"}


def test_an_optimiser_goes_on_as_if_nothing_had_been(run: RunFolder, rule: Any) -> None:
    """Four steps at once, and two steps, a checkpoint, two steps in new objects: the same weights, bit for bit."""
    straight = trained(*made(), steps=range(4))
    model, optimisers = trained(*made(), steps=range(2))
    checkpoints = Checkpoints(run, rule)
    checkpoints.save(captured(model, optimisers), 2, blocking=True)

    model, optimisers = made(seed=9)
    state, info = captured(model, optimisers), checkpoints.latest()
    assert info is not None
    checkpoints.load(state, info)
    given_back(state, model, optimisers)
    trained(model, optimisers, steps=range(2, 4))

    for one, other in zip(straight[0].parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)


def made(seed: int = 0) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 8))
    matrices = [one for one in model.parameters() if one.ndim == 2]
    rest = [one for one in model.parameters() if one.ndim != 2]
    return model, [torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(rest, lr=0.01)]


def trained(
    model: nn.Module, optimisers: list[torch.optim.Optimizer], *, steps: range
) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    for step in steps:
        torch.manual_seed(step)
        model(torch.randn(4, 8)).square().mean().backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
    return model, optimisers


def captured(model: nn.Module, optimisers: list[torch.optim.Optimizer]) -> State:
    from torch.distributed.checkpoint.state_dict import get_state_dict

    weights, optimiser_state = get_state_dict(model, optimisers)
    return {"model": weights, "optimisers": optimiser_state}


def given_back(state: State, model: nn.Module, optimisers: list[torch.optim.Optimizer]) -> None:
    from torch.distributed.checkpoint.state_dict import set_state_dict

    set_state_dict(model, optimisers, model_state_dict=state["model"], optim_state_dict=state["optimisers"])


def test_a_damaged_file_is_told_by_what_is_wrong_with_it(run: RunFolder, rule: Any) -> None:
    Checkpoints(run, rule).save(state_of(1.0), 10, blocking=True)
    info = read_manifest(str(step_folder(run, 10)))
    file = next(step_folder(run, 10).rglob("*.distcp"))
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CheckpointDamaged, match=r"__0_0.distcp has \d+ bytes; its manifest says \d+"):
        check_files(info)
