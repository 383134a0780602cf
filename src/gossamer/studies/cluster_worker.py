"""What the workers of a Dask cluster run: tasks of a study, one at a time."""

from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from gossamer.studies.plan import Task
from gossamer.studies.tuning import tune_process
from gossamer.studies.work import Event, Hand, Pulse, Site


@dataclass(frozen=True)
class Introduction:
    """What a worker says of itself before it is given work."""

    versions: tuple[tuple[str, str], ...]
    token: str | None
    """What it reads in the file that was just written to the study's folder."""
    sees_data: bool


def versions() -> tuple[tuple[str, str], ...]:
    """Return name and version of what determines the numbers here."""
    return tuple((name, version(name)) for name in ("gossamer", "torch"))


def token_path(folder: Path, token: str) -> Path:
    """Return the file by which workers show that they see a study's folder."""
    return folder / "states" / f".cluster-{token}.tmp"  # which a later run sweeps, if left


def introduce(site: Site, token: str) -> Introduction:
    """Say what must be known of this worker before it is given work."""
    try:
        read = token_path(site.folder, token).read_text()
    except OSError:
        read = None
    sees_data = site.data_root is None or site.data_root.is_dir()
    return Introduction(versions=versions(), token=read, sees_data=sees_data)


def do(task: Task, site: Site, topic: str) -> list[Event]:
    """Do a task and return what was made; as far as it came, if asked to stop."""
    from gossamer.train.loop import Interrupted

    tune_process(site.threads)  # here, for it holds in part for the calling thread alone
    hand, made = _hand(site, topic), list[Event]()
    try:
        for event in hand.do(task):
            made.append(event)
            if _should_stop(topic):
                break
    except Interrupted:
        pass  # its checkpoint is a file
    return made


@cache
def _hand(site: Site, topic: str) -> Hand:
    """Return what does the tasks of a run here; it keeps data and networks at hand."""

    def watch(pulse: Pulse) -> bool:
        from distributed import get_worker

        get_worker().log_event(topic, {"pulse": asdict(pulse)})
        return _should_stop(topic)

    return Hand(site, watch)


def _should_stop(topic: str) -> bool:
    """Tell whether the driving process asked the workers to stop, or is gone."""
    from distributed import Event as Flag
    from distributed import get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state == "cancelled" or Flag(topic).is_set()
