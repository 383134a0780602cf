"""`gossamer run`: a study, or what is left of it, and its report."""

import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from gossamer.commands import run_options as options
from gossamer.commands.console import check_folder
from gossamer.commands.ending import FAILED, INTERRUPTED
from gossamer.commands.last_word import last_word
from gossamer.commands.run_options import AlikeName, DeviceName
from gossamer.commands.stopping import StoppedAtOnce, going_on, stopped_text, stopping
from gossamer.core.errors import GossamerError, InputError, UnwritableError
from gossamer.core.installing import needing

if TYPE_CHECKING:
    from gossamer.recipes.trial import Device
    from gossamer.records.store import Store
    from gossamer.studies.run import Prepared, Request

_STDERR = Console(stderr=True, emoji=False)  # a name such as nets:five: is none

EPILOG = (
    "Exit codes: 0 done, 1 a part of it failed, 2 wrong input, 130 interrupted; what was computed "
    "until then is kept, and the same command goes on.\n\n"
    "Examples:\n\n"
    "`gossamer run demo`  \n"
    "`gossamer run weight-vs-unit --data ~/data --seeds 5`  \n"
    "`gossamer run weight-vs-unit --scale paper --dry-run`  \n"
    "`gossamer run my-study.toml --out results/mine`  \n"
    "`gossamer run my-study.toml --trial-timeout 3600 --trial-memory 8GB --max-failures 3`  \n"
    "`gossamer run my-study.toml --retry-failed`  \n"
    "`gossamer run mask-transfer --scheduler tcp://host:8786 --out /shared/mask-transfer`"
)
"""What follows the options in the command's help."""


def run(
    study: options.Study,
    scale: options.Scale = None,
    seeds: options.Seeds = None,
    jobs: options.Jobs = None,
    threads: options.Threads = None,
    scheduler: options.Scheduler = None,
    states: options.States = None,
    alike: options.Alike = AlikeName.torch,
    out: options.ResultsFolder = None,
    data: options.DataFolder = None,
    device: options.Trainer = DeviceName.auto,
    trial_timeout: options.TrialTimeout = None,
    trial_memory: options.TrialMemory = None,
    max_failures: options.MaxFailures = None,
    retry_failed: options.RetryFailed = False,
    tensorboard: options.Curves = None,
    dry_run: options.DryRun = False,
) -> None:
    """Run a study, or what is left of it, and write its report."""
    begun = time.monotonic()
    command = shlex.join(["gossamer", *sys.argv[1:]])
    with saying_what_is_there(out, command, study):
        from gossamer.studies.folders import default_folder
        from gossamer.studies.limits import Limits, as_bytes
        from gossamer.studies.run import Request

        request = Request(
            study=study,
            folder=out or default_folder(study),
            scale=scale.value if scale else None,
            seeds=seeds,
            jobs=jobs,
            threads=threads,
            scheduler=scheduler,
            states=states,
            alike=alike.value,
            data_root=data,
            device=_resolved(device),
            command=command,
            limits=Limits(trial_timeout, None if trial_memory is None else as_bytes(trial_memory)),
            retry_failed=retry_failed,
            max_failures=max_failures,
        )
        if states is not None:
            _check_states(states, scheduler)
        code = _run(request, tensorboard, begun, own_folder=out is not None, dry_run=dry_run)
        if code == INTERRUPTED:  # everything is said: to be asked once more changes nothing
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise typer.Exit(code)


def _check_states(url: str, scheduler: str | None) -> None:
    """Refuse an address that the workers of a cluster cannot share."""
    if scheduler is None:
        raise InputError("--states is for the workers of a cluster: add --scheduler URL")
    if url.startswith("memory:"):
        raise InputError(
            f"--states {url}: the workers are other processes, which do not share this one's "
            "memory: name a bucket, or a folder that all see"
        )


def _run(
    request: "Request",
    tensorboard: Path | None,
    begun: float,
    *,
    own_folder: bool,
    dry_run: bool,
) -> int:
    from gossamer.commands.run_display import beginning
    from gossamer.core.formats import duration
    from gossamer.records.store import Store, only_writer
    from gossamer.studies.damage import without_damage
    from gossamer.studies.folders import check_same_study
    from gossamer.studies.process_settings import collecting_rarely
    from gossamer.studies.run import (
        REPORT,
        describe_run,
        prepare,
        telling_what_is_kept,
    )

    if tensorboard is not None:  # said before the work, not after it
        with needing("tensorboard", "--tensorboard"):
            import_module("tensorboard")
        check_folder(tensorboard, "--tensorboard", "curves")
    with _store_there(request.folder) as store, collecting_rarely():
        prepared = prepare(request, store)
        for sentence in store.told() if store is not None and dry_run else ():
            _say(sentence)
        if store is not None and not own_folder:
            check_same_study(prepared, store)
        if dry_run:
            _print_plan(prepared, store, begun)
            return 0
        reported = store is not None and store.is_reported(describe_run(prepared))
        page = request.folder / REPORT
        if reported and page.is_file() and not prepared.anything_left and tensorboard is None:
            _say(beginning(prepared))
            typer.echo(page.resolve())
            return FAILED if prepared.given_up else 0
    with ExitStack() as held:
        held.enter_context(last_word())
        with telling_what_is_kept(prepared):
            was_killed = held.enter_context(only_writer(request.folder))
            store = held.enter_context(Store.create(request.folder))
            store.keep_states_at(request.states)
            with _STDERR.status("Checking what is there"):
                prepared, damaged = without_damage(replace(prepared, was_killed=was_killed), store)
            for sentence in (*store.told(), *damaged):
                _say(sentence)
        code = _carry_out(prepared, store, begun)
        if prepared.is_done_in_part(store):
            write_report_of(store)
        if tensorboard is not None:
            from gossamer.studies.tensorboard import write_tensorboard

            write_tensorboard(prepared, store, tensorboard)
    if prepared.anything_left:
        _say(f"Took {duration(time.monotonic() - begun)}.")
    return code


@contextmanager
def _store_there(folder: Path) -> Iterator["Store | None"]:
    """Open the store of a folder if there is one; make nothing."""
    from gossamer.records.store import Store

    if not Store.is_there(folder):
        yield None
        return
    with Store.open(folder) as store:
        yield store


def _resolved(device: DeviceName) -> "Device":
    """Return the device that "auto" means here."""
    if device is DeviceName.cpu or (device is DeviceName.auto and _torch_is_cpu_only()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device is DeviceName.cuda:
        raise InputError("--device cuda was asked for, but torch finds no such device here")
    return "cpu"


def _torch_is_cpu_only() -> bool:
    """Tell from torch's version, without the seconds that importing it takes."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def _carry_out(prepared: "Prepared", store: "Store", begun: float) -> int:
    """Do what is left, say how it went, and return the exit code."""
    from gossamer.commands.run_display import Display, beginning
    from gossamer.core.formats import counted
    from gossamer.studies.placement import with_own_process
    from gossamer.studies.process_settings import tune_process
    from gossamer.studies.remarks import remarks
    from gossamer.studies.run import carry_out

    plan = prepared.plan
    if plan.tasks and not prepared.was_killed:
        # What cannot be trained is told of as a failure of its own arms.
        with suppress(GossamerError), _STDERR.status("Trying the first trainings"):
            prepared = _settled(prepared, begun)
    prepared = with_own_process(prepared)
    _say(beginning(prepared))
    for remark in remarks(prepared) if prepared.anything_left else ():
        _say(f"- {remark}")
    with stopping(_say) as should_stop, Display(prepared, _STDERR) as display:
        if plan.tasks and prepared.jobs == 1 and not prepared.own_process:
            tune_process(prepared.threads)
        failures = carry_out(prepared, store, display.follow, should_stop)
    if failures:
        done = len(store.done_records() & {planned.keyed.record for planned in plan.trials})
        of = counted(plan.distinct_trials, "trial")
        _say(f"{counted(len(failures), 'task')} failed, as said above; {done:,} of {of} are done.")
        if len(failures) == prepared.request.max_failures:
            _say(f"Stopped at --max-failures {len(failures)}: the same command goes on.")
    if should_stop():
        _say(stopped_text(store.folder, prepared.request.command))
        return INTERRUPTED
    return FAILED if failures or prepared.given_up else 0


def _say(text: str) -> None:
    """Say something to whoever watches; results alone go to standard output."""
    _STDERR.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def saying_what_is_there(
    folder: Path | None, command: str, study: str | None = None
) -> Iterator[None]:
    """When Ctrl-C stops what is done inside, say what the folder holds and how to go on.

    Without a folder it is the one that a study has.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        if folder is None and study is not None:
            from gossamer.studies.folders import default_folder

            folder = default_folder(study)
        at_once = isinstance(stop, StoppedAtOnce)
        _say(stopped_text(folder or Path(), command, at_once=at_once))
        raise typer.Exit(INTERRUPTED) from None


def write_report_of(store: "Store") -> None:
    """Write the report of the study that was asked for last, and say where it is."""
    from gossamer.studies.process_settings import collecting_rarely

    with collecting_rarely():
        _write_report_of(store)


def _write_report_of(store: "Store") -> None:
    from gossamer.core.formats import counted
    from gossamer.reporting import write_report

    study = store.latest_study()
    asked = {trial.key for trial in study.trials}
    records = store.records(asked)
    if not records:
        raise InputError(
            f"{store.folder}: there is nothing to report, as 0 of {counted(len(asked), 'trial')} "
            f"are done; {going_on(study.command)}"
        )
    phases = store.phases({key for trial in study.trials for key in trial.phases})
    joints = store.joints(study.joints)
    for sentence in store.told():
        _say(sentence)
    try:
        with _STDERR.status("Writing the report"):
            path = write_report(study, records, phases, list(joints.values()), store.folder)
    except UnwritableError as error:
        page = store.folder / "report.html"
        if page.is_file() and store.is_reported(study):
            _say(f"{error.what}: the report that is there holds all there is of the study.")
            typer.echo(page.resolve())
            return
        of = counted(len(asked), "trial")
        raise UnwritableError(
            f"the report cannot be written, for {error.what}; {len(records):,} of {of} are done "
            "and kept",
            f"{error.remedy}, then `gossamer report {store.folder}` writes it",
        ) from error
    if len(records) == len(asked) and len(joints) == len(set(study.joints)):
        store.mark_reported()
    typer.echo(path.resolve())


def _print_plan(prepared: "Prepared", store: "Store | None", begun: float) -> None:
    from gossamer.commands.run_display import plan_table
    from gossamer.studies.preview import preview
    from gossamer.studies.remarks import remarks
    from gossamer.studies.run import preflight_study

    if prepared.plan.tasks:
        with _STDERR.status("Estimating the time"):
            prepared = _settled(prepared, begun, preflight=preflight_study)
    done = store.done_records() if store else set()
    console = Console(highlight=False, emoji=False)
    for part in plan_table(prepared, preview(prepared, done)):
        console.print(part, soft_wrap=True, markup=False)
    for remark in remarks(prepared):
        console.print(f"- {remark}", soft_wrap=True, markup=False)


def _settled(
    prepared: "Prepared", begun: float, preflight: Callable[["Prepared"], None] | None = None
) -> "Prepared":
    """Choose processes and threads, and estimate what the study takes, by trying if need be.

    Code of a user's own is tried in another process, with every step; else `preflight` does that.
    """
    from gossamer.studies.autotuning import autotuned  # imports torch
    from gossamer.studies.placement import runs_own_code
    from gossamer.studies.process_settings import tune_process
    from gossamer.studies.trying import tried_apart

    if runs_own_code(prepared) and prepared.request.device == "cpu":
        prepared, said = tried_apart(prepared, begun)
        if said is not None:
            _say(said)
        return prepared
    if preflight is not None:
        preflight(prepared)
    tune_process(prepared.threads)
    return autotuned(prepared, begun)
