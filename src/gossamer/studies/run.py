"""Running a study: what is asked for, what is done already, and doing the rest."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gossamer.core.errors import GossamerError, InputError, UnwritableError
from gossamer.core.files import bytes_in
from gossamer.core.formats import compact, counted
from gossamer.measures import lacking, measures_of
from gossamer.recipes.keys import Datasets
from gossamer.recipes.steps import STEPS
from gossamer.recipes.trial import Device
from gossamer.records.failed import Failed
from gossamer.records.joint import JointRecord
from gossamer.records.record import Arm, Phase, Record, StudyRun, TrialLabel
from gossamer.records.store import Store
from gossamer.studies.executors import execute
from gossamer.studies.failures import failure_text
from gossamer.studies.joint_measures import Bench, JointTask, joint_tasks, measure_jointly
from gossamer.studies.limits import NO_LIMITS, Limits
from gossamer.studies.parallelism import (
    Parallelism,
    known_parallelism,
    noted_name,
    write_note,
)
from gossamer.studies.placement import executor_of
from gossamer.studies.plan import (
    Plan,
    PlannedTrial,
    arms_at,
    chosen_scale,
    make_plan,
    study_trials,
    trained_before,
)
from gossamer.studies.published_tables import published_figures
from gossamer.studies.spec import (
    ArmSpec,
    Scale,
    ScaleSpec,
    StudySpec,
    builtin_names,
    read_study,
)
from gossamer.studies.study_errors import StudyFileError, located
from gossamer.studies.tasks import Alike, Event, Failure, dataset_of, forget_datasets

REPORT = "report.html"


@dataclass(frozen=True)
class Request:
    """What a user asks for."""

    study: str
    """Built-in name or TOML file."""
    folder: Path
    scale: Scale | None = None
    seeds: int | None = None
    jobs: int | None = None
    """Processes; workers at most, where there is a scheduler."""
    threads: int | None = None
    scheduler: str | None = None
    """Address of a Dask scheduler, whose workers do the work."""
    states: str | None = None
    """Address of an object store for states and statistics; None for the folder."""
    alike: Alike = "torch"
    """What the workers of a cluster must have as it is here."""
    data_root: Path | None = None
    device: Device = "cpu"
    command: str = ""
    """The command line, for the report."""
    limits: Limits = NO_LIMITS
    """Of each training and each measured trial."""
    retry_failed: bool = False
    """Whether to try again what was given up."""
    max_failures: int | None = None
    """How many may fail before the run stops; None for any number."""


@dataclass(frozen=True)
class Estimate:
    """What a study is about to take."""

    seconds: float | None
    """Of the command with its start and its report, without joint measures; None where it cannot be
    told."""
    kept_bytes: int
    """What its folder will hold more."""
    gain_of_one_thread: float = 1.0
    """How many times as fast one thread would be as those that were asked for."""


@dataclass(frozen=True)
class Prepared:
    """A study that was read and planned, before anything is done."""

    request: Request
    spec: StudySpec
    scale: Scale
    seeds: int
    datasets: Datasets
    text: str
    """The study file."""
    plan: Plan
    joints: tuple[JointTask, ...]
    """What is measured of several networks together, done or not."""
    joints_left: tuple[JointTask, ...]
    known: Parallelism
    """Processes and threads as far as they are known; the rest is for `settling` to find out."""
    jobs: int
    """Processes here; 1 where a cluster does the work."""
    threads: int
    """Threads of each process, or of each worker of a cluster."""
    estimate: Estimate | None = None
    """Where that was settled."""
    own_process: bool = False
    """Whether what is done in one process is not done in this one, which it could end."""
    was_killed: bool = False
    """Whether the run before in its folder was, or what tried this one: then nothing is tried in
    this process, which may have ended that one."""
    is_tried: bool = False
    """Whether every step was tried already."""
    given_up: tuple[Failed, ...] = ()
    """What is not tried again."""

    def is_done_in_part(self, store: Store) -> bool:
        """Whether any of its trials is measured."""
        return not store.done_records().isdisjoint(p.keyed.record for p in self.plan.trials)

    @property
    def anything_left(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.plan.tasks or self.joints_left)


def prepare(request: Request, store: Store | None) -> Prepared:
    """Read and plan a study; a store tells what is done already.

    Raises
    ------
    InputError
        If the study, its data or its network is not as it should be.
    """
    forget_datasets()  # of a file that is another by now, where this process has run before
    spec, text = read_study(request.study)
    scale, options = chosen_scale(spec, request.scale)
    seeds = _seeds(spec, options, request)
    datasets = partial(dataset_of, root=request.data_root)
    try:
        trials = study_trials(spec, scale, seeds, datasets, request.device)
        joints = joint_tasks(spec, trials)
    except StudyFileError as error:
        raise located(error, request.study, text) from error
    plan, joints_left, given_up = _left(trials, joints, store, request)
    name = noted_name(spec.name, scale)
    known = known_parallelism(request, plan, seeds, datasets, store, name)
    return Prepared(
        request=request,
        spec=spec,
        scale=scale,
        seeds=seeds,
        datasets=datasets,
        text=text,
        plan=plan,
        joints=joints,
        joints_left=joints_left,
        known=known,
        jobs=known.jobs or 1,
        threads=known.threads or 1,
        given_up=given_up,
    )


def _seeds(spec: StudySpec, options: ScaleSpec, request: Request) -> int:
    """Return how many seeds are run: those of the scale, unless the user says otherwise."""
    seeds = request.seeds
    if seeds is None:
        return options.seeds
    if seeds < 1:
        raise InputError(f"--seeds must be at least 1, not {seeds}")
    if spec.leakage and seeds % 2:
        raise InputError(
            f"--seeds: the study {spec.name} trains seeds in pairs, on complementary halves of "
            f"the data, so their number must be even, not {seeds}"
        )
    return seeds


def _left(
    trials: Sequence[PlannedTrial],
    joints: tuple[JointTask, ...],
    store: Store | None,
    request: Request,
) -> tuple[Plan, tuple[JointTask, ...], tuple[Failed, ...]]:
    """Work out what is left, and what of it was given up.

    A network whose leakage counts is done once its statistics are. Of a network that is measured
    already, only measurements that are new or changed are left, and its trainings where its state
    is gone and it is still to be measured with others.
    """
    if store is None:
        return make_plan(trials, set(), set()), joints, ()
    recorded, kept, done_joints = store.measured(), store.kept_statistics(), store.done_joints()
    joints = tuple(task for task in joints if task.key not in done_joints)
    incomplete: dict[str, frozenset[str]] = {}
    for planned in trials:
        key, asked = planned.keyed.record, planned.keyed.trial.measure
        if key not in recorded:
            continue
        names = lacking(recorded[key], asked.leakage, asked.also)
        if names or (asked.leakage and key not in kept):
            incomplete[key] = names
    failed = {} if request.retry_failed else store.failed()
    told = {key for p in trials if p.keyed.record in recorded for key in p.keyed.phases}
    plan = make_plan(
        trials,
        store.done_states(),
        recorded.keys() - incomplete.keys(),
        incomplete,
        ends=[one for task in joints if not task.needs_statistics for one in task.networks],
        given_up=failed.keys(),
        lost=told - store.done_phases() - failed.keys(),
    )
    if failed:
        had = recorded.keys() | {one.record for task in plan.measurings for one in task.trials}
        joints = tuple(task for task in joints if had >= {one.record for one in task.networks})
    concerned = {key for p in trials if failed for key in (p.keyed.record, *p.keyed.phases)}
    return plan, joints, tuple(failed[key] for key in sorted(failed.keys() & concerned))


def describe_run(prepared: Prepared) -> StudyRun:
    """Return the study as the store and the report keep it."""
    spec, scale = prepared.spec, prepared.scale
    return StudyRun(
        name=spec.name,
        title=spec.title,
        question=" ".join(spec.question.split()),
        scale=scale,
        axis=spec.axis,
        dataset=_data_shown(prepared),
        network=spec.network.shown,
        notes=spec.scales[scale].notes,
        arms=tuple(_arm_shown(spec, scale, arm) for arm in arms_at(spec, scale)),
        published=published_figures(spec.name, [arm.name for arm in arms_at(spec, scale)])
        if prepared.request.study in builtin_names()
        else None,
        trials=tuple(
            TrialLabel(
                arm=planned.arm,
                seed=planned.keyed.trial.seed,
                level=planned.level,
                key=planned.keyed.record,
                phases=planned.keyed.phases,
                optimizer_steps=planned.steps_alone,
            )
            for planned in prepared.plan.trials
        ),
        joints=tuple(task.key for task in prepared.joints),
        paired=spec.leakage == "paired-halves",
        claims=spec.claims_at(scale),
        sparse_steps=tuple(name for name, kind in STEPS.items() if kind.sparse),
        sources={name: source.model_dump(mode="json") for name, source in spec.sources.items()},
        command=prepared.request.command,
        file=prepared.text,
    )


def _data_shown(prepared: Prepared) -> str:
    """Say what the first dataset holds, and how much of it there is to train on at this scale."""
    spec = prepared.spec
    data = prepared.datasets(spec.data)
    pool = spec.scales[prepared.scale].data.get("examples", spec.data.examples)
    of = f"{pool:,} of " if pool else ""
    return (
        f"{data.name}: {of}{len(data.y_train):,} training and {len(data.y_test):,} test examples, "
        f"{data.classes} classes"
    )


def _arm_shown(spec: StudySpec, scale: Scale, arm: ArmSpec) -> Arm:
    data = spec.data_of(arm, scale)
    return Arm(
        name=arm.name,
        label=arm.label,
        role=arm.role,
        recipe=tuple(one.step for one in spec.steps_of(arm)),
        dataset=data.name,
        network=(arm.network or spec.network).shown,
        pool=data.pool,
    )


def carry_out(
    prepared: Prepared,
    store: Store,
    watch: Callable[[Event], None],
    should_stop: Callable[[], bool],
) -> list[Failure]:
    """Do what is left of a study, keep it in the store, and return what failed.

    The caller holds the folder with `records.store.only_writer`, if others could write to it.

    Raises
    ------
    InputError
        If the study has a pruning that cannot be done.
    UnwritableError
        If the folder takes no more; the sentence says how much is done.
    StoreError
        If the store cannot be written for another reason.
    """
    plan, failures = prepared.plan, list[Failure]()

    def handle(event: Event) -> None:
        if isinstance(event, Phase):
            store.add_phase(event)
        elif isinstance(event, Record):
            store.add_record(event, measures_of(event.versions))
            done[0] += 1
        elif isinstance(event, JointRecord):
            store.add_joint(event)
        elif isinstance(event, Failure):
            event = replace(event, reason=failure_text(plan, prepared.spec.axis, event))
            failures.append(event)
            if event.given_up:
                store.add_failed(Failed(key=event.key, reason=event.reason))
        watch(event)

    most = prepared.request.max_failures

    def ends() -> bool:
        return should_stop() or (most is not None and len(failures) >= most)

    with telling_what_is_kept(prepared) as done:
        store.sweep()
        if prepared.request.retry_failed:
            store.forget_failed()
        store.save_study(describe_run(prepared))
        if plan.tasks:
            name = noted_name(prepared.spec.name, prepared.scale)
            write_note(store.folder, name, prepared.jobs, prepared.threads)
            if not (prepared.was_killed or prepared.is_tried):
                preflight_study(prepared)
            if prepared.request.scheduler is None:
                store.fetch("states", {key for task in plan.tasks for key in task.needs})
            with executor_of(prepared, store.folder, handle, ends) as executor:
                execute(executor, handle, ends)
        _do_joints(prepared, store, handle, ends)
    return failures


@contextmanager
def telling_what_is_kept(prepared: Prepared) -> Iterator[list[int]]:
    """Where the folder takes no more, say how many trials are done and which command goes on.

    Yields a list of one number, to which trials that are done in the block are added.
    """
    trials, done = prepared.plan.distinct_trials, [0]
    before = bytes_in(prepared.request.folder) if prepared.estimate else 0
    try:
        yield done
    except UnwritableError as error:
        kept = trials - prepared.plan.trials_left + done[0]
        command, size = prepared.request.command, _room(prepared, before)
        going_on = f"`{command}`" if command else "the same command"
        raise UnwritableError(
            f"{error.what}; {kept:,} of {counted(trials, 'trial')} are done and kept",
            f"{error.remedy}{size}, then {going_on} goes on",
        ) from error


def _room(prepared: Prepared, before: int) -> str:
    """Say how much more room a run needs whose folder held so many bytes when it began."""
    folder, estimate = prepared.request.folder, prepared.estimate
    if estimate is None or not folder.is_dir():
        return ""
    left = estimate.kept_bytes - (bytes_in(folder) - before)
    free = shutil.disk_usage(folder).free
    if left <= free:  # it was too low, or the disk is not full
        return f" (the run takes about {compact(estimate.kept_bytes, 'B')})"
    return f" (about {compact(left, 'B')} are needed and {compact(free, 'B')} are free)"


def preflight_study(prepared: Prepared) -> None:
    """Try every step that is left on an untrained network, and tell of changing answers.

    Raises
    ------
    InputError
        If one cannot be done; the sentence names the line of the recipe.
    """
    from gossamer.studies.preflight import preflight  # imports torch

    try:
        preflight(prepared.spec, prepared.plan, prepared.datasets)
    except StudyFileError as error:
        raise located(error, prepared.request.study, prepared.text) from error


def _do_joints(
    prepared: Prepared,
    store: Store,
    handle: Callable[[Event], None],
    should_stop: Callable[[], bool],
) -> None:
    """Measure together what has all its networks measured by now."""
    ready, kept = store.done_records(), store.kept_statistics()
    bench = Bench(store.folder, prepared.datasets, prepared.threads)
    for task in prepared.joints_left:
        needed = {trial.record for trial in task.networks}
        if should_stop():
            return
        if needed <= ready and (not task.needs_statistics or needed <= kept):
            store.fetch(*_files_of(task))
            handle(_attempt(task, bench))


def _files_of(task: JointTask) -> tuple[str, set[str]]:
    """Return the part of the store, and the keys there, that a joint measure reads."""
    if task.needs_statistics:
        return "statistics", {trial.record for trial in task.networks}
    behind = [trained_before(trial, len(trial.trial.steps)) for trial in task.networks]
    return "states", set().union(*behind)


def _attempt(task: JointTask, bench: Bench) -> JointRecord | Failure:
    """Measure together; what goes wrong with some networks must not cost the others."""
    try:
        return measure_jointly(task, bench)
    except UnwritableError:
        raise
    except GossamerError as error:
        return Failure(task.trials[0], None, f"measured with others ({task.kind}): {error}")


def with_what_is_done(prepared: Prepared, store: Store) -> Prepared:
    """Return the study with what is left by now; another run may have done some of it."""
    plan, joints, given_up = _left(prepared.plan.trials, prepared.joints, store, prepared.request)
    return replace(prepared, plan=plan, joints_left=joints, given_up=given_up)
