"""Who trains and measures what is left of a study: this process, others, or a cluster."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gossamer.records.object_store import noted_address
from gossamer.studies.executors import Executor, ThisProcess
from gossamer.studies.tasks import Event, Pulse, Site

if TYPE_CHECKING:
    from gossamer.studies.run import Prepared

_LONG = 100_000_000
"""Numbers in all inputs that are trained on, below which a study takes so few seconds that another
process, which takes some to start, is not worth it."""


def with_own_process(prepared: "Prepared") -> "Prepared":
    """Return a study that is done apart from this process, where it could end this one.

    That is so where there are limits, where networks run code of the user's own, where it takes
    long, or where the run before in its folder was killed, perhaps by what it did.
    """
    trials = [planned.keyed.trial for planned in prepared.plan.trials]
    largest = max(math.prod(prepared.datasets(trial.data).input_shape) for trial in trials)
    long = prepared.plan.examples_trained * largest >= _LONG
    apart = bool(prepared.request.limits) or runs_own_code(prepared) or long or prepared.was_killed
    return replace(prepared, own_process=apart and prepared.request.device == "cpu")


def runs_own_code(prepared: "Prepared") -> bool:
    """Tell whether a study has networks of a user's own, which may do anything to a process."""
    trials = (planned.keyed.trial for planned in prepared.plan.trials)
    return any(":" in trial.network.name for trial in trials)


@contextmanager
def executor_of(
    prepared: "Prepared",
    folder: Path,
    handle: Callable[[Event], None],
    should_stop: Callable[[], bool],
) -> Iterator[Executor]:
    """Choose who trains and measures what is left."""
    plan, request = prepared.plan, prepared.request
    site = Site(folder, request.data_root, prepared.threads, states=noted_address(folder))
    if request.scheduler is not None:
        from gossamer.studies.cluster import cluster_executor

        workers = cluster_executor(
            plan, site, request.scheduler, request.jobs, request.alike, request.limits
        )
        with workers as executor:
            yield executor
    elif prepared.jobs > 1 or prepared.own_process:
        from gossamer.studies.process_pool import ProcessPool

        yield ProcessPool(plan, site, prepared.jobs, request.limits)
    else:

        def watch(pulse: Pulse) -> bool:
            handle(pulse)
            return should_stop()

        yield ThisProcess(plan, site, watch)
