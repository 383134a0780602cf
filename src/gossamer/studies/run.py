"""Running a study: what is asked for, what is done already, and doing the rest."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gossamer.data import Dataset, stratified_split
from gossamer.errors import InputError
from gossamer.recipes import KeyedTrial, Train
from gossamer.recipes.trial import Device
from gossamer.records.record import Arm, Phase, Record, StudyRun, TrialLabel
from gossamer.records.store import Store
from gossamer.studies.plan import Plan, chosen_scale, make_plan, study_trials
from gossamer.studies.spec import Scale, StudySpec, builtin_names, published_figures, read_study
from gossamer.studies.tuning import usable_cores
from gossamer.studies.work import Event, Failure, Site, dataset_of, do_here

REPORT = "report.html"
_WORTH_THREADS = 16_384
"""Numbers in a batch of inputs, above which more than one thread pays: below it threads wait for
each other longer than they work, and far longer where something else uses a core."""
_WORTH_PROCESSES = 1_000_000
"""Training examples in all, above which starting several processes pays."""


@dataclass(frozen=True)
class Request:
    """What a user asks for."""

    study: str
    """Built-in name or TOML file."""
    folder: Path
    scale: Scale | None = None
    seeds: int | None = None
    jobs: int | None = None
    threads: int | None = None
    data_root: Path | None = None
    device: Device = "cpu"
    command: str = ""
    """The command line, for the report."""


@dataclass(frozen=True)
class Prepared:
    """A study that was read and planned, before anything is done."""

    request: Request
    spec: StudySpec
    scale: Scale
    seeds: int
    dataset: Dataset
    text: str
    """The study file."""
    plan: Plan
    jobs: int
    threads: int
    """Threads of each process."""


def prepare(request: Request, store: Store | None) -> Prepared:
    """Read and plan a study; a store tells what is done already.

    Raises
    ------
    InputError
        If the study, its data or its network is not as it should be.
    """
    spec, text = read_study(request.study)
    scale, options = chosen_scale(spec, request.scale)
    seeds = options.seeds if request.seeds is None else request.seeds
    if seeds < 1:
        raise InputError(f"--seeds must be at least 1, not {seeds}")
    dataset = dataset_of(spec.data, request.data_root)
    kept, _ = stratified_split(dataset.y_train, spec.data.validation, seed=0)
    plan = make_plan(
        study_trials(spec, options, seeds, dataset, request.device),
        training_examples=len(kept),
        done_states=store.done_states() if store else set(),
        done_records=store.done_records() if store else set(),
    )
    jobs = request.jobs or _sensible_jobs(plan, seeds, request.device)
    return Prepared(
        request=request,
        spec=spec,
        scale=scale,
        seeds=seeds,
        dataset=dataset,
        text=text,
        plan=plan,
        jobs=jobs,
        threads=request.threads or _sensible_threads(plan, dataset, jobs),
    )


def describe_run(prepared: Prepared) -> StudyRun:
    """Return the study as the store and the report keep it."""
    spec, data = prepared.spec, prepared.dataset
    return StudyRun(
        name=spec.name,
        title=spec.title,
        question=" ".join(spec.question.split()),
        scale=prepared.scale,
        axis=spec.axis,
        dataset=f"{data.name}: {len(data.y_train):,} training and {len(data.y_test):,} test "
        f"examples, {data.classes} classes",
        network=spec.network.name,
        notes=spec.scales[prepared.scale].notes,
        arms=tuple(
            Arm(name=arm.name, label=arm.label, role=arm.role, recipe=tuple(spec.steps_of(arm)))
            for arm in spec.arms
        ),
        published=published_figures(spec.name)
        if prepared.request.study in builtin_names()
        else None,
        trials=tuple(
            TrialLabel(
                arm=planned.arm,
                seed=planned.keyed.trial.seed,
                level=planned.level,
                key=planned.keyed.record,
                phases=planned.keyed.phases,
                optimizer_steps=prepared.plan.steps_of(planned.keyed.trial),
            )
            for planned in prepared.plan.trials
        ),
        command=prepared.request.command,
        file=prepared.text,
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
    StoreError
        If the store cannot be written.
    """
    failures: list[Failure] = []

    def handle(event: Event) -> None:
        if isinstance(event, Phase):
            store.add_phase(event)
        elif isinstance(event, Record):
            store.add_record(event)
        elif isinstance(event, Failure):
            event = replace(event, reason=f"{_whose(prepared, event.trial)}: {event.reason}")
            failures.append(event)
        watch(event)

    plan = prepared.plan
    store.sweep()
    store.save_study(describe_run(prepared))
    if not plan.tasks:
        return failures
    from gossamer.studies.rehearsal import rehearse  # imports torch

    rehearse(plan, prepared.dataset)
    site = Site(store.folder, prepared.request.data_root, prepared.threads)
    if prepared.jobs == 1:
        do_here(plan, site, handle, should_stop)
    else:
        from gossamer.studies.pool import do_in_processes

        do_in_processes(plan, site, prepared.jobs, handle, should_stop)
    return failures


def with_what_is_done(prepared: Prepared, store: Store) -> Prepared:
    """Return the study with what is left by now; another run may have done some of it."""
    plan = make_plan(
        prepared.plan.trials,
        prepared.plan.training_examples,
        store.done_states(),
        store.done_records(),
    )
    return replace(prepared, plan=plan)


def _whose(prepared: Prepared, trial: KeyedTrial) -> str:
    """Name a trial as the study does: arm, level, seed."""
    planned = next(p for p in prepared.plan.trials if p.keyed.record == trial.record)
    level = f", {prepared.spec.axis} {planned.level:g}" if planned.level else ""
    return f"{planned.arm}{level}, seed {trial.trial.seed}"


def _sensible_jobs(plan: Plan, seeds: int, device: Device) -> int:
    """Return how many processes to use if the user does not say.

    It depends on the whole study, not on what is left, so that a resumed run has the same number
    of threads and therefore the same bits.
    """
    if device != "cpu" or plan.examples_trained < _WORTH_PROCESSES:
        return 1
    return min(seeds, usable_cores())


def _sensible_threads(plan: Plan, dataset: Dataset, jobs: int) -> int:
    """Return how many threads each process has if the user does not say."""
    batches = [
        step.batch
        for planned in plan.trials
        for step in planned.keyed.trial.steps
        if isinstance(step, Train)
    ]
    if max(batches, default=0) * math.prod(dataset.input_shape) < _WORTH_THREADS:
        return 1
    return max(1, usable_cores() // jobs)
