"""In Ray Train's controller: what it is told of lost workers goes in, whether and with whom to start again comes out.

The controller itself is Ray's. Its callbacks and the list of its helpers are not promised by Ray to stay as they are;
what we need of them is all here, and tests/faults shows that it works.
"""

from __future__ import annotations

import logging
from typing import Any

import ray
import ray.train
from ray._private.services import get_webui_url_from_internal_kv
from ray.data._internal.cluster_autoscaler import get_or_create_autoscaling_coordinator
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import ControllerCallback

from cineray.errors import Interrupted
from cineray.train.ray_link import Link

_log = logging.getLogger("cineray.train")


class Trainer(TorchTrainer):  # type: ignore[misc]
    """Ray's, but without the cleaner of placement groups where that cannot know whether a controller lives.

    It asks the dashboard. Where this Ray has none it asks the one of any other Ray on this machine, which knows of no
    such controller, and takes the workers of a healthy run away. Whether there is one Ray's own store says: processes
    other than the driver have an address of it either way.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        if get_webui_url_from_internal_kv():
            return callbacks
        return [one for one in callbacks if not isinstance(one, PlacementGroupCleanerCallback)]


class Losses(ray.train.UserCallback):  # type: ignore[misc]
    """Hears of lost workers, and ends the run where starting them again makes no sense."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Called whenever workers have failed."""
        causes = {rank: getattr(error, "health_check_failure", error) for rank, error in worker_exceptions.items()}
        if any(getattr(cause, "preempted", False) for cause in causes.values()):
            return  # that a machine was taken away says nothing of the run
        dead = [f"rank {rank}: {_first_line(cause)}" for rank, cause in causes.items() if _is_death(cause)]
        final = self._link.lost("; ".join(dead))
        if final is not None:
            raise final


class StopsWaiting(ControllerCallback):  # type: ignore[misc]
    """Ends a run that is to stop and has no workers who could: it waits for room, or has just lost them.

    Ray has a call for that, which a controller that waits for room never comes to hear. An error it does heed: it gives
    back what it has and waits for.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    def before_controller_execute_failure_decision(self, failure_decision: Any) -> None:  # noqa: ARG002
        """Called when workers could not be started for a while, and when some have failed."""
        if reason := self._link.wish_of_driver():
            raise Interrupted(reason)


class FreshView(ControllerCallback):  # type: ignore[misc]
    """After a failure an elastic run counts the machines that are left, and not those that were.

    Ray counts them every 20 s, and otherwise tries to start workers on a machine that is gone, again and again.
    """

    def before_controller_execute_failure_decision(self, failure_decision: Any) -> None:  # noqa: ARG002
        """Called before workers are started again, and also when that has failed."""
        try:
            ray.get(get_or_create_autoscaling_coordinator().get_reserved_resources.remote("", True), timeout=5)
        except ray.exceptions.RayError as error:
            _log.warning("Ray's view of the cluster could not be renewed, a restart may take longer: %s", error)


def _is_death(cause: Exception) -> bool:
    """A worker that died, as against one that raised an error: that one has told the link itself."""
    return isinstance(cause, ray.exceptions.RayActorError)


def _first_line(cause: Exception) -> str:
    return " ".join(str(cause).split("\n", 1)[0].split())[:300]
