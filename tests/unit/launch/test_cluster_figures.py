"""From the text that metrics ports give to what `cineray top` shows: what belongs together is added up, and no more."""

from __future__ import annotations

import json
import math

from cineray.cli.top import facts_of, tables_of
from cineray.launch.observe.figures import Figures, parsed, summed_up
from cineray.launch.observe.view import Node

PORTS = """
ray_cineray_train_step{run="a",WorkerId="1"} 120
ray_cineray_train_step{run="b",WorkerId="2"} 7
ray_cineray_train_at{run="a"} 995
ray_cineray_train_checkpoint_at{run="a"} 700
ray_cineray_train_loss{run="a"} 0.25
ray_cineray_train_clips_per_s{run="a"} 40
ray_cineray_train_step_s{run="a"} 2
ray_cineray_train_data_wait_s{run="a"} 0.25
ray_cineray_train_longest_wait_s{run="a"} 0.5
ray_cineray_train_seconds_total{run="a",cause="productive"} 75
ray_cineray_train_seconds_total{run="a",cause="data"} 25
ray_cineray_train_seconds_total{run="b",cause="data"} 1000
ray_cineray_train_clips_substituted_total{run="a"} 3
ray_node_cpu_count{ip="10.0.0.1"} 4
ray_node_cpu_count{ip="10.0.0.2"} 16
ray_resources{Name="CPU",State="USED",NodeAddress="10.0.0.1"} 1
ray_resources{Name="CPU",State="AVAILABLE",NodeAddress="10.0.0.1"} 3
ray_resources{Name="CPU",State="USED",NodeAddress="10.0.0.2"} 16
ray_resources{Name="GPU",State="USED",NodeAddress="10.0.0.2"} 2
ray_object_store_used_memory{NodeAddress="10.0.0.1"} 1000
ray_object_store_used_memory{NodeAddress="10.0.0.2"} 2000
ray_object_store_memory{Location="SPILLED",NodeAddress="10.0.0.1"} 500
ray_object_store_memory{Location="MMAP_SHM",NodeAddress="10.0.0.1"} 9999
ray_node_disk_utilization_percentage{ip="10.0.0.1"} 30
ray_node_disk_utilization_percentage{ip="10.0.0.2"} 80
ray_data_operator_queued_blocks{operator="MapBatches(make_row)_2"} 5
ray_data_operator_queued_blocks{operator="Input_0"} 77
ray_data_num_tasks_running{operator="MapBatches(make_row)_2"} 4
ray_data_obj_store_mem_internal_outqueue_blocks{operator="MapBatches(make_row)_2"} 2
ray_data_num_external_outqueue_blocks{operator="MapBatches(make_row)_2"} 1
"""
PRICES = {"core_hour": 0.05, "gpu_hour": 4.0}


def node(ip: str, **resources: float) -> Node:
    return Node(id=ip, ip=ip, head=False, alive=True, labels={}, resources=resources)


NODES = [node("10.0.0.1", CPU=4.0), node("10.0.0.2", CPU=16.0, GPU=2.0), node("10.0.0.3", CPU=16.0)]


def now() -> Figures:
    told = {"address": "http://head:8265", "at": 1000.0, "ports": 3, "silent": ["10.0.0.3:8080"]}
    return summed_up(parsed(PORTS), NODES, **told)


def test_a_runs_figures_are_its_own_and_the_slowest_rank_says_how_long_was_waited() -> None:
    run, other = now().runs
    assert (run.run, run.step, run.loss, run.clips_per_s, run.substituted) == ("a", 120, 0.25, 40.0, 3)
    assert (run.data_wait_fraction, run.goodput) == (0.25, 0.75)
    assert (run.step_age_s, run.checkpoint_age_s) == (5.0, 300.0)
    assert math.isnan(run.mfu)
    assert (other.run, other.step, other.seconds) == ("b", 7, {"data": 1000.0})


def test_what_nodes_have_is_added_up_over_them() -> None:
    told = now()
    assert (told.nodes, told.cores, told.cores_used, told.gpus, told.gpus_used) == (3, 36.0, 17.0, 2.0, 2.0)
    assert (told.object_store_bytes, told.spilled_bytes, told.fullest_disk_percent) == (3000.0, 500.0, 80.0)
    assert (told.rows_waiting, told.rows_decoding, told.rows_ahead) == (5.0, 4.0, 3.0)
    assert told.dollars_per_hour(**PRICES) == 9.8


def test_programs_get_null_for_what_is_not_known_and_people_a_dash() -> None:
    facts = json.loads(json.dumps(facts_of(now(), **PRICES), allow_nan=False))
    assert facts["runs"][0]["mfu"] is None
    assert (facts["ports"], facts["silent"]) == (3, ["10.0.0.3:8080"])
    table, shared = tables_of(now(), **PRICES)
    cells = [list(column.cells) for column in table.columns]
    first = [column[0] for column in cells]
    assert first == ["a", "120", "0.25", "40.0", "25%", "75%", "-", "-", "3", "5 s ago", "5 min ago"]
    told = dict(zip(*(list(column.cells) for column in shared.columns), strict=True))
    assert told["cost"] == "$9.80 an hour, $0.0681 per 1000 clips"
    assert told["not reached"] == "10.0.0.3:8080"


def test_a_cluster_without_runs_says_so() -> None:
    told = summed_up([], NODES, address="http://head:8265", at=0.0, ports=3, silent=[])
    (shared,) = tables_of(told, core_hour=0, gpu_hour=0)
    assert next(iter(shared.columns[1].cells)) == "none is under way"


def test_through_a_tunnel_to_the_dashboard_what_is_not_known_is_not_said_to_be_nothing() -> None:
    """The metrics ports do not answer there; which nodes there are the dashboard knows."""
    ports = [f"10.0.0.{number}:8080" for number in (1, 2, 3)]
    told = summed_up([], NODES, address="http://127.0.0.1:8265", at=0.0, ports=3, silent=ports)
    (shared,) = tables_of(told, core_hour=0.05, gpu_hour=0)
    shown = dict(zip(*(list(column.cells) for column in shared.columns), strict=True))
    assert shown["runs"].startswith("not known: 3 of 3 metrics ports do not answer from here.")
    assert "ray exec FILE 'cineray top ...'" in shown["runs"]
    assert (shown["nodes"], shown["cores"], shown["GPUs"]) == ("3", "- of 36 in use", "- of 2 in use")
    assert (shown["rows"], shown["object store"]) == ("- to decode, - at it, - ahead", "-, - spilled")
    assert shown["cost"] == "$1.80 an hour"
    facts = json.loads(json.dumps(facts_of(told, core_hour=0, gpu_hour=0), allow_nan=False))
    assert (facts["nodes"], facts["cores"], facts["cores_used"], facts["rows_ahead"]) == (3, 36.0, None, None)
