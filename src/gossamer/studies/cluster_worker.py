"""What the workers of a Dask cluster run: tasks of a study, one at a time."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, chdir, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path

from gossamer.records.environment import describe_environment
from gossamer.studies.cluster_files import ApartWorker, Lacking, Made, Parcel
from gossamer.studies.plan import Task
from gossamer.studies.process_settings import tune_process
from gossamer.studies.tasks import Event, Pulse, Site, TaskRunner, forget_datasets


@dataclass(frozen=True)
class Introduction:
    """What a worker says of itself before it is given work."""

    versions: Mapping[str, str]
    token: str | None
    """What it reads in the file that was just written to the study's folder."""
    sees_data: bool


def versions() -> dict[str, str]:
    """Return name and version of what determines the numbers here, whatever it was built for."""
    plain = {name: version(name).partition("+")[0] for name in ("gossamer", "torch", "numpy")}
    here = describe_environment(1, "cpu")
    return {**plain, "Python": here.python, "processor": here.processor}


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
    from gossamer.training.loop import Interrupted

    tune_process(site.threads)  # here, for it holds in part for the calling thread alone
    runner, made = _runner(site, topic), list[Event]()
    with _at_home(site), suppress(Interrupted):  # when interrupted, its checkpoint is a file
        made.extend(runner.do(task))
    return made


def _at_home(site: Site) -> AbstractContextManager[None]:
    """Work where the driving process was started, from where files may be named, if it is seen."""
    home = site.home
    return chdir(home) if home is not None and home.is_dir() else nullcontext()


@lru_cache(maxsize=1)
def _runner(site: Site, topic: str) -> TaskRunner:
    """Return what does the tasks of a run here; the data of the run before are forgotten."""
    forget_datasets()
    return TaskRunner(site, partial(_tell, topic))


def do_apart(task: Task, site: Site, topic: str, parcel: Parcel) -> Lacking | Made:
    """Do a task where the study's folder is not seen; say what it lacks, or give what it made."""
    from distributed import get_worker

    tune_process(site.threads)
    own = Path(get_worker().local_directory) / "gossamer"  # which goes with the worker
    return _apart(replace(site, folder=own, data_root=None, home=None), topic).do(task, parcel)


@lru_cache(maxsize=1)
def _apart(site: Site, topic: str) -> ApartWorker:
    return ApartWorker(site, partial(_tell, topic))


def _tell(topic: str, pulse: Pulse) -> bool:
    """Tell the driving process how far a training is, and hear whether it is to stop."""
    from distributed import get_worker

    get_worker().log_event(topic, {"pulse": asdict(pulse)})
    return _should_stop(topic)


def _should_stop(topic: str) -> bool:
    """Tell whether the driving process asked the workers to stop, or is gone."""
    from distributed import Event as Flag
    from distributed import get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    if task is None or task.state == "cancelled":
        return True
    try:
        return bool(Flag(topic).is_set())
    except OSError:
        return False  # a hitch of the network; if the scheduler is gone, the task will be, too
