"""Several ranks: checkpoints of two under fully_shard, loaded by one and three; one full disk; a hang of all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cineray.feed import DataJob, FeedSpec
from cineray.train.run_folder import RunFolder

CHILD = Path(__file__).with_name("rank_child.py")


def of_ranks(world: int, run: RunFolder, task: str, folder: Path, *, code: int = 0) -> list[dict[str, Any]]:
    """What each rank of a group printed; nothing of those that end with another code."""
    meet = folder / f"meet-{task}-{world}"
    ranks = [
        subprocess.Popen(
            [sys.executable, str(CHILD), str(rank), str(world), str(meet), run.uri, task],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    done = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [code] * world, "\n".join(errors for _, errors in done)
    return [json.loads(out) for out, _ in done if not code]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(torch.tensor(one[name]), torch.tensor(other[name])) for name in one) and set(one) == set(
        other
    )


@pytest.fixture(scope="module")
def run(job: DataJob, spec: FeedSpec, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder.create(job, spec, str(tmp_path_factory.mktemp("ranks") / "run"))


@pytest.fixture(scope="module")
def saved(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two ranks say that they saved."""
    return of_ranks(2, run, "save", tmp_path_factory.mktemp("meet"))


@pytest.mark.slow
def test_each_rank_writes_its_shards(run: RunFolder, saved: list[dict[str, Any]]) -> None:
    assert {path.name for path in Path(run.uri).rglob("*.distcp")} == {"__0_0.distcp", "__1_0.distcp"}


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 3])
def test_what_two_ranks_wrote_one_and_three_load(
    run: RunFolder, saved: list[dict[str, Any]], tmp_path: Path, world: int
) -> None:
    for rank in of_ranks(world, run, "load", tmp_path):
        assert (rank["step"], rank["written_by"]) == (2, 2)
        assert same(rank["loaded"], saved[0]["saved"])
        for name, weight in rank["after"].items():
            torch.testing.assert_close(torch.tensor(weight), torch.tensor(saved[0]["after"][name]))


@pytest.mark.slow
def test_a_rank_that_cannot_write_fails_the_save_for_all_and_leaves_nothing(
    run: RunFolder, saved: list[dict[str, Any]], tmp_path: Path
) -> None:
    before = sorted(Path(run.uri).rglob("*"))

    for rank in of_ranks(2, run, "full", tmp_path):
        assert "the checkpoint of step 9 could not be written to" in rank["error"]
        assert "rank 1" in rank["error"]
        assert "File too large" in rank["error"]
    assert sorted(Path(run.uri).rglob("*")) == before


@pytest.mark.slow
def test_a_collective_that_hangs_is_dumped_by_all_ranks(run: RunFolder, tmp_path: Path) -> None:
    of_ranks(2, run, "hang", tmp_path, code=75)

    stacks = [Path(run.folder(f"stacks/rank-{rank}.txt")).read_text() for rank in (0, 1)]
    assert "all_reduce" in stacks[0], "this one waits for the other"
    assert "all_reduce" not in stacks[1], "and this one is the cause"
    assert "in wait" in stacks[1]
