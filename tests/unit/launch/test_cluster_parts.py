"""On which nodes of a cluster a job decodes, and whether it trains on GPUs: as labels, head or description say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
import yaml

from cineray.errors import UsageError
from cineray.feed.job import SAYS_DECODE
from cineray.launch.cluster_parts import Part, decoding, described_parts, training
from cineray.launch.observe.view import Node
from cineray.train.accelerators import SAYS as SAYS_TRAIN

REPO = Path(__file__).resolve().parents[3]
DESCRIBED = [*sorted(REPO.glob("cluster/vm/*.yaml")), *sorted(REPO.glob("cluster/kuberay/overlays/*"))]


def node(*, head: bool = False, alive: bool = True, cpus: float = 4.0, **labels: str) -> Node:
    told = {name.replace("_", "-"): value for name, value in labels.items()}
    return Node(id="n", ip="10.0.0.1", head=head, alive=alive, labels=told, resources={"CPU": cpus})


HEAD = node(head=True, cpus=0)


def test_nodes_that_carry_the_label_decode() -> None:
    part = decoding([HEAD, node(), node(ray_subcluster="decode"), node(ray_subcluster="decode")])
    assert (part.value, part.why) == ("decode", "nodes of the cluster carry ray-subcluster=decode")
    assert decoding([HEAD, node(), node(ray_subcluster="cheap")]).value == "cheap"


def test_a_head_says_it_while_the_pool_has_no_node() -> None:
    part = decoding([node(head=True, cpus=0, cineray_decode="decode")])
    assert (part.value, part.why) == ("decode", f"the head's label {SAYS_DECODE} says so")


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([HEAD, node()], ""),
        ([HEAD, node(), node(alive=False, ray_subcluster="decode")], ""),
        (
            [HEAD, node(ray_subcluster="decode")],
            "all nodes that take work carry ray-subcluster, and none is left to train on",
        ),
        (
            [HEAD, node(), node(ray_subcluster="a"), node(ray_subcluster="b")],
            "nodes of the cluster carry ray-subcluster with several values (a, b), and none of them is chosen",
        ),
    ],
    ids=["no labels", "a dead node", "no room to train", "several"],
)
def test_else_nothing_is_chosen_and_what_is_odd_is_said(nodes: list[Node], why: str) -> None:
    part = decoding(nodes)
    assert (part.value, part.why) == ("", why)


def test_only_the_head_of_a_cluster_that_trains_on_gpus_says_so() -> None:
    says = node(head=True, cpus=0, cineray_train="gpu")
    assert training([says, node()]) == Part("1", f"the head's label {SAYS_TRAIN} says that nodes with GPUs train")
    assert training([HEAD, node()]) == Part(), "what is there now the training sees by itself"
    assert training([node(head=True, alive=False, cineray_train="gpu"), node()]) == Part()


@pytest.mark.parametrize("where", DESCRIBED, ids=lambda path: path.stem)
def test_each_description_and_the_head_that_it_makes_say_the_same(where: Path) -> None:
    from cineray.launch.cluster.files import read_cluster

    parts = described_parts(str(where))
    assert parts.decode.value == "decode"
    assert parts.decode.why.startswith("pools of ")
    assert parts.train.value == ("" if where.stem == "kind" else "1")
    told: dict[str, Any] = next(dict(pool.labels) for pool in read_cluster(str(where)).pools() if pool.role == "head")
    head = node(head=True, cpus=0, **{name.replace("-", "_"): text for name, text in told.items()})
    assert (decoding([head]).value, training([head]).value) == (parts.decode.value, parts.train.value)


def test_a_description_without_such_nodes_is_refused(tmp_path: Path) -> None:
    told = yaml.safe_load((REPO / "cluster" / "vm" / "aws.yaml").read_text())
    for pool in told["available_node_types"].values():
        pool.get("labels", {}).pop("ray-subcluster", None)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(told))
    with pytest.raises(UsageError, match=r"mine\.yaml has no pool with the label ray-subcluster"):
        described_parts(str(tmp_path / "mine.yaml"))
