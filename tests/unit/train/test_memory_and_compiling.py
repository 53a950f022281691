"""Blocks that keep less or are compiled compute the same, in as few graphs as there are shapes."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cineray.plan import BucketSpec, DatasetSpec, Recipe
from cineray.train import memory as memory_module
from cineray.train.blank import blank_batch
from cineray.train.compiling import CACHE, CompiledCode, arrange
from cineray.train.config import ParallelConfig
from cineray.train.diffusion_task import DiffusionTask
from cineray.train.memory import LADDER, Memory, choose, kept_bytes
from cineray.train.parallel import World
from cineray.train.setup import make_learner, memory_for, needed_besides
from cineray.train.stand_ins import stand_ins

CPU = torch.device("cpu")


@pytest.fixture
def ready(made: ModuleType) -> tuple[DiffusionTask, torch.nn.Module, Any]:
    """A task, a model whose gates are open, and inputs."""
    task = DiffusionTask(made.job_of())
    model = task.build()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return task, model, task.inputs(made.made_batch(0))


def gradients(task: DiffusionTask, model: torch.nn.Module, inputs: Any) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    task.clip_losses(model, inputs, 0).sum().backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("memory", LADDER)
@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_and_names_are_the_same(ready: Any, memory: Memory, compiled: bool) -> None:
    task, model, inputs = ready
    names, plain = list(model.state_dict()), gradients(task, model, inputs)
    # Another back end than the default: what is traced is the same, and nothing has to be built for it.
    arrange(task.blocks(model), memory=memory, compiled=compiled, **({"backend": "aot_eager"} if compiled else {}))
    assert list(model.state_dict()) == names
    for name, gradient in gradients(task, model, inputs).items():
        assert torch.allclose(gradient, plain[name], atol=1e-5), name
    arrange(task.blocks(model))
    assert all("forward" not in vars(block) for block in task.blocks(model))


def test_each_rung_keeps_less_for_the_backward_pass(ready: Any) -> None:
    task, model, inputs = ready
    kept = []
    for memory in LADDER:
        arrange(task.blocks(model), memory=memory)
        kept.append(kept_bytes(lambda: task.clip_losses(model, inputs, 0).sum()))
    assert kept[0] > 1.3 * kept[1]
    assert kept[1] > 1.1 * kept[2]


def test_selective_computes_every_second_product_of_a_block_again_and_full_all_of_them(ready: Any) -> None:
    task, model, inputs = ready

    class Products(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += func in memory_module._PRODUCTS
            return func(*args, **(kwargs or {}))

    found = {}
    for memory in LADDER:
        arrange(task.blocks(model), memory=memory)
        with Products() as products:
            gradients(task, model, inputs)
        found[memory] = products.count
    # Of each of two blocks: queries, keys and values at once; attention's output; gate and value at once; the way out.
    again = {memory: count - found["none"] for memory, count in found.items()}
    assert again == {"none": 0, "selective": 4, "full": 8}


def test_the_first_rung_that_fits_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {"none": 100, "selective": 50, "full": 20}
    now: list[Memory] = []
    monkeypatch.setattr(memory_module, "_peak_bytes", lambda loss, device: needs[now[-1]])
    for device_bytes, chosen in ((200, "none"), (110, "selective"), (70, "full"), (10, "full")):
        monkeypatch.setattr(memory_module, "_device_bytes", lambda device, told=device_bytes: told)
        assert choose(lambda: torch.ones(()), now.append, device=CPU, needed_besides=40) == chosen
        assert now[-1] == chosen


def test_what_does_not_run_out_of_memory_but_would_with_the_optimiser_is_not_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_module, "_peak_bytes", lambda loss, device: None)
    monkeypatch.setattr(memory_module, "_device_bytes", lambda device: 10**12)
    assert choose(lambda: torch.ones(()), lambda memory: None, device=CPU, needed_besides=0) == "full"


def test_a_job_that_says_how_much_is_kept_is_not_tried(made: ModuleType, ready: Any) -> None:
    task, model, _ = ready
    told = made.job_of(activation_memory="selective")
    assert memory_for(told, task, model, task.blocks(model), World()) == "selective"
    assert make_learner(told, task, World()).activation_memory == "selective"
    tried = make_learner(made.job_of(), task, World())
    assert tried.activation_memory == "none"
    assert all(weight.grad is None for weight in tried.model.parameters())


def test_trying_takes_the_largest_shape_and_the_micro_batch(made: ModuleType, monkeypatch: Any) -> None:
    buckets = (
        BucketSpec(frames=4, height=16, width=16, batch_size=8),
        BucketSpec(frames=8, height=16, width=24, batch_size=6),
    )
    job = made.job_of(recipe=Recipe(datasets=(DatasetSpec(lake="nowhere"),), buckets=buckets), micro_batch=4)
    task = DiffusionTask(job)
    seen = []
    monkeypatch.setattr(
        task,
        "clip_losses",
        lambda model, inputs, step: seen.append(inputs.frames_BTHWC.shape) or torch.ones(3, requires_grad=True),
    )
    memory_for(job, task, task.build(), [], World())
    assert set(seen) == {(3, 8, 16, 24, 3)}  # six clips in two parts


def test_a_step_of_a_model_that_is_shared_out_needs_its_share_of_the_optimiser_and_what_is_gathered(
    made: ModuleType, ready: Any
) -> None:
    """In bytes beside what trying shows. Alone: three states. Of eight: an eighth of weights, gradients and states; and
    of weights as they are computed with, all, or the block that runs; and the block that comes next."""
    task, model, _ = ready
    blocks = list(task.blocks(model))
    weights = sum(weight.nbytes for weight in model.parameters())
    block = sum(weight.nbytes for weight in blocks[0].parameters())

    def needed(kind: Any, shards: int, precision: str = "fp32", **parallel: Any) -> int:
        told = made.job_of(precision=precision, parallel=ParallelConfig(**parallel))
        return needed_besides(told, model, blocks, kind, shards)

    assert needed("none", 1) == needed("ddp", 1) == 3 * weights
    assert needed("fsdp2", 8) == 5 * weights // 8 + weights + block
    assert needed("fsdp2", 8, "bf16") == 5 * weights // 8 + weights // 2 + block // 2
    assert needed("hsdp", 8, reshard_after_forward=True) == 5 * weights // 8 + 2 * block
    blocks[1].requires_grad_(False)
    assert needed("none", 1) == 3 * (weights - block), "frozen weights have no optimiser"


def test_a_model_is_tried_with_one_blocks_weights_in_place_of_all_and_is_itself_again(ready: Any) -> None:
    task, model, inputs = ready
    blocks = list(task.blocks(model))
    before = {name: (weight, weight.clone()) for name, weight in model.named_parameters()}
    block = sum(weight.nbytes for weight in blocks[0].parameters())
    kept = kept_bytes(lambda: task.clip_losses(model, inputs, 0).sum())

    with stand_ins(model, blocks, CPU):
        tried = {weight.data_ptr(): weight for weight in model.parameters() if weight.numel()}
        assert {name: weight.shape for name, weight in model.named_parameters(remove_duplicate=False)} == {
            name: weight.shape for name, (weight, _) in before.items()
        }
        assert sum(weight.nbytes for weight in tried.values()) == (
            sum(weight.nbytes for weight, _ in before.values()) - block
        )
        # Matrices are kept too, turned: here one block's in place of two.
        assert kept - block <= kept_bytes(lambda: task.clip_losses(model, inputs, 0).sum()) < kept
        task.clip_losses(model, inputs, 0).sum().backward()
    with stand_ins(model, blocks, CPU, torch.bfloat16):
        assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
        task.clip_losses(model, inputs, 0).sum().backward()

    after = dict(model.named_parameters())
    assert all(after[name] is weight and torch.equal(weight, value) for name, (weight, value) in before.items())
    assert all(weight.grad is None for weight in after.values())


def test_all_blocks_share_one_graph_per_shape(ready: Any, made: ModuleType) -> None:
    task, model, _ = ready
    graphs: list[Any] = []

    def counting(graph: torch.fx.GraphModule, example: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    arrange(task.blocks(model), compiled=True, backend=counting)
    for _ in range(2):
        for frames in (4, 8):
            inputs = task.inputs(blank_batch(BucketSpec(frames=frames, height=16, width=16), 3))
            gradients(task, model, inputs)
    assert len(task.blocks(model)) == 2
    assert len(graphs) == 2, "one for each of two shapes, none for the second block or the second time"
    torch._dynamo.reset()


def test_compiled_code_is_kept_with_a_local_run_and_not_where_the_user_said_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    first, second = str(tmp_path / "first" / "compile-cache"), str(tmp_path / "second" / "compile-cache")
    # torch itself writes its usual folder into the environment: that is nobody's choice.
    monkeypatch.setenv(CACHE, default_cache_dir())
    CompiledCode(first)
    assert (os.environ[CACHE], Path(first).is_dir()) == (first, True)
    CompiledCode(second)
    assert os.environ[CACHE] == second
    monkeypatch.setenv(CACHE, str(tmp_path / "chosen"))
    CompiledCode(first)
    assert os.environ[CACHE] == str(tmp_path / "chosen")


@pytest.mark.slow
@pytest.mark.parametrize("remote", [False, True])
def test_a_restart_finds_what_was_compiled(remote: bool, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = f"{request.getfixturevalue('s3_bucket')}/run/compile-cache" if remote else str(tmp_path / "compile-cache")
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from torch._dynamo.utils import counters\n"
        "from cineray.train.compiling import CompiledCode, arrange\n"
        "kept = CompiledCode(sys.argv[1])\n"
        "block = torch.nn.Linear(4, 4)\n"
        "arrange([block], compiled=True)\n"
        "block(torch.ones(2, 4)).sum().backward()\n"
        "kept.keep()\n"
        "found = counters['aot_autograd']\n"
        "print(found['autograd_cache_hit'], found['autograd_cache_miss'])\n"
    )

    def started(number: int) -> str:
        # Each start is a machine of its own, as far as torch's usual folder goes. What takes most of its time there,
        # compiling headers and asking the compiler what it can, is nothing that is kept.
        own = os.environ | {"TMPDIR": str(tmp_path / f"machine-{number}")}
        own |= {"TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0", "TORCHINDUCTOR_VEC_ISA_OK": "1"}
        (tmp_path / f"machine-{number}").mkdir()
        own.pop(CACHE, None)
        done = subprocess.run(
            [sys.executable, "-c", code, folder], env=own, capture_output=True, text=True, check=False, timeout=250
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert [started(1), started(2)] == ["0 1", "1 0"]


def test_a_copy_of_a_compiled_models_state_fits_a_plain_one(ready: Any) -> None:
    task, model, _ = ready
    arrange(task.blocks(model), compiled=True, backend="eager")
    task.build().load_state_dict(copy.deepcopy(model.state_dict()))
