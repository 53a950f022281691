"""The figures of a cluster's runs and nodes at this moment, without a Prometheus: the dashboard says which nodes and
metrics ports there are, each port is read once, and what belongs together is added up.

    figures(cluster)  ->  Figures(runs=[RunFigures...], nodes=..., cores_used=..., ...)

The ports have no token and are open to the cluster's own network only, so not to who comes through a tunnel to the
dashboard: where some cannot be reached from here that is told (`silent`), what only they know is NaN, and the rest is
shown.
"""

from __future__ import annotations

import math
import time
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from cineray.launch.clients import Cluster
from cineray.launch.observe.view import Node, nodes_of

ANSWER_SECONDS = 3.0
_MOST_BYTES = 64 << 20
_AT_ONCE = 32
_OF_A_RUN = "ray_cineray_train_"
_DECODING = "make_row"
"""The feed's operator in Ray Data."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure of one process."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """A run that is going on. NaN: not known, or not yet."""

    run: str
    step: int
    loss: float
    clips_per_s: float
    data_wait_fraction: float
    """Of the last step."""
    goodput: float
    """Of this attempt so far."""
    gpu_stall_s: float
    mfu: float
    decode_waste: float
    substituted: int
    step_age_s: float
    checkpoint_age_s: float
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Of this attempt, by what they were spent on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A moment of a cluster. NaN: not known."""

    address: str
    at: float
    runs: list[RunFigures]
    nodes: int
    cores: float
    cores_used: float
    gpus: float
    gpus_used: float
    object_store_bytes: float
    spilled_bytes: float
    fullest_disk_percent: float
    rows_waiting: float
    rows_decoding: float
    rows_ahead: float
    ports: int
    """Metrics ports in all."""
    silent: list[str]
    """Those of them that did not answer."""

    def dollars_per_hour(self, *, core_hour: float, gpu_hour: float) -> float:
        """What is there at these prices, used or not."""
        return self.cores * core_hour + self.gpus * gpu_hour


def figures(cluster: Cluster) -> Figures:
    """Now."""
    told = cluster.read("/api/prometheus/sd")
    ports = sorted({port for group in told for port in group["targets"]})
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as threads:
        texts = dict(zip(ports, threads.map(_read, ports), strict=True))
    samples = [sample for text in texts.values() if text is not None for sample in parsed(text)]
    silent = [port for port, text in texts.items() if text is None]
    nodes = [node for node in nodes_of(cluster) if node.alive]
    return summed_up(samples, nodes, address=cluster.address, at=time.time(), ports=len(ports), silent=silent)


def parsed(text: str) -> list[Sample]:
    """Prometheus' text form."""
    families = text_string_to_metric_families(text)
    return [Sample(one.name, one.labels, float(one.value)) for family in families for one in family.samples]


def summed_up(
    samples: Iterable[Sample], nodes: Iterable[Node], *, address: str, at: float, ports: int, silent: list[str]
) -> Figures:
    """What belongs together; `nodes` are those alive."""
    offered = [node.resources for node in nodes]
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)

    def added(values: list[float]) -> float:
        return sum(values) if values or not silent else math.nan

    def total(name: str, **labels: str) -> float:
        return added(_values(by_name.get(name, []), labels))

    def of_decoding(name: str) -> float:
        return added([one.value for one in by_name.get(name, []) if _DECODING in one.labels.get("operator", "")])

    runs = sorted({one.labels["run"] for one in by_name.get(f"{_OF_A_RUN}step", [])})
    disks = _values(by_name.get("ray_node_disk_utilization_percentage", []), {})
    return Figures(
        address=address,
        at=at,
        runs=[_run(run, by_name, at) for run in runs],
        nodes=len(offered),
        cores=sum(one.get("CPU", 0.0) for one in offered),
        cores_used=total("ray_resources", Name="CPU", State="USED"),
        gpus=sum(one.get("GPU", 0.0) for one in offered),
        gpus_used=total("ray_resources", Name="GPU", State="USED"),
        object_store_bytes=total("ray_object_store_used_memory"),
        spilled_bytes=total("ray_object_store_memory", Location="SPILLED"),
        fullest_disk_percent=max(disks, default=math.nan),
        rows_waiting=of_decoding("ray_data_operator_queued_blocks"),
        rows_decoding=of_decoding("ray_data_num_tasks_running"),
        rows_ahead=total("ray_data_obj_store_mem_internal_outqueue_blocks")
        + total("ray_data_num_external_outqueue_blocks"),
        ports=ports,
        silent=silent,
    )


def _run(run: str, by_name: Mapping[str, list[Sample]], at: float) -> RunFigures:
    def one(name: str) -> float:
        return max(_values(by_name.get(_OF_A_RUN + name, []), {"run": run}), default=math.nan)

    seconds: dict[str, float] = {}
    for sample in by_name.get(f"{_OF_A_RUN}seconds_total", []):
        if sample.labels.get("run") == run:
            cause = sample.labels.get("cause", "")
            seconds[cause] = seconds.get(cause, 0.0) + sample.value
    substituted = sum(_values(by_name.get(f"{_OF_A_RUN}clips_substituted_total", []), {"run": run}))
    waits = _known(one("longest_wait_s"), one("data_wait_s"))
    return RunFigures(
        run=run,
        step=int(one("step")),
        loss=one("loss"),
        clips_per_s=one("clips_per_s"),
        data_wait_fraction=_share(waits, one("step_s")),
        goodput=_share(seconds.get("productive", math.nan), sum(seconds.values())),
        gpu_stall_s=one("gpu_stall_s"),
        mfu=one("mfu"),
        decode_waste=one("decode_waste"),
        substituted=int(substituted),
        step_age_s=at - one("at"),
        checkpoint_age_s=at - one("checkpoint_at"),
        seconds=seconds,
    )


def _values(samples: Iterable[Sample], labels: Mapping[str, str]) -> list[float]:
    return [one.value for one in samples if all(one.labels.get(name) == value for name, value in labels.items())]


def _known(*values: float) -> float:
    """The largest that is a number."""
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _read(port: str) -> str | None:
    """What a metrics port says; none where it does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{port}/metrics", timeout=ANSWER_SECONDS) as found:
            return str(found.read(_MOST_BYTES).decode("utf-8", "replace"))
    except (OSError, ValueError):
        return None
