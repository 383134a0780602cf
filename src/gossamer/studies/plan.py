"""From a study to its trials, and from the trials to what is left to do.

Trials that start alike have the same state keys, so what they share shows by itself: a training
stands once in the plan, however many trials need it.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from gossamer.data import Dataset
from gossamer.errors import InputError
from gossamer.recipes import (
    KeyedTrial,
    RecipeStep,
    Rewind,
    Train,
    Trial,
    check_recipe,
    keyed,
    origin,
)
from gossamer.recipes.trial import Device
from gossamer.studies.spec import (
    ArmSpec,
    Scale,
    ScaleSpec,
    StudySpec,
    mentioned,
    resolve_recipe,
)

_TRIALS_A_TASK = 8
"""How many trials are measured in one task: few enough to balance, enough to share a state."""


@dataclass(frozen=True)
class PlannedTrial:
    """A trial and what the study calls it."""

    arm: str
    level: float
    keyed: KeyedTrial


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


Task = Training | Measuring


@dataclass(frozen=True)
class Plan:
    """All trials of a study, and the tasks that are left, each after what it needs."""

    trials: tuple[PlannedTrial, ...]
    trainings: tuple[Training, ...]
    measurings: tuple[Measuring, ...]
    training_examples: int
    """Examples in the part of the training set that is trained on."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Everything that is left to do."""
        return (*self.trainings, *self.measurings)

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
        return sum(self.steps(trial, position) for trial, position in self._distinct_trainings())

    @property
    def examples_trained(self) -> int:
        """Examples trained on in all, epochs counted, each training done once."""
        return self.training_examples * sum(
            _training_step(trial, position).epochs for trial, position in self._distinct_trainings()
        )

    def _distinct_trainings(self) -> list[tuple[Trial, int]]:
        distinct = {
            planned.keyed.states[position + 1]: (planned.keyed.trial, position)
            for planned in self.trials
            for position in planned.keyed.trial.trainings
        }
        return list(distinct.values())

    @property
    def steps_alone(self) -> int:
        """Optimizer steps if every trial were run alone."""
        return sum(self.steps_of(planned.keyed.trial) for planned in self.trials)

    def steps_of(self, trial: Trial) -> int:
        """Return the optimizer steps of one trial run alone."""
        return sum(self.steps(trial, position) for position in trial.trainings)

    def steps(self, trial: Trial, position: int) -> int:
        """Return the optimizer steps of one training, unless it stops early."""
        step = _training_step(trial, position)
        return step.epochs * -(-self.training_examples // step.batch)


def study_trials(
    spec: StudySpec, scale: ScaleSpec, seeds: int, dataset: Dataset, device: Device
) -> tuple[PlannedTrial, ...]:
    """Return every trial of a study: seeds, then arms, then levels.

    Raises
    ------
    InputError
        If a recipe mentions an unknown value, or its steps do not go together.
    """
    planned: list[PlannedTrial] = []
    for seed in range(seeds):
        bare = Trial(
            data=spec.data,
            network=spec.network,
            seed=seed,
            steps=(),
            measure=spec.measure,
            precision=spec.precision,
            device=device,
        )
        start = origin(bare, dataset)
        for arm in spec.arms:
            for level, steps in _arm_recipes(spec, scale, arm):
                trial = keyed(replace(bare, steps=steps), dataset, start)
                planned.append(PlannedTrial(arm.name, level, trial))
    return tuple(planned)


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
    training_examples: int,
    done_states: AbstractSet[str],
    done_records: AbstractSet[str],
) -> Plan:
    """Work out what is left, given the trained states and the records that are done."""
    left = {p.keyed.record: p.keyed for p in trials if p.keyed.record not in done_records}
    whole = Plan(tuple(trials), (), (), training_examples)
    trainings = {
        trial.states[position + 1]: Training(
            trial, position, _trained_before(trial, position), whole.steps(trial.trial, position)
        )
        for trial in left.values()
        for position in sorted(set(_missing(trial, len(trial.trial.steps), done_states)))
    }
    return Plan(
        trials=tuple(trials),
        trainings=tuple(trainings.values()),
        measurings=tuple(_measurings(list(left.values()))),
        training_examples=training_examples,
    )


def _arm_recipes(
    spec: StudySpec, scale: ScaleSpec, arm: ArmSpec
) -> Iterator[tuple[float, tuple[RecipeStep, ...]]]:
    """Yield the recipe of an arm at each level, or once at level 0 if it mentions none."""
    template = spec.steps_of(arm)
    over_grid = spec.axis in mentioned(template)
    for level in spec.levels if over_grid else (0.0,):
        steps = resolve_recipe(arm.name, template, {**scale.values, spec.axis: level})
        check_recipe(steps, spec.data.validation)
        yield level, steps


def _training_step(trial: Trial, position: int) -> Train:
    step = trial.steps[position]
    assert isinstance(step, Train)
    return step


def _missing(trial: KeyedTrial, done: int, done_states: AbstractSet[str]) -> Iterator[int]:
    """Yield the positions of trainings that the state after `done` steps still lacks."""
    if done == 0 or trial.states[done] in done_states:
        return
    step = trial.trial.steps[done - 1]
    yield from _missing(trial, done - 1, done_states)
    if isinstance(step, Rewind):
        yield from _missing(trial, step.to, done_states)
    if isinstance(step, Train):
        yield done - 1


def _trained_before(trial: KeyedTrial, done: int) -> frozenset[str]:
    """Return the keys of the nearest trained states that the state after `done` steps needs."""
    if done == 0:
        return frozenset()
    step = trial.trial.steps[done - 1]
    if isinstance(step, Train):
        return frozenset({trial.states[done]})
    needs = _trained_before(trial, done - 1)
    return needs | _trained_before(trial, step.to) if isinstance(step, Rewind) else needs


def _measurings(left: list[KeyedTrial]) -> Iterator[Measuring]:
    by_needs: dict[frozenset[str], list[KeyedTrial]] = {}
    for trial in left:
        needs = _trained_before(trial, len(trial.trial.steps))
        by_needs.setdefault(needs, []).append(trial)
    for needs, trials in by_needs.items():
        for start in range(0, len(trials), _TRIALS_A_TASK):
            yield Measuring(tuple(trials[start : start + _TRIALS_A_TASK]), needs)
