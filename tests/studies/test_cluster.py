"""Running a study on a Dask cluster: the same numbers, whoever joins, leaves or dies."""

import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.core.errors import GossamerError, InputError
from gossamer.records.object_store import ObjectStore
from gossamer.records.record import Phase, Record
from gossamer.records.store import Store
from gossamer.studies import cluster, cluster_contact
from gossamer.studies.cluster_worker import Introduction, introduce, token_path, versions
from gossamer.studies.inventory import verify
from gossamer.studies.limits import Limits
from gossamer.studies.run import Request, carry_out, prepare
from gossamer.studies.tasks import Alike, Event, Failure, Pulse, Site
from running_studies import command, numbers, run_all, wait_for
from s3_server import SECRETS, s3_bucket

Client = pytest.importorskip("distributed", reason="the extra `cluster` is not installed").Client

WriteStudy = Callable[..., Path]


class Cluster:
    """A scheduler and workers in processes of their own, as on several machines."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"tcp://127.0.0.1:{port}"
        self._folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", f"{port}")

    def worker(self, *options: str) -> subprocess.Popen[bytes]:
        return self._start("worker", self.url, "--nthreads", "1", "--no-nanny", *options)

    def _start(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{what}", *options, "--no-dashboard"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
        )
        self.processes.append(process)
        return process


@contextmanager
def started(folder: Path) -> Iterator[Cluster]:
    there = Cluster(folder)
    try:
        yield there
    finally:
        for process in reversed(there.processes):
            process.kill()
            process.wait()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ROLL_CALL_SECONDS", 0.1)


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster to be brought down."""
    with started(tmp_path) as there:
        yield there


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one worker that no test brings down: starting it takes seconds."""
    with started(tmp_path_factory.mktemp("dask")) as there:
        there.worker()
        yield there


def run_there(
    study: Path,
    folder: Path,
    there: Cluster,
    watch: Callable[[Event], None] = lambda event: None,  # noqa: ARG005
    should_stop: Callable[[], bool] = lambda: False,
    **options: Any,
) -> list[Event]:
    events: list[Event] = []

    def follow(event: Event) -> None:
        events.append(event)
        watch(event)

    with Store.create(folder) as store:
        request = Request(study=str(study), folder=folder, scheduler=there.url, **options)
        store.keep_states_at(request.states)
        carry_out(prepare(request, store), store, follow, should_stop)
    return events


def count(events: list[Event]) -> int:
    return sum(isinstance(event, Phase | Record) for event in events)


def test_a_cluster_gives_the_same_bits_whoever_dies_or_joins(
    write_study: WriteStudy, tmp_path: Path, dask: Cluster
) -> None:
    study = write_study(("epochs = 2", "epochs = 20"))
    first, joined = dask.worker(), list[object]()

    def kill(event: Event) -> None:
        if isinstance(event, Pulse) and not joined:
            first.kill()
            joined.extend([dask.worker(), dask.worker()])

    events = run_there(study, tmp_path / "there", dask, kill)
    assert joined
    assert count(events) == 2 * (7 + 5)
    assert not any(isinstance(event, Failure) for event in events)
    run_all(study, tmp_path / "here")
    assert numbers(tmp_path / "there") == numbers(tmp_path / "here")
    assert run_there(study, tmp_path / "there", dask) == []
    assert not list((tmp_path / "there" / "states").glob(".*"))


@pytest.mark.slow
def test_a_stop_loses_nothing(write_study: WriteStudy, tmp_path: Path, dask: Cluster) -> None:
    study = write_study(("epochs = 2", "epochs = 100000"))
    dask.worker()
    pulses: list[Pulse] = []

    def watch(event: Event) -> None:
        if isinstance(event, Pulse):
            pulses.append(event)

    run_there(study, tmp_path / "out", dask, watch, lambda: len(pulses) == 3)
    (checkpoint,) = (tmp_path / "out" / "states").iterdir()
    assert checkpoint.suffix == ".checkpoint"
    more: list[Pulse] = []

    def watch_more(event: Event) -> None:
        if isinstance(event, Pulse):
            more.append(event)

    run_there(study, tmp_path / "out", dask, watch_more, lambda: bool(more))
    assert more[0].steps > pulses[-1].steps


@pytest.mark.slow
def test_workers_stop_when_the_driving_process_is_killed(
    write_study: WriteStudy, tmp_path: Path, dask: Cluster
) -> None:
    study = write_study(("epochs = 2", "epochs = 100000"))
    dask.worker()
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(study, out, "--scheduler", dask.url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr.readline()
    assert f"by the workers of the cluster at {dask.url}, 1 thread each" in said
    with Client(dask.url, set_as_default=False) as client:
        wait_for(lambda: any("do-" in str(keys) for keys in client.processing().values()))
        process.kill()
        process.wait()
        process.stderr.close()
        # Only then does the worker take other work: it has one thread.
        assert client.submit(abs, -1).result(timeout=30) == 1


@pytest.mark.slow
def test_a_task_that_brings_worker_after_worker_down_is_given_up(
    write_study: WriteStudy, tmp_path: Path, dask: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_MOST_DEATHS", 2)
    study = write_study(("epochs = 2", "epochs = 100000"), ("seeds = 2", "seeds = 1"))
    workers = [dask.worker()]

    def kill(event: Event) -> None:
        if isinstance(event, Pulse) and workers[-1].poll() is None:
            workers[-1].kill()
            workers[-1].wait()
            workers.append(dask.worker())

    events = run_there(study, tmp_path / "out", dask, kill)
    (failure,) = [event for event in events if isinstance(event, Failure)]
    assert "2 workers of the cluster died of it" in failure.reason
    assert failure.given_up
    assert len(workers) == 3


@pytest.mark.slow
def test_a_lost_scheduler_is_a_sentence(
    write_study: WriteStudy, tmp_path: Path, dask: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(("epochs = 2", "epochs = 100000"))
    dask.worker()

    def kill(event: Event) -> None:
        if isinstance(event, Pulse):
            dask.scheduler.kill()

    said: list[logging.LogRecord] = []
    listener = logging.Handler()
    monkeypatch.setattr(listener, "emit", said.append)
    logging.getLogger("distributed.client").addHandler(listener)
    with pytest.raises(GossamerError, match="the scheduler is gone; what was done is kept"):
        run_there(study, tmp_path / "out", dask, kill)
    logging.getLogger("distributed.client").removeHandler(listener)
    assert not said


def test_no_scheduler_and_no_workers_are_sentences(
    study_file: Path, tmp_path: Path, dask: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE_SECONDS", 1.0)
    with pytest.raises(GossamerError, match="has had no worker for 1 s"):
        run_there(study_file, tmp_path / "out", dask)
    monkeypatch.setattr(cluster_contact, "_CONNECT_SECONDS", 0.5)
    for url in ("tcp://127.0.0.1:9", "nowhere://x:1", "tcp://127.0.0.1:notaport"):
        dask.url = url
        with pytest.raises(InputError, match=f"--scheduler {url}: no Dask scheduler answers"):
            run_there(study_file, tmp_path / "out", dask)


def test_a_worker_says_what_it_sees(tmp_path: Path) -> None:
    (tmp_path / "states").mkdir()
    token_path(tmp_path, "abc").write_text("abc")
    here = Site(tmp_path, tmp_path, threads=1)
    assert introduce(here, "abc") == Introduction(versions(), "abc", sees_data=True)
    elsewhere = replace(here, folder=tmp_path / "other", data_root=tmp_path / "other")
    assert introduce(elsewhere, "abc") == Introduction(versions(), None, sees_data=False)
    assert introduce(replace(here, data_root=None), "other").sees_data


OTHER = {**versions(), "torch": "0", "numpy": "0"}


def apart(found: dict[str, str] | None = None) -> Callable[..., Introduction]:
    """Return how a worker introduces itself that sees neither the study's folder nor the data."""
    return lambda *_: Introduction(found or versions(), None, sees_data=False)


@pytest.mark.parametrize(
    ("alike", "found", "sentence"),
    [
        ("torch", OTHER, "has torch 0, expected"),
        ("all", {**versions(), "processor": "another"}, "has processor another, expected"),
        ("any", {**OTHER, "gossamer": "0"}, "has gossamer 0, expected"),
    ],
)
def test_a_worker_that_would_give_other_numbers_is_refused(
    alike: Alike,
    found: dict[str, str],
    sentence: str,
    study_file: Path,
    tmp_path: Path,
    standing: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "introduce", apart(found))
    with pytest.raises(InputError, match=sentence):
        run_there(study_file, tmp_path / "out", standing, alike=alike)


@pytest.mark.slow
def test_what_may_differ_is_taken(
    write_study: WriteStudy, tmp_path: Path, standing: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "introduce", apart(OTHER))
    study = write_study(("seeds = 2", "seeds = 1"))
    assert count(run_there(study, tmp_path / "out", standing, alike="any")) == 7 + 5


@pytest.mark.parametrize("states", [None, pytest.param("file", marks=pytest.mark.slow)])
def test_workers_that_see_no_folder_give_the_same_bits(
    states: str | None,
    leaky_text: str,
    tmp_path: Path,
    standing: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Data, states and statistics go by the scheduler, or states and statistics by an address."""
    monkeypatch.chdir(tmp_path)  # where no worker is
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 300)
    images = generator.random((300, 4), dtype=np.float32) + labels[:, None]
    np.savez("mine.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    study = tmp_path / "leaky.toml"
    study.write_text(
        leaky_text.replace('"digits"', '"mine.npz"').replace("epochs = 3", "epochs = 1")
    )
    monkeypatch.setattr(cluster, "introduce", apart())
    url = None if states is None else (tmp_path / "bucket").as_uri()
    events = run_there(study, tmp_path / "out", standing, states=url)
    assert not [event.reason for event in events if isinstance(event, Failure)]
    run_all(study, tmp_path / "here")
    assert numbers(tmp_path / "out") == numbers(tmp_path / "here")
    assert together(tmp_path / "out") == together(tmp_path / "here")
    for part in ("states", "statistics"):
        made = {path.name for path in (tmp_path / "here" / part).iterdir()}
        place = tmp_path / ("out" if states is None else "bucket") / part
        assert made
        assert {path.name for path in place.iterdir()} == made
    assert run_there(study, tmp_path / "out", standing, states=url) == []


@pytest.mark.slow
def test_a_run_whose_states_are_in_a_bucket_keeps_no_credentials(
    leaky_text: str, tmp_path: Path, dask: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "introduce", apart())
    study = tmp_path / "leaky.toml"
    study.write_text(leaky_text.replace("epochs = 3", "epochs = 1"))
    run_all(study, tmp_path / "here")
    with s3_bucket() as url:
        worker = dask.worker()  # which has this environment
        events = run_there(study, tmp_path / "out", dask, states=url)
        assert not [event.reason for event in events if isinstance(event, Failure)]
        assert numbers(tmp_path / "out") == numbers(tmp_path / "here")
        assert together(tmp_path / "out") == together(tmp_path / "here")
        there = ObjectStore(url)
        for part in ("states", "statistics"):
            made = {path.stem for path in (tmp_path / "here" / part).iterdir()}
            assert made == there.keys(part)
        with Store.open(tmp_path / "out") as store:
            assert verify(store, lambda done, total, what: None).is_whole  # noqa: ARG005
        assert run_there(study, tmp_path / "out", dask, states=url) == []
        worker.kill()
    for path in (path for path in (tmp_path / "out").rglob("*") if path.is_file()):
        assert not [one for one in SECRETS.values() if one.encode() in path.read_bytes()]


def together(folder: Path) -> list[dict[str, Any]]:
    """Return what was measured of several networks together, less times and machine."""
    with Store.open(folder) as store:
        found = store.joints(store.latest_study().joints)
    return [one.model_dump(exclude={"seconds", "environment"}) for _, one in sorted(found.items())]


def test_a_stopped_worker_that_sees_no_folder_sends_back_how_far_it_was(
    write_study: WriteStudy, tmp_path: Path, standing: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "introduce", apart())
    study = write_study(("epochs = 2", "epochs = 100000"))
    pulses: list[Pulse] = []

    def watch(event: Event) -> None:
        if isinstance(event, Pulse):
            pulses.append(event)

    run_there(study, tmp_path / "out", standing, watch, lambda: len(pulses) == 2)
    (checkpoint,) = (tmp_path / "out" / "states").iterdir()
    assert checkpoint.suffix == ".checkpoint"
    before = pulses[-1].steps
    run_there(study, tmp_path / "out", standing, watch, lambda: len(pulses) == 3)
    assert pulses[-1].steps >= before  # told when it began, at the earliest


@pytest.mark.slow
def test_a_frozen_worker_is_passed_over_and_comes_back_late(
    write_study: WriteStudy, tmp_path: Path, dask: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_contact, "_FROZEN_SECONDS", 8.0)
    study = write_study(("epochs = 2", "epochs = 30"))
    frozen, joined = dask.worker(), list[object]()

    def freeze(event: Event) -> None:
        if isinstance(event, Pulse) and not joined:
            frozen.send_signal(signal.SIGSTOP)
            joined.append(dask.worker())
        elif isinstance(event, Record):
            frozen.send_signal(signal.SIGCONT)

    events = run_there(study, tmp_path / "there", dask, freeze)
    assert joined
    assert count(events) == 2 * (7 + 5)
    run_all(study, tmp_path / "here")
    assert numbers(tmp_path / "there") == numbers(tmp_path / "here")


@pytest.mark.slow
def test_a_worker_that_would_give_other_numbers_is_left_out_if_others_do_not(
    study_file: Path, tmp_path: Path, dask: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = iter(["is wrong"])

    def problem(crew: object, found: Introduction) -> str | None:
        return next(problems, None)

    monkeypatch.setattr("gossamer.studies.cluster._ClusterExecutor._problem", problem)
    dask.worker()
    dask.worker()
    with Client(dask.url, set_as_default=False) as client:
        client.wait_for_workers(2)
    with pytest.warns(RuntimeWarning, match="is wrong; it gets no work"):
        events = run_there(study_file, tmp_path / "out", dask)
    assert count(events) == 2 * (7 + 5)


def test_an_answer_that_is_lost_with_its_worker_is_computed_again(
    study_file: Path, tmp_path: Path, standing: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, fetched = list[object](), cluster._ClusterExecutor._result

    def result(crew: cluster._ClusterExecutor, future: object, address: str) -> object:
        if len(lost) < 2 and crew._busy[address].task is not None:
            lost.append(future)
            raise TimeoutError
        return fetched(crew, future, address)

    monkeypatch.setattr("gossamer.studies.cluster._ClusterExecutor._result", result)
    events = run_there(study_file, tmp_path / "out", standing)
    assert len(lost) == 2
    assert count(events) == 2 * (7 + 5)
    run_all(study_file, tmp_path / "here")
    assert numbers(tmp_path / "out") == numbers(tmp_path / "here")


@pytest.mark.slow
def test_data_and_networks_are_named_from_where_the_run_was_started(
    write_study: WriteStudy, tmp_path: Path, dask: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    generator = np.random.default_rng(0)
    for seed in (0, 1):  # the second time it is another file of the same name
        images = generator.random((60, 4), dtype=np.float32)
        labels = generator.integers(0, 3, 60)
        np.savez("mine.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
        study = write_study(('"digits"', '"mine.npz"'), ("seeds = 2", "seeds = 1"))
        if seed == 0:
            dask.worker()
        there, here = tmp_path / f"there-{seed}", tmp_path / f"here-{seed}"
        events = run_there(study, there, dask)
        assert not [event.reason for event in events if isinstance(event, Failure)]
        run_all(study, here)
        assert numbers(there) == numbers(here)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(seconds=1.0), "it took longer than 1.0 s (--trial-timeout)"),
        (Limits(memory=10_000_000), "more than the 10.0 MB of --trial-memory"),
    ],
)
def test_what_is_over_a_limit_is_given_up_and_its_worker_goes_on(
    limits: Limits, said: str, write_study: WriteStudy, tmp_path: Path, standing: Cluster
) -> None:
    study = write_study(("epochs = 2", "epochs = 1000000"), ("seeds = 2", "seeds = 1"))
    events = run_there(study, tmp_path / "out", standing, limits=limits)
    (failure,) = [event for event in events if isinstance(event, Failure)]
    assert failure.given_up
    assert said in failure.reason
    assert not count(events)
    with Client(standing.url, set_as_default=False) as client:
        assert client.submit(abs, -1).result(timeout=30) == 1


@pytest.mark.slow
def test_a_worker_that_does_not_stop_what_is_over_a_limit_is_ended(
    write_study: WriteStudy, tmp_path: Path, dask: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_GRACE_SECONDS", -1.0)  # none has so much time
    study = write_study(("epochs = 2", "epochs = 1000000"), ("seeds = 2", "seeds = 1"))
    worker = dask.worker()
    run_there(study, tmp_path / "out", dask, limits=Limits(seconds=1.0))
    assert worker.wait(timeout=30) == 1
