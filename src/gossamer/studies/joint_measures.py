"""What is measured of several networks together: attacks of other seeds, overlaps, latencies.

These wait until every network of a study is measured; then each is quick, and is done in the
driving process, one after the other. So what is timed is timed alone. What they need is imported
when they start: planning does without it.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.data import Dataset
from gossamer.leakage.attacks import ATTACKS
from gossamer.recipes import KeyedTrial, expected_after
from gossamer.recipes.keys import Datasets
from gossamer.recipes.split import split
from gossamer.records.canonical import key_of
from gossamer.records.environment import describe_environment
from gossamer.records.joint import JointRecord
from gossamer.records.leakage import AttackResult, Leakage
from gossamer.records.store import checkpoint_path, state_path, statistics_path
from gossamer.studies.pictures import png
from gossamer.studies.plan import PlannedTrial
from gossamer.studies.spec import StudySpec
from gossamer.studies.study_errors import placing_errors

if TYPE_CHECKING:
    from gossamer.leakage import Statistics
    from gossamer.recipes.trial_runner import TrialRunner
    from gossamer.studies.latencies import Runnable

_VERSIONS = {"leakage": 3, "releases": 3, "overlap": 1, "latency": 1}

_FIRST_ATTACKS = frozenset(
    {
        *("gap", "loss", "confidence", "entropy", "modified_entropy", "quantile_regression"),
        *("rmia", "base", "lira_offline", "lira_online", "best_threshold", "joint", "foreign"),
    }
)
"""Those that version 3 of attacks held, each in its version 1: no key names them."""

_MODELS_FOR_VERSIONS = 6
"""Three pairs: two references a side then remain for each target."""

Kind = Literal["leakage", "releases", "overlap", "latency"]


@dataclass(frozen=True)
class Conditions:
    """What the time of a prediction depends on, beside the network."""

    batch: int
    threads: int
    processor: str
    torch: str


@dataclass(frozen=True)
class JointTask:
    """Networks to measure together: those of one arm at one level, and of another arm."""

    kind: Kind
    arm: str
    level: float
    trials: tuple[KeyedTrial, ...]
    """Of the arm, in the order of the seeds."""
    others: tuple[KeyedTrial, ...] = ()
    """Of the other arm, the same seeds."""
    conditions: Conditions | None = None
    """Where something is timed: on another processor it is another measure."""

    @cached_property
    def key(self) -> str:
        """Hash of everything that determines the numbers."""
        identity: dict[str, Any] = {
            "kind": self.kind,
            "version": _VERSIONS[self.kind],
            "records": [trial.record for trial in self.trials],
            "others": [trial.record for trial in self.others],
        }
        if later := _later_attacks(self.kind):
            identity["attacks"] = later
        if self.conditions is not None:
            identity["conditions"] = asdict(self.conditions)
        return key_of(identity)

    @property
    def networks(self) -> tuple[KeyedTrial, ...]:
        """All that are measured, of either arm."""
        return (*self.trials, *self.others)

    @property
    def needs_statistics(self) -> bool:
        """Whether it works on the statistics that networks left, rather than on their states."""
        return self.kind in ("leakage", "releases")


def _later_attacks(kind: Kind) -> dict[str, int]:
    """Return the versions of the attacks of a kind of task that are newer than `_VERSIONS`."""
    versions = {"leakage": 1, "releases": 2}.get(kind)
    return {
        name: attack.version
        for name, attack in ATTACKS.items()
        if attack.versions == versions
        and (attack.usual or attack.in_sample or versions == 2)
        and (attack.version > 1 or name not in _FIRST_ATTACKS)
    }


def joint_tasks(spec: StudySpec, trials: Sequence[PlannedTrial]) -> tuple[JointTask, ...]:
    """Return what a study measures of several networks together, each once.

    Raises
    ------
    StudyFileError
        If an arm whose masks are to be compared ends without one.
    """
    groups: dict[tuple[str, float], list[KeyedTrial]] = {}
    for planned in trials:
        groups.setdefault((planned.arm, planned.level), []).append(planned.keyed)
    tasks = [*_attacks(spec, groups), *_overlaps(spec, groups), *_latencies(spec, groups)]
    return tuple({task.key: task for task in tasks}.values())


Groups = Mapping[tuple[str, float], list[KeyedTrial]]


def _attacks(spec: StudySpec, groups: Groups) -> Iterator[JointTask]:
    if spec.leakage is None:
        return
    halved = {at: group for at, group in groups.items() if group[0].trial.data.pool == "half"}
    for (arm, level), group in halved.items():
        yield JointTask("leakage", arm, level, tuple(group))
    baselines = [arm.name for arm in spec.arms if arm.role == "baseline"]
    first = halved.get((baselines[0], 0.0), []) if baselines else []
    for (arm, level), group in halved.items():
        comparable = arm not in baselines and first and _same_data(group, first)
        if comparable and len(group) >= _MODELS_FOR_VERSIONS:
            yield JointTask("releases", arm, level, tuple(group), tuple(first))


def _same_data(one: Sequence[KeyedTrial], other: Sequence[KeyedTrial]) -> bool:
    return one[0].trial.data == other[0].trial.data


def _overlaps(spec: StudySpec, groups: Groups) -> Iterator[JointTask]:
    for position, (first, second) in enumerate(spec.overlaps):
        for (arm, level), group in groups.items():
            other = groups.get((second, level)) or groups.get((second, 0.0))
            if arm == first and other:
                with placing_errors("overlaps", position):
                    _must_be_masked(first, group)
                    _must_be_masked(second, other)
                yield JointTask("overlap", arm, level, tuple(group), tuple(other))


def _latencies(spec: StudySpec, groups: Groups) -> Iterator[JointTask]:
    """Yield one task a network, seed after seed, the unpruned one first.

    So a drift of the machine meets all arms and levels alike, and what a stopped run has timed is
    whole seeds.
    """
    timed, baseline = spec.latency, spec.baseline
    if timed is None or baseline is None:
        return
    unpruned = groups.get((baseline.name, 0.0), [])
    environment = describe_environment(timed.threads, "cpu")
    conditions = Conditions(timed.batch, timed.threads, environment.processor, environment.torch)
    chosen = {
        (arm, level): group
        for (arm, level), group in groups.items()
        if arm in timed.arms and (level in timed.levels or not timed.levels or level == 0)
    }
    for position, dense in enumerate(unpruned):
        yield JointTask("latency", baseline.name, 0.0, (dense,), conditions=conditions)
        for (arm, level), group in chosen.items():
            yield JointTask("latency", arm, level, (group[position],), (dense,), conditions)


def _must_be_masked(arm: str, group: Sequence[KeyedTrial]) -> None:
    if not expected_after(group[0].trial.steps).masks:
        raise InputError(f"overlaps compares the masks of arms, but {arm} ends without one")


@dataclass(frozen=True)
class Bench:
    """Where joint measures find what they need."""

    folder: Path
    datasets: Datasets
    threads: int

    @cached_property
    def runner(self) -> "TrialRunner":
        """What makes the networks again from the states that training left."""
        from gossamer.recipes.trial_runner import TrialRunner  # imports torch

        return TrialRunner(
            dataset=self.datasets,
            state_path=partial(state_path, self.folder),
            checkpoint_path=partial(checkpoint_path, self.folder),
            statistics_path=partial(statistics_path, self.folder),
        )

    @cached_property
    def unpruned(self) -> dict[str, "Runnable"]:
        """The unpruned network of the seed that is being timed, by its record: made once."""
        return {}


def measure_jointly(task: JointTask, bench: Bench) -> JointRecord:
    """Measure several networks together.

    Raises
    ------
    DamagedFileError
        If statistics or a state are missing or damaged.
    """
    started = time.perf_counter()
    find = {
        "leakage": _attack,
        "releases": _attack_versions,
        "overlap": _overlap,
        "latency": _latency,
    }
    found = find[task.kind](task, bench)
    threads = task.conditions.threads if task.conditions else bench.threads
    return JointRecord(
        key=task.key,
        kind=task.kind,
        records=tuple(trial.record for trial in task.trials),
        others=tuple(trial.record for trial in task.others),
        seconds=time.perf_counter() - started,
        environment=describe_environment(threads, "cpu"),
        **found,
    )


@dataclass(frozen=True)
class _Pool:
    """The examples that could have been trained on, and which network was trained on which."""

    dataset: Dataset
    positions: NDArray[np.int64]
    labels: NDArray[np.int64]
    members: NDArray[np.bool_]
    """``[models, examples]``."""
    pairs: NDArray[np.int64]
    """Which pair each model belongs to, ``[models]``."""


def _pool(trials: Sequence[KeyedTrial], bench: Bench) -> _Pool:
    data = trials[0].trial.data
    dataset = bench.datasets(data)
    splits = [split(data, dataset, trial.trial.seed) for trial in trials]
    positions = splits[0].pool
    members = np.stack([np.isin(positions, one.train, assume_unique=True) for one in splits])
    pairs = np.array([trial.trial.seed // 2 for trial in trials])
    return _Pool(dataset, positions, dataset.y_train[positions], members, pairs)


def _statistics(trials: Sequence[KeyedTrial], bench: Bench) -> "Statistics":
    from gossamer.leakage import Statistics
    from gossamer.recipes.statistics_files import read_statistics

    paths = [statistics_path(bench.folder, trial.record) for trial in trials]
    return Statistics.stack([read_statistics(path) for path in paths])


def _attack(task: JointTask, bench: Bench) -> dict[str, Any]:
    """Attack every network with those of the other seeds."""
    from gossamer.leakage import audit_statistics

    pool = _pool(task.trials, bench)
    found = audit_statistics(
        _statistics(task.trials, bench),
        pool.labels,
        pool.members,
        pairs=pool.pairs,
        classes=pool.dataset.classes,
    )
    return {
        "leakage": found,
        "measures": _by_record(task, found.attacks),
        "pictures": _pictures(found, pool),
    }


def _by_record(task: JointTask, attacks: Sequence[AttackResult]) -> dict[str, dict[str, float]]:
    """Return the numbers of each target under its record, named after the attack."""
    measures: dict[str, dict[str, float]] = {trial.record: {} for trial in task.trials}
    for attack in attacks:
        for target in attack.per_model:
            record = task.trials[target.model].record
            for name, value in target.measures.items():
                measures[record][f"{attack.name}_{name}"] = value
    return measures


def _pictures(found: Leakage, pool: _Pool) -> tuple[str, ...]:
    images = pool.dataset.x_train
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1] not in (1, 3):
        return ()
    return tuple(png(images[pool.positions[exposed.example]]) for exposed in found.exposed)


def _attack_versions(task: JointTask, bench: Bench) -> dict[str, Any]:
    """Attack with an earlier version in hand, or with networks of that version alone."""
    from gossamer.leakage import attack_versions, paired_change

    pool = _pool(task.trials, bench)
    first, second = _statistics(task.others, bench), _statistics(task.trials, bench)
    found = attack_versions(first, second, pool.members, pool.pairs)
    change = paired_change(first, second, pool.members, pool.pairs)
    return {
        "joint": found["joint"],
        "foreign": found["foreign"],
        "change": change.summary,
        "measures": _by_record(task, tuple(found.values())),
    }


def _overlap(task: JointTask, bench: Bench) -> dict[str, Any]:
    """Compare the masks of two arms seed by seed."""
    runner = bench.runner
    measures = {}
    for trial, other in zip(task.trials, task.others, strict=True):
        mine, theirs = runner.mask(trial), runner.mask(other)
        measures[trial.record] = {
            "mask_overlap": mine.overlap(theirs),
            "mask_overlap_by_chance": mine.overlap_by_chance(theirs),
            **{f"mask_overlap:{name}": v for name, v in mine.overlaps(theirs).items()},
        }
    return {"measures": measures}


def _latency(task: JointTask, bench: Bench) -> dict[str, Any]:
    """Time one network, beside the unpruned one of its seed."""
    from gossamer.studies.latencies import latency_measures, make_runnable, time_networks

    assert task.conditions is not None
    (trial,), conditions, runner = task.trials, task.conditions, bench.runner
    inputs = runner.inputs(trial, conditions.batch)

    def runnable(keyed: KeyedTrial) -> "Runnable":
        return make_runnable(runner.network(keyed), inputs, threads=conditions.threads)

    for other in task.others:
        if other.record not in bench.unpruned:
            bench.unpruned.clear()
            bench.unpruned[other.record] = runnable(other)
    dense = next((bench.unpruned[other.record] for other in task.others), None)
    timed = time_networks(runnable(trial), dense, inputs)
    return {"timed": timed, "measures": {trial.record: latency_measures(timed)}}
