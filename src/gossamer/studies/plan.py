"""From a study to its trials, and from the trials to what is left to do.

Trials that start alike have the same state keys, so what they share shows by itself: a training
stands once in the plan, however many trials need it.
"""

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cached_property

from gossamer.core.errors import InputError
from gossamer.core.formats import counted
from gossamer.data import Dataset
from gossamer.recipes import KeyedTrial, MeasureSpec, Step, Train, Trial, keyed, origin
from gossamer.recipes.keys import Datasets, Shared, Written, written_measure, written_steps
from gossamer.recipes.split import train_count
from gossamer.recipes.trial import DataSpec, Device
from gossamer.studies.spec import ArmSpec, Scale, ScaleSpec, StudySpec
from gossamer.studies.study_errors import ErrorCollector, StudyFileError, placing_errors

_TRIALS_A_TASK = 8
"""How many trials are measured in one task: few enough to balance, enough to share a state."""


@dataclass(frozen=True)
class PlannedTrial:
    """A trial and what the study calls it."""

    arm: str
    level: float
    keyed: KeyedTrial

    @cached_property
    def steps_alone(self) -> int:
        """Optimizer steps of the trial run alone."""
        return sum(training_steps(*training) for training in trainings_behind(self.keyed))


@dataclass(frozen=True)
class Training:
    """A training that is left to do; `needs` are the trained states that must be done before."""

    keyed: KeyedTrial
    position: int
    needs: frozenset[str]
    steps: int
    """Optimizer steps, unless it stops early."""

    @property
    def key(self) -> str:
        """Key of the state it ends in."""
        return self.keyed.states[self.position + 1]


@dataclass(frozen=True)
class Measuring:
    """Trials that are left to measure, all on the same trained states."""

    trials: tuple[KeyedTrial, ...]
    needs: frozenset[str]
    names: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """What measurements are left of a trial, by its record; all where it is not there."""


Task = Training | Measuring


@dataclass(frozen=True)
class Plan:
    """All trials of a study, and the tasks that are left, each after what it needs."""

    trials: tuple[PlannedTrial, ...]
    trainings: tuple[Training, ...]
    measurings: tuple[Measuring, ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Everything that is left to do."""
        return (*self.trainings, *self.measurings)

    @property
    def distinct_trials(self) -> int:
        """How many networks are measured in all; trials that are alike are one."""
        return len({planned.keyed.record for planned in self.trials})

    @property
    def trials_left(self) -> int:
        """How many trials are left to measure."""
        return sum(len(task.trials) for task in self.measurings)

    @property
    def steps_left(self) -> int:
        """Optimizer steps that are left."""
        return sum(task.steps for task in self.trainings)

    @property
    def steps_shared(self) -> int:
        """Optimizer steps of all the study's trainings, each done once."""
        return sum(training_steps(*training) for training in self._distinct_trainings)

    @property
    def examples_trained(self) -> int:
        """Examples trained on in all, epochs counted, each training done once."""
        return sum(
            trial.train_examples * _training_step(trial, position).epochs
            for trial, position in self._distinct_trainings
        )

    @cached_property
    def _distinct_trainings(self) -> list[tuple[KeyedTrial, int]]:
        distinct = {
            trial.states[position + 1]: (trial, position)
            for planned in self.trials
            for trial, position in trainings_behind(planned.keyed)
        }
        return list(distinct.values())

    @property
    def steps_alone(self) -> int:
        """Optimizer steps if every trial were run alone."""
        return sum(planned.steps_alone for planned in self.trials)


def training_steps(trial: KeyedTrial, position: int) -> int:
    """Return the optimizer steps of one training, unless it stops early."""
    step = _training_step(trial, position)
    return step.epochs * -(-trial.train_examples // step.batch)


def trainings_behind(trial: KeyedTrial) -> list[tuple[KeyedTrial, int]]:
    """Return the trainings that a trial rests on, with those of the masks it borrows."""
    own = [(trial, position) for position in trial.trial.trainings]
    if not trial.sources:
        return own
    lent = [(at, behind) for at, one in trial.sources.items() for behind in trainings_behind(one)]
    placed = [*lent, *((position, (trial, position)) for _, position in own)]
    return [one for _, one in sorted(placed, key=operator.itemgetter(0))]  # the source's first


def study_trials(
    spec: StudySpec, scale: Scale, seeds: int, datasets: Datasets, device: Device
) -> tuple[PlannedTrial, ...]:
    """Return every trial of a study: seeds, then arms, then levels.

    Raises
    ------
    StudyFileError
        If a recipe mentions an unknown value, its steps do not go together, or data or network
        are not there or do not suit.
    """
    errors = ErrorCollector()
    datasets = _tried_once(datasets)
    arms = [(arm, _recipes(spec, scale, arm, errors)) for arm in arms_at(spec, scale)]
    measure = MeasureSpec(
        **spec.measure.model_dump(), also=spec.measure.also, leakage=spec.leakage is not None
    )
    measure_written = written_measure(measure)
    starts: dict[Trial, Written] = {}
    planned: list[PlannedTrial] = []
    for seed in range(seeds):
        for arm, recipes in arms:
            with errors.collecting(*spec.place_of(arm, "recipe")):
                bare = _bare_trial(spec, scale, arm, seed, device, measure)
                dataset = _dataset(spec, scale, arm, bare, datasets)
                if bare not in starts:
                    with placing_errors(*spec.network_place(arm)):
                        starts[bare] = origin(bare, dataset)
                start = starts[bare]
                for recipe in recipes:
                    shared = Shared(start, recipe.written, measure_written)
                    trial = keyed(replace(bare, steps=recipe.steps), dataset, shared, datasets)
                    planned.append(PlannedTrial(arm.name, recipe.level, trial))
        errors.raise_all()  # what is wrong is so for the first seed
    return tuple(planned)


def _tried_once(datasets: Datasets) -> Datasets:
    """Have what cannot be loaded fail as it did, rather than be downloaded again for each arm."""
    refused: dict[DataSpec, InputError] = {}

    def load(data: DataSpec) -> Dataset:
        if data in refused:
            raise refused[data]
        try:
            return datasets(data)
        except InputError as error:
            refused[data] = error
            raise

    return load


@dataclass(frozen=True)
class _Recipe:
    """An arm's steps at one level, the same for all seeds."""

    level: float
    steps: tuple[Step, ...]
    written: tuple[Written, ...]


def _recipes(spec: StudySpec, scale: Scale, arm: ArmSpec, errors: ErrorCollector) -> list[_Recipe]:
    """Return the recipe of an arm at each level, or once at level 0 if it mentions none."""
    recipes, network = [], arm.network or spec.network
    for level in spec.levels_at(scale) if spec.varies(arm) else (0.0,):
        with errors.collecting(*spec.place_of(arm, "recipe")):
            steps = spec.recipe_of(arm, scale, level)
            recipes.append(_Recipe(level, steps, written_steps(steps, network)))
    return recipes


def _dataset(
    spec: StudySpec, scale: Scale, arm: ArmSpec, trial: Trial, datasets: Datasets
) -> Dataset:
    """Return the dataset of an arm, of which there are as many examples as it asks for."""
    with placing_errors(*spec.data_place(arm, scale, "name")):
        dataset = datasets(trial.data)
    with placing_errors(*spec.data_place(arm, scale, "examples")):
        count = train_count(trial.data, dataset, trial.seed)
    if count < dataset.classes:
        field = "validation" if trial.data.validation_from == "train" else "examples"
        field = field if trial.data.validation else "examples"
        raise StudyFileError(
            f"it leaves {counted(count, 'example')} to train on for {dataset.classes} classes: "
            "expected one of each at least",
            *spec.data_place(arm, scale, field),
        )
    return dataset


def arms_at(spec: StudySpec, scale: Scale) -> tuple[ArmSpec, ...]:
    """Return the arms that are run at a scale."""
    return tuple(arm for arm in spec.arms if scale in arm.scales)


def _bare_trial(
    spec: StudySpec, scale: Scale, arm: ArmSpec, seed: int, device: Device, measure: MeasureSpec
) -> Trial:
    return Trial(
        data=spec.data_of(arm, scale),
        network=arm.network or spec.network,
        seed=seed,
        steps=(),
        measure=measure,
        precision=spec.precision_at(scale),
        device=device,
    )


def chosen_scale(spec: StudySpec, scale: Scale | None) -> tuple[Scale, ScaleSpec]:
    """Return the scale asked for; unasked it is quick, or the only one there is.

    Raises
    ------
    InputError
        If the study has no such scale.
    """
    name = scale or _default_scale(spec)
    if name not in spec.scales:
        raise InputError(
            f"the study {spec.name} has no scale {name!r}, only {', '.join(spec.scales)}"
        )
    return name, spec.scales[name]


def _default_scale(spec: StudySpec) -> Scale:
    return "quick" if "quick" in spec.scales else next(iter(spec.scales))


def make_plan(
    trials: Sequence[PlannedTrial],
    done_states: AbstractSet[str],
    done_records: AbstractSet[str],
    lacking: Mapping[str, frozenset[str]] | None = None,
    ends: Iterable[KeyedTrial] = (),
    given_up: AbstractSet[str] = frozenset(),
    lost: AbstractSet[str] = frozenset(),
) -> Plan:
    """Work out what is left.

    Parameters
    ----------
    trials
        Those of a study.
    done_states, done_records
        The keys of the trained states, and of the records, that nothing is missing of.
    lacking
        What measurements other records are to be completed by.
    ends
        Trials whose networks must be there, though they may be measured: others are measured
        together with them.
    given_up
        The keys of states and records that are not tried again, nor what rests on them.
    lost
        The keys of trainings of which nothing is known any more, though their trials are measured:
        the report tells of each training.
    """

    def can_be_had(trial: KeyedTrial) -> bool:
        found = _missing(trial, len(trial.trial.steps), done_states, frozenset())
        return given_up.isdisjoint({trial.record, *(one.states[at + 1] for one, at in found)})

    left = {p.keyed.record: p.keyed for p in trials if p.keyed.record not in done_records}
    if given_up:
        left = {key: trial for key, trial in left.items() if can_be_had(trial)}
        ends = [trial for trial in ends if can_be_had(trial)]
    goals = [(goal, len(goal.trial.steps)) for goal in (*left.values(), *ends)]
    behind = (one for planned in trials if lost for one in trainings_behind(planned.keyed))
    goals += [(one, at + 1) for one, at in behind if one.states[at + 1] in lost]
    trainings: dict[str, Training] = {}
    for goal, steps_done in goals:
        for trial, position in _missing(goal, steps_done, done_states, trainings.keys()):
            needs, steps = trained_before(trial, position), training_steps(trial, position)
            trainings[trial.states[position + 1]] = Training(trial, position, needs, steps)
    return Plan(
        trials=tuple(trials),
        trainings=tuple(trainings.values()),
        measurings=tuple(_measurings(list(left.values()), lacking or {})),
    )


def _training_step(trial: KeyedTrial, position: int) -> Train:
    step = trial.trial.steps[position]
    assert isinstance(step, Train)
    return step


def _missing(
    trial: KeyedTrial, done: int, done_states: AbstractSet[str], planned: AbstractSet[str]
) -> Iterator[tuple[KeyedTrial, int]]:
    """Yield the trainings that the state after `done` steps still lacks, in order.

    Those that are planned are left out, with what they need.
    """
    key = trial.states[done]
    if done == 0 or key in done_states or key in planned:
        return
    step = trial.trial.steps[done - 1]
    for start in step.starts(done - 1):
        yield from _missing(trial, start, done_states, planned)
    if source := trial.sources.get(done - 1):
        yield from _missing(source, len(source.trial.steps), done_states, planned)
    if isinstance(step, Train) and key not in planned:
        yield trial, done - 1


def trained_before(trial: KeyedTrial, done: int) -> frozenset[str]:
    """Return the keys of the nearest trained states that the state after `done` steps needs."""
    if done == 0:
        return frozenset()
    step = trial.trial.steps[done - 1]
    if isinstance(step, Train):
        return frozenset({trial.states[done]})
    before = [trained_before(trial, start) for start in step.starts(done - 1)]
    if source := trial.sources.get(done - 1):
        before.append(trained_before(source, len(source.trial.steps)))
    return frozenset().union(*before)


def _measurings(
    left: list[KeyedTrial], lacking: Mapping[str, frozenset[str]]
) -> Iterator[Measuring]:
    by_needs: dict[frozenset[str], list[KeyedTrial]] = {}
    for trial in left:
        needs = trained_before(trial, len(trial.trial.steps))
        by_needs.setdefault(needs, []).append(trial)
    for needs, trials in by_needs.items():
        for start in range(0, len(trials), _TRIALS_A_TASK):
            some = trials[start : start + _TRIALS_A_TASK]
            names = {one.record: lacking[one.record] for one in some if one.record in lacking}
            yield Measuring(tuple(some), needs, names)
